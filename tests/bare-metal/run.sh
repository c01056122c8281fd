#!/bin/sh
# Runs a test program on an emulated Cortex-M3; its end is the program's own.
exec timeout 1200 qemu-system-arm -machine mps2-an385 -nographic -monitor none -serial null \
    -semihosting-config enable=on,target=native -kernel "$1"
