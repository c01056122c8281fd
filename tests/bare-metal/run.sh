#!/bin/sh
# Runs a test program on an emulated Cortex-M3 and exits with the program's status.
exec timeout 1200 qemu-system-arm -machine mps2-an385 -nographic -monitor none -serial null \
    -semihosting-config enable=on,target=native -kernel "$1"
