#!/bin/sh
# Runs a program on QEMU's emulated board and prints its address. `HOST_PORT` selects the host's port: by default 8080;
# with 0, the system chooses one.
set -eu
if ! command -v qemu-system-arm >/dev/null; then
    echo "qemu-system-arm is missing: install QEMU for ARM (Debian: apt-get install qemu-system-arm)" >&2
    exit 1
fi
port=${HOST_PORT:-8080}
if [ "$port" = 0 ]; then
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
case $1 in
*/echo) guest=7 && echo "echo server at 127.0.0.1:$port; Control-C ends it" ;;
*/serial) guest=7 && echo "the serial line is standard input and output; Control-C ends it" ;;
*) guest=80 && echo "http://127.0.0.1:$port/ - Control-C ends it" ;;
esac
exec qemu-system-arm -machine mps2-an385 -display none -monitor none -serial stdio \
    -nic "user,model=lan9118,hostfwd=tcp:127.0.0.1:$port-:$guest" -kernel "$1"
