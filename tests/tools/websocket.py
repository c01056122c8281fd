#!/usr/bin/env python3
"""Checks a WebSocket echo server with the cases of Autobahn, and with the client `websockets`.

    websocket.py [--long] URL

The cases are those of the package `kosoku`, which has to be installed with this Python, as has `websockets`. --long adds
the cases of large messages (9) and of compression (12 and 13), which a server need not offer. Prints a line for each
check; the exit status is 1 if one fails. Python 3.11 or later.
"""

import argparse
import asyncio
import collections
import json
import os
import subprocess
import sys
import tempfile

import websockets

LONG = ["9.*", "12.*", "13.*"]
# What a case may end with. Those that are informational leave the behaviour to the server.
GOOD = {"OK", "INFORMATIONAL", "UNIMPLEMENTED"}


def cases(url, long):
    """Runs the cases. Returns how many have passed, and how many have not."""
    kosoku = os.path.join(os.path.dirname(sys.executable), "kosoku")
    with tempfile.TemporaryDirectory() as reports:
        # The suite exits with an error if a case fails: the reports decide.
        exclude = [] if long else [word for case in LONG for word in ("--exclude", case)]
        subprocess.run([kosoku, "--outdir", reports, *exclude, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=1200)
        with open(os.path.join(reports, "index.json"), encoding="utf-8") as index:
            (found,) = json.load(index).values()
    counts = collections.Counter()
    for name, case in sorted(found.items()):
        good = case["behavior"] in GOOD and case["behaviorClose"] in GOOD
        # Compression is not offered, which only its own cases may find.
        good = good and (case["behavior"] != "UNIMPLEMENTED" or name.startswith(("12.", "13.")))
        counts[good] += 1
        if not good and counts[False] <= 10:
            print(f"case {name}: {case['behavior']}, close: {case['behaviorClose']}")
    return counts[True], counts[False]


async def converse(url):
    """Sends messages of many lengths and fragments, and compares what comes back. Returns their number."""
    messages = [text * length for length in (0, 1, 125, 126, 65535, 65536, 500_000) for text in ("a", "ä€", b"\xff")]
    async with websockets.connect(url, max_size=None) as client:
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
        await client.send(["frag", "men", "", "ts"])
        assert await client.recv() == "fragments"
        await asyncio.wait_for(await client.ping(), 10)
    assert client.close_code == 1000, client.close_code
    return len(messages) + 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--long", action="store_true", help="with the cases of large messages and of compression")
    parser.add_argument("url")
    options = parser.parse_args()
    passed, failed = cases(options.url, options.long)
    print(f"cases: {passed} passed, {failed} failed")
    if failed > 0 or passed < 247:
        return 1
    count = asyncio.run(asyncio.wait_for(converse(options.url), 60))
    print(f"messages of the client websockets: {count} passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
