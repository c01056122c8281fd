//! The chunked coding (RFC 9112, 7.1), decoded as it arrives: the framing is removed, the data stays in place.

use crate::limits::Limits;
use crate::status::Status;

use super::words::{is_token, is_value};

/// A number of bytes below 2^48 in six bytes, so that a connection stays small.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count([u8; 6]);

impl Count {
    pub(crate) const MAX: u64 = Self::TOO_MUCH - 1;
    pub(crate) const TOO_MUCH: u64 = 1 << 48;

    /// Creates a count of `n`, or of [`MAX`](Self::MAX) if `n` is larger.
    pub(crate) const fn new(n: u64) -> Self {
        let n = if n > Self::MAX { Self::MAX } else { n };
        let [a, b, c, d, e, f, _, _] = n.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    pub(crate) const fn get(self) -> u64 {
        let Self([a, b, c, d, e, f]) = self;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.get() == 0
    }

    pub(crate) const fn subtract(&mut self, n: u64) {
        *self = Self::new(self.get().saturating_sub(n));
    }
}

impl core::fmt::Debug for Count {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

/// The position of the next byte in the coding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChunkState {
    /// The first digit of a chunk size.
    FirstDigit,
    /// Another digit, an extension or the line end.
    Digit,
    /// White space before an extension, which must follow (RFC 9112, 7.1.1).
    Space,
    /// White space between the semicolon and the name of an extension.
    ExtensionStart,
    ExtensionName,
    /// White space between the name and the equals sign or the next semicolon.
    NameSpace,
    /// White space between the equals sign and the value.
    ValueStart,
    ExtensionValue,
    Quoted,
    /// The byte after a backslash.
    Escaped,
    /// What follows the closing quote.
    QuotedEnd,
    /// The line feed after the size in `remaining`.
    SizeEnd,
    /// `remaining` bytes of data.
    Data,
    /// The carriage return after the data.
    DataReturn,
    /// The line feed after the data.
    DataEnd,
    /// The first character of a trailer field's name, or the empty line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    /// The line feed after a trailer field.
    TrailerEnd,
    /// The line feed of the empty line.
    LastEnd,
    Done,
}

impl ChunkState {
    const fn is_in_trailers(self) -> bool {
        matches!(
            self,
            Self::TrailerStart | Self::TrailerName | Self::TrailerValue | Self::TrailerEnd | Self::LastEnd
        )
    }
}

/// The decoder of one chunked body.
///
/// All bytes pass through it in order: [`frame`](Self::frame) takes those of the framing, [`advance`](Self::advance) counts
/// those of the data. (Packed, since it is part of every connection.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(Rust, packed)]
pub(crate) struct Decoder {
    /// Data bytes of this chunk that are still to come; while a size is read, its value so far.
    remaining: Count,
    /// Data bytes that the body may still have after this chunk.
    allowed: Count,
    /// Bytes of this chunk line.
    line: u16,
    /// Bytes of all extensions so far; after the last chunk, bytes of the trailer section.
    spent: u16,
    state: ChunkState,
}

impl Decoder {
    pub(crate) const fn new(limits: &Limits) -> Self {
        let (remaining, allowed) = (Count::new(0), Count::new(limits.body));
        Self { remaining, allowed, line: 0, spent: 0, state: ChunkState::FirstDigit }
    }

    /// Returns the number of data bytes that come next; 0 if framing comes next, or the body is over.
    pub(crate) const fn data(&self) -> u64 {
        if matches!(self.state, ChunkState::Data) { self.remaining.get() } else { 0 }
    }

    /// Returns the number of data bytes that may still come within the limit.
    pub(crate) const fn most(&self) -> u64 {
        let ahead = if matches!(self.state, ChunkState::Data) { self.remaining.get() } else { 0 };
        self.allowed.get() + ahead
    }

    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    /// Returns how many bytes of the trailer section were read, including its final empty line; 0 before it.
    pub(crate) const fn trailer_bytes(&self) -> u16 {
        if self.state.is_in_trailers() || self.is_done() { self.spent } else { 0 }
    }

    /// Like [`frame`](Self::frame), but leaves the bytes of the trailer section at the front of the input. `input`
    /// starts with those that earlier calls have left there.
    ///
    /// # Errors
    /// As for `frame`; and if more than `capacity` bytes of the section would have to be left in the input.
    pub(crate) fn frame_before_trailers(
        &mut self,
        input: &[u8],
        limits: &Limits,
        capacity: usize,
    ) -> Result<usize, Status> {
        let left = usize::from(self.trailer_bytes());
        let taken = self.frame(input.get(left..).unwrap_or_default(), limits)?;
        let kept = usize::from(self.trailer_bytes());
        if kept > capacity || kept == capacity && !self.is_done() {
            return Err(Status::FIELDS_TOO_LARGE);
        }
        Ok(left + taken - kept)
    }

    /// Counts `n` data bytes as consumed, at most [`data`](Self::data).
    pub(crate) const fn advance(&mut self, n: u64) {
        self.remaining.subtract(n);
        if matches!(self.state, ChunkState::Data) && self.remaining.is_zero() {
            self.state = ChunkState::DataReturn;
        }
    }

    /// Reads framing from the front of `input` up to the next data or the end of the body; returns its length.
    ///
    /// # Errors
    /// The status to refuse the request with. Nothing after the fault can be trusted.
    pub(crate) fn frame(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Status> {
        for (taken, byte) in input.iter().enumerate() {
            if matches!(self.state, ChunkState::Data | ChunkState::Done) {
                return Ok(taken);
            }
            self.state = self.next(*byte, limits)?;
        }
        Ok(input.len())
    }

    /// Returns the state after `byte`. A byte that is not listed for a state is an error, such as a bare line feed.
    fn next(&mut self, byte: u8, limits: &Limits) -> Result<ChunkState, Status> {
        use ChunkState::{
            DataEnd, DataReturn, Digit, Done, Escaped, ExtensionName, ExtensionStart, ExtensionValue,
            FirstDigit, LastEnd, NameSpace, Quoted, QuotedEnd, SizeEnd, Space, TrailerEnd, TrailerName,
            TrailerStart, TrailerValue, ValueStart,
        };
        if self.state.is_in_trailers() {
            self.spent = one_more(self.spent, limits.trailers, Status::FIELDS_TOO_LARGE)?;
        }
        match (self.state, byte) {
            (FirstDigit | Digit, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte, limits),
            (Digit, b'\r') => Ok(SizeEnd),
            (Digit | Space, b' ' | b'\t') => self.extension(Space, limits),
            (Digit | Space, b';') => self.extension(ExtensionStart, limits),
            (
                ExtensionStart | ExtensionName | NameSpace | ValueStart | ExtensionValue | Quoted | Escaped
                | QuotedEnd,
                byte,
            ) => self.within_extension(byte, limits),
            (SizeEnd, b'\n') => self.begin(),
            (DataReturn, b'\r') => Ok(DataEnd),
            (DataEnd, b'\n') => {
                self.line = 0;
                Ok(FirstDigit)
            }
            // A server may drop trailer fields (RFC 9112, 7.1.2). They are checked as in a head nevertheless: a proxy
            // that finds the end of the section elsewhere would see other requests after it.
            (TrailerStart, b'\r') => Ok(LastEnd),
            (TrailerStart | TrailerName, byte) if is_token(byte) => Ok(TrailerName),
            (TrailerName, b':') => Ok(TrailerValue),
            (TrailerValue, b'\r') => Ok(TrailerEnd),
            (TrailerValue, byte) if is_value(byte) => Ok(TrailerValue),
            (TrailerEnd, b'\n') => Ok(TrailerStart),
            (LastEnd, b'\n') => Ok(Done),
            _ => Err(Status::BAD_REQUEST),
        }
    }

    fn digit(&mut self, byte: u8, limits: &Limits) -> Result<ChunkState, Status> {
        self.line = one_more(self.line, limits.chunk_line, Status::BAD_REQUEST)?;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        // No overflow: every digit is checked, so the size was at most `allowed`, which is below 2^48.
        let size = self.remaining.get() << 4 | u64::from(digit);
        if size > self.allowed.get() {
            return Err(Status::CONTENT_TOO_LARGE);
        }
        self.remaining = Count::new(size);
        Ok(ChunkState::Digit)
    }

    /// Returns the state after a byte of an extension or after one. (Apart from [`next`](Self::next), whose other cases
    /// are faster without these.)
    #[inline(always)]
    fn within_extension(&mut self, byte: u8, limits: &Limits) -> Result<ChunkState, Status> {
        use ChunkState::{
            Escaped, ExtensionName, ExtensionStart, ExtensionValue, NameSpace, Quoted, QuotedEnd, SizeEnd,
            Space, ValueStart,
        };
        let state = match (self.state, byte) {
            (ExtensionName | ExtensionValue | QuotedEnd, b'\r') => return Ok(SizeEnd),
            // White space around the semicolon and the equals sign is bad, but must be dropped (RFC 9112, 7.1.1).
            // Anywhere else it is an error, as two parsers could disagree about what it belongs to.
            (ExtensionStart, b' ' | b'\t') => ExtensionStart,
            (ExtensionName | NameSpace, b' ' | b'\t') => NameSpace,
            (ValueStart, b' ' | b'\t') => ValueStart,
            (ExtensionValue | QuotedEnd, b' ' | b'\t') => Space,
            (ExtensionName | NameSpace | ExtensionValue | QuotedEnd, b';') => ExtensionStart,
            (ExtensionName | NameSpace, b'=') => ValueStart,
            (ExtensionStart | ExtensionName, byte) if is_token(byte) => ExtensionName,
            (ValueStart | ExtensionValue, byte) if is_token(byte) => ExtensionValue,
            (ValueStart, b'"') => Quoted,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, byte) if is_value(byte) => Quoted,
            _ => return Err(Status::BAD_REQUEST),
        };
        self.extension(state, limits)
    }

    fn extension(&mut self, state: ChunkState, limits: &Limits) -> Result<ChunkState, Status> {
        self.line = one_more(self.line, limits.chunk_line, Status::BAD_REQUEST)?;
        self.spent = one_more(self.spent, limits.chunk_extensions, Status::CONTENT_TOO_LARGE)?;
        Ok(state)
    }

    /// Begins the data of a chunk whose line has ended, or the trailer section after the last chunk.
    fn begin(&mut self) -> Result<ChunkState, Status> {
        if self.remaining.is_zero() {
            self.spent = 0;
            return Ok(ChunkState::TrailerStart);
        }
        self.allowed.subtract(self.remaining.get());
        Ok(ChunkState::Data)
    }
}

/// Adds 1 to a count, up to `limit`.
fn one_more(count: u16, limit: u16, beyond: Status) -> Result<u16, Status> {
    if count < limit { Ok(count + 1) } else { Err(beyond) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::vec::Vec;

    use super::*;

    type Decoded = (Vec<u8>, usize);
    type Case<'a> = (&'a [u8], Result<(&'a [u8], usize), u16>);

    /// Decodes `input` in pieces of `step` bytes. Returns the data and the length of the whole body, or a status; 0 if
    /// the body is incomplete.
    fn decode(input: &[u8], limits: &Limits, step: usize) -> Result<Decoded, u16> {
        let mut decoder = Decoder::new(limits);
        let mut data = Vec::new();
        let (mut at, mut come) = (0, step.min(input.len()));
        loop {
            at += decoder.frame(&input[at..come], limits).map_err(Status::code)?;
            if decoder.is_done() {
                return Ok((data, at));
            }
            let n = usize::try_from(decoder.data()).unwrap_or(usize::MAX).min(come - at);
            data.extend_from_slice(&input[at..at + n]);
            decoder.advance(u64::try_from(n).unwrap());
            at += n;
            if at == come && come == input.len() {
                return Err(0);
            }
            if at == come {
                come = (come + step).min(input.len());
            }
        }
    }

    fn any_cut(input: &[u8], limits: &Limits) -> Result<Decoded, u16> {
        let whole = decode(input, limits, input.len().max(1));
        for step in 1..input.len().min(30) {
            assert_eq!(decode(input, limits, step), whole, "by {step}: {}", input.escape_ascii());
        }
        whole
    }

    #[test]
    fn bodies() {
        let table: &[Case<'_>] = &[
            (b"0\r\n\r\n", Ok((b"", 5))),
            (b"0\r\n\r\nGET", Ok((b"", 5))),
            (b"3\r\nabc\r\n0\r\n\r\n", Ok((b"abc", 13))),
            (b"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n", Ok((b"abc", 20))),
            (b"A\r\n0123456789\r\n0\r\n\r\n", Ok((b"0123456789", 20))),
            (b"00a\r\n0123456789\r\n0\r\n\r\n", Ok((b"0123456789", 22))),
            (b"0\r\nA: b\r\nC-1:\td\r\n\r\n", Ok((b"", 19))),
            // Parts.
            (b"", Err(0)),
            (b"0\r\n\r", Err(0)),
            (b"3\r\nab", Err(0)),
            (b"3;", Err(0)),
            (b"3 ", Err(0)),
            // Faults.
            (b"\r\n", Err(400)),
            (b"3\nabc\r\n0\r\n\r\n", Err(400)),
            (b"3\r\nabc\n0\r\n\r\n", Err(400)),
            (b"3\r\nabcd\r\n0\r\n\r\n", Err(400)),
            (b"3\r\nab\r\n0\r\n\r\n", Err(400)),
            (b"3\rabc", Err(400)),
            (b"3 \r\nabc", Err(400)),
            (b"3 a\r\nabc", Err(400)),
            (b"3 4\r\nabc", Err(400)),
            (b"3 \n;a\r\nabc", Err(400)),
            (b"3\x0b;a\r\nabc", Err(400)),
            (b" ;a\r\nabc", Err(400)),
            (b" 3\r\nabc", Err(400)),
            (b"+3\r\nabc", Err(400)),
            (b"-3\r\nabc", Err(400)),
            (b"0x3\r\nabc", Err(400)),
            (b"3_0\r\nabc", Err(400)),
            (b"g\r\nabc", Err(400)),
            (b";a\r\nabc", Err(400)),
            (b"0\r\n\n", Err(400)),
            (b"0\r\nA: b\n\r\n", Err(400)),
            (b"0\r\nA : b\r\n\r\n", Err(400)),
            (b"0\r\n A: b\r\n\r\n", Err(400)),
            (b"0\r\n: b\r\n\r\n", Err(400)),
            (b"0\r\nA\r\n\r\n", Err(400)),
            (b"0\r\nA: \0\r\n\r\n", Err(400)),
            (b"ffffffffffffffff\r\n", Err(413)),
            (b"10000000000000000000000003\r\nabc", Err(413)),
            (b"100000003\r\nabc", Err(413)),
        ];
        check(table);
    }

    #[test]
    fn extensions() {
        check(&[
            (b"3;a=b;c=\"d \xff\"\r\nabc\r\n0;x\r\n\r\n", Ok((b"abc", 27))),
            (b"3 ; a=1\r\nabc\r\n0\t ;b\r\n\r\n", Ok((b"abc", 23))),
            (b"3;\ta \t=\t\"1\" ; b\r\nabc\r\n0\r\n\r\n", Ok((b"abc", 27))),
            (b"3;a=1 ;b;c \t;d\r\nabc\r\n0\r\n\r\n", Ok((b"abc", 26))),
            (b"3;a=\"\\\"\\\\;\"\r\nabc\r\n0\r\n\r\n", Ok((b"abc", 23))),
            (b"3;a=\"\";b\r\nabc\r\n0\r\n\r\n", Ok((b"abc", 20))),
            (b"3;\r\nabc", Err(400)),
            (b"3; \r\nabc", Err(400)),
            (b"3;;a\r\nabc", Err(400)),
            (b"3;a;\r\nabc", Err(400)),
            (b"3;=1\r\nabc", Err(400)),
            (b"3;a=\r\nabc", Err(400)),
            (b"3;a= \r\nabc", Err(400)),
            (b"3;a=;b\r\nabc", Err(400)),
            (b"3;a=1=2\r\nabc", Err(400)),
            (b"3;a b\r\nabc", Err(400)),
            (b"3;a \r\nabc", Err(400)),
            (b"3;a=1 2\r\nabc", Err(400)),
            (b"3;a=1 \r\nabc", Err(400)),
            (b"3;\x80\r\nabc", Err(400)),
            (b"3;a=\x80\r\nabc", Err(400)),
            (b"3;a=\"1\r\nabc", Err(400)),
            (b"3;a=\"\\\r\nabc", Err(400)),
            (b"3;a=\"1\"2\r\nabc", Err(400)),
            (b"3;a=1\"2\"\r\nabc", Err(400)),
            (b"3;a=\"\0\"\r\nabc", Err(400)),
            (b"3;a=\"\n\"\r\nabc", Err(400)),
            (b"3;a\nabc", Err(400)),
            (b"3;a\0\r\nabc", Err(400)),
            (b"3;a\rb\r\nabc", Err(400)),
        ]);
    }

    fn check(table: &[Case<'_>]) {
        for (input, expected) in table {
            let expected = expected.map(|(data, size)| (data.to_vec(), size));
            assert_eq!(any_cut(input, &Limits::DEFAULT), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn limits_from_both_sides() {
        let code = |input: &str, limits: Limits| {
            any_cut(input.as_bytes(), &limits).map_or_else(|code| code, |_| 200)
        };
        let base = Limits::DEFAULT;
        let body = Limits { body: 16, ..base };
        assert_eq!(code("10\r\n0123456789abcdef\r\n0\r\n\r\n", body), 200);
        assert_eq!(code("f\r\n0123456789abcde\r\n1\r\n0\r\n0\r\n\r\n", body), 200);
        assert_eq!(code("11\r\n", body), 413);
        assert_eq!(code("f\r\n0123456789abcde\r\n2\r\n", body), 413);

        let line = |length: usize| format!("{}1\r\na\r\n0\r\n\r\n", "0".repeat(length - 1));
        assert_eq!(code(&line(256), base), 200);
        assert_eq!(code(&line(257), base), 400);
        let extended = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(length - 2));
        assert_eq!(code(&extended(256), base), 200);
        assert_eq!(code(&extended(257), base), 400);

        let spaced = |length: usize| format!("1{};x\r\na\r\n0\r\n\r\n", " ".repeat(length - 3));
        assert_eq!(code(&spaced(256), base), 200);
        assert_eq!(code(&spaced(257), base), 400);

        let chunks = |n: usize, more: &str| {
            format!("{}1{more}\r\na\r\n0\r\n\r\n", format!("1;{}\r\na\r\n", "e".repeat(127)).repeat(n))
        };
        assert_eq!(code(&chunks(128, ""), base), 200);
        assert_eq!(code(&chunks(128, ";"), base), 413);

        let trailers = |length: usize| format!("0\r\nt:{}\r\n\r\n", "v".repeat(length - 6));
        assert_eq!(code(&trailers(8192), base), 200);
        assert_eq!(code(&trailers(8193), base), 431);
    }

    #[test]
    fn counts_hold_48_bits() {
        for n in [0, 1, 0xffff, 0x1_0000, 0x1234_5678_9abc, Count::MAX] {
            assert_eq!(Count::new(n).get(), n);
        }
        assert_eq!(Count::new(u64::MAX).get(), Count::MAX);
        let unlimited = Limits { body: u64::MAX, ..Limits::DEFAULT };
        assert_eq!(any_cut(b"ffffffffffff\r\na", &unlimited), Err(0));
        assert_eq!(any_cut(b"1000000000000\r\na", &unlimited), Err(413));
    }
}
