//! JSON values through `serde`: typed bodies of requests and responses.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exchange::{Done, Exchange};
use crate::owned::{CollectVec, Owned};
use crate::parse::head::Head;
use crate::parse::words::trim;
use crate::request::{Request, State};
use crate::respond::response::{Reply, Response, fail};
use crate::respond::validators::only;
use crate::respond::writer::Fault;
use crate::status::Status;

/// The maximum length in bytes of each text of an error that contains what the peer has sent.
const TEXT_MAX: usize = 200;
/// The maximum number of levels of a path, so that a text costs no memory for each bracket. Deeper ones are not shown.
const LEVELS_MAX: usize = TEXT_MAX;

/// Why a text is not the JSON value that was expected, and where: the error of [`from_json`].
///
/// [`Response::bad_json`] sends the response to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonError {
    line: usize,
    column: usize,
    path: String,
    reason: String,
}

impl JsonError {
    /// Creates the error of a value that is well-formed, but that the program does not accept: `path` is where it is,
    /// such as `age` or `items[3].price`.
    ///
    /// ```
    /// use lightcone_http::JsonError;
    ///
    /// let error = JsonError::unacceptable("age", "too old");
    /// assert_eq!(error.to_string(), "invalid JSON at age: too old");
    /// ```
    pub fn unacceptable(path: &str, reason: impl Display) -> Self {
        Self { line: 0, column: 0, path: path.to_owned(), reason: reason.to_string() }
    }

    fn new(error: &serde_json::Error, text: &[u8]) -> Self {
        let (line, column) = (error.line(), error.column());
        let end = offset(text, line, column);
        let all = error.to_string();
        let reason = all.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&all);
        Self { line, column, path: shortened(path(text, end)), reason: shortened(reason.to_owned()) }
    }

    /// Returns the line of the text, from 1; 0 if the error is [not of the text](Self::unacceptable).
    pub const fn line(&self) -> usize {
        self.line
    }

    /// Returns how many bytes of the line were read when the error was found.
    pub const fn column(&self) -> usize {
        self.column
    }

    /// Returns the path of the value, such as `items[3].price`; empty for the whole text.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what is wrong.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Formats as in `invalid JSON at items[3].price, line 1, column 40: invalid type: string "x", expected f64`.
impl Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid JSON at ")?;
        f.write_str(&self.path)?;
        if self.line > 0 {
            let separator = if self.path.is_empty() { "" } else { ", " };
            write!(f, "{separator}line {}, column {}", self.line, self.column)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// There is no source, because `Display` contains the text of the cause.
impl core::error::Error for JsonError {}

/// Parses a JSON text. Requires the feature `serde-json`.
///
/// ```
/// use lightcone_http::from_json;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, Debug)]
/// struct Order { items: Vec<Item> }
///
/// #[derive(Deserialize, Debug)]
/// struct Item { price: u32 }
///
/// let error = from_json::<Order>(br#"{"items":[{"price":1},{"price":"x"}]}"#).unwrap_err();
/// assert_eq!((error.path(), error.line(), error.column()), ("items[1].price", 1, 34));
/// assert_eq!(error.reason(), "invalid type: string \"x\", expected u32");
/// ```
///
/// # Errors
/// If the text is not JSON, is not a `T`, or has a value of the `T` that is nested more than 128 levels deep. The values
/// that a `T` ignores, such as those of unknown fields, may be nested to any depth: they are skipped without recursion.
pub fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(text).map_err(|error| JsonError::new(&error, text))
}

impl<S: State> Request<'_, S> {
    /// Collects a JSON body on the heap, parses it as a `T` and calls `f` with the value. Each connection has room for
    /// a pointer. Requires the feature `serde-json`.
    ///
    /// A request whose body is not acceptable does not reach `f`; the response states in a short text what is wrong:
    ///
    /// - 415 if `Content-Type` is neither `application/json` nor ends with `+json`, or if the body is compressed.
    /// - 413 if the body has more than `limit` bytes, or more than [`Limits::body`](crate::Limits::body).
    /// - 400 if it is not a `T`, with the path, the line and the column: see [`from_json`], [`JsonError`].
    ///
    /// ```
    /// use lightcone_http::Http;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct Term { a: i64, b: i64 }
    ///
    /// #[derive(Serialize)]
    /// struct Sum { sum: i64 }
    ///
    /// let server = Http::new().post("/add", |request, response| {
    ///     request.parse_json(1024, response, |_state, Term { a, b }, response| {
    ///         response.serialize_json(&Sum { sum: a.wrapping_add(b) })
    ///     })
    /// });
    /// # drop(server);
    /// ```
    pub fn parse_json<T, F>(
        &self,
        limit: usize,
        response: Response<'_>,
        mut f: F,
    ) -> Reply<impl Exchange<S> + use<S, T, F>>
    where
        T: DeserializeOwned,
        F: FnMut(&mut S, T, Response<'_>) -> Reply<Owned>,
    {
        let response = match check_media(self.head, response) {
            Ok(response) => response,
            Err(refused) => return refused.into_any(),
        };
        if self.head.length().is_some_and(|length| length > limit as u64) {
            return too_large(limit, response).into_any();
        }
        response.defer(CollectVec::refusing(
            limit,
            too_large,
            move |state: &mut S, body: Vec<u8>, response: Response<'_>| match from_json(&body) {
                Ok(value) => f(state, value, response),
                Err(error) => response.bad_json(&error).into_any(),
            },
        ))
    }
}

impl Response<'_> {
    /// Sends a value as JSON. A large text is sent piece by piece as there is room. Requires the feature `serde-json`.
    ///
    /// It is a mistake of the program if the value cannot be serialised, such as a map whose keys are no strings. The
    /// client then receives a 500 instead of this response.
    ///
    /// ```
    /// use lightcone_http::Http;
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// struct User { name: &'static str, age: u32 }
    ///
    /// let server = Http::new()
    ///     .get("/user", |_request, response| response.serialize_json(&User { name: "Ada", age: 36 }))
    ///     .get("/numbers", |_request, response| response.serialize_json(&[1, 2, 3]));
    /// # drop(server);
    /// ```
    pub fn serialize_json<T: Serialize + ?Sized>(mut self, value: &T) -> Reply<Owned> {
        let Ok(text) = serde_json::to_string(value) else {
            self.writer.scratch.fault = Fault::Invalid;
            return fail(&mut self.writer);
        };
        // small enough for the room that a handler has
        if text.len() <= self.writer.output.limit() / 4 {
            return self.json(&text).into_any();
        }
        if !self.writer.scratch.extra.own_type {
            self = self.header("Content-Type", "application/json");
        }
        self.owned(text)
    }

    /// Sends a 400 with the error's text, such as `invalid JSON at age, line 1, column 9: invalid value: integer 300,
    /// expected u8`. Requires the feature `serde-json`.
    pub fn bad_json(self, error: &JsonError) -> Reply<Done> {
        self.status(Status::BAD_REQUEST).display(format_args!("{error}\n"))
    }
}

/// Refuses a body that is not announced as JSON, or that is compressed.
fn check_media<'r>(head: &Head<'_>, response: Response<'r>) -> Result<Response<'r>, Reply<Done>> {
    let received = only(head, "content-type");
    if !received.is_some_and(is_json) {
        let refusal = response.status(Status::UNSUPPORTED_MEDIA_TYPE).header("Accept", "application/json");
        let known = received
            .map_or_else(|| "missing".to_owned(), |value| shortened(value.escape_ascii().to_string()));
        return Err(
            refusal.display(format_args!("the content type must be application/json, and is {known}\n"))
        );
    }
    let mut codings = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-encoding"));
    if codings.any(|(_, coding)| !coding.eq_ignore_ascii_case(b"identity")) {
        let refusal = response.status(Status::UNSUPPORTED_MEDIA_TYPE).header("Accept-Encoding", "identity");
        return Err(refusal.text("the body must not be compressed\n"));
    }
    Ok(response)
}

/// Returns whether a media type is JSON: `application/json`, or any with the suffix `+json` (RFC 6839, 3.1).
fn is_json(media_type: &[u8]) -> bool {
    let essence = trim(media_type.split(|byte| *byte == b';').next().unwrap_or_default());
    let suffix = essence.len().checked_sub(b"+json".len()).and_then(|at| essence.get(at..));
    essence.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

/// Refuses a body that is larger than the route allows.
fn too_large(limit: usize, response: Response<'_>) -> Reply<Done> {
    response.status(Status::CONTENT_TOO_LARGE).display(format_args!("the body has more than {limit} bytes\n"))
}

/// Returns a text without what exceeds the maximum.
fn shortened(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push_str("...");
    }
    text
}

/// Returns the offset of the byte after the `column` first bytes of a line.
fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let lines = text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + column).min(text.len())
}

/// An array or object that a JSON text is in, with what is currently read of it.
enum Level<'t> {
    /// The element with this index.
    Array(usize),
    /// The value with this key; `None` before a key.
    Object(Option<&'t [u8]>),
}

/// Returns the outer levels of the value that a part of a JSON text ends with, at most [`LEVELS_MAX`].
fn levels(text: &[u8]) -> Vec<Level<'_>> {
    let (mut levels, mut deeper, mut rest) = (Vec::new(), 0_usize, text);
    while let [byte, after @ ..] = rest {
        rest = after;
        let is_full = levels.len() == LEVELS_MAX;
        match (byte, levels.last_mut().filter(|_| deeper == 0)) {
            (b'[' | b'{', _) if rest.is_empty() => {} // the value itself is wrong, and not one in it
            (b'[' | b'{', _) if is_full => deeper += 1,
            (b']' | b'}', _) if deeper > 0 => deeper -= 1,
            (b'[', _) => levels.push(Level::Array(0)),
            (b'{', _) => levels.push(Level::Object(None)),
            (b']' | b'}', _) => drop(levels.pop()),
            (b',', Some(Level::Array(index))) => *index += 1,
            (b',', Some(Level::Object(key))) => *key = None,
            (b'"', level) => {
                let (string, others) = rest.split_at(string_length(rest));
                rest = others.get(1..).unwrap_or_default();
                if let Some(Level::Object(key @ None)) = level {
                    *key = Some(string);
                }
            }
            _ => {}
        }
    }
    levels
}

/// Returns the path of the value that the first `end` bytes of a JSON text end with.
fn path(text: &[u8], end: usize) -> String {
    let mut path = String::new();
    for level in levels(text.get(..end).unwrap_or(text)) {
        let dot = if path.is_empty() { "" } else { "." };
        // a `String` takes everything
        let _ = match level {
            Level::Array(index) => write!(path, "[{index}]"),
            Level::Object(Some(key)) => {
                let key = String::from_utf8_lossy(key);
                write!(path, "{dot}{}", key.replace(char::is_control, ""))
            }
            Level::Object(None) => Ok(()),
        };
    }
    path
}

/// Returns how many bytes precede the quote that ends a string.
fn string_length(rest: &[u8]) -> usize {
    let mut escaped = false;
    let end = rest.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
