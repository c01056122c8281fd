"""A peer of the board on the Ethernet itself, which can do what the TCP of a host does not: vanish."""

import select
import socket
import struct
import time

BOARD = bytes([10, 0, 2, 15])
PEER_MAC = bytes([2, 0, 0, 0, 0, 9])
BROADCAST = b"\xff" * 6
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Wire:
    """Carries Ethernet frames to and from the emulator, each in a datagram."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.board = probe.getsockname()
        self.mac = BROADCAST

    def options(self):
        """Returns the emulator's option for a network card on this wire."""
        mine, board = self.socket.getsockname()[1], self.board[1]
        return f"socket,model=lan9118,udp=127.0.0.1:{mine},localaddr=127.0.0.1:{board}"

    def send(self, kind, payload, to=None):
        frame = (to or self.mac) + PEER_MAC + struct.pack("!H", kind) + payload
        self.socket.sendto(frame.ljust(60, b"\0"), self.board)

    def receive(self, seconds):
        """Returns the payload of the next frame with an IP packet for the peer, or `None`. Answers ARP."""
        deadline = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(deadline - time.monotonic(), 0))[0]:
            frame = self.socket.recv(2048)
            kind, payload = struct.unpack("!H", frame[12:14])[0], frame[14:]
            if kind == 0x806 and payload[6:8] == b"\0\1":
                asked, board = payload[24:28], payload[8:18]
                self.mac = board[:6]
                answer = payload[:6] + b"\0\2" + PEER_MAC + asked + board
                self.send(0x806, answer)
            elif kind == 0x800:
                self.mac = frame[6:12]
                return payload
        return None


class RawClient:
    """A TCP connection of the peer, which acknowledges only when it is told to."""

    def __init__(self, wire, host, port):
        self.wire, self.address, self.port = wire, bytes([10, 0, 2, host]), port
        self.next, self.seen, self.data = 1000, 0, b""

    def segment(self, flags, payload=b""):
        header = struct.pack("!HHIIBBHHH", self.port, 80, self.next, self.seen, 5 << 4, flags, 4096, 0, 0)
        pseudo = self.address + BOARD + struct.pack("!BBH", 0, 6, len(header) + len(payload))
        total = checksum(pseudo + header + payload)
        header = header[:16] + struct.pack("!H", total) + header[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0) + self.address + BOARD
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        self.wire.send(0x800, ip + header + payload)
        self.next += len(payload) + bool(flags & (SYN | FIN))

    def take(self, seconds):
        """Returns the flags of the next segment for this connection, whose data is kept in order, or `None`."""
        deadline = time.monotonic() + seconds
        while (packet := self.wire.receive(max(deadline - time.monotonic(), 0))) is not None:
            tcp = packet[20:struct.unpack("!H", packet[2:4])[0]]
            target, sequence = struct.unpack("!H", tcp[2:4])[0], struct.unpack("!I", tcp[4:8])[0]
            if packet[16:20] != self.address or target != self.port:
                continue
            payload, flags = tcp[tcp[12] >> 4 << 2:], tcp[13]
            if flags & SYN or sequence == self.seen:
                self.seen = sequence + len(payload) + bool(flags & (SYN | FIN))
                self.data += payload
            return flags
        return None

    def connect(self, seconds):
        """Connects. A segment that is not answered is repeated each second."""
        for _ in range(seconds):
            self.segment(SYN)
            if self.take(1) == SYN | ACK:
                self.segment(ACK)
                return True
            self.next -= 1
        return False

    def request(self, data, seconds):
        """Sends data and returns what arrives until the peer ends its stream, acknowledged."""
        self.segment(PSH | ACK, data)
        while (flags := self.take(seconds)) is not None:
            if flags & RST:
                break
            self.segment(ACK)
            if flags & FIN:
                self.segment(FIN | ACK)
                break
        return self.data
