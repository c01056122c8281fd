#!/usr/bin/env python3
"""Compares the processor time per request of an HTTP server with that of a baseline.

    ratio.py [--server COMMAND] [--baseline COMMAND] [--rounds N] [--seconds S] [--client wrk|load] [--limit RATIO]

The server is the release build of the example httpd unless COMMAND is given (see figures.py); the baseline is
raw_epoll, which only receives and sends. Both are measured in alternating rounds, each time in a fresh process, with
the client on the same processor: every batch is full, and no wake-up crosses processors. For each side the minimum
and the median over the rounds are used; noise of other programs can only add time.

The baseline sends as many bytes as the server: the response of httpd has 149 bytes, with its Date, and the shortest of
raw_epoll 78, and the kernel's cost depends on that. To compare with the shortest:

    ratio.py --baseline "target/release/raw_epoll --listen 127.0.0.1:0"

Other work on the machine disturbs the ratio less than either figure, but it does: repeat the measurement to confirm it.
With --limit the exit status is 1 if the ratio of the minima exceeds it. Needs Python 3.9 or later, Linux and wrk.
"""

import argparse
import re
import socket
import time

from harness import HTTPD, RAW_EPOLL, Failure, Server, compare, load, run, wrk

CPU = 0
CONNECTIONS = 64


def sample(command, depth, options):
    """Returns the microseconds of processor time per request."""
    with Server(command, cpu=CPU) as server:
        time.sleep(0.2)
        before = server.cpu_nanoseconds()
        if options.client == "wrk":
            report = wrk(server, CONNECTIONS, depth, options.seconds, cpu=CPU)
        else:
            report = load(server, "ping", connections=CONNECTIONS, depth=depth, seconds=options.seconds, cpu=CPU)
        return (server.cpu_nanoseconds() - before) / report["done"] / 1000


def response_length(command):
    """Returns the length in bytes of the server's response to the request that is measured."""
    with Server(command) as server:
        host, port = server.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            peer.sendall(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n")
            received = b""
            while True:
                piece = peer.recv(4096)
                received += piece
                head, end, body = received.partition(b"\r\n\r\n")
                announced = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                if end and announced and len(body) >= int(announced[1]):
                    return len(head) + len(end) + int(announced[1])
                if not piece:
                    raise Failure(f"no complete response: {received!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=HTTPD)
    parser.add_argument("--baseline", help="default: raw_epoll, with responses as long as those of the server")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--client", choices=("wrk", "load"), default="wrk")
    parser.add_argument("--limit", type=float)
    options = parser.parse_args()
    length = response_length(options.server)
    baseline = options.baseline or f"{RAW_EPOLL} --answer {length}"
    print(f"a response of the server has {length} bytes; baseline: {baseline}", flush=True)
    worst = 0.0
    for depth in (1, 16):
        ours, base = [], []
        for turn in range(options.rounds):
            sides = [(ours, options.server), (base, baseline)]
            for samples, command in sides if turn % 2 else reversed(sides):
                samples.append(sample(command, depth, options))
        worst = max(worst, compare(f"{depth:2} at a time", ours, base, "baseline"))
    return 1 if options.limit and worst > options.limit else 0


if __name__ == "__main__":
    run(main)
