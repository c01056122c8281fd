#!/usr/bin/env python3
"""Compares the processor time per request of the example proxy with that of nginx as a proxy.

    proxy.py [--rounds N] [--seconds S] [--limit RATIO]

Both have one process with one thread and the same two servers of the example httpd upstream, over connections that are
kept, and are measured in alternating rounds. The minimum over the rounds is used; noise of other programs can only add
time. With --limit the exit status is 1 if a ratio exceeds it. Needs Python 3.9 or later, Linux, wrk, nginx, and release
builds of the examples.
"""

import argparse
import contextlib
import os
import tempfile

from harness import HTTPD, RELEASE, Failure, Nginx, Server, compare, run, wrk

PROXY = os.path.join(RELEASE, "examples", "proxy") + " --listen 127.0.0.1:0 --pollers 1 --max-connections 4000"
# Path and connections.
LOADS = (("/plaintext", 64), ("/plaintext", 8), ("/big?bytes=65536", 16), ("/big?bytes=1048576", 8))
NGINX = """
upstream servers {{ server {first}; server {second}; keepalive 128; keepalive_requests 1000000000; }}
server {{
    listen {address};
    location / {{
        proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
}}
"""


def sample(server, load, seconds):
    """Returns the microseconds of processor time per request."""
    path, connections = load
    before = server.cpu_nanoseconds()
    report = wrk(server, connections, 1, seconds, path)
    if not report["done"] or report["errors"]:
        raise Failure(f"{path}: {report}")
    return (server.cpu_nanoseconds() - before) / report["done"] / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--limit", type=float)
    options = parser.parse_args()
    worst = 0.0
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(Server(HTTPD)).address for _ in range(2))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ours = stack.enter_context(Server(f"{PROXY} --upstream {first} --upstream {second}"))
        base = stack.enter_context(Nginx(folder, NGINX, first=first, second=second))
        for load in LOADS:
            pairs = [[sample(server, load, options.seconds) for server in (ours, base)] for _ in range(options.rounds)]
            worst = max(worst, compare(f"{load[0]} over {load[1]} connections", *zip(*pairs), "nginx"))
    return 1 if options.limit and worst > options.limit else 0


if __name__ == "__main__":
    run(main)
