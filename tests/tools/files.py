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
import contextlib
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time

from harness import HTTPD, Failure, Server, in_child, run

CPU, CLIENT_CPU = 0, 1
SIZES = (("1k", 1 << 10), ("1m", 1 << 20))
NGINX = """
daemon off; master_process off; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; server_tokens off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen {address}; root {root}; }}
}}
"""


class Nginx(Server):
    """A running nginx of one process, which prints no address."""

    def __init__(self, folder, root):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:" + str(free.getsockname()[1])
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w") as file:
            file.write(NGINX.format(folder=folder, address=self.address, root=root))
        super().__init__("nginx -c " + path, cpu=CPU)

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        preexec_fn=in_child(self.cpu))
        host, port = self.address.rsplit(":", 1)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return self
            time.sleep(0.05)
        self.stop()
        raise Failure("nginx does not accept connections")


def sample(server, name, size, options):
    """Returns the microseconds of processor time per request."""
    with server:
        time.sleep(0.2)
        command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", f"http://{server.address}/{name}"]
        before = server.cpu_nanoseconds()
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=in_child(CLIENT_CPU))
        used = server.cpu_nanoseconds() - before
    done = re.search(r"(\d+) requests in", result.stdout)
    rate = re.search(r"Transfer/sec: *([\d.]+)([KMG])B", result.stdout)
    if not done or not rate or re.search(r"Non-2xx|Socket errors", result.stdout):
        raise Failure(f"{' '.join(command)}: {result.stdout} {result.stderr}")
    count = int(done[1])
    received = float(rate[1]) * 1024 ** "KMG".index(rate[2]) * 1024 * options.seconds
    if not count or received < 0.8 * size * count:
        raise Failure(f"{count} responses of {size} bytes had {received:.0f} bytes")
    return used / count / 1000


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
                sides = [(ours, lambda: Server(command, cpu=CPU)), (theirs, lambda: Nginx(folder, root))]
                for samples, server in sides if turn % 2 else reversed(sides):
                    samples.append(sample(server(), name, size, options))
            ratio = min(ours) / min(theirs)
            worst = max(worst, ratio)
            print(f"{name}: {min(ours):.2f} us a request, nginx {min(theirs):.2f}, ratio {ratio:.3f}"
                  f" (medians {statistics.median(ours):.2f}, {statistics.median(theirs):.2f},"
                  f" {statistics.median(ours) / statistics.median(theirs):.3f})", flush=True)
    return 1 if options.limit and worst > options.limit else 0


if __name__ == "__main__":
    run(main)
