#!/usr/bin/env python3
"""Checks a WebSocket echo server with the cases of Autobahn and with the client `websockets`, or a client of lines.

    websocket.py [--long] URL
    websocket.py --client PROGRAM

The cases are those of the package `kosoku`, which has to be installed with this Python, as has `websockets`. --long adds
the cases of large messages (9) and of compression (12 and 13), which a server need not offer. With --client, a server
of `websockets` converses with a program that takes its URL, sends lines and prints messages. Prints a line for each
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


class Visit:
    """What a server does with a client: most lines come back, some mean something else."""

    def __init__(self):
        self.pongs = 0
        self.closed = None

    async def serve(self, connection):
        async for line in connection:
            if line == "ping":
                await asyncio.wait_for(await connection.ping(b"payload"), 10)
                self.pongs += 1
            elif line == "fragments":
                await connection.send(["frag", "", "men", "ts €"])
            elif line == "binary":
                await connection.send(b"\x00\xff")
            elif line == "leave":
                await connection.close(4000, "bye")
                break
            else:
                await connection.send(line)
        await connection.wait_closed()
        self.closed = connection.close_code


async def visit(program, lines, answers, path="/", protocols=(), ends=True):
    """Starts a server, and the program with its URL and these lines as input, which then ends, unless the server is to
    end the connection. Waits for each answer before the next line. Returns the visit, the exit status and what the
    program has written to the standard error."""
    guest = Visit()
    options = {"subprotocols": ["chat"]} if protocols else {}
    if path == "/refused":
        options["process_request"] = lambda connection, request: connection.respond(403, "no")
    async with websockets.serve(guest.serve, "127.0.0.1", 0, max_size=None, **options) as server:
        port = server.sockets[0].getsockname()[1]
        client = await asyncio.create_subprocess_exec(
            program, *protocols, f"ws://127.0.0.1:{port}{path}", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1 << 22)
        for line, answer in zip(lines, answers):
            client.stdin.write(line.encode() + b"\n")
            await client.stdin.drain()
            if answer is not None:
                found = (await asyncio.wait_for(client.stdout.readline(), 20)).decode()
                assert found == answer + "\n", f"{found[:100]!r} in place of {answer[:100]!r}"
        if ends:
            client.stdin.close()
        # `communicate` would close the standard input, also without anything to write.
        out, err, _ = await asyncio.wait_for(
            asyncio.gather(client.stdout.read(), client.stderr.read(), client.wait()), 20)
        assert out == b"", out[:100]
        return guest, client.returncode, err.decode()


async def receive(program):
    """Lets the program visit servers. Returns the number of messages and visits."""
    echoes = ["a" * length for length in (0, 1, 125, 126, 8192, 65535, 65536, 500_000)] + ["ä€" * 10_000]
    others = ["fragments", "binary", "ping", "after the pong"]
    answers = [*echoes, "frag" "men" "ts €", "\\x00\\xff", None, "after the pong"]
    guest, status, err = await visit(program, echoes + others, answers)
    assert (status, err, guest.pongs, guest.closed) == (0, "", 1, 1000), (status, err, guest.pongs, guest.closed)
    guest, status, err = await visit(program, ["leave"], [None], ends=False)
    assert (status, guest.closed) == (1, 4000) and "4000: bye" in err, (status, err, guest.closed)
    _, status, err = await visit(program, [], [], path="/refused")
    assert status == 1 and "403" in err, (status, err)
    _, status, err = await visit(program, ["a"], ["a"], protocols=["--subprotocols", "news, chat"])
    assert status == 0 and "the subprotocol is chat" in err, (status, err)
    return len(answers) + 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--long", action="store_true", help="with the cases of large messages and of compression")
    parser.add_argument("--client", metavar="PROGRAM", help="check this client in place of a server")
    parser.add_argument("url", nargs="?")
    options = parser.parse_args()
    if (options.client is None) == (options.url is None):
        parser.error("either URL or --client PROGRAM")
    if options.client is not None:
        count = asyncio.run(asyncio.wait_for(receive(options.client), 60))
        print(f"messages and visits of {os.path.basename(options.client)}: {count} passed")
        return 0
    passed, failed = cases(options.url, options.long)
    print(f"cases: {passed} passed, {failed} failed")
    if failed > 0 or passed < 247:
        return 1
    count = asyncio.run(asyncio.wait_for(converse(options.url), 60))
    print(f"messages of the client websockets: {count} passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
