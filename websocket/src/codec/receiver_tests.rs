//! The receiver against a simple model, in all cuts, with limits, and with violations.

extern crate std;

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::close::CloseCode;
use super::header::{FrameHeader, Opcode, Role};
use super::mask::Mask;
use super::receiver::{CAPACITY_MIN, Incoming, MessageKind, MessageLimits, Receiver};
use super::violation::Violation;

/// What a connection delivers: whole messages with the number of their pieces, and control frames.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Delivered {
    Message(MessageKind, Vec<u8>),
    Control(Incoming, Vec<u8>),
}

struct Rig {
    receiver: Receiver,
    buffer: Vec<u8>,
    capacity: usize,
    role: Role,
    limits: MessageLimits,
    message: Vec<u8>,
    delivered: Vec<Delivered>,
    pieces: usize,
    /// Whether everything is refused once before it is accepted.
    refuses: bool,
    refused: bool,
    /// Bytes after which the violation was found.
    received: usize,
}

impl Rig {
    fn new(capacity: usize, limits: MessageLimits) -> Self {
        Self {
            receiver: Receiver::new(),
            buffer: Vec::new(),
            capacity,
            role: Role::Server,
            limits,
            message: Vec::new(),
            delivered: Vec::new(),
            pieces: 0,
            refuses: false,
            refused: false,
            received: 0,
        }
    }

    fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.capacity - self.buffer.len()));
            assert!(!now.is_empty(), "the buffer is full, and nothing is delivered: {:?}", self.receiver);
            self.buffer.extend_from_slice(now);
            self.received += now.len();
            bytes = later;
            self.take()?;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), Violation> {
        loop {
            let step = self.receiver.next(&mut self.buffer, self.capacity, self.role, &self.limits)?;
            self.buffer.drain(..step.consumed);
            let Some((received, range)) = step.received else { return Ok(()) };
            self.refused = self.refuses && !self.refused;
            if self.refused {
                continue;
            }
            self.deliver(&received, self.buffer[range.clone()].to_vec());
            let n = self.receiver.accept(&received, &range);
            self.buffer.drain(..n);
        }
    }

    fn deliver(&mut self, received: &Incoming, payload: Vec<u8>) {
        let &Incoming::Data { kind, first, last } = received else {
            return self.delivered.push(Delivered::Control(received.clone(), payload));
        };
        assert_eq!(first, self.message.is_empty() && self.pieces == 0, "{received:?}");
        assert!(kind == MessageKind::Binary || std::str::from_utf8(&payload).is_ok());
        assert!(payload.len() <= self.limits.piece as usize);
        assert!(last || !payload.is_empty(), "an empty piece");
        self.message.extend_from_slice(&payload);
        self.pieces += 1;
        if last {
            self.delivered.push(Delivered::Message(kind, std::mem::take(&mut self.message)));
            self.pieces = 0;
        }
    }
}

/// Encodes a frame of a client.
fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = Mask::new([0x37, 0xfa, payload.len().to_le_bytes()[0], 0x3d]);
    let header = FrameHeader { fin, opcode, mask: Some(key), length: payload.len() as u64 };
    let mut bytes = header.encode().as_bytes().to_vec();
    let mut payload = payload.to_vec();
    let mut mask = key;
    mask.apply(&mut payload);
    bytes.extend_from_slice(&payload);
    bytes
}

fn text(text: &str) -> Delivered {
    Delivered::Message(MessageKind::Text, text.as_bytes().to_vec())
}

fn binary(bytes: &[u8]) -> Delivered {
    Delivered::Message(MessageKind::Binary, bytes.to_vec())
}

fn ping(payload: &[u8]) -> Delivered {
    Delivered::Control(Incoming::Ping, payload.to_vec())
}

const WIDE: MessageLimits = MessageLimits { frame: 1 << 20, message: 1 << 20, piece: 1 << 20 };

/// A conversation with everything that may occur.
fn conversation() -> (Vec<u8>, Vec<Delivered>) {
    let stream = [
        frame(true, Opcode::Text, "grüße".as_bytes()),
        frame(true, Opcode::Text, b""),
        frame(false, Opcode::Text, "\u{1f600}".as_bytes().split_at(1).0),
        frame(true, Opcode::Ping, b"in between"),
        frame(false, Opcode::Continuation, b""),
        frame(false, Opcode::Continuation, "\u{1f600}".as_bytes()[1..3].as_ref()),
        frame(true, Opcode::Ping, b""),
        frame(true, Opcode::Pong, b"x"),
        frame(true, Opcode::Continuation, &["\u{1f600}".as_bytes().split_at(3).1, b"!"].concat()),
        frame(false, Opcode::Binary, b""),
        frame(true, Opcode::Continuation, b"\xff\x00"),
        frame(true, Opcode::Binary, &[0xf0; 130]),
        frame(true, Opcode::Close, b"\x03\xe8bye"),
    ];
    let delivered = vec![
        text("grüße"),
        text(""),
        ping(b"in between"),
        ping(b""),
        Delivered::Control(Incoming::Pong, b"x".to_vec()),
        text("\u{1f600}!"),
        binary(b"\xff\x00"),
        binary(&[0xf0; 130]),
        Delivered::Control(Incoming::Close, b"\x03\xe8bye".to_vec()),
    ];
    (stream.concat(), delivered)
}

/// Receives the conversation cut at every `step`th pair of positions.
fn converse(refuses: bool, step: usize) {
    let (stream, expected) = conversation();
    let cuts = (0..=stream.len()).flat_map(|first| (first..=stream.len()).map(move |second| (first, second)));
    for (first, second) in cuts.step_by(step) {
        let mut rig = Rig::new(4096, WIDE);
        rig.refuses = refuses;
        for part in [&stream[..first], &stream[first..second], &stream[second..]] {
            rig.receive(part).unwrap();
        }
        assert_eq!(rig.delivered, expected, "cut at {first}, {second}");
        assert!(rig.buffer.is_empty(), "the buffer can be given back");
    }
    let mut rig = Rig::new(CAPACITY_MIN, MessageLimits { piece: 4, ..WIDE });
    rig.refuses = refuses;
    for byte in &stream {
        rig.receive(&[*byte]).unwrap();
    }
    assert_eq!(rig.delivered, expected);
}

#[test]
fn a_conversation_in_all_cuts() {
    converse(false, 1);
    converse(true, 7);
}

#[test]
fn invalid_text_fails_at_the_first_impossible_byte_in_all_cuts() {
    for (before, bad) in [
        (&b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"[..], &b"\xed\xa0"[..]),
        (b"", b"\xf4\x90"),
        (b"abc", b"\xc0"),
        (b"", b"\x80"),
        (b"\xf0\x9f\x98", b"a"),
        (b"", b"\xff"),
    ] {
        // more of the frame is announced than is sent
        let payload = [before, bad, &[b'x'; 50]].concat();
        let mut stream = frame(true, Opcode::Text, &payload);
        stream.truncate(6 + before.len() + bad.len());
        for cut in 0..stream.len() {
            let mut rig = Rig::new(4096, WIDE);
            let (first, second) = stream.split_at(cut);
            rig.receive(first).unwrap();
            assert_eq!(rig.receive(second), Err(Violation::InvalidUtf8), "{payload:?} cut at {cut}");
        }
    }
    // a character that the end of the message cuts off, and one that the next frame does not continue
    let mut rig = Rig::new(4096, WIDE);
    assert_eq!(rig.receive(&frame(true, Opcode::Text, b"a\xe2\x82")), Err(Violation::InvalidUtf8));
    let mut rig = Rig::new(4096, WIDE);
    rig.receive(&frame(false, Opcode::Text, b"a\xe2\x82")).unwrap();
    assert_eq!(rig.receive(&frame(false, Opcode::Continuation, b"a")), Err(Violation::InvalidUtf8));
}

#[test]
fn violations_of_the_order_of_frames_and_of_limits() {
    let fails = |frames: &[Vec<u8>]| {
        let mut rig = Rig::new(4096, MessageLimits { frame: 10, message: 15, piece: 100 });
        rig.receive(&frames.concat()).err()
    };
    let part = |opcode, payload: &[u8]| frame(false, opcode, payload);
    let whole = |opcode, payload: &[u8]| frame(true, opcode, payload);
    assert_eq!(fails(&[whole(Opcode::Continuation, b"")]), Some(Violation::NothingToContinue));
    assert_eq!(
        fails(&[whole(Opcode::Text, b"a"), part(Opcode::Continuation, b"")]),
        Some(Violation::NothingToContinue)
    );
    assert_eq!(
        fails(&[part(Opcode::Text, b"a"), whole(Opcode::Text, b"")]),
        Some(Violation::MessageWithinMessage)
    );
    assert_eq!(fails(&[whole(Opcode::Binary, &[0; 10])]), None);
    assert_eq!(fails(&[whole(Opcode::Binary, &[0; 11])]), Some(Violation::TooLong));
    // by the header alone, and not before it
    assert_eq!(fails(&[whole(Opcode::Binary, &[0; 11])[..6].to_vec()]), Some(Violation::TooLong));
    assert_eq!(fails(&[whole(Opcode::Binary, &[0; 11])[..5].to_vec()]), None);
    let ten = part(Opcode::Binary, &[0; 10]);
    assert_eq!(fails(&[ten.clone(), whole(Opcode::Continuation, &[0; 5])]), None);
    assert_eq!(fails(&[ten.clone(), whole(Opcode::Continuation, &[0; 6])]), Some(Violation::TooLong));
    // the limit starts over with each message, and control frames do not count
    let five = whole(Opcode::Continuation, &[0; 5]);
    assert_eq!(fails(&[ten.clone(), five.clone(), ten.clone(), five]), None);
    assert_eq!(fails(&[ten, whole(Opcode::Ping, &[0; 125]), whole(Opcode::Continuation, &[0; 5])]), None);
    let huge =
        FrameHeader { fin: true, opcode: Opcode::Text, mask: Some(Mask::default()), length: (1 << 32) + 1 };
    assert_eq!(fails(&[huge.encode().as_bytes().to_vec()]), Some(Violation::TooLong));
    assert_eq!(Violation::TooLong.code(), CloseCode::TOO_BIG);
}

#[test]
fn a_message_that_fits_is_whole_however_it_is_fragmented_and_otherwise_comes_in_pieces() {
    let capacity = 4 * CAPACITY_MIN;
    let fits = (capacity - CAPACITY_MIN / 2) / 2;
    for (length, size) in [(fits, 1), (fits, 7), (fits, 100), (capacity, 1), (10 * capacity, 33)] {
        let message: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        let mut rig = Rig::new(capacity, WIDE);
        let mut most = 0;
        let mut opcode = Opcode::Binary;
        for part in message.chunks(size) {
            rig.receive(&frame(false, opcode, part)).unwrap();
            most = most.max(rig.pieces);
            opcode = Opcode::Continuation;
        }
        rig.receive(&frame(true, opcode, b"")).unwrap();
        assert_eq!(rig.delivered, [binary(&message)]);
        assert_eq!(most > 0, length > fits, "{length} bytes in frames of {size}: {most} pieces");
    }
}

#[test]
fn a_message_longer_than_a_piece_comes_in_pieces_of_whole_characters() {
    let message: String = "aä€\u{1f600}".repeat(100);
    for piece in 4..20 {
        let mut rig = Rig::new(4096, MessageLimits { piece, ..WIDE });
        rig.receive(&frame(true, Opcode::Text, message.as_bytes())).unwrap();
        assert_eq!(rig.delivered, [text(&message)]);
    }
}

#[test]
fn a_client_receives_frames_without_a_mask() {
    let mut rig = Rig::new(4096, WIDE);
    rig.role = Role::Client;
    rig.receive(b"\x01\x03Hel\x89\x00\x80\x02lo").unwrap();
    assert_eq!(rig.delivered, [ping(b""), text("Hello")]);
    assert_eq!(rig.receive(&frame(true, Opcode::Text, b"")), Err(Violation::Masking));
}

#[test]
fn a_message_as_long_as_a_piece_is_whole_even_if_its_last_fragment_is_empty() {
    let mut rig = Rig::new(4096, MessageLimits { piece: 10, ..WIDE });
    rig.receive(&frame(false, Opcode::Text, b"0123456789")).unwrap();
    rig.receive(&frame(false, Opcode::Continuation, b"")).unwrap();
    assert_eq!(rig.pieces, 0);
    rig.receive(&frame(true, Opcode::Continuation, b"")).unwrap();
    assert_eq!(rig.delivered, [text("0123456789")]);
    rig.receive(&frame(false, Opcode::Text, b"0123456789")).unwrap();
    rig.receive(&frame(true, Opcode::Continuation, b"a")).unwrap();
    assert_eq!(rig.delivered[1..], [text("0123456789a")]);
}

/// Reads a whole stream of frames in the simplest way. Returns what is delivered, and whether there is a violation.
fn simply(stream: &[u8], limits: &MessageLimits) -> (Vec<Delivered>, Option<Violation>) {
    let (mut delivered, mut message): (Vec<Delivered>, Option<(MessageKind, Vec<u8>)>) = (Vec::new(), None);
    let mut rest = stream;
    loop {
        let (header, size) = match FrameHeader::parse(rest, Role::Server) {
            Ok(Some(found)) => found,
            Ok(None) => return (delivered, None),
            Err(violation) => return (delivered, Some(violation)),
        };
        let mut payload = rest[size..]
            .iter()
            .copied()
            .take(usize::try_from(header.length).unwrap_or(usize::MAX))
            .collect::<Vec<u8>>();
        let whole = payload.len() as u64 == header.length;
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= header.mask.unwrap().bytes()[i % 4];
        }
        rest = rest[size..].get(payload.len()..).unwrap();
        let kind = match (header.opcode, &message) {
            (Opcode::Ping | Opcode::Pong | Opcode::Close, _) => {
                if !whole {
                    return (delivered, None);
                }
                let received = match header.opcode {
                    Opcode::Ping => Incoming::Ping,
                    Opcode::Pong => Incoming::Pong,
                    Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => Incoming::Close,
                };
                delivered.push(Delivered::Control(received, payload));
                continue;
            }
            (Opcode::Continuation, None) => return (delivered, Some(Violation::NothingToContinue)),
            (Opcode::Continuation, Some((kind, _))) => *kind,
            (_, Some(_)) => return (delivered, Some(Violation::MessageWithinMessage)),
            (Opcode::Text, None) => MessageKind::Text,
            (_, None) => MessageKind::Binary,
        };
        let (_, bytes) = message.get_or_insert_with(|| (kind, Vec::new()));
        let total = bytes.len() as u64 + header.length;
        if header.length > u64::from(limits.frame) || total > u64::from(limits.message) {
            return (delivered, Some(Violation::TooLong));
        }
        bytes.extend_from_slice(&payload);
        let error = std::str::from_utf8(bytes).err();
        let ended = whole && header.fin;
        if kind == MessageKind::Text && error.is_some_and(|error| ended || error.error_len().is_some()) {
            return (delivered, Some(Violation::InvalidUtf8));
        }
        if ended {
            let (kind, bytes) = message.take().unwrap();
            delivered.push(Delivered::Message(kind, bytes));
        }
    }
}

/// A generator of small numbers, after Knuth's MMIX.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// A stream of frames, most of which are valid.
fn stream(numbers: &mut Numbers) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut within = false;
    for _ in 0..numbers.below(12) {
        let opcode = match numbers.below(20) {
            0..3 => Opcode::Ping,
            3 => Opcode::Pong,
            4 => Opcode::Close,
            5 => [Opcode::Text, Opcode::Continuation, Opcode::Binary][numbers.below(3)],
            _ if within => Opcode::Continuation,
            6..14 => Opcode::Text,
            _ => Opcode::Binary,
        };
        let control = opcode.is_control();
        let fin = control || numbers.below(2) == 0;
        within = if control { within } else { !fin };
        let length = [0, numbers.below(4), numbers.below(40), numbers.below(126), numbers.below(300)];
        let length = length[numbers.below(if control { 4 } else { 5 })];
        let letters = ["a", "ä", "€", "\u{1f600}"];
        let mut payload: Vec<u8> = Vec::new();
        while payload.len() < length {
            payload.extend_from_slice(letters[numbers.below(4)].as_bytes());
        }
        if control || numbers.below(3) == 0 {
            payload.truncate(length); // perhaps within a character
        }
        let last = stream.len();
        stream.extend_from_slice(&frame(fin, opcode, &payload));
        if numbers.below(20) == 0 {
            // half of the time in the first bytes of the last header
            let all = stream.len();
            let at = [numbers.below(all), last + numbers.below(4.min(all - last))][numbers.below(2)];
            stream[at] ^= 1 << numbers.below(8);
        }
    }
    stream.truncate(stream.len() - numbers.below(stream.len() + 1) * numbers.below(2));
    stream
}

#[test]
fn any_stream_in_any_cuts_is_received_as_in_the_simplest_way() {
    let mut numbers = Numbers(1);
    let mut violations: Vec<String> = Vec::new();
    let mut messages = 0;
    for round in 0..30_000 {
        let limits = MessageLimits {
            frame: [100, 1 << 20][numbers.below(2)],
            message: [300, 1 << 20][numbers.below(2)],
            piece: [4, 50, 1 << 20][numbers.below(3)],
        };
        let stream = stream(&mut numbers);
        let (expected, violation) = simply(&stream, &limits);
        let mut rig = Rig::new(CAPACITY_MIN + numbers.below(500), limits);
        rig.refuses = numbers.below(4) == 0;
        let (mut rest, mut result) = (&stream[..], Ok(()));
        while !rest.is_empty() && result.is_ok() {
            let most = [1, 9, 200, 4000][numbers.below(4)].min(rest.len());
            let (now, later) = rest.split_at(1 + numbers.below(most));
            result = rig.receive(now);
            rest = later;
        }
        assert_eq!(
            (rig.delivered, result.err()),
            (expected, violation),
            "round {round}: {stream:x?}, {limits:?}"
        );
        violations.extend(violation.map(|violation| format!("{violation:?}")));
        messages += simply(&stream, &limits).0.len();
    }
    violations.sort();
    violations.dedup();
    assert!(messages > 30_000 && violations.len() >= 10, "{messages} messages, {violations:?}");
}

#[test]
fn a_message_in_tiny_fragments_is_shifted_only_once_its_gap_is_as_long_as_itself() {
    let mut rig = Rig::new(1 << 16, WIDE);
    rig.receive(&frame(false, Opcode::Binary, &vec![7; 20_000])).unwrap();
    let mut shifts = Vec::new();
    for n in 0..4_005 {
        let before = rig.buffer.len();
        rig.receive(&frame(false, Opcode::Continuation, b"x")).unwrap();
        if rig.buffer.len() < before {
            shifts.push(n);
        }
    }
    // Each frame adds 6 bytes to the gap and one to the message.
    assert_eq!(shifts, [3_999]);
}
