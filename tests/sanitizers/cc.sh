#!/bin/sh
# Links with ThreadSanitizer's runtime (TSAN_RUNTIME, an archive): whole, and with its symbols left visible.
exec cc -Wl,--whole-archive "$TSAN_RUNTIME" -Wl,--no-whole-archive "$@" \
    -Wl,--no-as-needed -lpthread -ldl -lm -lc -Wl,--export-dynamic
