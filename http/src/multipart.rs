//! The body of an HTML form with files, read as it arrives: `multipart/form-data` (RFC 7578, RFC 2046, 5.1).

use crate::form::FormError;
use crate::parse::words::{is_token, is_value, trim};

/// The longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_MAX: usize = 70;
/// What precedes the boundary in a delimiter.
const BEFORE: &[u8] = b"\r\n--";
const DELIMITER_MAX: usize = BEFORE.len() + BOUNDARY_MAX;

/// A step of reading a [`Multipart`] body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MultipartEvent<'m> {
    /// A part begins.
    Part(PartHead<'m>),
    /// The next bytes of the part's content; never empty.
    Data(&'m [u8]),
    /// The part is complete.
    PartEnd,
    /// The form is complete. What follows it is ignored.
    End,
}

/// The position of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MultipartState {
    /// Before the first delimiter.
    Preamble,
    /// After a delimiter.
    Delimited,
    /// After the first of the two hyphens that follow the last delimiter.
    Hyphen,
    /// White space after a delimiter.
    Padding,
    /// The line feed after a delimiter.
    LineEnd,
    Head,
    Content,
    Epilogue,
}

/// Reads a `multipart/form-data` body as it arrives. The head of each part is kept in a buffer of `N` bytes, the
/// content stays in the input.
///
/// The body may be cut anywhere, also within a boundary. [`next`](Self::next) takes what has arrived, and returns the
/// next step.
///
/// ```
/// use lightcone_http::{Exchange, Flow, Http, Multipart, MultipartEvent, State, Transfer};
///
/// /// Responds with the number of bytes in the file named `upload`.
/// struct Size {
///     parts: Multipart<256>,
///     counts: bool,
///     bytes: usize,
/// }
///
/// impl<S: State> Exchange<S> for Size {
///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
///         loop {
///             let (event, used) = match self.parts.next(io.body(), io.is_ended()) {
///                 Ok(step) => step,
///                 Err(error) => return io.respond(|_, response| response.refuse(error.status())),
///             };
///             match event {
///                 Some(MultipartEvent::Part(head)) => self.counts = head.name() == b"upload",
///                 Some(MultipartEvent::Data(piece)) if self.counts => self.bytes += piece.len(),
///                 Some(_) => {}
///                 None if io.is_ended() => return io.respond(|_, response| response.display(self.bytes)),
///                 None if used == 0 => return Flow::More,
///                 None => {}
///             }
///             io.consume(used);
///         }
///     }
/// }
///
/// let server = Http::new().post("/size", |request, response| {
///     let parts = request.header("content-type").and_then(|value| Multipart::new(value.as_bytes(), 20));
///     match parts {
///         Some(parts) => response.defer(Size { parts, counts: false, bytes: 0 }),
///         None => response.refuse(415).into_any(),
///     }
/// });
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Multipart<const N: usize> {
    /// A line end, two hyphens and the boundary, of which the first `length` bytes are used.
    delimiter: [u8; DELIMITER_MAX],
    length: usize,
    /// How many bytes of the delimiter the last bytes equal. A boundary has no carriage return, so that after a
    /// difference a delimiter can begin only at the byte that differs.
    matched: usize,
    head: [u8; N],
    /// Bytes of the head so far.
    used: usize,
    state: MultipartState,
    /// How many more parts may come.
    left: u16,
}

impl<const N: usize> Multipart<N> {
    /// Creates a reader for a body with this `Content-Type`, which may have up to `most` parts, each with a head of up
    /// to `N` bytes. `None` if it is no `multipart/form-data` with a valid boundary.
    ///
    /// ```
    /// use lightcone_http::Multipart;
    /// assert!(Multipart::<256>::new(b"multipart/form-data; boundary=\"a b\"", 20).is_some());
    /// assert!(Multipart::<256>::new(b"multipart/form-data", 20).is_none());
    /// ```
    pub fn new(content_type: &[u8], most: u16) -> Option<Self> {
        let boundary = parameter(content_type, b"multipart/form-data", b"boundary")??;
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
        if boundary.is_empty() || boundary.ends_with(b" ") || !boundary.iter().all(allowed) {
            return None;
        }
        let length = BEFORE.len() + boundary.len();
        let mut delimiter = [0; DELIMITER_MAX];
        let (before, rest) = delimiter.get_mut(..length)?.split_at_mut(BEFORE.len());
        before.copy_from_slice(BEFORE);
        rest.copy_from_slice(boundary);
        Some(Self {
            delimiter,
            length,
            // the first delimiter needs no line end before it
            matched: 2,
            head: [0; N],
            used: 0,
            state: MultipartState::Preamble,
            left: most,
        })
    }

    /// Reads from the front of `input`, which is what has arrived of the body and was not used by an earlier call.
    /// `ended` is `true` if nothing follows it. Returns the next event, if there is one, and how many bytes of the
    /// input were used: all of them if there is no event.
    ///
    /// # Errors
    /// If the body is malformed, is incomplete or exceeds a limit. Nothing more can be read then.
    pub fn next<'m>(
        &'m mut self,
        input: &'m [u8],
        ended: bool,
    ) -> Result<(Option<MultipartEvent<'m>>, usize), FormError> {
        let mut rest = input;
        let step = loop {
            let [byte, ..] = rest else { break Step::Wait };
            let searches = matches!(self.state, MultipartState::Preamble | MultipartState::Content);
            let (step, used) = if searches { self.search(rest) } else { (self.structure(*byte)?, 1) };
            rest = rest.split_at(used).1;
            if !matches!(step, Step::Continue) {
                break step;
            }
        };
        let event = match step {
            Step::Wait | Step::Continue if ended && self.state != MultipartState::Epilogue => {
                return Err(FormError::Truncated);
            }
            Step::Wait | Step::Continue => None,
            Step::Data(data) => Some(MultipartEvent::Data(data)),
            Step::Withheld(length) => Some(MultipartEvent::Data(self.delimiter.split_at(length).0)),
            Step::Part => {
                // without the empty line
                let lines = self.head.get(..self.used - 2).unwrap_or(&[]);
                Some(MultipartEvent::Part(PartHead::new(lines)?))
            }
            Step::PartEnd => Some(MultipartEvent::PartEnd),
            Step::End => Some(MultipartEvent::End),
        };
        Ok((event, input.len() - rest.len()))
    }

    /// Looks for the delimiter in bytes that follow those that were searched before; returns how many were used.
    fn search<'i>(&mut self, input: &'i [u8]) -> (Step<'i>, usize) {
        let in_part = self.state == MultipartState::Content;
        let before = match self.matched {
            0 => input.iter().position(|byte| *byte == b'\r').unwrap_or(input.len()),
            _ => 0,
        };
        if before > 0 {
            let data = input.split_at(before).0;
            return (if in_part { Step::Data(data) } else { Step::Continue }, before);
        }
        let wanted = self.delimiter.get(self.matched..self.length).unwrap_or(&[]);
        let same = input.iter().zip(wanted).take_while(|(byte, wanted)| byte == wanted).count();
        let matched = core::mem::take(&mut self.matched) + same;
        let step = if same == wanted.len() {
            self.state = MultipartState::Delimited;
            if in_part { Step::PartEnd } else { Step::Continue }
        } else if same == input.len() {
            self.matched = matched;
            Step::Continue
        } else {
            // The byte that differs is not used: a delimiter may begin there.
            if in_part { Step::Withheld(matched) } else { Step::Continue }
        };
        (step, same)
    }

    /// Reads one byte outside of contents.
    fn structure(&mut self, byte: u8) -> Result<Step<'static>, FormError> {
        use MultipartState::{Content, Delimited, Epilogue, Head, Hyphen, LineEnd, Padding, Preamble};
        self.state = match (self.state, byte) {
            (Head, byte) if self.push(byte)? => {
                self.state = Content;
                return Ok(Step::Part);
            }
            (Hyphen, b'-') => {
                self.state = Epilogue;
                return Ok(Step::End);
            }
            (LineEnd, b'\n') => {
                self.left = self.left.checked_sub(1).ok_or(FormError::TooMany)?;
                self.used = 0;
                Head
            }
            (Delimited, b'-') => Hyphen,
            (Delimited | Padding, b' ' | b'\t') => Padding,
            (Delimited | Padding, b'\r') => LineEnd,
            (state @ (Head | Epilogue | Preamble | Content), _) => state,
            (Delimited | Hyphen | Padding | LineEnd, _) => return Err(FormError::Malformed),
        };
        Ok(Step::Continue)
    }

    /// Adds a byte to the head of a part; returns whether the head is complete.
    fn push(&mut self, byte: u8) -> Result<bool, FormError> {
        let last = self.used.checked_sub(1).and_then(|last| self.head.get(last)).copied();
        if (last == Some(b'\r')) != (byte == b'\n') {
            return Err(FormError::Malformed); // a bare carriage return or line feed
        }
        *self.head.get_mut(self.used).ok_or(FormError::TooLong)? = byte;
        self.used += 1;
        let head = self.head.split_at(self.used).0;
        Ok(head == b"\r\n" || head.ends_with(b"\r\n\r\n"))
    }
}

/// The result of reading some bytes.
#[derive(Clone, Copy, Debug)]
enum Step<'i> {
    /// Nothing to report.
    Continue,
    /// More input is needed.
    Wait,
    /// These bytes are content.
    Data(&'i [u8]),
    /// As many bytes of the delimiter are content, since the byte after them differs.
    Withheld(usize),
    Part,
    PartEnd,
    End,
}

/// The head of a part of a [`Multipart`] body: its fields, of which `Content-Disposition` is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartHead<'m> {
    /// The field lines.
    lines: &'m [u8],
    name: &'m [u8],
}

impl<'m> PartHead<'m> {
    fn new(lines: &'m [u8]) -> Result<Self, FormError> {
        let good = |(name, value): (&[u8], &[u8])| {
            !name.is_empty()
                && name.iter().all(|byte| is_token(*byte))
                && value.iter().all(|byte| is_value(*byte))
        };
        let mut names = split_lines(lines).map(|line| split(line, b':').is_some_and(good));
        let mut dispositions =
            fields(lines).filter(|(name, _)| name.eq_ignore_ascii_case(b"content-disposition"));
        let (Some((_, disposition)), None) = (dispositions.next(), dispositions.next()) else {
            return Err(FormError::Malformed);
        };
        let of = |wanted| parameter(disposition, b"form-data", wanted).ok_or(FormError::Malformed);
        let name = of(b"name")?.ok_or(FormError::Malformed)?;
        of(b"filename")?; // with two, another reader could take the part for another file
        if names.all(|good| good) { Ok(Self { lines, name }) } else { Err(FormError::Malformed) }
    }

    /// Returns the name of the form's field, as sent: browsers write a quote, a carriage return and a line feed in it
    /// as `%22`, `%0D` and `%0A`, other clients put a backslash before a quote.
    pub const fn name(&self) -> &'m [u8] {
        self.name
    }

    /// Returns the name of the file, as sent; `None` if the part is no file. Never use it as a path without a check.
    pub fn file_name(&self) -> Option<&'m [u8]> {
        parameter(self.field("content-disposition")?, b"form-data", b"filename")?
    }

    /// Returns the type of the content, if it is stated.
    pub fn content_type(&self) -> Option<&'m [u8]> {
        self.field("content-type")
    }

    /// Returns the value of the first field with this name. The case of names is ignored.
    pub fn field(&self, name: &str) -> Option<&'m [u8]> {
        fields(self.lines)
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

/// Returns the lines, which all end with a line end, without it.
fn split_lines(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r\n"))
}

fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    split_lines(lines).filter_map(|line| split(line, b':')).map(|(name, value)| (name, trim(value)))
}

/// Returns what precedes and what follows the first byte `at`.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(text.iter().position(|byte| *byte == at)?)?;
    Some((before, rest.get(1..)?))
}

/// Returns the value of a parameter of a field value such as `kind; a=b; c="d"`, without its quotes; `Some(None)` if
/// there is no such parameter, and `None` if there are several, or the field value has another kind or is malformed.
fn parameter<'v>(value: &'v [u8], kind: &[u8], wanted: &[u8]) -> Option<Option<&'v [u8]>> {
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let (found, mut rest) = value.split_at_checked(end)?;
    if !trim(found).eq_ignore_ascii_case(kind) {
        return None;
    }
    let mut result = None;
    while let [b';', after @ ..] = rest {
        let (name, after) = split(after, b'=')?;
        let name = name.trim_ascii_start();
        let (text, after) = match after {
            [b'"', text @ ..] => quoted(text)?,
            text => {
                let length = text.iter().take_while(|byte| is_token(**byte)).count();
                text.split_at_checked(length).filter(|(text, _)| !text.is_empty())?
            }
        };
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return None;
        }
        if name.eq_ignore_ascii_case(wanted) && result.replace(text).is_some() {
            return None;
        }
        rest = trim(after);
    }
    rest.is_empty().then_some(result)
}

/// Splits after the quote that ends a text; a backslash before a quote or a backslash keeps it in the text.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0;
    loop {
        match text.get(end..)? {
            [b'"', after @ ..] => return Some((text.get(..end)?, after)),
            [b'\\', b'"' | b'\\', ..] => end += 2,
            [_, ..] => end += 1,
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::*;
    use crate::form::tests::{in_all_cuts, in_pieces};
    use crate::tests::random::Random;

    const TYPE: &[u8] = b"multipart/form-data; boundary=B";

    /// The lines of the head, the name, and the content of a part.
    type Part = (Vec<u8>, Vec<u8>, Vec<u8>);

    /// What was read.
    #[derive(Default)]
    struct Parts {
        parts: Vec<Part>,
        open: bool,
        over: bool,
    }

    impl Parts {
        fn note(&mut self, event: MultipartEvent<'_>) {
            assert!(!self.over);
            match event {
                MultipartEvent::Part(head) => {
                    assert!(!core::mem::replace(&mut self.open, true));
                    self.parts.push((head.lines.to_vec(), head.name().to_vec(), Vec::new()));
                }
                MultipartEvent::Data(data) => {
                    assert!(self.open && !data.is_empty());
                    self.parts.last_mut().unwrap().2.extend_from_slice(data);
                }
                MultipartEvent::PartEnd => assert!(core::mem::take(&mut self.open)),
                MultipartEvent::End => {
                    assert!(!self.open);
                    self.over = true;
                }
            }
        }
    }

    /// Reads all parts of a body that arrives in pieces; `cut` returns the size of the next.
    fn read(body: &[u8], most: u16, cut: impl FnMut() -> usize) -> Result<Vec<Part>, FormError> {
        let mut form = Multipart::<100>::new(TYPE, most).unwrap();
        let mut found = Parts::default();
        let read = |mut piece: &[u8], ended| {
            while let (Some(event), used) = form.next(piece, ended)? {
                found.note(event);
                piece = &piece[used..];
            }
            Ok(())
        };
        in_pieces(body, cut, read)?;
        assert!(found.over, "an incomplete form without an error");
        Ok(found.parts)
    }

    fn any_cut(body: &[u8], most: u16) -> Result<Vec<Part>, FormError> {
        in_all_cuts(body, |cut| read(body, most, cut))
    }

    /// Returns a body with one part of this content.
    fn body(content: &str) -> String {
        format!("--B\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n{content}\r\n--B--\r\n")
    }

    #[test]
    fn contents_whatever_the_cut() {
        let contents = [
            "",
            "a",
            "a\r\n",
            "\r\n",
            "\r",
            "\n",
            "\r\n-",
            "\r\n--",
            "\r\n--A",
            "\r\n--b",
            "\r\r\n--",
            "--B",
            "--B--",
            "\r\n-\r\n--\r\n--X",
            "\r\n\r\n\r\n",
            "\r\n--\r\n--A",
            "\n--B\r\n",
            "a\r--B",
        ];
        for content in contents {
            let parts = any_cut(body(content).as_bytes(), 1).unwrap();
            assert_eq!(parts.len(), 1, "{}", content.escape_debug());
            assert_eq!(
                (&parts[0].1[..], &parts[0].2[..]),
                (&b"n"[..], content.as_bytes()),
                "{}",
                content.escape_debug()
            );
        }
    }

    #[test]
    fn several_parts_and_what_is_around_them() {
        let form = String::from("before\r\n-\r\n--\r\n")
            + "--B \t\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n\
               --B\r\ncontent-type:  text/plain\r\nCONTENT-DISPOSITION: Form-Data; filename=f; name=b\r\n\r\n\r\n\
               --B--after\r\n--B\r\n";
        let parts = any_cut(form.as_bytes(), 2).unwrap();
        let contents: Vec<(&[u8], &[u8])> =
            parts.iter().map(|(_, name, content)| (&name[..], &content[..])).collect();
        assert_eq!(contents, [(&b"a"[..], &b"1"[..]), (b"b", b"")]);
        assert_eq!(any_cut(form.as_bytes(), 1), Err(FormError::TooMany));
        assert_eq!(any_cut(b"--B--", 0), Ok(vec![]));
        let head = PartHead::new(&parts[1].0).unwrap();
        assert_eq!((head.file_name(), head.content_type()), (Some(&b"f"[..]), Some(&b"text/plain"[..])));
        assert_eq!((head.name(), head.field("X")), (&b"b"[..], None));
        assert_eq!(PartHead::new(&parts[0].0).unwrap().file_name(), None);
    }

    #[test]
    fn faults() {
        let head = |lines: &str| format!("--B\r\n{lines}\r\n\r\na\r\n--B--");
        let good = "Content-Disposition: form-data; name=n";
        assert!(any_cut(head(good).as_bytes(), 1).is_ok());
        for lines in [
            "",
            "X: y",
            "Content-Disposition: form-data",
            "Content-Disposition: attachment; name=n",
            "Content-Disposition: form-data; name=",
            "Content-Disposition: form-data; name =n",
            "Content-Disposition: form-data; name= n",
            "Content-Disposition: form-data; name=n;",
            "Content-Disposition: form-data; name=n x",
            "Content-Disposition: form-data; name=\"n",
            "Content-Disposition: form-data; name=\"n\\\"",
            "Content-Disposition: form-data; name=n; name=m",
            "Content-Disposition: form-data; name=n; filename=a; filename=b",
            "Content-Disposition : form-data; name=n",
            "Content-Disposition: form-data; name=n\r\nContent-Disposition: form-data; name=n",
            "Content-Disposition: form-data; name=n\r\n X: y",
            "Content-Disposition: form-data; name=n\r\nX",
            "Content-Disposition: form-data; name=n\r\n: y",
            "Content-Disposition: form-data; name=n\r\nX: \0",
            "Content-Disposition: form-data; name=n\nX: y",
            "Content-Disposition: form-data; name=n\rX: y",
        ] {
            assert_eq!(
                any_cut(head(lines).as_bytes(), 9),
                Err(FormError::Malformed),
                "{}",
                lines.escape_debug()
            );
        }
        for form in ["--Bx\r\n", "--B\n", "--B\r\r", "--B-x", "--B \n", "--B x", "--B\r\n\r\n"] {
            assert_eq!(any_cut(form.as_bytes(), 9), Err(FormError::Malformed), "{}", form.escape_debug());
        }
        let whole = body("abc");
        for end in 0..whole.len() - "\r\n".len() {
            assert_eq!(any_cut(&whole.as_bytes()[..end], 9), Err(FormError::Truncated), "{end}");
        }
    }

    #[test]
    fn the_longest_head_and_boundary() {
        let head = |length: usize| {
            let start = "Content-Disposition: form-data; name=";
            let name = "n".repeat(length - start.len() - 4);
            format!("--B\r\n{start}{name}\r\n\r\n\r\n--B--")
        };
        assert_eq!(any_cut(head(100).as_bytes(), 1).map(|parts| parts.len()), Ok(1));
        assert_eq!(any_cut(head(101).as_bytes(), 1), Err(FormError::TooLong));
        let of = |boundary: &str| {
            let value = format!("multipart/form-data; charset=x; Boundary={boundary}");
            Multipart::<8>::new(value.as_bytes(), 1).map(|form| form.length - BEFORE.len())
        };
        assert_eq!(of(&"b".repeat(70)), Some(70));
        assert_eq!(of(&"b".repeat(71)), None);
        assert_eq!(
            (of("\"a b\""), of("\"a b \""), of("\"\""), of(""), of("\"a\tb\"")),
            (Some(3), None, None, None, None)
        );
        assert!(Multipart::<8>::new(b"multipart/mixed; boundary=b", 1).is_none());
    }

    /// Compares with a plain search in the whole body.
    #[test]
    fn as_a_whole_form_is_read() {
        let mut random = Random::new(Random::seed());
        for _ in 0..5_000 {
            let pieces = ["\r", "\n", "\r\n", "-", "--", "B", "\r\n--", "a"];
            let content: String = (0..random.below(12)).map(|_| random.pick(&pieces)).collect();
            let form = body(&content);
            let first = content.find("\r\n--B").unwrap_or(content.len());
            match read(form.as_bytes(), 9, || 1 + random.below(9)) {
                Ok(parts) => {
                    assert_eq!(parts[0].2, content.as_bytes()[..first], "{}", content.escape_debug());
                }
                // What follows a delimiter within the content is not the rest of a form.
                Err(error) => assert!(first < content.len(), "{error:?}: {}", content.escape_debug()),
            }
        }
    }
}
