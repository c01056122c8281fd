//! The receiver of WebSocket frames, in any cuts, beside a simple one that has the whole stream.

use lightcone_websocket::{CAPACITY_MIN, Incoming, MessageKind, MessageLimits, Receiver, Role, Violation};

use super::tape::Tape;

/// How the receiver is used, or the simple one is wrong, on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slip {
    /// As it should be.
    None,
    /// A byte of the stream is lost.
    LostByte,
    /// Control frames are not accepted the first time, but delivered.
    Twice,
    /// What was consumed stays in the buffer.
    Kept,
    /// The simple receiver takes any bytes for text.
    AnyText,
    /// The simple receiver does not limit messages.
    NoLimit,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Delivered {
    Message(MessageKind, Vec<u8>),
    Control(u8, Vec<u8>),
}

type Outcome = (Vec<Delivered>, Option<Violation>);

/// The target.
pub fn websocket(data: &[u8]) {
    check(data, Slip::None);
}

/// Receives the stream of an input in its cuts, and at once.
pub fn check(data: &[u8], slip: Slip) {
    let mut tape = Tape::new(data);
    let capacity = CAPACITY_MIN + 4 * tape.byte();
    let limits = MessageLimits {
        frame: tape.pick(&[1 << 20, 125, 300]),
        message: tape.pick(&[1 << 20, 200, 1_000]),
        piece: tape.pick(&[1 << 20, 4, 50]),
    };
    let (refuses, role) = (tape.one_in(2), tape.pick(&[Role::Server, Role::Client]));
    let (raw, most) = (tape.one_in(2), 1 + tape.byte());
    let stream = if raw { tape.rest().to_vec() } else { frames(&mut tape, role) };
    let expected = simply(&stream, role, &limits, slip);
    let mut rig = Rig { capacity, role, limits, refuses, slip, ..Rig::default() };
    let cut = rig.receive(&stream, most);
    let found = (rig.delivered, cut);
    assert_eq!(found, expected, "{stream:x?} in cuts of {most}, {capacity} bytes at once, {limits:?}");
}

/// Makes frames, which are valid except for their order and content.
fn frames(tape: &mut Tape<'_>, role: Role) -> Vec<u8> {
    let mut stream = Vec::new();
    while !tape.is_over() {
        let first = tape.pick(&[0x81, 0x01, 0x80, 0x00, 0x82, 0x02, 0x89, 0x8a, 0x88]);
        let repeat = tape.pick(&[1, 1, 1, 40]);
        let length = tape.byte();
        let mut payload = tape.take(length).repeat(repeat);
        payload.truncate(if first & 8 > 0 { 125 } else { usize::MAX });
        let masked = if role == Role::Server { 0x80 } else { 0 };
        stream.push(first);
        match payload.len() {
            short @ 0..126 => stream.push(masked | short as u8),
            long => {
                stream.push(masked | 126);
                stream.extend((long as u16).to_be_bytes());
            }
        }
        if role == Role::Server {
            let mask = [first, 0x5a, length as u8, 0xff];
            stream.extend(mask);
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        stream.extend(payload);
    }
    stream
}

struct Rig {
    receiver: Receiver,
    buffer: Vec<u8>,
    capacity: usize,
    role: Role,
    limits: MessageLimits,
    refuses: bool,
    refused: bool,
    slip: Slip,
    message: Option<Vec<u8>>,
    pieces: usize,
    delivered: Vec<Delivered>,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            receiver: Receiver::new(),
            buffer: Vec::new(),
            capacity: CAPACITY_MIN,
            role: Role::Server,
            limits: MessageLimits::DEFAULT,
            refuses: false,
            refused: false,
            slip: Slip::None,
            message: None,
            pieces: 0,
            delivered: Vec::new(),
        }
    }
}

impl Rig {
    fn receive(&mut self, stream: &[u8], most: usize) -> Option<Violation> {
        let mut rest = stream;
        while !rest.is_empty() {
            let n = rest.len().min(most).min(self.capacity - self.buffer.len());
            assert!(n > 0, "the buffer is full: {:?}", self.receiver);
            let (now, later) = rest.split_at(n);
            self.buffer.extend_from_slice(now);
            if self.slip == Slip::LostByte && later.len() < 3 {
                self.buffer.pop();
            }
            rest = later;
            if let Err(violation) = self.take() {
                return Some(violation);
            }
        }
        None
    }

    fn take(&mut self) -> Result<(), Violation> {
        loop {
            let step = self.receiver.next(&mut self.buffer, self.capacity, self.role, &self.limits)?;
            if self.slip != Slip::Kept {
                self.buffer.drain(..step.consumed);
            }
            let Some((received, range)) = step.received else { return Ok(()) };
            self.refused = self.refuses && !self.refused;
            let twice = self.slip == Slip::Twice && !matches!(received, Incoming::Data { .. });
            if !self.refused || twice {
                self.deliver(&received, self.buffer[range.clone()].to_vec());
            }
            if !self.refused {
                let consumed = self.receiver.accept(&received, &range);
                self.buffer.drain(..consumed);
            }
        }
    }

    fn deliver(&mut self, received: &Incoming, payload: Vec<u8>) {
        let opcode = match *received {
            Incoming::Data { kind, first, last } => {
                assert_eq!(first, self.message.is_none());
                assert!(payload.len() <= self.limits.piece as usize && (last || !payload.is_empty()));
                assert!(kind == MessageKind::Binary || core::str::from_utf8(&payload).is_ok());
                let message = self.message.get_or_insert_default();
                message.extend(payload);
                self.pieces += 1;
                if last {
                    let message = self.message.take().unwrap();
                    let fits = (self.capacity - CAPACITY_MIN / 2) / 2;
                    let long = message.len() > fits.min(self.limits.piece as usize);
                    assert!(long || self.pieces == 1, "{} bytes in {} pieces", message.len(), self.pieces);
                    self.pieces = 0;
                    self.delivered.push(Delivered::Message(kind, message));
                }
                return;
            }
            Incoming::Close => 8,
            Incoming::Ping => 9,
            Incoming::Pong => 10,
        };
        self.delivered.push(Delivered::Control(opcode, payload));
    }
}

/// The first byte of a frame, the length of its payload, the mask, and the size of the header.
type Header = (u8, u64, [u8; 4], usize);

fn header(bytes: &[u8], role: Role) -> Result<Option<Header>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBit);
    }
    let opcode = first & 15;
    if ![0, 1, 2, 8, 9, 10].contains(&opcode) {
        return Err(Violation::ReservedOpcode);
    }
    if opcode >= 8 && first & 0x80 == 0 {
        return Err(Violation::FragmentedControl);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if (second >= 0x80) != (role == Role::Server) {
        return Err(Violation::Masking);
    }
    let short = second & 0x7f;
    if opcode >= 8 && short > 125 {
        return Err(Violation::LongControl);
    }
    let width = [0, 2, 8][usize::from(short.saturating_sub(125))];
    if width == 8 && bytes.get(2).is_some_and(|byte| *byte >= 0x80) {
        return Err(Violation::LengthForm);
    }
    let Some(extended) = bytes.get(2..2 + width) else { return Ok(None) };
    let length = extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    if width == 2 && length < 126 || width == 8 && length < 65_536 {
        return Err(Violation::LengthForm);
    }
    let length = if width == 0 { u64::from(short) } else { length };
    let size = 2 + width;
    match role {
        Role::Client => Ok(Some((first, length, [0; 4], size))),
        Role::Server => {
            Ok(bytes.get(size..size + 4).map(|m| (first, length, [m[0], m[1], m[2], m[3]], size + 4)))
        }
    }
}

/// Receives a whole stream in the simplest way.
fn simply(stream: &[u8], role: Role, limits: &MessageLimits, slip: Slip) -> Outcome {
    let (mut delivered, mut message) = (Vec::new(), None::<(MessageKind, Vec<u8>)>);
    let mut rest = stream;
    let violation = loop {
        let (first, length, mask, size) = match header(rest, role) {
            Ok(Some(header)) => header,
            Ok(None) => break None,
            Err(violation) => break Some(violation),
        };
        let all = &rest[size..];
        let there = usize::try_from(length).map_or(all.len(), |length| all.len().min(length));
        let payload: Vec<u8> =
            all[..there].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        rest = &all[there..];
        let (fin, whole) = (first & 0x80 != 0, there as u64 == length);
        let opcode = first & 15;
        if opcode >= 8 {
            if !whole {
                break None;
            }
            delivered.push(Delivered::Control(opcode, payload));
            continue;
        }
        let (kind, mut bytes) = match (opcode, message.take()) {
            (0, None) => break Some(Violation::NothingToContinue),
            (0, Some(message)) => message,
            (_, Some(_)) => break Some(Violation::MessageWithinMessage),
            (1, None) => (MessageKind::Text, Vec::new()),
            (_, None) => (MessageKind::Binary, Vec::new()),
        };
        let total = length.saturating_add(bytes.len() as u64);
        let limited = slip != Slip::NoLimit && total > u64::from(limits.message);
        if length > u64::from(limits.frame) || limited {
            break Some(Violation::TooLong);
        }
        bytes.extend(payload);
        let ended = whole && fin;
        let error = core::str::from_utf8(&bytes).err();
        let wrong = error.is_some_and(|error| ended || error.error_len().is_some());
        if kind == MessageKind::Text && wrong && slip != Slip::AnyText {
            break Some(Violation::InvalidUtf8);
        }
        if ended {
            delivered.push(Delivered::Message(kind, bytes));
        } else if whole {
            message = Some((kind, bytes));
        } else {
            break None;
        }
    };
    (delivered, violation)
}
