#!/usr/bin/env python3
"""Checks that httpd behaves the same over each driver: the same responses to the same requests, no errors under wrk.

    cargo build --release -p lightcone-examples --examples
    python3 tests/tools/drivers.py [--seconds N] [DRIVER...]

Prints a line for each driver, ending in `ok`. Figures are informative only: server and client share one machine.
"""

import argparse
import re
import socket
import sys

import harness

REQUESTS = {
    "GET": b"GET /foo HTTP/1.1\r\nHost: x\r\n\r\n",
    "pipelined": b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
    "HEAD": b"HEAD /plaintext HTTP/1.1\r\nHost: x\r\n\r\n",
    "echo": b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(range(250)) * 400,
    "chunked": b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "big": b"GET /big?bytes=3000000 HTTP/1.1\r\nHost: x\r\n\r\n",
    "missing": b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
    "refused": b"GET /foo HTTP/1.1\r\n\r\n",
    "garbage": b"\x00\xff nonsense\r\n\r\n",
    "nothing": b"",
}


def answer(address, request):
    """Returns everything that the server sends until it closes, without the dates."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        reader = connection.makefile("rb")
        last = b"GET /foo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        try:
            connection.sendall(request + last)
        except OSError:
            pass  # refused before everything was sent; the response still counts
        all_of_it = reader.read()
    return re.sub(rb"\r\nDate: [^\r]*", b"", all_of_it, flags=re.IGNORECASE)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("drivers", nargs="*", default=["epoll", "select"], metavar="DRIVER")
    options.add_argument("--seconds", type=int, default=3, help="how long wrk runs for each (default 3)")
    options = options.parse_args()
    first, differs = None, False
    for driver in options.drivers:
        command = harness.HTTPD.replace("--driver epoll", f"--driver {driver}")
        with harness.Server(command) as server:
            answers = {name: answer(server.address, request) for name, request in REQUESTS.items()}
            report = harness.wrk(server, 200, 1, options.seconds)
        first = first or answers
        different = [name for name in REQUESTS if answers[name] != first[name]]
        empty = [name for name in REQUESTS if not answers[name]]
        well = not different and not empty and not report["errors"] and report["done"]
        differs |= not well
        print(f"{driver}: {len(answers)} answers, of which different: {different or 'none'}, empty: {empty or 'none'}; "
              f"wrk: {report['done']} requests, {report['errors']} errors: {'ok' if well else 'NOT THE SAME'}")
    return 1 if differs else 0


if __name__ == "__main__":
    harness.run(main)
