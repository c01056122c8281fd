#!/usr/bin/env python3
"""Boots the web server in QEMU, loads its page in headless Chromium, and waits until it shows live figures.

    python3 browser.py FILE

A click on a button has to turn on an LED of the board.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from check import Board, Client

CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--remote-debugging-port=0"]
TIME_LIMIT = 60


class Page:
    """The page, through the browser's debugging protocol: JSON in the frames of a WebSocket."""

    def __init__(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=TIME_LIMIT) as response:
            address = next(page["webSocketDebuggerUrl"] for page in json.load(response) if page["type"] == "page")
        path = address.split("/", 3)[3]
        self.socket = socket.create_connection(("127.0.0.1", port), TIME_LIMIT)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n")
                            .encode())
        self.file = self.socket.makefile("rb")
        assert b"101" in self.file.readline()
        while self.file.readline() != b"\r\n":
            pass

    def evaluate(self, expression):
        """Returns the value of an expression of JavaScript."""
        text = json.dumps({"id": 1, "method": "Runtime.evaluate", "params": {"expression": expression}}).encode()
        size = bytes([0xfe, *len(text).to_bytes(2, "big")]) if len(text) > 125 else bytes([0x80 | len(text)])
        self.socket.sendall(b"\x81" + size + b"\0\0\0\0" + text)  # with a mask of zeros
        length = self.file.read(2)[1]
        if length > 125:
            length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
        return json.loads(self.file.read(length))["result"]["result"].get("value")

    def wait_for(self, expression):
        deadline = time.monotonic() + TIME_LIMIT
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, (expression, self.evaluate("document.body.innerText"))
            time.sleep(0.1)


def port_of(folder):
    """Returns the port on which the browser can be debugged, which it writes into a file."""
    path, deadline = os.path.join(folder, "DevToolsActivePort"), time.monotonic() + TIME_LIMIT
    while not os.path.exists(path) or not open(path).read():
        assert time.monotonic() < deadline, "the browser does not start"
        time.sleep(0.1)
    return int(open(path).readline())


def live_figures(page):
    page.wait_for("document.getElementById('state')?.textContent == 'live'")
    first = page.evaluate("document.getElementById('time').textContent")
    page.wait_for(f"document.getElementById('time').textContent != '{first}'")


def a_button_turns_on_an_led(page, board):
    page.evaluate("document.getElementById('led1').click()")
    page.wait_for("document.getElementById('led1').getAttribute('aria-pressed') == 'true'")
    with Client(board) as client:
        assert client.get("/api/leds") == b"2"


def six_connections_at_once(page):
    page.evaluate("window.loaded = 0; for (let n = 0; n < 24; n++) fetch('/api/memory?' + n, { cache: 'no-store' })"
                  ".then(response => response.json()).then(() => window.loaded++)")
    page.wait_for("window.loaded == 24")


def main():
    board = Board(sys.argv[1], "http")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = subprocess.Popen(
            [*CHROMIUM, f"--user-data-dir={folder}", f"http://127.0.0.1:{board.port}/"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            page = Page(port_of(folder))
            live_figures(page)
            a_button_turns_on_an_led(page, board)
            six_connections_at_once(page)
            print("live figures: ok\nan LED by a button: ok\n24 requests at once: ok")
        finally:
            browser.terminate()
            browser.wait(10)
            board.stop()


if __name__ == "__main__":
    main()
