//! Frames in a byte stream: lines, frames with another delimiter, and frames with their length in front.
//!
//! TCP carries bytes, not messages: a message may arrive in pieces, and several may arrive at once. [`Lines`],
//! [`Delimited`] and [`Lengths`] find such messages, here called frames, in a socket's [`Input`] and write them to its
//! [`Output`]. A value of these types describes a format and is usually a constant of the program; the progress of each
//! socket is in its [`FrameState`].
//!
//! ```
//! use lightcone_core::framing::{FrameState, Lines};
//! use lightcone_core::{Address, Context, Handler, Origin, Socket};
//!
//! const LINES: Lines = Lines::new();
//!
//! /// Sends every line back.
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Data = FrameState;
//!     type Message = core::convert::Infallible;
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<FrameState> {
//!         Some(FrameState::default())
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, FrameState>, _: &mut Context<'_, Self::Message>) {
//!         let (mut input, mut output, state) = socket.split();
//!         loop {
//!             match LINES.next(state, &mut input) {
//!                 Ok(Some(line)) => {
//!                     if LINES.send(&mut output, &line).is_err() {
//!                         line.keep(); // it is returned again when `writable` has come
//!                         return;
//!                     }
//!                 }
//!                 Ok(None) => return,
//!                 Err(_too_long) => break,
//!             }
//!         }
//!         socket.close();
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, FrameState>, cx: &mut Context<'_, Self::Message>) {
//!         self.receive(socket, cx);
//!     }
//! }
//! ```
//!
//! # Long frames
//!
//! The input of a socket holds at most [`Input::capacity`] bytes, so a longer frame can never arrive there as a whole.
//! Unless a [maximum](Lines::max) is set, such a frame is an error, which is returned as soon as the length is known to
//! be too large. If a maximum above the capacity is set, a frame that does not fit into the input is returned in
//! pieces: [`is_first`](Frame::is_first) and [`is_last`](Frame::is_last) show where the frame begins and ends. A frame
//! that fits is always returned in one piece.
//!
//! # At the end of the stream
//!
//! In [`peer_closed`](crate::Handler::peer_closed), [`FrameState::is_within_frame`] and the remaining input show
//! whether the peer has ended its stream within a frame.

#![expect(clippy::cast_possible_truncation, reason = "inputs hold less than 4 GiB: `Config::check`")]

use crate::buffer::{Input, Output};
use core::fmt;
use core::ops::{Deref, DerefMut};

/// The progress of dividing a socket's input into frames. The default is the beginning of a stream.
///
/// Between two calls with the same state, input must be consumed only by dropping [`Frame`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FrameState {
    /// Within a frame that is returned in pieces: with a delimiter, how many bytes of it were returned; with a length,
    /// how many remain. Otherwise 0.
    count: u64,
    /// How many bytes of the input are known to contain no delimiter, so that they are not searched again.
    searched: u32,
    /// Whether the current frame is discarded.
    discards: bool,
}

impl FrameState {
    /// Returns whether the current frame has been returned only in part, or is being discarded.
    #[must_use]
    pub const fn is_within_frame(&self) -> bool {
        self.count > 0 || self.discards
    }
}

/// A frame, or a piece of a long one, without its delimiter or length. It dereferences to its bytes, which are in the
/// socket's input and may be modified there. When the `Frame` is dropped, they are consumed.
#[derive(Debug)]
pub struct Frame<'f, 'a> {
    input: &'f mut Input<'a>,
    state: &'f mut FrameState,
    /// The state after this frame.
    after: FrameState,
    /// The numbers of bytes before the frame's own, of its own, and after them.
    header: usize,
    length: usize,
    trailer: usize,
    first: bool,
    last: bool,
}

impl Frame<'_, '_> {
    /// Returns whether this is the first piece of a frame, or all of it.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.first
    }

    /// Returns whether this is the last piece of a frame, or all of it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// Leaves the frame in the input: the next call of `next` returns it again. For a handler that cannot process the
    /// frame yet, for example because the output is full.
    pub fn keep(mut self) {
        self.after = *self.state;
        (self.header, self.length, self.trailer) = (0, 0, 0);
    }

    /// Discards the frame, including the pieces that have not been returned yet.
    pub fn discard(mut self) {
        self.after.discards = !self.last;
    }
}

impl Deref for Frame<'_, '_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.input.bytes().get(self.header..self.header + self.length).unwrap_or_default()
    }
}

impl DerefMut for Frame<'_, '_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.input.bytes_mut().get_mut(self.header..self.header + self.length).unwrap_or_default()
    }
}

impl Drop for Frame<'_, '_> {
    fn drop(&mut self) {
        self.input.consume(self.header + self.length + self.trailer);
        *self.state = self.after;
    }
}

/// The error of a frame that is longer than the maximum, or of an input that is too small for any frame.
///
/// A handler can close the socket, or go on: further calls of `next` discard the frame that is too long and return the
/// frames after it. An input that is too small for any frame returns the error again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameTooLong {
    /// The length of the frame, as far as it is known: with a delimiter, that of the part that has arrived.
    pub length: u64,
    /// The maximum.
    pub max: u64,
}

impl fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes or more, the maximum is {}", self.length, self.max)
    }
}

impl core::error::Error for FrameTooLong {}

/// The error of sending a frame. Nothing of the frame was queued.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SendFrameError {
    /// The output has no room for all of the frame. `writable` follows, unless the frame exceeds the
    /// [limit](Output::limit) of the output.
    Full,
    /// The frame contains its delimiter, so that the peer would take it for several.
    Delimiter,
    /// The length of the frame cannot be encoded.
    TooLong(FrameTooLong),
}

impl fmt::Display for SendFrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("output buffer full: nothing was queued"),
            Self::Delimiter => f.write_str("a frame contains its delimiter"),
            Self::TooLong(_) => f.write_str("the length of a frame cannot be encoded"),
        }
    }
}

impl core::error::Error for SendFrameError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::TooLong(error) => Some(error),
            Self::Full | Self::Delimiter => None,
        }
    }
}

/// Queues all parts of a frame, or none.
fn send_all(output: &mut Output<'_>, parts: [&[u8]; 3]) -> Result<(), SendFrameError> {
    let length = parts.iter().map(|part| part.len()).sum();
    if output.room() < length {
        // More than the limit never fits, as in `Output::send`.
        if length <= output.limit() {
            output.request_writable_for(length);
        }
        return Err(SendFrameError::Full);
    }
    parts.iter().try_for_each(|part| output.send(part)).map_err(|_full| SendFrameError::Full)
}

/// Lines, each ended by LF or CR LF. The line end is not part of the frame; CRs elsewhere are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lines {
    max: Option<u64>,
}

impl Lines {
    /// Creates a format whose lines must fit into the input together with their ends.
    #[must_use]
    pub const fn new() -> Self {
        Self { max: None }
    }

    /// Sets the maximum length of a line in bytes, without its end. Lines that do not fit into the input are returned
    /// in pieces.
    #[must_use]
    pub const fn max(self, max: u64) -> Self {
        Self { max: Some(max) }
    }

    /// Returns the next line or piece of a line, or `None` before it has arrived.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`]: more bytes than the maximum came without a line end.
    pub fn next<'f, 'a>(
        &self,
        state: &'f mut FrameState,
        input: &'f mut Input<'a>,
    ) -> Result<Option<Frame<'f, 'a>>, FrameTooLong> {
        next_delimited(b"\n", true, self.max, state, input)
    }

    /// Queues a line and an LF.
    ///
    /// # Errors
    ///
    /// [`SendFrameError::Full`] if there is no room; [`SendFrameError::Delimiter`] if the line contains an LF.
    pub fn send(&self, output: &mut Output<'_>, line: &[u8]) -> Result<(), SendFrameError> {
        send_delimited(output, line, b"\n")
    }
}

/// Frames that are ended by a delimiter of one or more bytes, which is not part of the frame.
///
/// ```
/// use lightcone_core::framing::Delimited;
///
/// /// Messages that end with an empty line.
/// const MESSAGES: Delimited<'_> = Delimited::new(b"\r\n\r\n").max(1 << 20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delimited<'d> {
    delimiter: &'d [u8],
    max: Option<u64>,
}

impl<'d> Delimited<'d> {
    /// Creates a format whose frames must fit into the input together with their delimiters.
    ///
    /// # Panics
    ///
    /// If the delimiter is empty.
    #[must_use]
    pub const fn new(delimiter: &'d [u8]) -> Self {
        assert!(!delimiter.is_empty(), "a delimiter has at least one byte");
        Self { delimiter, max: None }
    }

    /// Sets the maximum length of a frame in bytes, without its delimiter. Frames that do not fit into the input are
    /// returned in pieces.
    #[must_use]
    pub const fn max(self, max: u64) -> Self {
        Self { max: Some(max), ..self }
    }

    /// Returns the next frame or piece of a frame, or `None` before it has arrived.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`]: more bytes than the maximum came without a delimiter, or the input cannot hold the delimiter.
    pub fn next<'f, 'a>(
        &self,
        state: &'f mut FrameState,
        input: &'f mut Input<'a>,
    ) -> Result<Option<Frame<'f, 'a>>, FrameTooLong> {
        next_delimited(self.delimiter, false, self.max, state, input)
    }

    /// Queues a frame and the delimiter.
    ///
    /// # Errors
    ///
    /// [`SendFrameError::Full`] if there is no room; [`SendFrameError::Delimiter`] if the delimiter occurs in the
    /// frame, or begins in it and would end too early.
    pub fn send(&self, output: &mut Output<'_>, frame: &[u8]) -> Result<(), SendFrameError> {
        send_delimited(output, frame, self.delimiter)
    }
}

/// Returns the position of a delimiter.
fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    match delimiter {
        [byte] => bytes.iter().position(|other| other == byte),
        _ => bytes.windows(delimiter.len()).position(|window| window == delimiter),
    }
}

/// Returns how many of the last bytes may belong to a delimiter whose rest has not arrived: the length of the longest
/// suffix of `bytes` that is a proper prefix of the delimiter.
fn unfinished(bytes: &[u8], delimiter: &[u8]) -> usize {
    let ends_with = |n: &usize| delimiter.get(..*n).is_some_and(|beginning| bytes.ends_with(beginning));
    (1..delimiter.len()).rev().find(ends_with).unwrap_or(0)
}

fn next_delimited<'f, 'a>(
    delimiter: &[u8],
    lines: bool,
    max: Option<u64>,
    state: &'f mut FrameState,
    input: &'f mut Input<'a>,
) -> Result<Option<Frame<'f, 'a>>, FrameTooLong> {
    if state.discards {
        let bytes = input.bytes();
        let Some(at) = find(bytes, delimiter) else {
            input.consume(bytes.len() - unfinished(bytes, delimiter));
            state.searched = 0;
            return Ok(None);
        };
        input.consume(at + delimiter.len());
        *state = FrameState::default();
    }
    let (bytes, capacity, before) = (input.bytes(), input.capacity(), state.count);
    let in_pieces = max.is_some();
    let max = max.unwrap_or(capacity.saturating_sub(delimiter.len()) as u64);
    let searched = bytes.len().min(state.searched as usize);
    let found = find(bytes.get(searched..).unwrap_or_default(), delimiter).map(|at| searched + at);
    let text = bytes.get(..found.unwrap_or(bytes.len())).unwrap_or_default();
    // Bytes that may begin a line end or a delimiter do not count for the maximum before the rest of it has arrived.
    let withheld = match found {
        _ if lines => usize::from(text.ends_with(b"\r")),
        Some(_) => 0,
        None => unfinished(text, delimiter),
    };
    let length = text.len() - withheld;
    let total = before + length as u64;
    if total > max {
        state.discards = true;
        return Err(FrameTooLong { length: total, max });
    }
    if found.is_none() && bytes.len() < capacity {
        // The last bytes are searched again if a delimiter can begin in them.
        state.searched = (bytes.len() + 1).saturating_sub(delimiter.len()) as u32;
        return Ok(None);
    }
    // The input is full. If no byte of it can be returned, it is too small for the delimiter, and nothing can be done.
    if found.is_none() && (length == 0 || !in_pieces) {
        state.discards = length > 0;
        return Err(FrameTooLong { length: before + bytes.len() as u64, max });
    }
    let (count, trailer) = match found {
        Some(_) => (0, withheld + delimiter.len()),
        None => (total, 0),
    };
    let after = FrameState { count, ..FrameState::default() };
    Ok(Some(Frame {
        input,
        state,
        after,
        header: 0,
        length,
        trailer,
        first: before == 0,
        last: found.is_some(),
    }))
}

fn send_delimited(output: &mut Output<'_>, frame: &[u8], delimiter: &[u8]) -> Result<(), SendFrameError> {
    // The peer would find the delimiter `abab` two bytes too early after a frame that ends in `ab`.
    let straddles = (1..delimiter.len()).any(|n| {
        let (head, tail) = delimiter.split_at(n);
        frame.ends_with(head) && delimiter.starts_with(tail)
    });
    if straddles || find(frame, delimiter).is_some() {
        return Err(SendFrameError::Delimiter);
    }
    send_all(output, [frame, delimiter, b""])
}

/// How a length is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LengthField {
    /// One byte.
    U8,
    /// Two bytes, the most significant first.
    Be16,
    /// Two bytes, the least significant first.
    Le16,
    /// Four bytes, the most significant first.
    Be32,
    /// Four bytes, the least significant first.
    Le32,
    /// Eight bytes, the most significant first.
    Be64,
    /// Eight bytes, the least significant first.
    Le64,
}

impl LengthField {
    /// Returns the number of bytes of the field.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Be16 | Self::Le16 => 2,
            Self::Be32 | Self::Le32 => 4,
            Self::Be64 | Self::Le64 => 8,
        }
    }

    /// Returns the largest length that can be encoded.
    #[must_use]
    pub const fn max(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width())
    }

    const fn is_little_endian(self) -> bool {
        matches!(self, Self::Le16 | Self::Le32 | Self::Le64)
    }

    /// Returns the length in the field at the beginning of `bytes`, or `None` if it has not arrived as a whole.
    fn decode(self, bytes: &[u8]) -> Option<u64> {
        let field = bytes.get(..self.width())?;
        let add = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
        Some(if self.is_little_endian() {
            field.iter().rev().fold(0, add)
        } else {
            field.iter().fold(0, add)
        })
    }

    /// Encodes a length in the first bytes of the array. It is at most [`max`](Self::max).
    fn encode(self, length: u64) -> [u8; 8] {
        if self.is_little_endian() {
            length.to_le_bytes()
        } else {
            (length << (64 - 8 * self.width())).to_be_bytes()
        }
    }
}

/// Frames with their length in front. The length counts the bytes of the frame without the length field.
///
/// ```
/// use lightcone_core::framing::{LengthField, Lengths};
///
/// /// Messages of at most 16 MiB, with a length of four bytes in network byte order.
/// const MESSAGES: Lengths = Lengths::new(LengthField::Be32).max(16 << 20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lengths {
    field: LengthField,
    max: Option<u64>,
}

impl Lengths {
    /// Creates a format whose frames must fit into the input together with their lengths.
    #[must_use]
    pub const fn new(field: LengthField) -> Self {
        Self { field, max: None }
    }

    /// Sets the maximum length of a frame in bytes. Frames that do not fit into the input are returned in pieces.
    #[must_use]
    pub const fn max(self, max: u64) -> Self {
        Self { max: Some(max), ..self }
    }

    /// Returns the next frame or piece of a frame, or `None` before it has arrived. A piece has at least one byte; only
    /// a whole frame may be empty.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`]: the length exceeds the maximum, or the input cannot hold more than its field.
    pub fn next<'f, 'a>(
        &self,
        state: &'f mut FrameState,
        input: &'f mut Input<'a>,
    ) -> Result<Option<Frame<'f, 'a>>, FrameTooLong> {
        if state.discards && !self.discard(state, input) {
            return Ok(None);
        }
        let (bytes, capacity, rest) = (input.bytes(), input.capacity(), state.count);
        let (header, length, first) = if rest > 0 {
            (0, rest, false)
        } else {
            let header = self.field.width();
            let max = self.max.unwrap_or(capacity.saturating_sub(header) as u64);
            if header >= capacity {
                return Err(FrameTooLong { length: header as u64, max });
            }
            let Some(length) = self.field.decode(bytes) else { return Ok(None) };
            if length > max {
                state.discards = true;
                return Err(FrameTooLong { length, max });
            }
            (header, length, true)
        };
        let arrived = (bytes.len() - header) as u64;
        let fits = first && length <= (capacity - header) as u64;
        if arrived < length && (fits || arrived == 0) {
            return Ok(None);
        }
        let piece = arrived.min(length);
        let after = FrameState { count: length - piece, ..FrameState::default() };
        let length = usize::try_from(piece).unwrap_or(usize::MAX); // at most the bytes of the input
        Ok(Some(Frame { input, state, after, header, length, trailer: 0, first, last: after.count == 0 }))
    }

    /// Consumes what has arrived of the frame to be discarded. Returns whether that was all of the frame.
    fn discard(&self, state: &mut FrameState, input: &mut Input<'_>) -> bool {
        if state.count == 0 {
            let Some(length) = self.field.decode(input.bytes()) else { return false };
            input.consume(self.field.width());
            state.count = length;
        }
        let arrived = input.bytes().len();
        let discarded = usize::try_from(state.count).map_or(arrived, |count| count.min(arrived));
        input.consume(discarded);
        state.count -= discarded as u64;
        state.discards = state.count > 0;
        !state.discards
    }

    /// Queues a length and the frame.
    ///
    /// # Errors
    ///
    /// [`SendFrameError::Full`] if there is no room; [`SendFrameError::TooLong`] if the length cannot be encoded.
    pub fn send(&self, output: &mut Output<'_>, frame: &[u8]) -> Result<(), SendFrameError> {
        self.begin_with(output, frame.len() as u64, frame)
    }

    /// Queues only the length of a frame, whose bytes the caller queues afterwards, in as many pieces as it likes.
    ///
    /// # Errors
    ///
    /// [`SendFrameError::Full`] if there is no room; [`SendFrameError::TooLong`] if the length cannot be encoded.
    pub fn begin(&self, output: &mut Output<'_>, length: u64) -> Result<(), SendFrameError> {
        self.begin_with(output, length, b"")
    }

    fn begin_with(&self, output: &mut Output<'_>, length: u64, bytes: &[u8]) -> Result<(), SendFrameError> {
        let max = self.field.max();
        if length > max {
            return Err(SendFrameError::TooLong(FrameTooLong { length, max }));
        }
        let field = self.field.encode(length);
        send_all(output, [field.get(..self.field.width()).unwrap_or_default(), bytes, b""])
    }
}

#[cfg(test)]
mod tests;
