//! Responses as a client reads them: the verdict is strict, the same for all cuts, and that of a plain reader.
//!
//! The first three bytes of an input select the method, limits and cuts; the rest is what a server sends.

use lightcone_http::Method;
use lightcone_http::client::{ClientLimits, Delimiter, InvalidResponse, Piece, ResponseReader};

use super::chunked::expect;
use super::tape::Tape;

const INPUT_MAX: usize = 3_000;

/// The fuzz target.
pub fn response(data: &[u8]) {
    check(data, Reading::Exact);
}

/// How the bytes reach the reader: exactly, or with a planted mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reading {
    /// All bytes in their order.
    Exact,
    /// The method of the request is forgotten.
    AnyMethod,
    /// Bare line feeds count as line ends.
    BareLineFeeds,
    /// A second `Content-Length` is overlooked.
    FirstLength,
    /// The end of the connection ends any body.
    AnyEnd,
    /// Every connection is used again.
    AlwaysKept,
    /// One more byte of each piece of data is consumed than was counted.
    Greedy,
}

/// What is known about a response when its connection has ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Known {
    interims: u8,
    /// The status, the minor version and the fields.
    head: Option<(u16, u8, Vec<Field>)>,
    body: Vec<u8>,
    /// Whether it is complete, and whether the connection can be used again.
    end: Option<bool>,
    /// How many bytes belong to a complete response.
    size: usize,
}

type Field = (Vec<u8>, Vec<u8>);

/// Runs the target with a mistake in how the bytes are read.
pub fn check(data: &[u8], reading: Reading) {
    let mut tape = Tape::new(data);
    let (small, cut) = (tape.byte(), 1 + tape.below(40));
    let methods = [Method::Get, Method::Head, Method::Connect, Method::Post];
    let method = tape.pick(&methods);
    let limits = ClientLimits {
        head: if small & 1 == 0 { 4_000 } else { 90 },
        fields: if small & 2 == 0 { 100 } else { 3 },
        interims: if small & 4 == 0 { 8 } else { 1 },
        body: if small & 8 == 0 { 1 << 20 } else { 20 },
        ..ClientLimits::DEFAULT
    };
    let input = tape.take(INPUT_MAX);
    let expected = plainly(input, method, &limits);
    for cut in [usize::MAX, cut, 1] {
        let known = read(input, method, &limits, cut, reading);
        assert_eq!(known, expected, "{method} in pieces of {cut}: {}", input.escape_ascii());
    }
}

/// Reads with the reader that is tested.
fn read(input: &[u8], method: Method, limits: &ClientLimits, cut: usize, reading: Reading) -> Known {
    let spoiled = spoil(input, reading);
    let input = &spoiled[..];
    let method = if reading == Reading::AnyMethod { Method::Get } else { method };
    let mut reader = ResponseReader::new(method, limits);
    if cut % 2 == 1 {
        reader.keep_trailers(); // which changes nothing else
    }
    let (mut known, mut at, mut come) = (Known::default(), 0, 0);
    loop {
        let Ok(piece) = reader.next(&input[at..come], limits) else { return known };
        let used = match piece {
            Piece::Interim(head) => {
                known.interims += 1;
                head.as_bytes().len()
            }
            Piece::Head(head) => {
                let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec()));
                known.head = Some((head.status.code(), head.minor, fields.collect()));
                assert!(head.delimiter != Delimiter::Close || !head.keep_alive());
                head.as_bytes().len()
            }
            Piece::Framing(length) => length,
            Piece::Data(data) => {
                known.body.extend_from_slice(data);
                reader.took(data.len());
                data.len() + usize::from(reading == Reading::Greedy && at + data.len() < come)
            }
            Piece::Trailers(trailers) => trailers.as_bytes().len(),
            Piece::More if come < input.len() => {
                come += cut.min(input.len() - come);
                0
            }
            Piece::End | Piece::More => break,
        };
        at += used;
    }
    let ended = match reader.finish() {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error, InvalidResponse::Truncated);
            reading == Reading::AnyEnd
        }
    };
    assert!(reading == Reading::AnyEnd || ended == reader.is_complete());
    let kept = reader.keep_alive() || (ended && reading == Reading::AlwaysKept);
    known.end = ended.then_some(kept);
    known.size = if ended { at } else { 0 };
    known
}

/// Changes the input such that a correct reader behaves as one with the mistake.
fn spoil(input: &[u8], reading: Reading) -> Vec<u8> {
    let text: String = input.iter().map(|byte| char::from(*byte)).collect();
    let spoiled = match reading {
        Reading::BareLineFeeds => text.replace("\r\n", "\n").replace('\n', "\r\n"),
        Reading::FirstLength => {
            let name = "Content-Length: ";
            match text.find(name) {
                Some(first) => {
                    let (start, rest) = text.split_at(first + name.len());
                    [start, &rest.replace(name, "Content-Width: ")].concat()
                }
                None => text,
            }
        }
        Reading::Exact | Reading::AnyMethod | Reading::AnyEnd | Reading::AlwaysKept | Reading::Greedy => text,
    };
    spoiled.chars().map(|char| char as u32 as u8).collect()
}

const fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

fn is_name(name: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || special.contains(byte))
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| blank(byte)).count();
    let end = value.iter().rev().take_while(|byte| blank(byte)).count();
    &value[start..value.len().saturating_sub(end).max(start)]
}

/// Reads by RFC 9112 in the plainest way, from all bytes at once: the reference.
fn plainly(input: &[u8], method: Method, limits: &ClientLimits) -> Known {
    let (mut known, mut rest) = (Known::default(), input);
    let (status, minor, fields) = loop {
        let Some((head, size)) = plain_head(rest, limits) else { return known };
        let interim = (100..200).contains(&head.0) && head.0 != 101;
        let Some(body) = plain_framing(&head.2, head.1) else { return known };
        if !interim {
            rest = &rest[size..];
            known.head = Some(head.clone());
            break (head.0, body, head);
        }
        if known.interims == limits.interims || !matches!(body, (None | Some(0), false)) {
            return known;
        }
        known.interims += 1;
        rest = &rest[size..];
    };
    let fields = (fields.1, fields.2);
    known.size = input.len() - rest.len();
    plain_body(&mut known, rest, (status, method), minor, &fields, limits);
    known
}

type PlainHead = (u16, u8, Vec<Field>);

/// Reads a head by splitting it into lines; `None` if it is incomplete or invalid.
fn plain_head(input: &[u8], limits: &ClientLimits) -> Option<(PlainHead, usize)> {
    let size = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = &input[..size - 4];
    if size > limits.head {
        return None;
    }
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines.len() - 1 > usize::from(limits.fields)
        || !lines.iter().all(|line| line.iter().all(|byte| is_value(*byte)))
    {
        return None;
    }
    let start = lines[0].strip_prefix(b"HTTP/1.")?;
    let (minor, code) = (start.first()?, start.get(2..5)?);
    let spaced = start[1] == b' ' && matches!(start.get(5), None | Some(b' '));
    if !minor.is_ascii_digit() || !spaced || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
    let mut fields = Vec::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|byte| *byte == b':')?;
        if !is_name(&line[..colon]) {
            return None;
        }
        fields.push((line[..colon].to_vec(), trim(&line[colon + 1..]).to_vec()));
    }
    (100..600).contains(&status).then_some(((status, u8::from(*minor != b'0'), fields), size))
}

fn values<'a>(fields: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let named = move |field: &&Field| field.0.eq_ignore_ascii_case(name.as_bytes());
    fields.iter().filter(named).map(|(_, value)| &value[..])
}

/// Returns the announced length, and whether the body is chunked; `None` if the framing is invalid.
fn plain_framing(fields: &[Field], minor: u8) -> Option<(Option<u64>, bool)> {
    let lengths: Vec<_> = values(fields, "content-length").collect();
    let codings: Vec<_> = values(fields, "transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Some((None, false)),
        ([length], []) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(length).ok()?.parse().ok()?;
            digits.then_some((Some(number), false))
        }
        ([], [coding]) => {
            let members = coding.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty());
            let members: Vec<_> = members.collect();
            let [only] = members[..] else { return None };
            (only.eq_ignore_ascii_case(b"chunked") && minor > 0).then_some((None, true))
        }
        _ => None,
    }
}

/// Reads what follows the head, whose size is that of `known`.
fn plain_body(
    known: &mut Known,
    rest: &[u8],
    (status, method): (u16, Method),
    (length, chunked): (Option<u64>, bool),
    (minor, fields): &(u8, Vec<Field>),
    limits: &ClientLimits,
) {
    let start = std::mem::take(&mut known.size);
    let option = |name: &str| {
        let mut members = values(fields, "connection").flat_map(|value| value.split(|byte| *byte == b','));
        members.any(|member| trim(member).eq_ignore_ascii_case(name.as_bytes()))
    };
    let kept = !option("close") && (*minor > 0 || option("keep-alive"));
    let tunnel = status == 101 || (method == Method::Connect && (200..300).contains(&status));
    let bodiless = method == Method::Head || status == 204 || status == 304;
    if tunnel || bodiless {
        let strange = status == 204 && (chunked || length.unwrap_or(0) > 0);
        (known.end, known.size) = (Some(kept && !tunnel && !strange), start);
        return;
    }
    if chunked {
        let server = lightcone_http::Limits { body: limits.body, ..lightcone_http::Limits::DEFAULT };
        let expected = expect(rest, &server);
        known.body = expected.data;
        if let Some(Ok(end)) = expected.end {
            (known.end, known.size) = (Some(kept), start + end);
        }
        return;
    }
    match length {
        Some(length) if length > limits.body => known.head = None,
        Some(length) => {
            let n = usize::try_from(length).unwrap().min(rest.len());
            known.body = rest[..n].to_vec();
            if n as u64 == length {
                (known.end, known.size) = (Some(kept), start + n);
            }
        }
        None => {
            let n = usize::try_from(limits.body).unwrap().min(rest.len());
            known.body = rest[..n].to_vec();
            if n == rest.len() {
                (known.end, known.size) = (Some(false), start + n);
            }
        }
    }
}
