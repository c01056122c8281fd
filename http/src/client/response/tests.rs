extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::tests::random::Random;

const LIMITS: ClientLimits = ClientLimits::DEFAULT;

type Field = (Vec<u8>, Vec<u8>);

/// What a reader has found in a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Found {
    interims: usize,
    head: Option<(u16, u8, Delimiter, Vec<Field>)>,
    body: Vec<u8>,
    trailers: Vec<Vec<u8>>,
    keep_alive: bool,
    /// How many bytes belong to the response.
    size: usize,
    /// `None`: incomplete, and the connection is still there.
    end: Option<Result<(), InvalidResponse>>,
}

/// Reads a response that arrives in pieces of the lengths that `step` returns, and takes at most as many bytes of the
/// body at once.
fn read(
    method: Method,
    input: &[u8],
    limits: &ClientLimits,
    ends: bool,
    step: impl FnMut() -> usize,
) -> Found {
    read_with(ResponseReader::new(method, limits), input, limits, ends, step)
}

fn read_with(
    mut reader: ResponseReader,
    input: &[u8],
    limits: &ClientLimits,
    ends: bool,
    mut step: impl FnMut() -> usize,
) -> Found {
    let mut found = Found::default();
    let mut come = 0;
    loop {
        let used = found.size;
        let used = match reader.next(&input[used..come], limits) {
            Err(error) => {
                // how much of the framing before a fault was consumed depends on the pieces
                found.size = 0;
                found.end = Some(Err(error));
                return found;
            }
            Ok(Piece::Interim(head)) => {
                found.interims += 1;
                head.as_bytes().len()
            }
            Ok(Piece::Head(head)) => {
                let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                found.head = Some((head.status.code(), head.minor, head.delimiter, fields));
                head.as_bytes().len()
            }
            Ok(Piece::Framing(length)) => length,
            Ok(Piece::Data(data)) => {
                let taken = step().min(data.len());
                found.body.extend_from_slice(&data[..taken]);
                reader.took(taken);
                taken
            }
            Ok(Piece::Trailers(trailers)) => {
                found.trailers.push(trailers.as_bytes().to_vec());
                trailers.as_bytes().len()
            }
            Ok(Piece::End) => {
                found.end = Some(Ok(()));
                found.keep_alive = reader.keep_alive();
                return found;
            }
            Ok(Piece::More) if come < input.len() => {
                come += step().min(input.len() - come);
                0
            }
            Ok(Piece::More) => {
                found.end = ends.then(|| reader.finish());
                return found;
            }
        };
        found.size += used;
    }
}

/// Reads a response at once and in pieces of every length; the verdict is the same.
fn every_cut(method: Method, input: &[u8], limits: &ClientLimits, ends: bool) -> Found {
    let whole = read(method, input, limits, ends, || usize::MAX);
    for step in 1..input.len().min(200) {
        let pieces = read(method, input, limits, ends, || step);
        assert_eq!(pieces, whole, "in pieces of {step}: {}", input.escape_ascii());
        if step == 1 || input.len() < 100 {
            let mut steps = core::iter::once(step);
            let two = read(method, input, limits, ends, || steps.next().unwrap_or(usize::MAX));
            assert_eq!(two, whole, "cut at {step}: {}", input.escape_ascii());
        }
    }
    whole
}

/// Returns the verdict in one word, the body and what is left.
fn verdict(method: Method, input: &str) -> String {
    let found = every_cut(method, input.as_bytes(), &LIMITS, true);
    let rest = input.len() - found.size;
    match found.end {
        Some(Ok(())) => {
            let kept = if found.keep_alive { "kept" } else { "closed" };
            format!("{kept}:{}:{rest}", found.body.escape_ascii())
        }
        Some(Err(error)) => format!("{error:?}"),
        None => String::from("more"),
    }
}

fn get(head: &str) -> String {
    verdict(Method::Get, head)
}

#[test]
fn bodies_are_delimited_as_the_rfc_says() {
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "kept:abc:1"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "Truncated"),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "closed:until the end:0"),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end", "closed:until the end:0"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", "closed:a:0"),
        ("HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 1\r\n\r\na", "closed:a:0"),
        ("HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "kept:a:0"),
        (
            "HTTP/1.1 103 E\r\nConnection: close\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            "closed:a:0",
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "closed:a:0"),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na", "kept:a:0"),
        ("HTTP/1.9 200 OK\r\nContent-Length: 1\r\n\r\na", "kept:a:0"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nb", "kept:a:1"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1;x=y\r\na\r\n0\r\nT: t\r\n\r\n", "kept:a:0"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "Truncated"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", "Chunk"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na", "Chunk"),
        ("HTTP/1.1 204 No\r\n\r\nx", "kept::1"),
        ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\nx", "closed::1"),
        ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "kept::0"),
        ("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", "kept::0"),
        ("HTTP/1.1 205 No\r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 101 Switching\r\n\r\nbytes", "closed::5"),
    ];
    for (input, expected) in table {
        assert_eq!(get(input), expected, "{input:?}");
    }
    for length in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{length}\r\n");
        assert_eq!(verdict(Method::Head, &head), "kept::0");
    }
    assert_eq!(verdict(Method::Connect, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), "closed::3");
    assert_eq!(verdict(Method::Connect, "HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nabc"), "kept:abc:0");
}

#[test]
fn what_is_refused() {
    let table = [
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 299 \u{e4}\tb\r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 599 No\r\nContent-Length: 0\r\n\r\n", "kept::0"),
        ("HTTP/1.1 600 No\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 099 No\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 20 OK\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 200OK\r\n\r\n", "StatusLine"),
        ("HTTP/1.1  200 OK\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 2\u{b9}0 OK\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "StatusLine"),
        ("HTTP/1.1 200 OK\n\r\n", "StatusLine"),
        ("HTTP/1.1 200 O\rK\r\n\r\n", "StatusLine"),
        ("HTTP/1.x 200 OK\r\n\r\n", "StatusLine"),
        ("HTTP/2.0 200 OK\r\n\r\n", "StatusLine"),
        ("http/1.1 200 OK\r\n\r\n", "StatusLine"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "StatusLine"),
        ("SSH-2.0-x", "StatusLine"),
        ("", "Truncated"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n", "Truncated"),
        ("HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\n: no name\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "Field"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", "Field"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "Framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", "Framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "Framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "Framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "Framing"),
        ("HTTP/1.1 304 No\r\nContent-Length: 1x\r\n\r\n", "Framing"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Framing"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Framing"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Framing"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "Framing"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Coding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Framing",
        ),
        ("HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\n", "Framing"),
    ];
    for (input, expected) in table {
        assert_eq!(get(input), expected, "{input:?}");
    }
}

#[test]
fn fields_without_a_meaning_in_responses_are_not_judged() {
    let input = b"HTTP/1.1 200 OK\r\nHost: a b\r\nHost: c\r\nExpect: x\r\nContent-Length: 0\r\n\r\n";
    let found = every_cut(Method::Get, input, &LIMITS, false);
    assert_eq!(found.head.map(|head| head.3.len()), Some(4));
}

#[test]
fn interim_responses_are_skipped_up_to_their_limit() {
    let input = |n: usize| {
        let interims = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(n);
        format!("{interims}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").into_bytes()
    };
    for n in [0, 1, 8] {
        let found = every_cut(Method::Get, &input(n), &LIMITS, false);
        assert_eq!((found.interims, found.end, &found.body[..]), (n, Some(Ok(())), &b"a"[..]));
    }
    let found = every_cut(Method::Get, &input(9), &LIMITS, false);
    assert_eq!(found.end, Some(Err(InvalidResponse::TooManyInterims)));
}

#[test]
fn limits_from_both_sides() {
    let head = |size: usize, fields: usize| {
        let lines = "a: b\r\n".repeat(fields - 1);
        let start = format!("HTTP/1.1 204 No\r\n{lines}x:");
        format!("{start}{}\r\n\r\n", "f".repeat(size - start.len() - 4)).into_bytes()
    };
    let limits = ClientLimits { head: 200, fields: 5, ..LIMITS };
    let end = |input: &[u8]| every_cut(Method::Get, input, &limits, false).end;
    assert_eq!(end(&head(200, 5)), Some(Ok(())));
    assert_eq!(end(&head(201, 5)), Some(Err(InvalidResponse::HeadTooLarge)));
    assert_eq!(end(&head(200, 6)), Some(Err(InvalidResponse::HeadTooLarge)));
    assert_eq!(end(&head(201, 5)[..200]), None);
    let limits = ClientLimits { body: 5, ..LIMITS };
    for (n, expected) in [(5, Ok(())), (6, Err(InvalidResponse::BodyTooLarge))] {
        let body = "b".repeat(n);
        let bodies = [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n{body}"),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                n - 1,
                &body[1..]
            ),
            format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
        ];
        for input in bodies {
            let found = every_cut(Method::Get, input.as_bytes(), &limits, true);
            assert_eq!(found.end, Some(expected), "{input:?}");
        }
    }
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1u64 << 48);
    assert_eq!(get(&huge), "BodyTooLarge");
    let largest = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", (1u64 << 48) - 1);
    assert_eq!(get(&largest), "Truncated");
}

#[test]
fn the_idle_time_of_a_server() {
    let time = |value: &str| {
        let input = format!("HTTP/1.1 204 No\r\nKeep-Alive: {value}\r\n\r\n").into_bytes();
        let mut reader = ResponseReader::new(Method::Get, &LIMITS);
        let Ok(Piece::Head(head)) = reader.next(&input, &LIMITS) else { panic!("{value}") };
        head.idle_time().map(|time| time.as_secs())
    };
    let table = [
        ("timeout=5", Some(5)),
        ("max=7 , Timeout=0", Some(0)),
        ("timeout=", None),
        ("timeout=x", None),
        ("timeout", None),
        ("timeout=99999999999999999999", None),
        ("", None),
    ];
    for (value, expected) in table {
        assert_eq!(time(value), expected, "{value}");
    }
}

const LINES: &[&str] = &[
    "Content-Length: 5\r\n",
    "content-length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Server: x\r\n",
    "X-Long_1.2:\t tabs \t and \u{e4}\r\n",
    "Empty:\r\n",
];
const STARTS: &[&str] =
    &["HTTP/1.1 200 OK", "HTTP/1.0 404 Not Found", "HTTP/1.1 204 ", "HTTP/1.1 304", "HTTP/1.1 100 Go"];
const DIRT: &[&str] = &["\r", "\n", "\r\n", " ", "\t", "\0", ":", "\u{80}", "a", "HTTP/1.1", "0", "\r\n\r\n"];

fn generate(random: &mut Random) -> Vec<u8> {
    let mut input = String::from(random.pick(STARTS)) + "\r\n";
    for _ in 0..random.below(4) {
        input += random.pick(LINES);
    }
    input += "\r\n";
    input += random.pick(&["", "hello", "5\r\nhello\r\n0\r\n\r\n", "0\r\nA: b\r\n\r\n"]);
    if random.below(2) > 0 {
        let at = random.below(input.len());
        if input.is_char_boundary(at) {
            input.insert_str(at, random.pick(DIRT));
        }
    }
    input.into_bytes()
}

/// Compares heads with those of `httparse`: this parser may refuse more, but `httparse` must read an accepted head in
/// the same way. The verdict on pieces is that on the whole.
#[test]
fn agrees_with_httparse() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let input = generate(&mut random);
        let shown = input.escape_ascii();
        let mut reader = ResponseReader::new(Method::Get, &LIMITS);
        let mut space = [httparse::EMPTY_HEADER; 128];
        let mut oracle = httparse::Response::new(&mut space);
        let theirs = oracle.parse(&input);
        match reader.next(&input, &LIMITS) {
            Ok(Piece::Head(head) | Piece::Interim(head)) => {
                let size = head.as_bytes().len();
                assert_eq!(theirs, Ok(httparse::Status::Complete(size)), "seed {seed}: {shown}");
                assert_eq!(oracle.code, Some(head.status.code()), "seed {seed}: {shown}");
                assert_eq!(oracle.version, Some(head.minor), "seed {seed}: {shown}");
                let fields = oracle.headers.iter().map(|field| (field.name.as_bytes(), field.value));
                assert!(head.fields().eq(fields), "seed {seed}: {shown}");
                accepted += 1;
            }
            Ok(_) => assert!(!matches!(theirs, Ok(httparse::Status::Complete(_))), "seed {seed}: {shown}"),
            Err(_) => refused += 1,
        }
        let whole = read(Method::Get, &input, &LIMITS, true, || usize::MAX);
        assert_eq!(read(Method::Get, &input, &LIMITS, true, || 1), whole, "seed {seed}: {shown}");
        let pieces = read(Method::Get, &input, &LIMITS, true, || 1 + random.below(20));
        assert_eq!(pieces, whole, "seed {seed}: {shown}");
    }
    assert!(accepted > 5_000 && refused > 2_000, "{accepted} {refused}");
}

/// The figures are those of the documentation.
#[test]
fn the_framing_of_chunks_has_fixed_limits() {
    let chunked =
        |rest: &str| get(&std::format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}"));
    let line = |length: usize| std::format!("1;{}\r\na\r\n", "x".repeat(length - 2));
    let end = "0\r\n\r\n";
    assert_eq!(chunked(&(line(256) + end)), "kept:a:0");
    assert_eq!(chunked(&(line(257) + end)), "Chunk");
    let extensions = line(129).repeat(128); // 128 bytes each
    assert!(chunked(&(extensions.clone() + end)).starts_with("kept:aa"));
    assert_eq!(chunked(&(extensions + &line(2) + end)), "BodyTooLarge");
    let trailers = |length: usize| std::format!("0\r\nA: {}\r\n\r\n", "x".repeat(length - 7));
    assert_eq!(chunked(&trailers(8 << 10)), "kept::0");
    assert_eq!(chunked(&trailers((8 << 10) + 1)), "Trailers");
}

#[test]
fn trailers_are_kept_if_asked_for_whatever_the_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("0\r\nt:{}\r\n\r\n", "v".repeat(8192 - 6));
    let longer = format!("0\r\nt:{}\r\n\r\n", "v".repeat(8193 - 6));
    let table = [
        (
            "1\r\na\r\n0\r\nDigest: x\r\nHost: b\r\n\r\nrest",
            Some("Digest: x\r\nHost: b\r\n\r\n"),
            Some(Ok(())),
        ),
        ("0\r\nA: b\r\n\r\n", Some("A: b\r\n\r\n"), Some(Ok(()))),
        ("1;x\r\na\r\n0;y\r\n\r\nrest", None, Some(Ok(()))),
        ("1\r\na\r\n0\r\nA: b\r\n\r", None, Some(Err(InvalidResponse::Truncated))),
        ("1\r\na\r\n0\r\nA: b\r\nA b\r\n", None, Some(Err(InvalidResponse::Chunk))),
        (&long, Some(&long[3..]), Some(Ok(()))),
        (&longer, None, Some(Err(InvalidResponse::Trailers))),
    ];
    for (body, trailers, end) in table {
        let input = [head, body].concat();
        let dropped = read(Method::Get, input.as_bytes(), &LIMITS, true, || usize::MAX);
        for step in (1..input.len().min(200)).chain([usize::MAX]) {
            let mut reader = ResponseReader::new(Method::Get, &LIMITS);
            reader.keep_trailers();
            let kept = read_with(reader, input.as_bytes(), &LIMITS, true, || step);
            let found: Vec<&[u8]> = kept.trailers.iter().map(Vec::as_slice).collect();
            assert_eq!(found, trailers.map(str::as_bytes).as_slice(), "in pieces of {step}: {body:?}");
            assert_eq!(kept.end, end, "in pieces of {step}: {body:?}");
            // what is kept of an incomplete section is not consumed
            let size = if end == Some(Ok(())) { kept.size } else { dropped.size };
            assert_eq!(
                Found { trailers: Vec::new(), size, ..kept },
                dropped,
                "in pieces of {step}: {body:?}"
            );
        }
    }
}
