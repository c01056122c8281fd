#!/usr/bin/env python3
"""Checks the simulator's performance: events per second, and a cost per event that does not depend on the sockets.

Instructions are counted by callgrind, because times vary from run to run. The last line is the verdict.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SCALE = os.path.join(TARGET, "release", "examples", "scale")


def run(arguments, *before):
    command = [*before, SCALE, *map(str, arguments)]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True).stdout
    words = out.split()
    return dict(zip(words[::2], map(float, words[1::2])))


def instructions(arguments):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "out")
        figures = run(arguments, "valgrind", "--tool=callgrind", f"--callgrind-out-file={file}",
                      "--collect-atstart=no", "--toggle-collect=*scale*measured*")
        with open(file) as lines:
            total = re.search(r"^(?:summary|totals): (\d+)", lines.read(), re.M)
    return int(total[1]) / figures["events"]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sockets", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    options.add_argument("--active", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--spread", type=float, default=10, help="per cent by which the costs may differ")
    options.add_argument("--rate", type=float, default=1e6, help="least events a second")
    options = options.parse_args()
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--release", "-p", "lightcone-sim", "--example", "scale"],
                   cwd=ROOT, check=True)
    good = True
    costs = []
    for sockets in options.sockets:
        cost = instructions([sockets, options.active, options.rounds])
        costs.append(cost)
        print(f"{sockets:>9} sockets, {options.active} active: {cost:.1f} instructions an event", flush=True)
    spread = (max(costs) / min(costs) - 1) * 100
    good &= spread <= options.spread
    print(f"spread: {spread:.1f} % {'ok' if spread <= options.spread else 'EXCEEDED'}")
    for sockets, active, rounds, slots in [(1_000, 1_000, 400, 1_000), (100_000, 1_000, 400, 100_000),
                                           (10_000, 10_000, 40, 1_000_000)]:
        figures = run([sockets, active, rounds, slots])
        print(f"{sockets} sockets in {slots} slots, {active} active: {figures['events_per_second'] / 1e6:.2f} M events/s,"
              f" footprint {figures['footprint'] / 1e6:.1f} MB")
        if sockets == 1_000:
            enough = figures["events_per_second"] >= options.rate
            good &= enough
            print(f"rate: {'ok' if enough else 'TOO LOW'}")
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
