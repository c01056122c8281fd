#!/usr/bin/env python3
"""Compares the processor time per request for a file with that of nginx.

    files.py [--server COMMAND] [--rounds N] [--seconds S] [--connections N] [--limit RATIO]

The server is the release build of the example httpd with --root unless COMMAND is given, in which {root} is replaced.
Both serve a file of 1 KiB and one of 1 MiB from the same folder, with one thread on one processor and the client on
another; nginx uses sendfile. They are measured in alternating rounds, each time in a fresh process. For each side the
minimum and the median over the rounds are used; noise of other programs can only add time.

With --limit the exit status is 1 if a ratio of the minima exceeds it. Needs Python 3.9 or later, Linux, wrk and nginx.
"""

import argparse
import os
import tempfile
import time

from harness import HTTPD, Failure, Nginx, Server, compare, run, wrk

CPU, CLIENT_CPU = 0, 1
SIZES = (("1k", 1 << 10), ("1m", 1 << 20))
NGINX = "sendfile on; tcp_nopush on; server_tokens off; server {{ listen {address}; root {root}; }}"


def sample(server, name, size, options):
    """Returns the microseconds of processor time per request."""
    with server:
        time.sleep(0.2)
        before = server.cpu_nanoseconds()
        report = wrk(server, options.connections, 1, options.seconds, f"/{name}", cpu=CLIENT_CPU)
        used = server.cpu_nanoseconds() - before
    if not report["done"] or report["errors"] or report["bytes"] < size * report["done"]:
        raise Failure(f"responses of {size} bytes: {report}")
    return used / report["done"] / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=HTTPD + " --root {root}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--limit", type=float)
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "root")
        os.mkdir(root)
        os.chmod(folder, 0o755)
        for name, size in SIZES:
            with open(os.path.join(root, name), "wb") as file:
                file.write(os.urandom(size))
        command = options.server.replace("{root}", root)
        for name, size in SIZES:
            ours, theirs = [], []
            for turn in range(options.rounds):
                sides = [(ours, Server(command, cpu=CPU)), (theirs, Nginx(folder, NGINX, CPU, root=root))]
                for samples, server in sides if turn % 2 else reversed(sides):
                    samples.append(sample(server, name, size, options))
            worst = max(worst, compare(name, ours, theirs, "nginx"))
    return 1 if options.limit and worst > options.limit else 0


if __name__ == "__main__":
    run(main)
