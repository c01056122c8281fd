// Checks a WebSocket echo server with the client `ws` of node, which has to be installed: websocket.js URL
"use strict";
const assert = require("node:assert");
const WebSocket = require("ws");

const messages = [0, 1, 125, 126, 65535, 65536, 500000].flatMap((length) => [
    "ä".repeat(length),
    Buffer.alloc(length, 0xff),
]);
const socket = new WebSocket(process.argv[2]);
let received = 0;
let pongs = 0;
setTimeout(() => assert.fail("no end within a minute"), 60000).unref();
socket.on("open", () => {
    messages.forEach((message) => socket.send(message));
    socket.ping("payload");
});
socket.on("pong", (payload) => {
    assert.equal(payload.toString(), "payload");
    pongs += 1;
});
socket.on("message", (data, binary) => {
    const sent = messages[received];
    assert.equal(binary, typeof sent !== "string");
    assert.ok(Buffer.from(sent).equals(data), `message ${received}`);
    received += 1;
    if (received === messages.length) {
        // The pong may still be on its way.
        socket.once("pong", () => socket.close(4000, "bye"));
        socket.ping("payload");
    }
});
socket.on("close", (code) => {
    assert.equal(code, 4000);
    assert.equal(pongs, 2);
    console.log(`messages of the client ws: ${received} passed`);
});
