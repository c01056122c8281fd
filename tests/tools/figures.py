#!/usr/bin/env python3
"""Measures an HTTP server and checks it against the limits of limits.ini.

    figures.py [--server COMMAND] [--limit NAME=VALUE]... [WHAT...]

WHAT is any of instructions, syscalls, idle, memory, wrk; by default all are measured. COMMAND is one line that starts
a server that serves /plaintext and whose first line of output contains http://ADDRESS:PORT; {pollers} in it is
replaced. The default is the release build of the example httpd:

    cargo build --release -p lightcone-tests && cargo build --release -p lightcone-examples --examples

instructions  user-space instructions per request, under `valgrind --tool=callgrind`: the difference between a long
              and a short run, so that start and stop cancel out
syscalls      system calls per request, under `strace -f`, again as the difference of two runs
idle          system calls in five seconds without any event
memory        resident bytes per idle connection, over 10,000 of them
wrk           errors that wrk reports, and requests per second

These counts hardly depend on how busy the machine is. Needs Python 3.9 or later, Linux, valgrind, strace and wrk. The
exit status is 1 if a limit is exceeded or a measurement failed.
"""

import argparse
import collections
import configparser
import os
import re
import sys
import tempfile
import time

from harness import HTTPD, Failure, Server, allow_many_descriptors, held, load, run, wrk

SHORT, LONG = 2_000, 12_000
CONNECTIONS = 16
IDLE_SECONDS = 5
MANY = 10_000


def instructions(command):
    """Yields the figures of a kept-alive and of a pipelined request."""
    for name, depth in (("instructions_keep_alive", 1), ("instructions_pipelined", 16)):
        # On a busy machine more waits find less to do, so other programs only add instructions: the minimum is the best
        # value.
        counts = [min(total_instructions(command, requests, depth) for _ in range(2)) for requests in (SHORT, LONG)]
        yield name, (counts[1] - counts[0]) / (LONG - SHORT)


def total_instructions(command, requests, depth):
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        with Server(command, prefix=valgrind) as server:
            load(server, "count", connections=CONNECTIONS, requests=requests, depth=depth)
        with open(f"{folder}/out") as file:
            totals = re.findall(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE)
    if not totals:
        raise Failure("callgrind counted nothing")
    return int(totals[-1])


class Trace:
    """The output of strace, counted by system call since the previous look."""

    def __init__(self, path):
        self.file = open(path)

    def settle(self):
        """Waits until nothing has been written for a while, and discards what was written before."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 0.5:
            if self.file.read():
                quiet_since = time.monotonic()
            time.sleep(0.05)

    def calls(self):
        """Returns the system calls begun since the previous look; the second half of an interrupted line is ignored."""
        return collections.Counter(
            match[1] for match in map(re.compile(r"^\d+ +(\w+)\(").match, self.file.read().splitlines()) if match)


def traced(folder):
    path = os.path.join(folder, "trace")
    open(path, "w").close()
    return Trace(path), ["strace", "-f", "-q", "-o", path]


def syscalls(command):
    """Yields the figures of a kept-alive request: all calls, and those that change the interest."""
    with tempfile.TemporaryDirectory() as folder:
        trace, strace = traced(folder)
        with Server(command, prefix=strace) as server:
            counts = []
            for requests in (SHORT, LONG):
                trace.settle()
                load(server, "count", connections=CONNECTIONS, requests=requests)
                time.sleep(0.5)
                counts.append(trace.calls())
    more = {name: (counts[1][name] - counts[0][name]) / (LONG - SHORT) for name in counts[0] | counts[1]}
    print("  a request: " + ", ".join(f"{value:.3f} {name}" for name, value in sorted(more.items()) if value))
    if sum(more.values()) < 0.5:
        raise Failure("strace saw fewer calls than the requests need")
    yield "syscalls", sum(more.values())
    # Rounded to one change per thousand requests: opening and closing may differ by one between the two runs.
    yield "epoll_ctl", round(more.get("epoll_ctl", 0), 3)


def idle(command):
    """Yields the calls of an idle engine with two pollers: without connections, and with some."""
    with tempfile.TemporaryDirectory() as folder:
        trace, strace = traced(folder)
        with Server(command, pollers=2, prefix=strace) as server:
            yield "idle", calls_in_silence(trace)
            with held(server, CONNECTIONS):
                if not trace.calls():
                    raise Failure("strace sees no calls of a busy server, so an idle one proves nothing")
                yield "idle_with_connections", calls_in_silence(trace)


def calls_in_silence(trace):
    trace.settle()
    time.sleep(IDLE_SECONDS)
    calls = trace.calls()
    if calls:
        print("  while idle: " + ", ".join(f"{count} {name}" for name, count in calls.items()))
    return sum(calls.values())


def memory(command):
    """Yields the resident bytes per idle connection."""
    allowed = allow_many_descriptors()
    if allowed < MANY + 100:
        raise Failure(f"{MANY} connections need more descriptors than the {allowed} allowed here")
    with Server(command) as server:
        load(server, "ping", connections=64, seconds=0.3)
        time.sleep(0.3)
        before = server.memory()
        with held(server, MANY):
            time.sleep(0.3)
            yield "memory", (server.memory() - before) / MANY


def wrk_errors(command):
    """Yields the errors of a run with kept-alive and of one with pipelined requests."""
    for name, depth in (("wrk_errors_keep_alive", 1), ("wrk_errors_pipelined", 16)):
        with Server(command) as server:
            report = wrk(server, 64, depth, 2)
        if not report["done"]:
            raise Failure("wrk got no response")
        print(f"  {report['done'] / report['seconds']:,.0f} requests per second, {depth} at a time")
        yield name, report["errors"]


FIGURES = {"instructions": instructions, "syscalls": syscalls, "idle": idle, "memory": memory, "wrk": wrk_errors}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=HTTPD)
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("what", nargs="*", metavar="WHAT")
    options = parser.parse_args()
    unknown = set(options.what) - set(FIGURES)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}: {', '.join(FIGURES)}")
    limits = configparser.ConfigParser()
    limits.read(os.path.join(os.path.dirname(os.path.abspath(__file__)), "limits.ini"))
    limits.read_dict({"limits": dict(limit.split("=", 1) for limit in options.limit)})
    held_to = exceeded = 0
    for what in options.what or FIGURES:
        for name, value in FIGURES[what](options.server):
            limit = limits.getfloat("limits", name)
            good = value <= limit
            held_to, exceeded = held_to + good, exceeded + (not good)
            print(f"{name}: {value:,.4g} (limit {limit:,g}) {'ok' if good else 'EXCEEDED'}", flush=True)
    print(f"figures: {held_to} within their limits, {exceeded} exceeded")
    return 1 if exceeded or not held_to else 0


if __name__ == "__main__":
    run(main)
