//! Representations whose bytes are supplied while they are sent: whole, one range or several ranges.

use core::fmt::{self, Display};

use crate::exchange::{Done, Flow};
use crate::parse::chunked::Count;
use crate::parse::head::Head;
use crate::request::State;
use crate::transfer::Transfer;

use super::range::{ByteRange, ContentRange, ranged};
use super::response::{Reply, Response, fail};
use super::text::displayed;
use super::validators::{ETag, Validators};

/// What is known of a representation (RFC 9110, 8) before its bytes are sent: its type, its length and its validators.
///
/// [`respond`](Self::respond) begins the response to a request, and [`Selection::advance`] sends the part that the
/// request selects. [`Asset`](crate::Asset) does both for content that is part of the program.
///
/// ```
/// use lightcone_http::{ETag, Exchange, Flow, Http, Representation, Selection, State, Transfer};
///
/// const LENGTH: u64 = 1 << 20;
/// const ZEROS: Representation<'_> = Representation::new("application/octet-stream", LENGTH);
///
/// /// Sends zeros, or up to four ranges of them.
/// struct Zeros(Selection<4>);
///
/// impl<S: State> Exchange<S> for Zeros {
///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
///         self.0.advance(&ZEROS, io, |io, _offset, most| {
///             Some(io.fill(|piece| {
///                 let n = piece.len().min(most);
///                 piece[..n].fill(0);
///                 n
///             }))
///         })
///     }
/// }
///
/// let server = Http::new().get("/zeros", |request, response| ZEROS.respond(request.head, response, Zeros));
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a representation does nothing until it is the response to a request"]
pub struct Representation<'a> {
    content_type: &'a str,
    length: u64,
    validators: Validators<'a>,
    /// The content coding; empty for none.
    coding: &'a str,
}

impl<'a> Representation<'a> {
    /// Creates a representation of `length` bytes without validators.
    pub const fn new(content_type: &'a str, length: u64) -> Self {
        Self { content_type, length, validators: Validators::new(), coding: "" }
    }

    /// Sets the validators.
    pub const fn validators(mut self, mut validators: Validators<'a>) -> Self {
        if validators.cache_control.is_empty() {
            validators.cache_control = self.validators.cache_control;
        }
        self.validators = validators;
        self
    }

    /// Sets the value of `Cache-Control`, unless it is empty. It is not sent with errors.
    pub const fn cache_control(mut self, directives: &'a str) -> Self {
        self.validators.cache_control = directives;
        self
    }

    /// Sets the value of `Content-Encoding`, such as `gzip`. The entity tag ends in it in addition.
    ///
    /// The response should have `Vary: Accept-Encoding` then: see [`Head::preferred_coding`].
    pub const fn encoded(mut self, coding: &'a str) -> Self {
        self.coding = coding;
        self
    }

    /// Begins the response: 200, 206 with up to `N` ranges, or 304, 412 or 416 without a body of the representation.
    /// `body` makes the exchange that sends the selection.
    ///
    /// A request for more than `N` ranges, or for ranges that overlap, gets the whole, since such requests are mistakes
    /// or attacks (RFC 9110, 14.2), and so does a request for several ranges of more than 4 GiB. If the response has a
    /// status other than 200, neither conditions nor ranges count.
    pub fn respond<const N: usize, B>(
        &self,
        head: &Head<'_>,
        response: Response<'_>,
        body: impl FnOnce(Selection<N>) -> B,
    ) -> Reply<B> {
        const { assert!(N > 0 && N <= 16, "a representation is sent in 1 to 16 parts") };
        let mut found = [ByteRange::default(); N];
        let parts = [Part::default(); N];
        let mut selection = Selection { at: Count::new(0), parts, count: 0, index: 0, begun: false };
        if self.length > Count::MAX {
            return response.stream(Some(self.length), body(selection)); // a 500, for a range as well
        }
        // A part has positions of 32 bits: of a larger representation, only one range can be sent.
        let most = if u32::try_from(self.length).is_ok() { N } else { 1 };
        let (mut response, ranges) = match self.select(head, response, found.split_at_mut(most).0) {
            Ok(selected) => selected,
            Err(reply) => return reply.into_any(),
        };
        if ranges < 2 {
            let range = found.first().filter(|_| ranges == 1);
            let ByteRange { first, length } =
                range.map_or(ByteRange { first: 0, length: self.length }, |one| *one);
            selection.at = Count::new(first);
            return response.header("Content-Type", self.content_type).stream(Some(length), body(selection));
        }
        selection.parts = found.map(Part::new);
        selection.count = u8::try_from(ranges).unwrap_or(u8::MAX);
        let Some(length) = selection.length(self) else { return fail(&mut response.writer) };
        let content_type = format_args!("multipart/byteranges; boundary={}", self.boundary());
        response.header("Content-Type", content_type).stream(Some(length), body(selection))
    }

    /// Adds the fields that depend on what is selected, and returns the number of ranges; 0 for the whole.
    #[inline(never)]
    fn select<'r>(
        &self,
        head: &Head<'_>,
        response: Response<'r>,
        found: &mut [ByteRange],
    ) -> Result<(Response<'r>, usize), Reply<Done>> {
        let Self { mut validators, coding, .. } = *self;
        if let (false, Some(etag)) = (coding.is_empty(), validators.etag) {
            validators = validators.etag(etag.coded(coding));
        }
        let (mut response, ranges) = ranged(head, response, &validators, self.length, found)?;
        if !coding.is_empty() {
            response = response.header("Content-Encoding", coding);
        }
        Ok((response, ranges))
    }

    fn boundary(&self) -> Boundary {
        Boundary(self.validators.etag.map_or(self.length, ETag::to_number))
    }
}

/// A range with 32-bit positions, without alignment.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    first: [u8; 4],
    length: [u8; 4],
}

impl Part {
    fn new(range: ByteRange) -> Self {
        let bytes = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        Self { first: bytes(range.first), length: bytes(range.length) }
    }

    fn range(self) -> ByteRange {
        let number = |bytes| u32::from_le_bytes(bytes).into();
        ByteRange { first: number(self.first), length: number(self.length) }
    }
}

/// The part of a [`Representation`] that a request selects, and how much of it was sent: the whole, one range, or up to
/// `N` ranges in the order of the request (`multipart/byteranges`, RFC 9110, 14.6).
#[derive(Clone, Copy, Debug)]
#[must_use = "an exchange has to send it"]
pub struct Selection<const N: usize> {
    /// The position in the representation or, if there are parts, in the part.
    pub(crate) at: Count,
    parts: [Part; N],
    /// The number of parts; 0 for the whole or one range.
    count: u8,
    /// The part that is being sent.
    index: u8,
    /// Whether the lines before the data of the part are written.
    begun: bool,
}

/// The delimiter of the parts: a number of the content, scrambled. Only content that was made for this contains it.
struct Boundary(u64);

impl Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part-{:016x}", self.0 ^ 0x5d1c_83a9_e07f_4b26)
    }
}

impl<const N: usize> Selection<N> {
    /// Sends as much as there is room for. `of` is what [`Representation::respond`] was called with.
    ///
    /// `write` is called with an offset in the representation and the number of bytes to write from there, at least
    /// one. It returns how many it has written, 0 if it has to wait for room or for data, and `None` if it gives up:
    /// then the connection ends, so that the client cannot take the response for complete.
    ///
    /// # Panics
    /// If `write` returns more than it was called with.
    pub fn advance<S: State>(
        &mut self,
        of: &Representation<'_>,
        io: &mut Transfer<'_, S>,
        mut write: impl FnMut(&mut Transfer<'_, S>, u64, usize) -> Option<usize>,
    ) -> Flow {
        loop {
            let (offset, most) = match self.next(of, io) {
                Ok(piece) => piece,
                Err(flow) => return flow,
            };
            match write(io, offset, most) {
                None => return Flow::Abort,
                Some(0) => return Flow::More,
                Some(n) => {
                    assert!(n <= most, "{n} bytes written of {most}");
                    self.at = Count::new(self.at.get() + n as u64);
                }
            }
        }
    }

    /// Returns the offset and the length of what is to be written next, after the lines before it.
    ///
    /// # Errors
    /// What the exchange returns, if there is no room for the lines or nothing is left.
    fn next<S: State>(
        &mut self,
        of: &Representation<'_>,
        io: &mut Transfer<'_, S>,
    ) -> Result<(u64, usize), Flow> {
        let most = |left| usize::try_from(left).unwrap_or(usize::MAX);
        if self.count == 0 {
            let left = io.remaining().unwrap_or(0);
            return if left > 0 { Ok((self.at.get(), most(left))) } else { Err(Flow::Done) };
        }
        loop {
            if !self.begun && write!(io, "{}", self.lines(of, self.index)).is_err() {
                return Err(Flow::More);
            }
            self.begun = true;
            let Some(range) = self.range(self.index) else { return Err(Flow::Done) };
            let left = range.length - self.at.get();
            if left > 0 {
                return Ok((range.first + self.at.get(), most(left)));
            }
            (self.index, self.begun, self.at) = (self.index + 1, false, Count::new(0));
        }
    }

    /// Returns the range of a part; `None` after the last one.
    fn range(&self, index: u8) -> Option<ByteRange> {
        self.parts.get(..self.count.into())?.get(usize::from(index)).map(|part| part.range())
    }

    /// Returns the length of all parts with the lines around them.
    fn length(&self, of: &Representation<'_>) -> Option<u64> {
        let mut total = 0;
        for index in 0..=self.count {
            let range = self.range(index);
            total += displayed(&self.lines(of, index))? + range.map_or(0, |range| range.length);
        }
        Some(total)
    }

    fn lines<'a>(&self, of: &Representation<'a>, index: u8) -> PartLines<'a> {
        let range = self.range(index).map(|range| ContentRange(range, of.length));
        PartLines { first: index == 0, boundary: of.boundary(), content_type: of.content_type, range }
    }
}

/// The lines before the data of a part, or after the last one, without a range.
struct PartLines<'a> {
    first: bool,
    boundary: Boundary,
    content_type: &'a str,
    range: Option<ContentRange>,
}

impl Display for PartLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, boundary, content_type, range } = self;
        let Some(range) = range else { return write!(f, "\r\n--{boundary}--\r\n") };
        f.write_str(if *first { "" } else { "\r\n" })?;
        write!(f, "--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n")
    }
}
