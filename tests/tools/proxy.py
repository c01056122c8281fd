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
import socket
import tempfile

from harness import HTTPD, RELEASE, Failure, Server, run, wrk

PROXY = os.path.join(RELEASE, "examples", "proxy") + " --listen 127.0.0.1:0 --pollers 1 --max-connections 4000"
# Path and connections.
LOADS = (("/plaintext", 64), ("/plaintext", 8), ("/big?bytes=65536", 16), ("/big?bytes=1048576", 8))
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream servers {{ server {first}; server {second}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""


def nginx(folder, upstreams):
    """Returns an nginx that prints its address, as the other servers do."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    file = os.path.join(folder, "configuration")
    with open(file, "w") as out:
        out.write(CONFIGURATION.format(folder=folder, port=port, first=upstreams[0], second=upstreams[1]))
    server = Server("nginx")
    server.words = ["sh", "-c", f"echo http://127.0.0.1:{port}; exec nginx -c {file} -e {folder}/errors"]
    return server


def sample(server, load, seconds):
    """Returns the microseconds of processor time per request."""
    path, connections = load
    before = server.cpu_nanoseconds()
    report = wrk(server, connections, 1, seconds, path)
    if report["done"] == 0 or report.get("errors"):
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
        upstreams = [stack.enter_context(Server(HTTPD)).address for _ in range(2)]
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        command = PROXY + "".join(f" --upstream {address}" for address in upstreams)
        ours, base = (stack.enter_context(server) for server in (Server(command), nginx(folder, upstreams)))
        for load in LOADS:
            pairs = [[sample(server, load, options.seconds) for server in (ours, base)] for _ in range(options.rounds)]
            mine, other = (min(figures) for figures in zip(*pairs))
            worst = max(worst, mine / other)
            print(f"{load[0]} over {load[1]} connections: {mine:.2f} us a request, nginx {other:.2f},"
                  f" ratio {mine / other:.3f}", flush=True)
    return 1 if options.limit and worst > options.limit else 0


if __name__ == "__main__":
    run(main)
