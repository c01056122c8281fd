//! The body of an HTML form, read as it arrives: `application/x-www-form-urlencoded`.

use core::fmt;

use crate::query::hex;
use crate::status::Status;

/// Why a form could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormError {
    /// It breaks the grammar.
    Malformed,
    /// A pair, or the head of a part, is longer than its buffer.
    TooLong,
    /// There are more pairs or parts than allowed.
    TooMany,
    /// The body ends before the form does.
    Truncated,
}

impl FormError {
    /// Returns the status to refuse the request with: 413 for what is too long or too many, otherwise 400.
    ///
    /// ```
    /// use lightcone_http::{FormError, Status};
    /// assert_eq!(FormError::TooMany.status(), Status::CONTENT_TOO_LARGE);
    /// assert_eq!(FormError::Malformed.status(), Status::BAD_REQUEST);
    /// ```
    pub const fn status(self) -> Status {
        match self {
            Self::TooLong | Self::TooMany => Status::CONTENT_TOO_LARGE,
            Self::Malformed | Self::Truncated => Status::BAD_REQUEST,
        }
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the form is malformed",
            Self::TooLong => "a pair or the head of a part is longer than its buffer",
            Self::TooMany => "the form has too many pairs or parts",
            Self::Truncated => "the body ends before the form does",
        })
    }
}

impl core::error::Error for FormError {}

/// One pair of a form, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormPair<'p> {
    /// The name.
    pub name: &'p [u8],
    /// The value; empty if the pair has no `=`.
    pub value: &'p [u8],
}

/// Reads the pairs of an `application/x-www-form-urlencoded` body as it arrives. Each pair is decoded on its way into a
/// buffer of `N` bytes, the only memory that is used.
///
/// The body may be cut anywhere. [`next`](Self::next) takes what has arrived, and returns the next pair if it is
/// complete.
///
/// ```
/// use lightcone_http::{Exchange, Flow, FormPairs, Http, State, Transfer};
///
/// /// Responds with the sum of all numbers named `n`.
/// struct Sum {
///     pairs: FormPairs<64>,
///     sum: u64,
/// }
///
/// impl<S: State> Exchange<S> for Sum {
///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
///         loop {
///             let used = match self.pairs.next(io.body(), io.is_ended()) {
///                 Ok((Some(pair), used)) => {
///                     let number = core::str::from_utf8(pair.value).ok().and_then(|value| value.parse().ok());
///                     let number = number.filter(|_: &u64| pair.name == b"n").unwrap_or(0);
///                     self.sum = self.sum.saturating_add(number);
///                     used
///                 }
///                 Ok((None, _)) if io.is_ended() => {
///                     return io.respond(|_, response| response.display(self.sum));
///                 }
///                 Ok((None, 0)) => return Flow::More,
///                 Ok((None, used)) => used,
///                 Err(error) => return io.respond(|_, response| response.refuse(error.status())),
///             };
///             io.consume(used);
///         }
///     }
/// }
///
/// let server = Http::new()
///     .post("/sum", |_request, response| response.defer(Sum { pairs: FormPairs::new(100), sum: 0 }));
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FormPairs<const N: usize> {
    buffer: [u8; N],
    used: usize,
    /// Where the name ends in the buffer, once its `=` has come.
    name_end: Option<usize>,
    escape: Escape,
    /// Whether a byte of the pair has come.
    begun: bool,
    /// How many more pairs may come.
    left: u16,
}

/// The position within an encoded byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    /// After the percent sign.
    High,
    /// After this first digit.
    Low(u8),
}

impl<const N: usize> FormPairs<N> {
    /// Creates a reader of a form that may have up to `most` pairs, each with up to `N` decoded bytes.
    pub const fn new(most: u16) -> Self {
        Self { buffer: [0; N], used: 0, name_end: None, escape: Escape::None, begun: false, left: most }
    }

    /// Reads from the front of `input`, which is what has arrived of the body and was not used by an earlier call.
    /// `ended` is `true` if nothing follows it. Returns the next pair, if it is complete, and how many bytes of the
    /// input were used: all of them if there is no pair.
    ///
    /// # Errors
    /// If the body is malformed or exceeds a limit. Nothing more can be read then.
    pub fn next(&mut self, input: &[u8], ended: bool) -> Result<(Option<FormPair<'_>>, usize), FormError> {
        for (at, byte) in input.iter().enumerate() {
            // An encoded byte may be cut, so its first digit is kept. What it decodes to never separates anything.
            let decoded = match (self.escape, *byte) {
                (Escape::High, digit) => {
                    self.escape = Escape::Low(hex(digit).map_err(|_| FormError::Malformed)?);
                    continue;
                }
                (Escape::Low(high), digit) => {
                    self.escape = Escape::None;
                    high << 4 | hex(digit).map_err(|_| FormError::Malformed)?
                }
                (Escape::None, b'&') if self.begun => return Ok((Some(self.pair()?), at + 1)),
                (Escape::None, b'&') => continue, // an empty pair is none
                (Escape::None, b'=') if self.name_end.is_none() => {
                    (self.begun, self.name_end) = (true, Some(self.used));
                    continue;
                }
                (Escape::None, b'%') => {
                    self.escape = Escape::High;
                    continue;
                }
                (Escape::None, b'+') => b' ',
                (Escape::None, byte) => byte,
            };
            *self.buffer.get_mut(self.used).ok_or(FormError::TooLong)? = decoded;
            self.begun = true;
            self.used += 1;
        }
        // Only the end of the body ends the last pair.
        match (ended, self.escape) {
            (true, Escape::High | Escape::Low(_)) => Err(FormError::Malformed),
            (true, Escape::None) if self.begun => Ok((Some(self.pair()?), input.len())),
            _ => Ok((None, input.len())),
        }
    }

    /// Returns the pair in the buffer, and begins the next one.
    fn pair(&mut self) -> Result<FormPair<'_>, FormError> {
        self.left = self.left.checked_sub(1).ok_or(FormError::TooMany)?;
        let (used, name_end) = (self.used, self.name_end.unwrap_or(self.used));
        (self.used, self.name_end, self.begun) = (0, None, false);
        let (name, value) = self.buffer.split_at(used).0.split_at(name_end);
        Ok(FormPair { name, value })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::fmt::Debug;
    use std::vec::Vec;

    use super::*;
    use crate::query::{form_decode, query_pairs};
    use crate::tests::random::Random;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    /// Calls `read` with the pieces of a body, and whether each is the last; `cut` returns the size of the next.
    pub(crate) fn in_pieces(
        body: &[u8],
        mut cut: impl FnMut() -> usize,
        mut read: impl FnMut(&[u8], bool) -> Result<(), FormError>,
    ) -> Result<(), FormError> {
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut().clamp(1, rest.len()));
            read(piece, false)?;
            rest = after;
        }
        read(&[], true)
    }

    /// Returns what `read` returns for a body in one piece, which must be the same for two pieces of any size, and for
    /// pieces of any one size. The argument of `read` returns the size of the next piece.
    pub(crate) fn in_all_cuts<T: PartialEq + Debug>(
        body: &[u8],
        read: impl Fn(&mut dyn FnMut() -> usize) -> Result<T, FormError>,
    ) -> Result<T, FormError> {
        let whole = read(&mut || usize::MAX);
        for first in 1..=body.len() {
            let mut sizes = [first, usize::MAX].into_iter();
            assert_eq!(read(&mut || sizes.next().unwrap_or(1)), whole, "{first}: {}", body.escape_ascii());
            assert_eq!(read(&mut || first), whole, "by {first}: {}", body.escape_ascii());
        }
        whole
    }

    /// Reads all pairs of a body that arrives in pieces.
    fn read(body: &[u8], most: u16, cut: impl FnMut() -> usize) -> Result<Pairs, FormError> {
        let mut form = FormPairs::<16>::new(most);
        let mut pairs = Pairs::new();
        let read = |mut piece: &[u8], ended| {
            while let (Some(pair), used) = form.next(piece, ended)? {
                pairs.push((pair.name.to_vec(), pair.value.to_vec()));
                piece = &piece[used..];
            }
            Ok(())
        };
        in_pieces(body, cut, read)?;
        Ok(pairs)
    }

    fn any_cut(body: &[u8], most: u16) -> Result<Pairs, FormError> {
        in_all_cuts(body, |cut| read(body, most, cut))
    }

    #[test]
    fn pairs_whatever_the_cut() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=", &[("", "")]),
            ("=1&a=b=c&&d", &[("", "1"), ("a", "b=c"), ("d", "")]),
            ("a+b=%2B%26%3d+&%61", &[("a b", "+&= "), ("a", "")]),
            ("0123456789=abcdef", &[("0123456789", "abcdef")]),
            ("%41%41%41%41%41%41%41%41=%42%42%42%42%42%42%42%42&x", &[("AAAAAAAA", "BBBBBBBB"), ("x", "")]),
        ];
        for (body, expected) in table {
            let expected: Pairs =
                expected.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
            assert_eq!(any_cut(body.as_bytes(), 3), Ok(expected), "{body}");
        }
    }

    #[test]
    fn faults_and_limits() {
        for body in ["%", "a=%4", "a=%4&b", "%zz", "a=%=", "a%&"] {
            assert_eq!(any_cut(body.as_bytes(), 9), Err(FormError::Malformed), "{body}");
        }
        assert_eq!(any_cut(b"0123456789=abcdefg", 9), Err(FormError::TooLong));
        assert_eq!(any_cut(b"0123456789abcdef%41", 9), Err(FormError::TooLong));
        assert_eq!(any_cut(b"a&b&c", 3).map(|pairs| pairs.len()), Ok(3));
        assert_eq!(any_cut(b"a&b&c&d", 3), Err(FormError::TooMany));
        assert_eq!(FormError::TooLong.status(), Status::CONTENT_TOO_LARGE);
    }

    /// Compares with the functions that read a whole form.
    #[test]
    fn as_a_whole_form_is_read() {
        let mut random = Random::new(Random::seed());
        for _ in 0..5_000 {
            let letters = b"ab=&+%14zG\xff";
            let body: Vec<u8> = (0..random.below(20)).map(|_| random.pick(letters)).collect();
            let decode = |text: &[u8]| form_decode(text, &mut [0; 40]).map(|text| text.as_bytes().to_vec());
            let whole: Result<Pairs, _> =
                query_pairs(&body).map(|(name, value)| Ok((decode(name)?, decode(value)?))).collect();
            let read = read(&body, 100, || 1 + random.below(5));
            match whole {
                Ok(pairs) if pairs.iter().all(|(name, value)| name.len() + value.len() <= 16) => {
                    assert_eq!(read, Ok(pairs), "{}", body.escape_ascii());
                }
                Ok(_) => assert_eq!(read, Err(FormError::TooLong), "{}", body.escape_ascii()),
                Err(crate::DecodeError::NotText) => {} // bytes are returned as they are
                Err(_) => assert!(read.is_err(), "{}", body.escape_ascii()),
            }
        }
    }
}
