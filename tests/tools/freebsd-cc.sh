#!/bin/bash
# Links for FreeBSD with zig's linker and its symbols of FreeBSD's libraries; ZIG is how to call zig.
#
# The libc crate asks for four libraries that nothing here calls and that zig has no symbols of.
arguments=()
for argument; do
    case $argument in
    -lkvm | -lprocstat | -lmemstat | -ldevstat) ;;
    *) arguments+=("$argument") ;;
    esac
done
exec $ZIG cc -target x86_64-freebsd "${arguments[@]}"
