#!/bin/sh
# Links the ThreadSanitizer runtime (TSAN_RUNTIME, an archive) as a whole, with its symbols exported.
exec cc -Wl,--whole-archive "$TSAN_RUNTIME" -Wl,--no-whole-archive "$@" \
    -Wl,--no-as-needed -lpthread -ldl -lm -lc -Wl,--export-dynamic
