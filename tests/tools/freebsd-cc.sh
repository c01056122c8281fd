#!/bin/bash
# Links for FreeBSD with zig's linker and its stubs of FreeBSD's libraries; ZIG is the command that runs zig.
#
# The libc crate links four libraries that nothing here calls and that zig has no stubs for.
arguments=()
for argument; do
    case $argument in
    -lkvm | -lprocstat | -lmemstat | -ldevstat) ;;
    *) arguments+=("$argument") ;;
    esac
done
exec $ZIG cc -target x86_64-freebsd "${arguments[@]}"
