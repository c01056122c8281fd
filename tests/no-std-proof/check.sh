#!/usr/bin/env bash
# The no_std proof: builds and runs the program (debug and release), checks its imports, and checks that its mutants,
# which use std and alloc, fail to build for the expected reason. Prints one line per check, and the count last.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
checks=0

passed() {
    checks=$((checks + 1))
    echo "ok: $*"
}

# The symbols that a program without std or alloc may import: memory helpers that the compiler calls, the names of the
# start-up code, and the two functions that main.rs declares.
allowed='^(abort|write|memcpy|memmove|memset|memcmp|bcmp|strlen|__libc_start_main|__cxa_finalize|__gmon_start__|_ITM_(de)?registerTMCloneTable)$'

for profile in debug release; do
    flag=()
    if [ $profile = release ]; then flag=(--release); fi
    cargo build --quiet --locked "${flag[@]}"
    passed "$profile: builds without std and alloc"
    "$target/$profile/no-std-proof"
    passed "$profile: runs"
    imports=$(nm --dynamic --undefined-only "$target/$profile/no-std-proof" | awk '{ sub(/@.*/, "", $NF); print $NF }')
    test -n "$imports"
    if foreign=$(grep -Ev "$allowed" <<<"$imports"); then
        echo "$profile: imports what it should not:" $foreign
        exit 1
    fi
    passed "$profile: imports only $(wc -l <<<"$imports") allowed symbols"
done

# fails FEATURE REASON: checks that the mutant with FEATURE fails to build for that reason.
fails() {
    local output
    if output=$(cargo build --quiet --locked --features "$1" 2>&1); then
        echo "$1: builds, so the proof proves nothing"
        exit 1
    fi
    if ! grep -q "$2" <<<"$output"; then
        echo "$1: fails, but not with '$2':"
        echo "$output"
        exit 1
    fi
    passed "$1: fails to build with '$2'"
}
fails twin-std 'E0152'
fails twin-alloc 'no global memory allocator found'

echo "no_std proof: $checks checks"
