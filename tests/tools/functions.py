#!/usr/bin/env python3
"""Checks how the shipped crates are divided into functions.

    functions.py [--list] [--self-test] [CRATE ...]

For each crate, counts the private functions that are used exactly once, per 1,000 lines of code: many of them mean that
a reader has to jump for what could be read in place. For the densest functions of all crates, the ones with the most
branches, counts the comment lines per 100 lines of code: there, a reader needs to know why. The exit status is 1 if a
limit is missed. With --list, prints each function that is used once. With --self-test, it checks that each limit can be
missed. Tests are not counted. Python 3.9 or later.
"""

import argparse
import collections
import re
import subprocess
import sys

CRATES = ["core", "http", "websocket", "drivers/unix", "drivers/workers", "drivers/files"]
# Private functions that are used once, per 1,000 lines of code.
SINGLE_USE_MAX = 9.0
DENSEST = 15
# Comment lines per 100 lines of code in each of the densest functions.
COMMENTS_MIN = 4.0

FUNCTION = re.compile(r"^(\s*)(pub(?:\([a-z: ]+\))? )?(?:const |unsafe |async |extern \"C\" )*fn (\w+)")
BRANCH = re.compile(r"\b(?:if|while|for|loop)\b|=>|&&|\|\||\?[;.)\s]|\belse\s*\{")


def sources(crate):
    """Returns the shipped sources of a crate, by path, without their tests."""
    paths = subprocess.run(["git", "ls-files", f"{crate}/src/*.rs"], capture_output=True, text=True, check=True)
    found = {}
    for path in paths.stdout.split():
        if re.search(r"/tests/|/tests?\.rs$|_tests?\.rs$", path):
            continue
        text = open(path, encoding="utf-8").read()
        tests = re.search(r"^#\[cfg\((?:all\()?test", text, re.MULTILINE)
        found[path] = text[: tests.start()] if tests else text
    return found


def code(line):
    """Returns a line without its comment and without the contents of its strings, one of which may continue."""
    return re.sub(r'"(?:\\.|[^"\\])*(?:"|\\?$)', '""', line).split("//")[0]


def is_code(line):
    return bool(line.strip()) and not line.strip().startswith("//")


def used_once(files):
    """Returns the private functions that are used once, as (path, line number, name), and the lines of code."""
    lines = [(path, number, line) for path, text in files.items() for number, line in enumerate(text.split("\n"), 1)]
    lines = [(path, number, code(line)) for path, number, line in lines if is_code(line)]
    words = collections.Counter(word for _, _, line in lines for word in re.findall(r"\w+", line))
    defined = {}
    for path, number, line in lines:
        if found := FUNCTION.match(line):
            defined.setdefault(found[3], []).append((path, number, (found[2] or "").strip() == "pub"))
    once = [
        (places[0][0], places[0][1], name)
        for name, places in defined.items()
        if len(places) == 1 and not places[0][2] and words[name] == 2
    ]
    return once, len(lines)


def functions(path, text):
    """Yields the functions of a file: branches, comment lines, lines of code, place."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        found = FUNCTION.match(line)
        if not found:
            continue
        # As rustfmt writes it: a body on one line, or one that ends at the indentation of its beginning. A line at that
        # indentation that ends in a semicolon is a declaration without a body.
        inner = re.compile(rf"{found[1]}(?:\}}|\S.*[;}}])$")
        end = next((n for n in range(number, len(lines)) if inner.match(code(lines[n]).rstrip())), None)
        if end is None or code(lines[end]).rstrip().endswith(";"):
            continue
        body = lines[number : end + 1]
        yield (
            sum(len(BRANCH.findall(code(one))) for one in body),
            sum(bool(re.match(r"\s*//(?!/)", one)) or bool(re.search(r";\s+// \w", one)) for one in body),
            sum(map(is_code, body)),
            f"{path}:{number + 1} {found[3]}",
        )


def check(crates, listed):
    """Returns whether all crates keep the limits, after printing the counts."""
    good, dense = True, []
    for crate, files in crates.items():
        once, lines = used_once(files)
        rate = 1000 * len(once) / max(lines, 1)
        verdict = "" if rate <= SINGLE_USE_MAX else f", more than {SINGLE_USE_MAX}"
        good &= not verdict
        print(f"{crate}: {lines} lines of code, {len(once)} functions used once, {rate:.1f} per 1,000{verdict}")
        for path, number, name in once if listed else []:
            print(f"  {path}:{number} {name}")
        dense += (function for path, text in files.items() for function in functions(path, text))
    for branches, comments, lines, place in sorted(dense, reverse=True)[:DENSEST]:
        rate = 100 * comments / lines
        verdict = "" if rate >= COMMENTS_MIN else f", fewer than {COMMENTS_MIN}"
        good &= not verdict
        print(f"{place}: {branches} branches, {lines} lines, {rate:.1f} comment lines per 100{verdict}")
    return good


def self_test():
    """Checks that each limit can be missed."""
    shredded = "pub fn all() { one() }\n\nfn one() {\n    two();\n}\n\nfn two() {\n    run();\n}\n"
    assert len(used_once({"a.rs": shredded})[0]) == 2, "a function that is used once goes unnoticed"
    dense = "pub fn all(n: u8) {\n    if n == 1 {\n        run();\n    }\n}\n"
    for text, good in ((dense, False), (dense.replace("    if", "    // Why.\n    if"), True)):
        assert check({"sample": {"a.rs": text}}, False) == good, "a function without comments goes unnoticed"
    assert not check({"sample": {"a.rs": shredded}}, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("crates", nargs="*", default=CRATES, metavar="CRATE")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    return 0 if check({crate: sources(crate) for crate in options.crates}, options.list) else 1


if __name__ == "__main__":
    sys.exit(main())
