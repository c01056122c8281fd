//! Writes the body of a response.

use core::fmt;

use lightcone_core::{Checkpoint, Full, Output};

use super::{ServerContext, Transfer};
use crate::exchange::Flow;
use crate::request::State;
use crate::respond::text::displayed;
use crate::respond::writer::{ResponseBody, Scratch};
use crate::status::Status;

/// Room that a chunk needs in addition to its data: up to eight digits, two line ends, and the last chunk after it.
const CHUNK_ROOM: usize = 8 + 4 + 5;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Bytes before the data of a chunk that is written in place: four digits and a line end.
const CHUNK_START: usize = 6;

/// The head of a response that was held back, while an attempt is made to write after it.
#[derive(Clone, Copy, Debug)]
struct Held {
    before: Checkpoint,
    status: Status,
    length: Option<u64>,
}

impl<S: State> Transfer<'_, S> {
    /// Returns how many bytes [`write`](Self::write) takes now.
    pub fn room(&self) -> usize {
        let room = self.output.room();
        match *self.link.outgoing {
            ResponseBody::Length(left) => usize::try_from(left).map_or(room, |left| left.min(room)),
            ResponseBody::Chunked => room.saturating_sub(CHUNK_ROOM),
            ResponseBody::UntilClose | ResponseBody::Upgraded => room,
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::LastChunk
            | ResponseBody::Failed => 0,
        }
    }

    /// Returns the maximum number of bytes that can be written at once, when nothing else is queued; 0 if the
    /// connection is ending.
    pub(crate) fn piece_limit(&self) -> usize {
        piece_limit(&self.output, *self.link.outgoing)
    }

    /// Returns how many bytes of the response's body are still to be written; `None` if its length was not announced.
    pub fn remaining(&self) -> Option<u64> {
        match *self.link.outgoing {
            ResponseBody::Length(left) => Some(left),
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::Chunked
            | ResponseBody::UntilClose
            | ResponseBody::Upgraded
            | ResponseBody::LastChunk
            | ResponseBody::Failed => None,
        }
    }

    /// Writes as much of `bytes` as there is room for, never more than the announced length, and returns the number of
    /// bytes written. If some are left, the exchange is called again when there is room.
    #[must_use = "bytes that were not written have to be written later"]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        self.flush();
        let Self { output, link, .. } = self;
        let n = write(output, link.outgoing, bytes);
        link.found.written += n as u64;
        n
    }

    /// Sends the head of the response now, if it is [held back](crate::Response::stream): for a client that sends more
    /// only after it has the head. If the request's body then turns out to be malformed, too large or late, no error
    /// response can be sent and the connection ends. A body that is written needs no flush: it leaves when the callback
    /// has returned.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends the head at once, and at the end how many bytes it has received.
    /// struct Listener(u64);
    ///
    /// impl<S: State> Exchange<S> for Listener {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         io.flush();
    ///         while !io.body().is_empty() {
    ///             self.0 += io.body().len() as u64;
    ///             io.consume(io.body().len());
    ///         }
    ///         if io.is_ended() && write!(io, "{} bytes", self.0).is_ok() { Flow::Done } else { Flow::More }
    ///     }
    /// }
    ///
    /// let server = Http::new().post("/", |_request, response| response.stream(None, Listener(0)));
    /// # drop(server);
    /// ```
    pub fn flush(&mut self) {
        let held = self.try_head();
        self.commit(held);
    }

    /// Releases a head that is held back, so that a write can follow it. The caller must then [commit](Self::commit)
    /// the head if it is to leave, and otherwise [take it back](Self::take_back).
    fn try_head(&mut self) -> Option<Held> {
        if !*self.link.held {
            return None;
        }
        // The status is read back from the formatted head, since a connection has no room to keep it.
        let head = self.output.held();
        let code = head.get(b"HTTP/1.1 ".len()..).and_then(|rest| rest.first_chunk::<3>());
        let code = code.map(|code| code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')));
        let Some(status) = code.and_then(Status::new) else {
            unreachable!("no status in a head that was formatted here: {}", head.escape_ascii())
        };
        let held = Held { before: self.output.mark(), status, length: self.remaining() };
        self.output.release();
        Some(held)
    }

    /// Lets the head leave: its status is final.
    fn commit(&mut self, held: Option<Held>) {
        if let Some(Held { status, length, .. }) = held {
            *self.link.held = false;
            self.link.found.answered = Some((status, length));
            self.link.found.begun = true;
        }
    }

    /// Holds the head back as before, after nothing was written.
    fn take_back(&mut self, held: Option<Held>) {
        if let Some(Held { before, .. }) = held {
            self.output.rewind(before);
        }
    }

    /// Writes all of a formatted text or nothing; called by `write!(io, ..)`. If the body is chunked, the text is one
    /// chunk and is formatted twice, first to count its bytes; if the results differ, nothing is written.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Counts down, one line at a time.
    /// struct Countdown(u8);
    ///
    /// impl<S: State> Exchange<S> for Countdown {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while self.0 > 0 {
    ///             if write!(io, "{}\n", self.0).is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             self.0 -= 1;
    ///         }
    ///         Flow::Done
    ///     }
    /// }
    ///
    /// let server = Http::new().get("/", |_request, response| response.stream(None, Countdown(100)));
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    /// [`Full`] if there is no room for all of the text; the exchange is called again when there is. A text that is
    /// longer than the output's limit, or whose `Display` fails, can never be written: then the connection ends. Also
    /// [`Full`] if the text is longer than what is left of the announced length.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), Full> {
        let held = self.try_head();
        let result = self.write_text(text);
        // `Full` commits as well: a head that stays held back may occupy the only blocks that the text could get.
        match result {
            Ok(0) => self.take_back(held),
            Ok(1..) | Err(Full) => self.commit(held),
        }
        self.link.found.written += result?;
        Ok(())
    }

    /// Writes all of a text or nothing; returns its length.
    fn write_text(&mut self, text: fmt::Arguments<'_>) -> Result<u64, Full> {
        let Self { output, link, .. } = self;
        let mark = output.mark();
        let before = output.queued();
        let result = match link.outgoing {
            ResponseBody::Length(_) | ResponseBody::UntilClose | ResponseBody::Upgraded => {
                output.write_fmt(text).map(|()| (output.queued() - before) as u64)
            }
            ResponseBody::Chunked => match displayed(&text) {
                None => Err(Full),
                Some(0) => Ok(0), // an empty chunk would end the body
                Some(length) if length.saturating_add(CHUNK_ROOM as u64) > output.room() as u64 => {
                    output.request_writable();
                    Err(Full)
                }
                Some(length) => chunk(output, length, |output| output.write_fmt(text)).map(|()| length),
            },
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::LastChunk
            | ResponseBody::Failed => Err(Full),
        };
        if result.is_err() {
            output.rewind(mark);
            link.found.unanswerable |= never_fits(output, *link.outgoing, &text);
            return Err(Full);
        }
        if let ResponseBody::Length(left) = link.outgoing {
            let written = (output.queued() - before) as u64;
            if written > *left {
                output.rewind(mark);
                return Err(Full);
            }
            *left -= written;
        }
        result
    }

    /// Lets `f` write in place. `f` receives one contiguous piece of the output buffer and returns how many bytes it
    /// has filled from the front. Returns the same number; 0 if there was no room, and then the exchange is called
    /// again when there is.
    ///
    /// # Panics
    /// If `f` returns more than the length of the piece.
    pub fn fill(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let (start, most) = match self.link.outgoing {
            ResponseBody::Length(left) => (0, usize::try_from(*left).unwrap_or(usize::MAX)),
            ResponseBody::Chunked => (CHUNK_START, 0xffff),
            ResponseBody::UntilClose | ResponseBody::Upgraded => (0, usize::MAX),
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::LastChunk
            | ResponseBody::Failed => return 0,
        };
        if most == 0 {
            return 0;
        }
        let held = self.try_head();
        // Starts a new block if the current one has no room for a useful chunk. Without room the head leaves as well,
        // for the reason in `write_fmt`.
        if start > 0 && self.output.reserve(2 * CHUNK_ROOM).is_err() {
            self.commit(held);
            return 0;
        }
        let behind = if start > 0 { 2 } else { 0 }; // the line end after the data
        let spare = self.output.spare();
        let end = spare.len().saturating_sub(behind).min(most.saturating_add(start));
        let Some(place) = spare.get_mut(start..end).filter(|place| !place.is_empty()) else {
            self.commit(held);
            return 0;
        };
        let room = place.len();
        let n = f(place);
        assert!(n <= room, "{n} bytes filled of {room}");
        if n == 0 {
            self.take_back(held);
            return 0;
        }
        if start > 0 {
            // The size of the chunk is known only now; its place before the data has a fixed length.
            let (front, rest) = spare.split_at_mut(start);
            front.copy_from_slice(&chunk_start(n));
            rest.split_at_mut(n).1.split_at_mut(behind).0.copy_from_slice(b"\r\n");
        }
        self.output.commit(start + n + behind);
        self.commit(held);
        self.link.found.written += n as u64;
        if let ResponseBody::Length(left) = self.link.outgoing {
            *left -= n as u64;
        }
        n
    }

    /// Copies as much of the request's body to the response as has arrived and there is room for, and consumes it.
    pub fn copy(&mut self) {
        loop {
            let Self { output, link, .. } = self;
            let data = usize::try_from(link.incoming.data()).unwrap_or(usize::MAX);
            let all = if link.raw.is_empty() { link.bytes } else { &*link.raw };
            let rest = all.get(*link.at..).unwrap_or_default();
            let body = rest.get(..data).unwrap_or(rest);
            if body.is_empty() || link.found.fault.is_some() {
                return;
            }
            if *link.held {
                self.flush();
                continue; // the borrows above have to be made again
            }
            let n = write(output, link.outgoing, body);
            link.found.written += n as u64;
            if n == 0 {
                return;
            }
            self.consume(n);
        }
    }

    /// Ends the response's body, with trailer fields if it is chunked: after a body of another kind they are left out.
    /// Announce their names with [`Response::announce_trailers`](crate::Response::announce_trailers). Returns what the
    /// exchange should return: [`Flow::Done`]; [`Flow::More`] if there is no room now, to be called again when there
    /// is; [`Flow::Abort`] if a field is invalid or must not be in a trailer section ([`Trailers`](crate::Trailers)),
    /// or if the fields have more than [`FIELDS_MAX`](crate::FIELDS_MAX) bytes in total or do not fit into the output's
    /// limit.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends the numbers below a thousand, and after them how many there are.
    /// struct Numbers(u32);
    ///
    /// impl<S: State> Exchange<S> for Numbers {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while self.0 < 1000 {
    ///             if write!(io, "{}\n", self.0).is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             self.0 += 1;
    ///         }
    ///         io.end_with(&[("X-Count", &self.0)])
    ///     }
    /// }
    ///
    /// let server = Http::new()
    ///     .get("/", |_request, response| response.announce_trailers(&["X-Count"]).stream(None, Numbers(0)));
    /// # drop(server);
    /// ```
    pub fn end_with(&mut self, fields: &[(&str, &dyn fmt::Display)]) -> Flow {
        if *self.link.outgoing != ResponseBody::Chunked {
            return Flow::Done;
        }
        self.flush();
        let Self { output, tools: ServerContext { scratch: Scratch { extra, .. }, .. }, .. } = self;
        extra.clear();
        for (name, value) in fields {
            extra.add_trailer(name, *value);
        }
        let length = LAST_CHUNK.len() + extra.lines().len();
        if extra.failed || output.limit() > 0 && length > output.limit() {
            return Flow::Abort;
        }
        let (last_line, end) = LAST_CHUNK.split_at(LAST_CHUNK.len() - 2);
        let mark = output.mark();
        let sent =
            output.send(last_line).and_then(|()| output.send(extra.lines())).and_then(|()| output.send(end));
        if sent.is_err() {
            output.rewind(mark);
            output.request_writable_for(length);
            return Flow::More;
        }
        *self.link.outgoing = ResponseBody::Complete;
        Flow::Done
    }

    /// Completes the response after the exchange is over; returns `false` if that is impossible.
    pub(super) fn finish(&mut self) -> bool {
        self.flush();
        let left = *self.link.outgoing;
        *self.link.outgoing = match left {
            ResponseBody::Deferred | ResponseBody::Failed => return false,
            // Fewer bytes were written than announced. Only the end of the connection can end the body.
            ResponseBody::Length(1..) => return false,
            ResponseBody::Chunked | ResponseBody::LastChunk => match self.output.send(LAST_CHUNK) {
                Ok(()) => ResponseBody::Complete,
                Err(Full) => ResponseBody::LastChunk,
            },
            ResponseBody::UntilClose | ResponseBody::Upgraded => {
                self.link.mode.close();
                ResponseBody::Complete
            }
            ResponseBody::Length(_) | ResponseBody::Complete => ResponseBody::Complete,
        };
        true
    }
}

/// Writes as much of `bytes` as fits, in the coding of the body; returns how much.
fn write(output: &mut Output<'_>, outgoing: &mut ResponseBody, bytes: &[u8]) -> usize {
    match outgoing {
        ResponseBody::Length(left) => {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            let n = output.send_some(bytes.get(..most).unwrap_or(bytes));
            *left -= n as u64;
            n
        }
        ResponseBody::UntilClose | ResponseBody::Upgraded => output.send_some(bytes),
        ResponseBody::Chunked => {
            let n = bytes.len().min(output.room().saturating_sub(CHUNK_ROOM)).min(0xffff_ffff);
            if n < bytes.len() {
                output.request_writable();
            }
            if n == 0 {
                return 0; // an empty chunk would end the body
            }
            let mark = output.mark();
            match chunk(output, n as u64, |output| output.send(bytes.split_at(n).0)) {
                Ok(()) => n,
                Err(Full) => {
                    output.rewind(mark);
                    0
                }
            }
        }
        ResponseBody::Complete | ResponseBody::Deferred | ResponseBody::LastChunk | ResponseBody::Failed => 0,
    }
}

/// Writes one chunk: its size, `length` bytes of data that `write` writes, and the line end. After an error the caller
/// has to rewind the output.
fn chunk(
    output: &mut Output<'_>,
    length: u64,
    write: impl FnOnce(&mut Output<'_>) -> Result<(), Full>,
) -> Result<(), Full> {
    output.write_fmt(format_args!("{length:x}\r\n"))?;
    let expected = output.queued() as u64 + length;
    write(output)?;
    if output.queued() as u64 != expected {
        // The data is a text whose second formatting differs from the first: the exchange has to try again.
        output.request_writable();
        return Err(Full);
    }
    output.send(b"\r\n")
}

/// Returns whether a text can never be written, however long the exchange waits for room.
#[cold]
fn never_fits(output: &Output<'_>, outgoing: ResponseBody, text: &fmt::Arguments<'_>) -> bool {
    output.limit() > 0 && displayed(text).is_none_or(|length| length > piece_limit(output, outgoing) as u64)
}

fn piece_limit(output: &Output<'_>, outgoing: ResponseBody) -> usize {
    let around = if outgoing == ResponseBody::Chunked { CHUNK_ROOM } else { 0 };
    output.limit().saturating_sub(around) // 0 if the connection is ending
}

/// Returns the start of a chunk of `n` bytes, in four digits.
#[expect(clippy::cast_possible_truncation, reason = "four bits each")]
fn chunk_start(n: usize) -> [u8; CHUNK_START] {
    let digit = |shift: u32| match (n >> shift) as u8 & 15 {
        low @ 0..10 => b'0' + low,
        high => b'a' + high - 10,
    };
    [digit(12), digit(8), digit(4), digit(0), b'\r', b'\n']
}
