//! Ranges of a representation that a request selects (RFC 9110, 14).

use core::fmt::{self, Display};

use crate::exchange::{Done, GeneratedBody};
use crate::method::Method;
use crate::parse::chunked::Count;
use crate::parse::head::Head;
use crate::parse::words::trim;
use crate::request::{Request, State};
use crate::status::Status;

use super::response::{Reply, Response};
use super::validators::{Validators, only, refused};

/// A range of bytes, which is not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) first: u64,
    pub(crate) length: u64,
}

impl ByteRange {
    const fn overlaps(&self, other: &Self) -> bool {
        self.first < other.first + other.length && other.first < self.first + self.length
    }
}

/// The value of a `Content-Range` field: a range, and the length of the representation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentRange(pub(crate) ByteRange, pub(crate) u64);

impl Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ByteRange { first, length }, whole) = *self;
        write!(f, "bytes {first}-{}/{whole}", first + length - 1)
    }
}

/// What a `Range` field selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selection {
    /// Everything: the field does not count.
    Whole,
    /// Nothing.
    Unsatisfiable,
    /// This many ranges.
    Ranges(usize),
}

/// Parses the value of a `Range` field for a representation of `length` bytes. The ranges that can be satisfied are put
/// into `found`.
///
/// The field does not count if it is malformed, has another unit, or selects ranges that overlap or are more than
/// `found` has room for. A server may ignore any such field (RFC 9110, 14.2).
fn select(value: &[u8], length: u64, found: &mut [ByteRange]) -> Selection {
    let unit = value.split_at_checked(6).filter(|(unit, _)| unit.eq_ignore_ascii_case(b"bytes="));
    let Some((_, list)) = unit else { return Selection::Whole };
    let (mut count, mut any) = (0, false);
    for item in list.split(|byte| *byte == b',').map(trim).filter(|item| !item.is_empty()) {
        any = true;
        let range = match range(item, length) {
            Ok(Some(range)) => range,
            Ok(None) => continue,
            Err(Ignored) => return Selection::Whole,
        };
        let (before, free) = found.split_at_mut(count);
        let Some(place) = free.first_mut() else { return Selection::Whole };
        if before.iter().any(|other| other.overlaps(&range)) {
            return Selection::Whole;
        }
        *place = range;
        count += 1;
    }
    match count {
        0 if any => Selection::Unsatisfiable,
        0 => Selection::Whole,
        count => Selection::Ranges(count),
    }
}

/// The error for a `Range` field that does not count.
#[derive(Debug, PartialEq, Eq)]
struct Ignored;

/// Parses one range. `None` if no byte of the representation is in it.
fn range(item: &[u8], length: u64) -> Result<Option<ByteRange>, Ignored> {
    let dash = item.iter().position(|byte| *byte == b'-').ok_or(Ignored)?;
    let (first, last) = item.split_at_checked(dash).ok_or(Ignored)?;
    let last = last.get(1..).ok_or(Ignored)?;
    if first.is_empty() {
        let suffix = number(last)?.min(length);
        // Of an empty representation, a suffix is all of it, and no `Content-Range` can express that.
        return match (suffix, length) {
            (0, 0) if number(last)? > 0 => Err(Ignored),
            (0, _) => Ok(None),
            _ => Ok(Some(ByteRange { first: length - suffix, length: suffix })),
        };
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return Err(Ignored);
    }
    if first >= length {
        return Ok(None);
    }
    Ok(Some(ByteRange { first, length: last.min(length - 1) - first + 1 }))
}

/// Parses a position; one that is too large is taken as the largest.
fn number(digits: &[u8]) -> Result<u64, Ignored> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Ignored);
    }
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Ok(digits.iter().fold(0, add))
}

/// Prepares the response with a representation of `length` bytes, or with ranges of it, of which `found` holds as many
/// as are allowed. Returns the response without content type, and how many ranges it has; 0 for the whole.
///
/// # Errors
/// The reply, if none of the representation is to be sent: 304, 412 or 416.
pub(crate) fn ranged<'r>(
    head: &Head<'_>,
    response: Response<'r>,
    validators: &Validators<'_>,
    length: u64,
    found: &mut [ByteRange],
) -> Result<(Response<'r>, usize), Reply<Done>> {
    // Conditions and ranges are for a response that would be a success (RFC 9110, 13.2.1 and 14.2).
    if response.writer.status != Status::OK {
        return Ok((response, 0));
    }
    let response = refused(head, response, validators)?;
    let now = response.writer.scratch.template.second();
    let value = if head.method == Method::Get { only(head, "range") } else { None };
    let selection = match value {
        Some(value) if validators.allow_range(head, now) => select(value, length, found),
        Some(_) | None => Selection::Whole,
    };
    let response = response.header("Accept-Ranges", "bytes");
    match (selection, &*found) {
        (Selection::Unsatisfiable, _) => Err(response
            .header("Content-Range", format_args!("bytes */{length}"))
            .refuse(Status::RANGE_NOT_SATISFIABLE)),
        (Selection::Ranges(1), [range, ..]) => {
            let response = validators.add_to(response).status(Status::PARTIAL_CONTENT);
            Ok((response.header("Content-Range", ContentRange(*range, length)), 1))
        }
        (Selection::Ranges(count), _) => {
            Ok((validators.add_to(response).status(Status::PARTIAL_CONTENT), count))
        }
        (Selection::Whole, _) => Ok((validators.add_to(response), 0)),
    }
}

impl<S: State> Request<'_, S> {
    /// Sends a body of `length` bytes that `f` generates, as [`Response::generate`] does, or the range of it that the
    /// request selects (RFC 9110, 14): 206, or 416 for a range after the end.
    ///
    /// `f` has to generate the same bytes for the same offset as long as the [`Validators`] are the same; they are also
    /// those of the [conditions](Self::conditional) of the request. A request for several ranges gets the whole body.
    ///
    /// ```
    /// use lightcone_http::{ETag, Http};
    ///
    /// let server = Http::new().get("/squares", |request, response| {
    ///     request.generate(response, 256, ETag::strong("squares"), |offset, piece| {
    ///         for (byte, n) in piece.iter_mut().zip(offset..) {
    ///             *byte = (n * n) as u8;
    ///         }
    ///     })
    /// });
    /// # drop(server);
    /// ```
    pub fn generate<'v, F: FnMut(u64, &mut [u8])>(
        &self,
        response: Response<'_>,
        length: u64,
        validators: impl Into<Validators<'v>>,
        f: F,
    ) -> Reply<GeneratedBody<F>> {
        let mut found = [ByteRange::default()];
        if length > Count::MAX {
            return response.generate(length, f); // a 500, for a range as well
        }
        match ranged(self.head, response, &validators.into(), length, &mut found) {
            Ok((response, 0)) => response.generate(length, f),
            Ok((response, _)) => {
                let [ByteRange { first, length }] = found;
                response.stream(Some(length), GeneratedBody::from_offset(first, f))
            }
            Err(reply) => reply.into_any(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a field selects of ten bytes, with room for three ranges.
    fn ten(value: &str) -> (Selection, [(u64, u64); 3]) {
        let mut found = [ByteRange::default(); 3];
        let selection = select(value.as_bytes(), 10, &mut found);
        (selection, found.map(|ByteRange { first, length }| (first, length)))
    }

    #[test]
    fn one_range() {
        let table = [
            ("bytes=0-0", (0, 1)),
            ("bytes=0-9", (0, 10)),
            ("bytes=0-10", (0, 10)),
            ("bytes=9-", (9, 1)),
            ("bytes=3-5", (3, 3)),
            ("bytes=-1", (9, 1)),
            ("bytes=-10", (0, 10)),
            ("bytes=-11", (0, 10)),
            ("bytes=-99999999999999999999999", (0, 10)),
            ("bytes=1-99999999999999999999999", (1, 9)),
            ("BYTES=3-5", (3, 3)),
            ("bytes= ,3-5\t, ", (3, 3)),
            ("bytes=3-5, 10-, -0", (3, 3)),
        ];
        for (value, range) in table {
            let (selection, [first, ..]) = ten(value);
            assert_eq!((selection, first), (Selection::Ranges(1), range), "{value}");
        }
    }

    #[test]
    fn fields_that_do_not_count() {
        let table = [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=a-b",
            "bytes=5",
            "bytes=5-3",
            "bytes=-",
            "bytes=--5",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=1-2-3",
            "bytes=1-2;3-4",
            "bytes =1-2",
            "lines=1-2",
            "bytes=0-1,x",
            // more than there is room for, or overlapping
            "bytes=0-0,2-2,4-4,6-6",
            "bytes=0-5,5-6",
            "bytes=0-,0-",
            "bytes=3-5,-10",
        ];
        for value in table {
            assert_eq!(ten(value).0, Selection::Whole, "{value}");
        }
    }

    #[test]
    fn ranges_after_the_end() {
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-,10-11,-0"] {
            assert_eq!(ten(value).0, Selection::Unsatisfiable, "{value}");
        }
        let mut found = [ByteRange::default()];
        assert_eq!(select(b"bytes=0-", 0, &mut found), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-0", 0, &mut found), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-5", 0, &mut found), Selection::Whole);
    }

    #[test]
    fn several_ranges_in_the_order_of_the_request() {
        assert_eq!(ten("bytes=8-,0-0, 2-3"), (Selection::Ranges(3), [(8, 2), (0, 1), (2, 2)]));
        assert_eq!(ten("bytes=4-5,0-3"), (Selection::Ranges(2), [(4, 2), (0, 4), (0, 0)]));
        assert_eq!(ten("bytes=0-3,4-5"), (Selection::Ranges(2), [(0, 4), (4, 2), (0, 0)]));
    }

    #[test]
    fn the_largest_body() {
        let mut found = [ByteRange::default()];
        let value = b"bytes=18446744073709551614-18446744073709551615";
        assert_eq!(select(value, u64::MAX, &mut found), Selection::Ranges(1));
        assert_eq!(found, [ByteRange { first: u64::MAX - 1, length: 1 }]);
    }
}
