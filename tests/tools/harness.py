"""Shared by the measuring tools: a server under test, the load client, wrk, and figures from /proc."""

import contextlib
import ctypes
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
LOAD = os.path.join(RELEASE, "load")
PIPELINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pipeline.lua")
HTTPD = os.path.join(RELEASE, "examples", "httpd") + " --listen 127.0.0.1:0 --driver epoll --pollers {pollers}"
RAW_EPOLL = os.path.join(RELEASE, "raw_epoll") + " --listen 127.0.0.1:0"
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """The measurement failed: no figure is better than a wrong one."""


def allow_many_descriptors():
    """Raises the limit of descriptors to the system's maximum; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def in_child(cpu):
    """Returns a preexec_fn: the child is killed with its parent, and optionally pinned to one processor."""

    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    return prepare


def first_line(process, seconds):
    """Returns the first line of a process's output, or None if it does not come in time."""
    end, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
        byte = os.read(process.stdout.fileno(), 1) if ready else b""
        if not byte:
            return None
        line += byte
    return line.decode()


class Server:
    """A running server. `command` is one line; {pollers} in it is replaced, and `prefix` is put before it."""

    def __init__(self, command, pollers=1, prefix=(), cpu=None):
        served_by = command.format(pollers=pollers).split()
        self.words = [*prefix, *served_by]
        self.programs = [*prefix[:1], served_by[0]]
        self.cpu = cpu

    def __enter__(self):
        for program in self.programs:
            if not shutil.which(program):
                raise Failure(f"no program: {program}")
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.errors, preexec_fn=in_child(self.cpu))
        self.wait_until_ready()
        return self

    def wait_until_ready(self):
        """Waits until the server prints its address."""
        line = first_line(self.process, 30)
        address = re.search(r"http://(\S+:\d+)", line or "")
        if not address:
            self.stop()
            self.errors.seek(0)
            raise Failure(f"{' '.join(self.words)}: printed {line!r} instead of its address; "
                          + self.errors.read().decode(errors="replace")[-500:])
        self.address = address[1]

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        """The process that serves; under a tracer, that is the tracer's child."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        if self.words[0] == "strace":
            with open(children) as file:
                return int(file.read().split()[0])
        return self.process.pid

    def stop(self):
        """Stops the server, and waits until it (and its tracer) has ended."""
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def memory(self):
        """Returns the resident bytes."""
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def cpu_nanoseconds(self):
        """Returns the processor time of all threads so far."""
        total, tasks = 0, f"/proc/{self.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        return total


class Nginx(Server):
    """A running nginx of one process, as a baseline. `http` is the content of its block `http`, in which {address} and
    {folder}, a folder for its files, are replaced."""

    CONFIGURATION = """
daemon off; master_process off; error_log {folder}/errors; pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    %s
}}
"""

    def __init__(self, folder, http, cpu=None, **values):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.address = f"127.0.0.1:{unused.getsockname()[1]}"
        path = os.path.join(folder, "configuration")
        with open(path, "w") as file:
            file.write((self.CONFIGURATION % http).format(folder=folder, address=self.address, **values))
        super().__init__(f"nginx -c {path} -e {folder}/errors", cpu=cpu)

    def wait_until_ready(self):
        """It prints no address."""
        host, port = self.address.rsplit(":", 1)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            time.sleep(0.05)
        self.stop()
        raise Failure("nginx does not accept connections")


def load(server, mode, cpu=None, **options):
    """Runs the load client to its end and returns its report."""
    words = [LOAD, mode, "--address", server.address]
    for name, value in options.items():
        words += ["--" + name, str(value)]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                            preexec_fn=in_child(cpu))
    if result.returncode:
        raise Failure(result.stderr.strip())
    return json.loads(result.stdout.splitlines()[-1])


@contextlib.contextmanager
def held(server, connections, path="/plaintext"):
    """Holds idle connections, each after one request, and checks at the end that all of them serve another one."""
    words = [LOAD, "hold", "--address", server.address, "--path", path, "--connections", str(connections)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=in_child(None))
    try:
        line = first_line(process, 120)
        if json.loads(line or "{}").get("held") != connections:
            raise Failure(f"could not open {connections} connections")
        yield
        rest, _ = process.communicate(timeout=60)
        alive = json.loads(rest)["alive"]
        if alive != connections:
            raise Failure(f"of {connections} idle connections {connections - alive} were closed")
    finally:
        process.kill()
        process.wait()


def wrk(server, connections, depth, seconds, path="/plaintext", cpu=None):
    """Runs wrk with `depth` pipelined requests, and returns its counts of requests, bytes and errors."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "4s", "-s", PIPELINE,
             f"http://{server.address}{path}", str(depth)]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=seconds + 60, preexec_fn=in_child(cpu))
    report = re.search(r"^report (\{.*\})$", result.stdout, re.MULTILINE)
    if not report:
        raise Failure("wrk: " + (result.stdout + result.stderr)[-500:])
    return json.loads(report[1])


def compare(what, ours, baseline, name):
    """Prints the minima and medians of two series of microseconds per request, and returns the ratio of the minima."""
    ratio = min(ours) / min(baseline)
    medians = statistics.median(ours), statistics.median(baseline)
    print(f"{what}: {min(ours):.2f} us a request, {name} {min(baseline):.2f}, ratio {ratio:.3f}"
          f" (medians {medians[0]:.2f}, {medians[1]:.2f}, {medians[0] / medians[1]:.3f})", flush=True)
    return ratio


def run(main):
    """Runs a tool; a failed measurement is reported in one line, without a traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {failure}")
