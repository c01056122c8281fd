#!/usr/bin/env bash
# Runs libFuzzer to search for inputs that fail a check.
#
#   tests/fuzz/run.sh TARGET SECONDS [OPTION...]   runs for SECONDS; options go to libFuzzer, such as -seed=7
#   tests/fuzz/run.sh --shrink TARGET              replaces tests/fuzz/corpus/TARGET by a few small inputs with the
#                                                  same coverage as the corpus and all inputs found so far
#   tests/fuzz/run.sh --list                       lists the targets
#
# Needs a nightly compiler (rustup toolchain install nightly) and a C++ compiler, for libFuzzer itself. New inputs are
# kept in target/fuzz/inputs/TARGET. A failing input is kept in target/fuzz/failed; it is reported with a command that
# runs it alone, and the exit status is then that of libFuzzer, which is not 0. When the bug is fixed, move the input to
# tests/fuzz/kept/TARGET, under a name that describes what it found. The last line reports how many inputs were run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The longest input of each target: a little more than what the target reads.
declare -A longest=([head]=1024 [differential]=1024 [chunked]=1024 [connection]=2048 [shard]=1024 [response]=1024
    [websocket]=1024 [forms]=1024 [proxy_protocol]=700)

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

known() {
    if [ -z "${longest[${1:-}]-}" ]; then
        echo "run.sh: no target '${1:-}'; targets: $(printf '%s ' "${!longest[@]}" | tr ' ' '\n' | sort | tr '\n' ' ')" >&2
        exit 2
    fi
}

folder=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/fuzz
triple=$(rustc --version --verbose | sed -n 's/^host: //p')

# Instruments edges and comparisons with inline counters, and checks addresses.
build() {
    local flags="-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Clink-dead-code -Ccodegen-units=1"
    RUSTFLAGS=$flags CARGO_TARGET_DIR=$folder RUSTUP_TOOLCHAIN=${NIGHTLY:-nightly} \
        cargo build --locked --quiet --release --manifest-path tests/fuzz/Cargo.toml --target "$triple" --bin "$1"
}

case ${1-} in
--list)
    printf '%s\n' "${!longest[@]}" | sort
    exit
    ;;
--shrink)
    known "${2-}"
    build "$2"
    mkdir -p "$folder/inputs/$2" "tests/fuzz/corpus/$2"
    rm -rf "$folder/shrunk" && mkdir "$folder/shrunk"
    "$folder/$triple/release/$2" -set_cover_merge=1 -use_counters=0 -max_len=600 "$folder/shrunk" \
        "tests/fuzz/corpus/$2" "$folder/inputs/$2"
    rm -rf "tests/fuzz/corpus/$2" && mv "$folder/shrunk" "tests/fuzz/corpus/$2"
    echo "$2: $(ls "tests/fuzz/corpus/$2" | wc -l) inputs"
    exit
    ;;
esac

known "${1-}"
[[ ${2-} =~ ^[0-9]+$ ]] || usage
target=$1 seconds=$2
shift 2
build "$target"
mkdir -p "$folder/inputs/$target" "$folder/failed"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
outcome=0
"$folder/$triple/release/$target" -max_total_time="$seconds" -max_len="${longest[$target]}" -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 -dict=tests/fuzz/http.dict -artifact_prefix="$folder/failed/$target-" \
    "$@" "$folder/inputs/$target" "tests/fuzz/corpus/$target" "tests/fuzz/kept/$target" 2>&1 | tee "$log" || outcome=$?
if [ "$outcome" != 0 ]; then
    found=$(sed -n "s|.*Test unit written to \\(.*\\)|\\1|p" "$log" | head -n 1)
    echo "to repeat it and show the bytes on the wire:" \
        "FUZZ_TARGET=$target FUZZ_INPUT=$found cargo test -p lightcone-tests --test fuzz corpora"
fi
echo "$target: $(awk '/^stat::number_of_executed_units:/ { n += $2 } END { print n + 0 }' "$log") inputs run"
exit "$outcome"
