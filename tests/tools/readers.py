#!/usr/bin/env python3
"""Reads large responses of httpd slowly and steadily, over each driver, kept alive and with `Connection: close`.

Every byte must arrive, at any rate. A reader that stops must be cut off within the write stall timeout or the drain
timeout, plus a tolerance. Takes about two minutes; uses httpd's default settings.

    cargo build --release -p lightcone-examples --examples
    python3 tests/tools/readers.py
"""

import argparse
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Seconds until a stopped reader is cut off: the write stall timeout, an eighth of it, and the time in which its
# response fills the buffers.
CUT_WITHIN = 45


def start(driver):
    program = ROOT / "target/release/examples/httpd"
    if not program.exists():
        sys.exit(f"readers.py: no program: {program}")
    server = subprocess.Popen(
        [program, "--listen", "127.0.0.1:0", "--driver", driver], stdout=subprocess.PIPE, text=True
    )
    for line in server.stdout:
        if found := re.search(r"127\.0\.0\.1:(\d+)", line):
            return server, int(found[1])
    sys.exit("readers.py: httpd has not printed its address")


def read(port, total, rate, close, stops, results, name):
    peer = socket.create_connection(("127.0.0.1", port), timeout=CUT_WITHIN)
    ends = "Connection: close\r\n" if close else ""
    peer.sendall(f"GET /big?bytes={total} HTTP/1.1\r\nHost: a\r\n{ends}\r\n".encode())
    got, head, begun = 0, b"", time.monotonic()
    try:
        while b"\r\n\r\n" not in head:
            head += peer.recv(1)
        while got < total and not (stops and got >= total // 20):
            due = begun + got / rate
            time.sleep(max(0, due - time.monotonic()))
            piece = peer.recv(min(rate // 10, total - got))
            if not piece:
                break
            got += len(piece)
        if stops:
            stopped = time.monotonic()
            while time.monotonic() - stopped < CUT_WITHIN:
                time.sleep(0.5)
                if error := peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    results[name] = (True, f"cut after {time.monotonic() - stopped:.0f} s ({error})")
                    return
            results[name] = (False, f"not cut within {CUT_WITHIN} s")
        else:
            seconds = time.monotonic() - begun
            results[name] = (got == total, f"{got} of {total} bytes in {seconds:.0f} s")
    except OSError as error:
        results[name] = (False, f"{got} of {total} bytes, then {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drivers", nargs="+", default=["epoll", "select"])
    parser.add_argument("--rates", nargs="+", type=int, default=[20_000, 30_000, 40_000], help="bytes a second")
    parser.add_argument("--seconds", type=int, default=100, help="how long each reads")
    arguments = parser.parse_args()
    servers, threads, results = [], [], {}
    for driver in arguments.drivers:
        server, port = start(driver)
        servers.append(server)
        for close in (False, True):
            kept = "closed" if close else "kept alive"
            for rate in arguments.rates:
                name = f"{driver}, {kept}, {rate} bytes/s"
                work = (port, rate * arguments.seconds, rate, close, False, results, name)
                threads.append(threading.Thread(target=read, args=work))
            name = f"{driver}, {kept}, stops"
            work = (port, 20_000_000, 1_000_000, close, True, results, name)
            threads.append(threading.Thread(target=read, args=work))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
    for name, (good, text) in sorted(results.items()):
        print(f"{'ok    ' if good else 'FAILED'} {name}: {text}")
    if len(results) != len(threads) or not all(good for good, _ in results.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
