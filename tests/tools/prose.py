#!/usr/bin/env python3
"""Checks the prose of documents and comments.

    prose.py [--self-test] [FILE ...]

Reports words that the project does not write, and functions whose documentation does not begin with a verb in the
third person ("Returns ..", "Sends .."). Without FILE: all Rust sources, documents, manifests and tools that git knows.
The exit status is 1 if anything is reported. With --self-test it checks that each rule can fail.

Spelling is checked by typos, see typos.toml. Python 3.9 or later.
"""

import argparse
import re
import subprocess
import sys
import tempfile

# Each with what to write instead. Text between backquotes is code and is not looked at.
DENIED = {
    r"nobody|nobody's": "no caller, no peer, not ..",
    r"somebody|everybody|whoever|whom|whomever": "the caller, the peer, the handler, ..",
    r"who": "the caller, the peer, the handler, ..",
    r"so many|so much": "this many, a number of",
    r"tells?|told": "reports, returns, notifies",
    r"gives?|gave": "returns, passes, provides",
    r"stands?": "is",
    r"can't be": "is invalid, cannot be",
    r"of (?:no )?use": "useless, unused",
    r"(?:has|have|is|are) gone": "is closed, was removed",
    r"behind": "after",
    r"anew": "again",
    r"in good order": "cleanly",
    r"what came of": "the result of",
    r"at hand": "available",
    r"likewise|thereby|hence|whence": "rewrite",
}

# Where one of these words is right.
ALLOWED = re.compile(
    r"(?:contributors?|users?|readers?|anyone|people|participants|those|person|programmers?) who"
    r"|\bwho caused\b|\bgives? up\b|\bgave up\b|stands? for\b|\bleaves? (?:\w+ )?behind\b|\bgiven that\b"
    r"|behind a (?:firewall|proxy|load balancer)",
    re.IGNORECASE,
)

# First words of documentation that are neither a verb in the third person nor a mistake.
OPENINGS = {"Like", "Called", "See", "Never", "Sleeps,"}

RULES = [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), instead) for words, instead in DENIED.items()]
# Functions of tests say what is promised, not what they do.
TESTS = re.compile(r"(?:^|/)tests?/|tests?\.rs$")
DOC = re.compile(r"\s*/// ?(.*)")
BETWEEN = re.compile(r"\s*(?:#\[|//(?!/)|\)\]|[a-z_:]+,?$|reason = |clippy::|dead_code)")
FUNCTION = re.compile(r"\s*(?:pub(?:\([a-z: ]+\))? )?(?:const |unsafe |async |extern \"C\" )*fn ")


def text_of(path, line):
    """Returns the prose of a line, or None."""
    if path.endswith(".rs"):
        found = re.search(r"(?:^|\s)//[/!]?(.*)$", line)
    elif path.endswith(".md"):
        return line
    else:
        found = re.search(r"(?:^|\s)#(.*)$", line)
    return found and found[1]


def words(path, lines):
    """Yields the words of a file that are denied."""
    fenced = False
    for number, line in enumerate(lines, 1):
        text = text_of(path, line)
        if not text:
            continue
        if text.strip().startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        text = ALLOWED.sub("", re.sub(r"`[^`]*`", "", text))
        for rule, instead in RULES:
            for found in rule.finditer(text):
                yield f"{path}:{number}: '{found[0]}'; write instead: {instead}"


def summaries(path, lines):
    """Yields the functions of a Rust file whose documentation begins with something else than a verb."""
    at = 0
    while at < len(lines):
        first = DOC.match(lines[at])
        begin = at
        while at < len(lines) and DOC.match(lines[at]):
            at += 1
        if not first:
            at += 1
            continue
        below = at
        while below < len(lines) and BETWEEN.match(lines[below]):
            below += 1
        is_test = any(line.strip() == "#[test]" for line in lines[at:below])
        if below < len(lines) and not is_test and FUNCTION.match(lines[below]):
            opening = first[1].split(" ")[0]
            is_section = first[1].startswith(("# ", "`", "[", "```"))
            if not (re.fullmatch(r"[A-Z][a-z-]*s,?", opening) or opening in OPENINGS or is_section):
                yield f"{path}:{begin + 1}: '{first[1][:60]}': begin with a verb, such as 'Returns'"


def check(paths):
    """Returns what is to be reported of these files."""
    reports = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        reports += words(path, lines)
        if path.endswith(".rs") and not TESTS.search(path):
            reports += summaries(path, lines)
    return reports


def self_test():
    """Returns the number of rules that report a sample of what they are against, and none of what is right."""
    samples = [word for words in DENIED for word in samples_of(words)]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/sample.rs"
        for sample in samples:
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"// It {sample} here.\n")
            assert len(check([path])) == 1, f"'{sample}' is not reported"
        with open(path, "w", encoding="utf-8") as file:
            file.write("/// The number.\n#[must_use]\npub fn number() {}\n/// Returns `who` gives up.\nfn good() {}\n")
        assert [report.rsplit(":", 1)[0] for report in check([path])] == [f"{path}:1: 'The number.'"]
    return len(samples) + 1


def samples_of(rule):
    """Returns a text for each alternative of a rule."""
    plain = rule.replace("(?:no )?", "").replace("(?:has|have|is|are)", "has").replace("s?", "")
    return plain.split("|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.self_test:
        print(f"{self_test()} samples reported")
        return 0
    files = options.files
    if not files:
        known = subprocess.run(["git", "ls-files", "*.rs", "*.md", "*.toml", "*.sh", "*.py", ".ci/run"],
                               capture_output=True, text=True, check=True).stdout.split()
        files = [path for path in known if not path.endswith("prose.py")]
    reports = check(files)
    print("\n".join([*reports, f"{len(files)} files read, {len(reports)} reports"]))
    return 1 if reports else 0


if __name__ == "__main__":
    sys.exit(main())
