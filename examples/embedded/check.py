#!/usr/bin/env python3
"""Boots the firmware in QEMU and checks it from outside: over TCP through QEMU's user network, and with frames of its
own, which a peer that vanishes needs.

    python3 check.py http FILE      checks the web server
    python3 check.py echo FILE      checks the echo server
    python3 check.py serial FILE    checks the echo over a serial line
    python3 check.py twin FILE      checks that a program that hangs is restarted

FILE is the program for the board. Names of checks after it select some of them. Each check has a time limit; the last
line of output counts the checks.
"""

import argparse
import configparser
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from wire import ACK, PSH, SYN, RawClient, Wire

FOLDER = os.path.dirname(os.path.abspath(__file__))
ALLOCATOR = re.compile(r"\b(GlobalAlloc|__rust_\w*alloc|__r(g|dl)_\w*alloc|alloc::)")  # names of symbols
PAINT = b"\xcc" * 4  # what cortex-m-rt fills unused stack with
GUEST = {"http": 80, "echo": 7, "serial": 7, "twin": 7}
TIME_LIMIT = 20  # seconds for one receive or connect
SOCKETS = {"http": 4, "echo": 2}  # of the firmware
WAITING = 8  # connections that wait for a socket of the web server


class Board:
    """The emulated board, with a port of the host forwarded to it."""

    def __init__(self, program, kind, wire=None):
        self.kind, self.program, self.output = kind, program, b""
        self.folder = tempfile.TemporaryDirectory()
        monitor = f"unix:{self.folder.name}/monitor,server=on,wait=off"
        for _ in range(5):
            self.port = free_port()
            card = f"user,model=lan9118,hostfwd=tcp:127.0.0.1:{self.port}-:{GUEST[kind]}"
            self.process = subprocess.Popen(
                ["qemu-system-arm", "-machine", "mps2-an385", "-display", "none", "-monitor", monitor,
                 "-serial", "stdio", "-kernel", program,
                 "-nic", wire.options() if wire else card],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.reader = threading.Thread(target=self.read, daemon=True)
            self.reader.start()
            if self.wait_for(f"{kind}: started\n".encode()):
                return
            self.stop()
            if b"host forwarding" not in self.output:
                break
        sys.exit(f"the board does not start: {self.output.decode(errors='replace')}")

    def read(self):
        while chunk := os.read(self.process.stdout.fileno(), 4096):
            self.output = (self.output + chunk)[-10_000:]  # a board that restarts again and again prints a lot

    def wait_for(self, text):
        deadline = time.monotonic() + 20
        while text not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def processor_time(self):
        """Returns the processor time of the emulator in seconds."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, start, size):
        """Returns memory of the board."""
        path = os.path.join(self.folder.name, "memory")
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(TIME_LIMIT)
            monitor.connect(os.path.join(self.folder.name, "monitor"))
            answer = b""
            monitor.sendall(f'pmemsave {start} {size} "{path}"\nsum 0 1\n'.encode())
            while b"sum 0 1" not in answer or not answer.endswith(b"(qemu) "):
                answer += monitor.recv(4096)
        with open(path, "rb") as file:
            return file.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.reader.join(10)
        self.folder.cleanup()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """A connection to the board."""

    def __init__(self, board):
        self.socket = socket.create_connection(("127.0.0.1", board.port), TIME_LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        chunk = self.socket.recv(65536)
        if not chunk:
            raise EOFError(f"the connection ended after {self.buffer!r}")
        self.buffer += chunk

    def until(self, end):
        while end not in self.buffer:
            self.more()
        part, _, self.buffer = self.buffer.partition(end)
        return part

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        part, self.buffer = self.buffer[:count], self.buffer[count:]
        return part

    def response(self):
        """Returns the status and the body of a response with a length."""
        head = self.until(b"\r\n\r\n").decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:])
        return int(head[0].split(" ")[1]), self.exactly(int(fields["content-length"]))

    def get(self, path):
        self.send(request(path))
        status, body = self.response()
        assert status == 200, (path, status, body)
        return body

    def ended(self):
        """Waits for the end of the connection, and returns what came before."""
        while chunk := self.socket.recv(65536):
            self.buffer += chunk
        return self.buffer


def request(path, method="GET", body=None, close=False):
    head = f"{method} {path} HTTP/1.1\r\nHost: device\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    if close:
        head += "Connection: close\r\n"
    return (head + "\r\n").encode() + (body or b"")


def at_once(count, work):
    """Runs `work` with the numbers below `count` on as many threads, and fails if one of them does."""
    failed, barrier = [], threading.Barrier(count)

    def run(number):
        try:
            barrier.wait(TIME_LIMIT)
            work(number)
        except Exception as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


# --- the web server ----------------------------------------------------------------------------------------------


def curl(board, path, *options):
    command = ["curl", "--silent", "--show-error", "--max-time", str(TIME_LIMIT), "--write-out", "\n%{http_code}"]
    done = subprocess.run([*command, *options, f"http://127.0.0.1:{board.port}{path}"], capture_output=True, text=True)
    assert done.returncode == 0, (path, options, done.stderr)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def every_route_with_curl(board):
    page = open(os.path.join(FOLDER, "src", "page.html"), newline="").read()
    assert curl(board, "/") == (200, page)
    for leds in ["0", "1", "2", "3"]:
        assert curl(board, "/api/leds", "--data", leds) == (200, leds)
        assert curl(board, "/api/leds") == (200, leds)
    for wrong in ["4", "-1", "on", ""]:
        assert curl(board, "/api/leds", "--data", wrong)[0] == 400, wrong
    assert curl(board, "/api/leds", "--data", "1" * 17)[0] == 413
    assert curl(board, "/api/leds") == (200, "3")
    status, memory = curl(board, "/api/memory")
    memory = json.loads(memory)
    assert status == 200 and 0 < memory["stack"] < memory["stack_size"], memory
    before, after = (int(curl(board, "/api/requests")[1]) for _ in range(2))
    assert after == before + 1
    assert curl(board, "/none")[0] == 404
    assert curl(board, "/api/memory", "--request", "DELETE")[0] == 405
    assert curl(board, "/", "--head")[0] == 200


def six_parallel_connections(board):
    def work(_):
        with Client(board) as client:
            for _ in range(20):
                assert client.get("/").endswith(b"</script>\n")

    at_once(6, work)


def pipelining(board):
    with Client(board) as client:
        for _ in range(20):
            client.send(request("/api/requests") * 16)
            numbers = [int(client.response()[1]) for _ in range(16)]
            assert numbers == list(range(numbers[0], numbers[0] + 16)), numbers


def a_request_cut_at_every_byte(board):
    whole = request("/api/leds", "POST", b"2")
    with Client(board) as client:
        for cut in range(1, len(whole)):
            client.send(whole[:cut])
            time.sleep(0.004)  # so that the parts are segments of their own
            client.send(whole[cut:])
            assert client.response() == (200, b"2"), cut


def a_thousand_connections_in_a_row(board):
    for number in range(1000):
        with Client(board) as client:
            client.send(request("/api/requests", close=number % 2 == 0))
            status, count = client.response()
            assert status == 200 and int(count) > number, (number, status, count)
            if number % 2 == 0:
                assert client.ended() == b""


def more_connections_than_sockets(board):
    def work(_):
        with Client(board) as client:
            client.socket.settimeout(60)
            client.send(request("/api/leds", close=True))
            status, leds = client.response()
            assert status == 200 and int(leds) in range(4), (status, leds)

    for _ in range(3):
        began = time.monotonic()
        at_once(SOCKETS["http"] + WAITING, work)
        took = time.monotonic() - began
        assert took < 5, took
    # More than can wait: the rest begins again when TCP repeats the first segment, which it does after 6 and 24 seconds
    # here.
    at_once(SOCKETS["http"] + WAITING + 4, work)


def ten_thousand_requests(board):
    with Client(board) as client:
        first = int(client.get("/api/requests"))
        for number in range(1, 10_000):
            assert int(client.get("/api/requests")) == first + number


def an_event_stream(board):
    with Client(board) as events, Client(board) as client:
        events.send(request("/api/events"))
        head = events.until(b"\r\n\r\n")
        assert b"text/event-stream" in head and b"chunked" in head, head
        seen = []
        for number in range(6):
            leds = number % 4
            client.send(request("/api/leds", "POST", str(leds).encode()))
            assert client.response() == (200, str(leds).encode())
            size = int(events.until(b"\r\n"), 16)
            event = events.exactly(size)
            assert event.startswith(b"data: ") and event.endswith(b"\n\n"), event
            assert events.exactly(2) == b"\r\n"
            seen.append(json.loads(event[6:]))
        times = [event["millis"] for event in seen]
        assert all(450 <= b - a <= 1500 for a, b in zip(times, times[1:])), times
        assert [event["leds"] for event in seen[1:]] == [1, 2, 3, 0, 1], seen
        client.send(request("/api/leds", "POST", b"2"))
        assert client.response() == (200, b"2")
    # The streams of clients that leave do not keep their sockets.
    for _ in range(3 * SOCKETS["http"]):
        with Client(board) as events:
            events.send(request("/api/events"))
            events.until(b"\n\n")


def silent_peers(board):
    """Peers that say nothing, or stop in the middle of a request, keep their sockets only until a timeout."""
    began = time.monotonic()
    silent = [Client(board) for _ in range(SOCKETS["http"])]
    try:
        for number, client in enumerate(silent):
            client.send(request("/api/leds")[:number])
        with Client(board) as client:
            client.socket.settimeout(60)
            client.send(request("/api/leds", close=True))
            status, _ = client.response()
            assert status == 200
            took = time.monotonic() - began
            assert took < 45, took  # without a timeout, never; a loaded machine is given time
    finally:
        for client in silent:
            client.socket.close()


def peers_that_vanish(board):
    """Peers that vanish without a word keep their sockets only until a timeout, whatever they did before."""
    wire = Wire()
    other = Board(board.program, board.kind, wire)
    try:
        for number in range(SOCKETS["http"]):
            client = RawClient(wire, 2, 50_000 + number)
            assert client.connect(5), number
            if number % 2 == 0:
                client.segment(PSH | ACK, request("/api/events"))
                assert client.take(5) is not None
        for number in range(2 * WAITING):
            RawClient(wire, 3, 50_000 + number).segment(SYN)
        began = time.monotonic()
        client = RawClient(wire, 4, 50_000)
        assert client.connect(60)
        response = client.request(request("/api/leds", close=True), 5)
        took = time.monotonic() - began
        print(f"  served after {took:.1f} s")
        assert response.startswith(b"HTTP/1.1 200 OK\r\n"), response
        assert took < 40, took
        no_restart(other)
    finally:
        other.stop()


def the_board_knows_its_memory(board):
    with Client(board) as client:
        memory = json.loads(client.get("/api/memory"))
    fixed, stack = ram(board)
    assert memory["fixed"] == fixed and 0 < memory["stack"] <= stack, (memory, fixed, stack)


# --- the echo server ---------------------------------------------------------------------------------------------


def bytes_come_back(board):
    data = bytes(n * 7 % 256 for n in range(20_000))
    for _ in range(20):
        with Client(board) as client:
            sender = threading.Thread(target=client.send, args=(data,))
            sender.start()
            assert client.exactly(len(data)) == data
            sender.join()
            client.socket.shutdown(socket.SHUT_WR)
            assert client.ended() == b""


def more_clients_than_sockets(board):
    def work(number):
        with Client(board) as client:
            client.send(b"%d\n" % number)
            assert client.until(b"\n") == b"%d" % number

    for _ in range(5):
        at_once(5, work)


# --- the serial line ---------------------------------------------------------------------------------------------


def cobs(message):
    """Encodes a message of less than 254 bytes: each zero byte becomes the distance to the next."""
    parts = message.split(b"\0")
    return b"".join(bytes([len(part) + 1]) + part for part in parts)


class Serial:
    """The serial port of the board: its standard input and output."""

    def __init__(self, board):
        self.board, self.position = board, len(board.output)

    def send(self, data):
        self.board.process.stdin.write(data)
        self.board.process.stdin.flush()

    def frame(self):
        deadline = time.monotonic() + TIME_LIMIT
        while (end := self.board.output.find(b"\0", self.position)) < 0:
            assert time.monotonic() < deadline, self.board.output[self.position:]
            time.sleep(0.001)
        frame, self.position = self.board.output[self.position:end], end + 1
        return frame


def messages_come_back(board):
    port = Serial(board)
    for length in range(127):
        for message in [bytes(n % 5 for n in range(length)), bytes(length), b"x" * length]:
            if len(cobs(message)) <= 127:
                port.send(cobs(message) + b"\0")
                assert port.frame() == cobs(message), message
        board.output, port.position = b"serial: started\n", 16


def messages_cut_at_every_byte_come_back(board):
    port, whole = Serial(board), cobs(b"one\0two\0\0three") + b"\0"
    for cut in range(1, len(whole)):
        port.send(whole[:cut])
        time.sleep(0.005)
        port.send(whole[cut:])
        assert port.frame() + b"\0" == whole, cut


def damaged_messages_are_dropped(board):
    port = Serial(board)
    # a distance beyond the end; no zero byte within the maximum of 127 bytes; a message without its beginning
    for damaged in [b"\x09abc\0", b"\xff" * 127 + b"\xff" * 300 + b"\0", cobs(b"some message")[5:] + b"\0"]:
        port.send(damaged + cobs(b"after") + b"\0")
        assert port.frame() == cobs(b"after"), damaged


# --- all ---------------------------------------------------------------------------------------------------------


def an_idle_board_sleeps(board):
    before = board.processor_time()
    time.sleep(3)
    used = (board.processor_time() - before) / 3
    print(f"  processor time while idle: {used:.1%}")
    assert used < 0.3, used


def no_restart(board):
    starts = board.output.count(b"started")
    assert starts == 1, (starts, board.output[-200:])


# --- the program -------------------------------------------------------------------------------------------------


def nm(program):
    """Returns the symbols of a program and their addresses."""
    done = subprocess.run(["nm", "--demangle", program], capture_output=True, text=True, check=True)
    return {name: int(address, 16) for address, _, name in (line.split(" ", 2) for line in done.stdout.splitlines())}


def ram(board):
    """Returns the static memory and the most of the stack that was used, in bytes."""
    symbols = nm(board.program)
    start, end, top = symbols["__sdata"], symbols["_stack_end"], symbols["_stack_start"]
    stack = board.memory(end, top - end)
    words = (stack[n:n + 4] for n in range(0, len(stack), 4))
    unused = next(n for n, word in enumerate(words) if word != PAINT)
    assert unused > 128, "the stack reaches static memory"
    return end - start, len(stack) - 4 * unused


def within(board, figure, measured):
    """Compares a figure with its limit, which it may exceed by 3 %."""
    limits = configparser.ConfigParser()
    limits.read(board.limits)
    limit = limits.getint(board.kind, figure)
    print(f"  {figure}: {measured} bytes, limit {limit} + 3 %")
    assert measured <= limit * 1.03, (measured, limit)


def flash_within_its_limit(board):
    done = subprocess.run(["size", board.program], capture_output=True, text=True, check=True)
    text, data, *_ = done.stdout.splitlines()[1].split()
    within(board, "flash", int(text) + int(data))


def ram_within_its_limit(board):
    within(board, "ram", sum(ram(board)))


def no_allocator(board):
    found = [name for name in nm(board.program) if ALLOCATOR.search(name)]
    assert not found, found[:5]


def no_formatting_of_panics(board):
    found = [name for name in nm(board.program) if "core::panicking::" in name or "core::panic::" in name]
    assert not found, found[:5]


PROGRAM = [flash_within_its_limit, ram_within_its_limit, no_allocator, no_formatting_of_panics]
def the_watchdog_restarts_it(board):
    deadline = time.monotonic() + 30
    while board.output.count(b"started") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


CHECKS = {
    "http": [every_route_with_curl, six_parallel_connections, pipelining, a_request_cut_at_every_byte,
             a_thousand_connections_in_a_row, more_connections_than_sockets, ten_thousand_requests, an_event_stream,
             silent_peers, peers_that_vanish, the_board_knows_its_memory, an_idle_board_sleeps, no_restart, *PROGRAM],
    "echo": [bytes_come_back, more_clients_than_sockets, an_idle_board_sleeps, no_restart, *PROGRAM],
    "serial": [messages_come_back, messages_cut_at_every_byte_come_back, damaged_messages_are_dropped,
               an_idle_board_sleeps, no_restart, *PROGRAM],
    "twin": [the_watchdog_restarts_it],
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kind", choices=CHECKS)
    arguments.add_argument("program", metavar="FILE")
    arguments.add_argument("checks", nargs="*", metavar="CHECK", help="only these")
    arguments.add_argument("--limits", default=os.path.join(FOLDER, "limits.ini"), help="the limits of the figures")
    arguments = arguments.parse_args()
    named = {check.__name__: check for checks in CHECKS.values() for check in checks}
    chosen = [named[name] for name in arguments.checks] or CHECKS[arguments.kind]
    board = Board(arguments.program, arguments.kind)
    board.limits = arguments.limits
    passed, failed = 0, []
    try:
        for check in chosen:
            began = time.monotonic()
            try:
                check(board)
                passed += 1
                outcome = "ok"
            except Exception as error:
                failed.append(check.__name__)
                outcome = f"FAILED: {error!r}"
            print(f"{check.__name__}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
    finally:
        board.stop()
    print(f"{passed} checks passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
