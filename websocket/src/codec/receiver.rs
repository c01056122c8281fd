//! From received bytes to messages, in place.

use core::ops::Range;

use super::header::{CONTROL_MAX, FrameHeader, HEADER_MAX, Opcode, Role};
use super::mask::Mask;
use super::utf8;
use super::violation::Violation;

/// The smallest buffer that a [`Receiver`] works with: a control frame, and a part of the message around it.
pub const CAPACITY_MIN: usize = 2 * (HEADER_MAX + CONTROL_MAX);

/// How many bytes are unmasked before they are checked, while they are in the processor's first cache.
const STRIDE: usize = 4096;

/// What a peer may send. Set some and take the others from [`DEFAULT`](Self::DEFAULT): later versions add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageLimits {
    /// The longest payload of a frame in bytes.
    pub frame: u32,
    /// The longest message in bytes, all frames together.
    pub message: u32,
    /// The longest piece in which a message is delivered. Longer messages come in several pieces. At least 4, the
    /// length of the longest character.
    pub piece: u32,
}

impl MessageLimits {
    /// Messages of up to 16 MiB, in pieces of up to 16 KiB.
    pub const DEFAULT: Self = Self { frame: 16 << 20, message: 16 << 20, piece: 16 << 10 };

    const fn piece_max(&self) -> usize {
        if self.piece < 4 { 4 } else { self.piece as usize }
    }
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// Returns the opcode of the first frame.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// What has been received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Incoming {
    /// A message, or a piece of one. A piece of a text ends at the end of a character.
    Data {
        /// The type of the message.
        kind: MessageKind,
        /// Whether the message begins here.
        first: bool,
        /// Whether the message ends here.
        last: bool,
    },
    /// A ping, to be answered with a pong that has the same payload.
    Ping,
    /// A pong.
    Pong,
    /// A close frame.
    Close,
}

/// One step of a [`Receiver`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct ReceiverStep {
    /// How many bytes to remove from the front of the buffer, before anything else is done.
    pub consumed: usize,
    /// What was received, and where its payload is in the buffer, after the above were removed. `None` if more bytes
    /// are needed.
    pub received: Option<(Incoming, Range<usize>)>,
}

/// The state of one direction of a connection, between calls: from frames to messages.
///
/// It has no buffer. It works in a buffer of the caller that begins with the bytes that were not consumed yet and to
/// whose end new bytes are appended, such as the input of a socket. The mask is removed in place, and the payloads of
/// a fragmented message are moved together, so a message is one slice. Text is checked as it arrives: the first byte
/// that cannot be part of UTF-8 is an error at once, even in the middle of a frame.
///
/// What is received is returned again by the next call, until it is [accepted](Self::accept).
///
/// A message is delivered whole if it fits into a [piece](MessageLimits::piece) and, together with a control frame, into
/// half of the buffer, however it is fragmented. Otherwise, it is delivered in pieces.
///
/// ```
/// use lightcone_websocket::{MessageKind, MessageLimits, Incoming, Receiver, Role};
///
/// let mut receiver = Receiver::new();
/// let mut buffer = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec();
/// let step = receiver.next(&mut buffer, 1024, Role::Server, &MessageLimits::DEFAULT).unwrap();
/// buffer.drain(..step.consumed);
/// let (received, payload) = step.received.unwrap();
/// assert_eq!(received, Incoming::Data { kind: MessageKind::Text, first: true, last: true });
/// assert_eq!(&buffer[payload.clone()], b"Hello");
/// buffer.drain(..receiver.accept(&received, &payload));
/// assert!(buffer.is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(Rust, packed)] // so that nothing in a connection is unused
pub struct Receiver {
    /// Bytes of the frame's payload that have not been processed.
    left: u32,
    mask: Mask,
    /// Bytes at the front of the buffer that belong to the message in progress: unmasked and checked.
    kept: u32,
    /// Bytes after the kept ones that are not needed, but cannot be removed as long as kept bytes precede them.
    gap: u32,
    /// The length of the message so far, with the whole frame in progress.
    total: u32,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    /// A message is in progress.
    const MESSAGE: u8 = 1;
    /// It is a text.
    const TEXT: u8 = 2;
    /// A frame of it is in progress.
    const FRAME: u8 = 4;
    /// This frame is its last.
    const FIN: u8 = 8;
    /// A piece of it was delivered.
    const BEGUN: u8 = 16;
    /// The mask of the control frame in front was removed.
    const OPENED: u8 = 32;

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    const fn set(&mut self, flag: u8, holds: bool) {
        self.0 = self.0 & !flag | if holds { flag } else { 0 };
    }
}

/// Where a receiver is in the buffer, during a call.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// The start of the message in progress. What is in front of it can be removed.
    base: usize,
    /// The end of its bytes that have been moved together.
    end: usize,
    /// The next byte to read.
    at: usize,
}

impl Cursor {
    const fn kept(&self) -> usize {
        self.end - self.base
    }

    /// Moves on, in front of payload or of a frame.
    const fn skip(&mut self, n: usize) {
        self.at += n;
        if self.base == self.end {
            (self.base, self.end) = (self.at, self.at);
        }
    }
}

impl Receiver {
    /// Creates a receiver for a connection that has just been opened.
    #[must_use]
    pub const fn new() -> Self {
        Self { left: 0, mask: Mask::new([0; 4]), kept: 0, gap: 0, total: 0, flags: Flags(0) }
    }

    /// Returns whether a message has begun and not ended.
    #[must_use]
    pub const fn is_within_message(&self) -> bool {
        self.flags.has(Flags::MESSAGE)
    }

    /// Processes the bytes that have arrived, up to the next thing to deliver. `bytes` are all that were not consumed,
    /// and `capacity` is the largest number of them, at least [`CAPACITY_MIN`].
    ///
    /// # Errors
    /// If the peer violates a rule or a limit. The connection has failed, and the receiver must not be used again.
    pub fn next(
        &mut self,
        bytes: &mut [u8],
        capacity: usize,
        role: Role,
        limits: &MessageLimits,
    ) -> Result<ReceiverStep, Violation> {
        let kept = self.kept as usize;
        let mut cursor = Cursor { base: 0, end: kept, at: kept + self.gap as usize };
        loop {
            if self.flags.has(Flags::FRAME) {
                self.payload(bytes, &mut cursor, limits)?;
            }
            let ended = self.flags.has(Flags::FRAME) && self.left == 0;
            if ended && self.flags.has(Flags::FIN) {
                return self.finish(bytes, cursor);
            }
            // Only if more of the message is announced: what is left may be the empty end of a message that fits.
            if self.left > 0 && cursor.kept() >= limits.piece_max() {
                return Ok(self.piece(bytes, cursor));
            }
            if self.flags.has(Flags::FRAME) && !ended {
                return Ok(self.wait(bytes, cursor, capacity));
            }
            let rest = bytes.get(cursor.at..).unwrap_or_default();
            let Some((header, size)) = FrameHeader::parse(rest, role)? else {
                return Ok(self.wait(bytes, cursor, capacity));
            };
            if header.opcode.is_control() {
                let payload = self.open(&header, bytes, cursor.at + size);
                return Ok(match payload {
                    Some(payload) => self.control(header.opcode, cursor, payload),
                    None => self.wait(bytes, cursor, capacity),
                });
            }
            self.begin(&header, limits)?;
            cursor.skip(size);
        }
    }

    /// Notes that what was received has been processed. Returns how many bytes to remove from the front of the buffer.
    #[must_use]
    pub fn accept(&mut self, received: &Incoming, payload: &Range<usize>) -> usize {
        let consumed = match received {
            Incoming::Data { last, .. } => {
                self.flags.set(Flags::BEGUN, true);
                if *last {
                    self.flags = Flags(0);
                }
                self.kept -= narrow(payload.len());
                payload.len()
            }
            Incoming::Ping | Incoming::Pong | Incoming::Close => {
                self.flags.set(Flags::OPENED, false);
                self.gap = narrow(payload.end) - self.kept;
                0
            }
        };
        if self.kept > 0 {
            return consumed;
        }
        let gap = self.gap as usize;
        self.gap = 0;
        consumed + gap
    }

    /// Removes the mask of a control frame, and returns where its payload is; `None` if it is incomplete.
    fn open(&mut self, header: &FrameHeader, bytes: &mut [u8], start: usize) -> Option<Range<usize>> {
        let range = start..start + usize::try_from(header.length).ok()?;
        let payload = bytes.get_mut(range.clone())?;
        if let Some(mut mask) = header.mask
            && !self.flags.has(Flags::OPENED)
        {
            mask.apply(payload);
        }
        self.flags.set(Flags::OPENED, true);
        Some(range)
    }

    /// Begins a frame of a message.
    fn begin(&mut self, header: &FrameHeader, limits: &MessageLimits) -> Result<(), Violation> {
        let begun = self.flags.has(Flags::MESSAGE);
        match header.opcode {
            Opcode::Continuation if !begun => return Err(Violation::NothingToContinue),
            Opcode::Continuation => {}
            Opcode::Text | Opcode::Binary if begun => return Err(Violation::MessageWithinMessage),
            Opcode::Text | Opcode::Binary | Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.total = 0;
                self.flags = Flags(Flags::MESSAGE);
                self.flags.set(Flags::TEXT, header.opcode == Opcode::Text);
            }
        }
        let length = u32::try_from(header.length).ok().filter(|length| *length <= limits.frame);
        let total = length.and_then(|length| self.total.checked_add(length));
        let (Some(left), Some(total)) = (length, total.filter(|total| *total <= limits.message)) else {
            return Err(Violation::TooLong);
        };
        (self.left, self.total) = (left, total);
        self.mask = header.mask.unwrap_or_default();
        self.flags.set(Flags::FRAME, true);
        self.flags.set(Flags::FIN, header.fin);
        Ok(())
    }

    /// Removes the mask of the payload that has arrived, moves it to the rest of its message and checks it.
    fn payload(
        &mut self,
        bytes: &mut [u8],
        cursor: &mut Cursor,
        limits: &MessageLimits,
    ) -> Result<(), Violation> {
        let room = limits.piece_max().saturating_sub(cursor.kept());
        let most = (self.left as usize).min(bytes.len() - cursor.at).min(room);
        let stop = cursor.at + most;
        let text = self.flags.has(Flags::TEXT);
        // The bytes before are checked, except for a character at their end that is incomplete.
        let mut checked = cursor.end;
        if text {
            checked -= utf8::incomplete(bytes.get(cursor.base..cursor.end).unwrap_or_default());
        }
        while cursor.at < stop {
            let end = stop.min(cursor.at + STRIDE);
            let n = end - cursor.at;
            self.mask.apply(bytes.get_mut(cursor.at..end).unwrap_or_default());
            if cursor.at > cursor.end {
                bytes.copy_within(cursor.at..end, cursor.end);
            }
            (cursor.at, cursor.end) = (end, cursor.end + n);
            if text {
                let new = bytes.get(checked..cursor.end).unwrap_or_default();
                utf8::check(new)?;
                checked = cursor.end - utf8::incomplete(new);
            }
        }
        self.left -= narrow(most);
        Ok(())
    }

    /// Returns the end of the message in progress, which is complete.
    fn finish(&mut self, bytes: &[u8], cursor: Cursor) -> Result<ReceiverStep, Violation> {
        let rest = bytes.get(cursor.base..cursor.end).unwrap_or_default();
        if self.flags.has(Flags::TEXT) && utf8::incomplete(rest) > 0 {
            return Err(Violation::InvalidUtf8);
        }
        Ok(self.data(cursor, cursor.kept(), true))
    }

    /// Returns what has arrived of the message in progress.
    fn piece(&mut self, bytes: &[u8], cursor: Cursor) -> ReceiverStep {
        let there = bytes.get(cursor.base..cursor.end).unwrap_or_default();
        let open = if self.flags.has(Flags::TEXT) { utf8::incomplete(there) } else { 0 };
        self.data(cursor, there.len() - open, false)
    }

    fn data(&mut self, cursor: Cursor, length: usize, last: bool) -> ReceiverStep {
        let kind = if self.flags.has(Flags::TEXT) { MessageKind::Text } else { MessageKind::Binary };
        let received = Incoming::Data { kind, first: !self.flags.has(Flags::BEGUN), last };
        ReceiverStep { consumed: self.rest(cursor), received: Some((received, 0..length)) }
    }

    fn control(&mut self, opcode: Opcode, cursor: Cursor, payload: Range<usize>) -> ReceiverStep {
        let received = match opcode {
            Opcode::Ping => Incoming::Ping,
            Opcode::Pong => Incoming::Pong,
            Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => Incoming::Close,
        };
        let consumed = self.rest(cursor);
        ReceiverStep {
            consumed,
            received: Some((received, payload.start - consumed..payload.end - consumed)),
        }
    }

    /// Returns that more bytes are needed, or a piece of the message if the buffer is full.
    fn wait(&mut self, bytes: &mut [u8], mut cursor: Cursor, capacity: usize) -> ReceiverStep {
        let gap = cursor.at - cursor.end;
        let full = bytes.len() - cursor.base >= capacity;
        // Moving no more bytes than the gap has bounds the moves by the bytes that were received, whatever the peer
        // sends.
        if gap > 0 && gap >= cursor.kept() {
            bytes.copy_within(cursor.base..cursor.end, cursor.base + gap);
            (cursor.base, cursor.end) = (cursor.base + gap, cursor.at);
        } else if full {
            return self.piece(bytes, cursor);
        }
        ReceiverStep { consumed: self.rest(cursor), received: None }
    }

    /// Stores where the receiver is, and returns how many bytes can be removed.
    fn rest(&mut self, cursor: Cursor) -> usize {
        self.kept = narrow(cursor.kept());
        self.gap = narrow(cursor.at - cursor.end);
        cursor.base
    }
}

/// Converts a number of bytes in the buffer, which is below 4 GiB.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

// A connection keeps it.
const _: () = assert!(size_of::<Receiver>() <= 21 && align_of::<Receiver>() == 1);
