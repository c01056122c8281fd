//! Tests of the head parser: by tables, with input cut at every place, and against another parser.

extern crate std;

use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use crate::limits::Limits;
use crate::method::Method;
use crate::status::Status;
use crate::tests::random::Random;

use super::framing::Body;
use super::head::{Head, Parse};
use super::host::LastHost;
use super::scan::{Plain, Progress, parse, plain, rest, resume};

const LIMITS: Limits = Limits::DEFAULT;

fn head(input: &[u8]) -> Head<'_> {
    match parse(input, &LIMITS) {
        Parse::Complete(head) => head,
        other @ (Parse::Partial | Parse::Invalid(_)) => panic!("{other:?} for {}", input.escape_ascii()),
    }
}

fn complete(parse: Parse<'_>) -> Option<Head<'_>> {
    match parse {
        Parse::Complete(head) => Some(head),
        Parse::Partial | Parse::Invalid(_) => None,
    }
}

/// Returns the verdict when the input arrives in pieces. `cut` returns the size of the next piece for the number of
/// bytes that have arrived.
fn in_pieces<'a>(input: &'a [u8], limits: &Limits, mut cut: impl FnMut(usize) -> usize) -> Parse<'a> {
    let mut progress = Progress::default();
    let mut come = 0;
    while come < input.len() {
        come = (come + cut(come).max(1)).min(input.len());
        let parse = resume(&mut progress, &input[..come], limits);
        if parse != Parse::Partial {
            return parse;
        }
    }
    Parse::Partial
}

/// Returns the head that the request loop reads when all of the input is available, and whether it is the common case.
fn at_once<'a>(input: &'a [u8], limits: &Limits, last: &mut LastHost) -> (Option<Head<'a>>, bool) {
    match plain(input, limits, last) {
        Ok(Plain { path, target_end, bytes, after }) => {
            assert_eq!(bytes.len() + after.len(), input.len());
            (Some(Head::plain(path, target_end, bytes)), true)
        }
        Err(start) => (rest(input, start, limits, last), false),
    }
}

/// Asserts that the verdict is the same byte by byte, cut in two at any place, and in one piece. Returns the size of
/// the head, or the status; 0 if the head is incomplete.
fn every_cut(input: &[u8], limits: &Limits) -> Result<usize, u16> {
    let whole = parse(input, limits);
    let mut last = LastHost::NONE;
    for _ in 0..2 {
        assert_eq!(at_once(input, limits, &mut last).0, complete(whole), "{}", input.escape_ascii());
    }
    assert_eq!(in_pieces(input, limits, |_| 1), whole, "byte by byte: {}", input.escape_ascii());
    if input.len() < 600 {
        for first in 1..input.len() {
            let cut = |come| if come == 0 { first } else { input.len() };
            assert_eq!(in_pieces(input, limits, cut), whole, "{first} first: {}", input.escape_ascii());
        }
    }
    match whole {
        Parse::Complete(head) => Ok(head.size()),
        Parse::Partial => Err(0),
        Parse::Invalid(status) => Err(status.code()),
    }
}

#[test]
fn spans_of_a_head() {
    let input = b"POST /a/b?c=d?e HTTP/1.1\r\nHost: x:80\r\nX-1: \t a  b\t\r\ncontent-length: 3\r\n\r\nabc";
    let head = head(input);
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.minor, 1);
    assert_eq!(head.target(), b"/a/b?c=d?e");
    assert_eq!(head.path, b"/a/b");
    assert_eq!(head.query, Some(&b"c=d?e"[..]));
    assert_eq!(head.framing.body, Body::Length(3));
    assert_eq!(head.size(), input.len() - 3);
    let fields: Vec<_> = (&head).into_iter().collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"Host", b"x:80"), (b"X-1", b"a  b"), (b"content-length", b"3")];
    assert_eq!(fields, expected);
    assert_eq!(head.text("x-1"), Some("a  b"));
    assert_eq!(head.host(), Some(&b"x:80"[..]));
}

#[test]
fn forms_of_the_target() {
    let host = |target: &str| {
        let input = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let Parse::Complete(head) = parse(input.as_bytes(), &LIMITS) else { return None };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some((text(head.path), head.query.map(text), text(head.host().unwrap())))
    };
    let some =
        |path: &str, query: Option<&str>, host: &str| Some((path.into(), query.map(Into::into), host.into()));
    assert_eq!(host("/"), some("/", None, "h"));
    assert_eq!(host("/?"), some("/", Some(""), "h"));
    assert_eq!(host("/a%20b?x|y"), some("/a%20b", Some("x|y"), "h"));
    assert_eq!(host("http://o"), some("/", None, "o"));
    assert_eq!(host("HTTP://o:1/p?q"), some("/p", Some("q"), "o:1"));
    assert_eq!(host("https://o?q/r"), some("/", Some("q/r"), "o"));
    for bad in
        ["", "a", "*", "http://", "http:///a", "ftp://o/", "http://u@o/", "//\u{7f}", "/#a", "/?#", "o:80"]
    {
        assert_eq!(host(bad), None, "{bad}");
    }
}

#[test]
fn verdicts_whatever_the_cut() {
    let table: &[(&[u8], Result<usize, u16>)] = &[
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(27)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /", Ok(27)),
        (b"GET / HTTP/1.0\r\n\r\n", Ok(18)),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Ok(27)),
        (b"GET / HTTP/1.1\r\nhoST:\ta\t\r\n\r\n", Ok(28)),
        (b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", Ok(26)),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Ok(34)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA1_!#$%&'*+.^`|~:\x80\xff\r\n\r\n", Ok(48)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA:\r\n\r\n", Ok(31)),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Ok(31)),
        // Parts.
        (b"", Err(0)),
        (b"G", Err(0)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r", Err(0)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", Err(0)),
        (b"GET / HTTP/1.1\r\nHo st", Err(0)),
        // The request line.
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"\x16\x03\x01", Err(400)),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Err(400)),
        (b"GET /\r\n", Err(400)),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/11\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/+.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err(505)),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Err(505)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(505)),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Err(501)),
        (b"BREW /pot HTTP/1.1\r\n", Err(501)),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Err(501)),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Err(501)),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        // Field lines.
        (b"GET / HTTP/1.1\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA(: b\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA\x80: b\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x7f\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rc: d\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost:\ta\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Err(417)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Err(400)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br, chunked\r\n\r\n", Err(501)),
    ];
    for (input, expected) in table {
        assert_eq!(every_cut(input, &LIMITS), *expected, "{}", input.escape_ascii());
    }
}

#[test]
fn percent_signs_and_ports_whatever_the_cut() {
    let table: &[(&[u8], Result<usize, u16>)] = &[
        (b"GET /%4G HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /% HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /%a HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /a?b=%% HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET http://a/%x HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        (b"GET /%00%fF$!%41?%7e\"|%25 HTTP/1.1\r\nHost: a\r\n\r\n", Ok(47)),
        (b"GET / HTTP/1.1\r\nHost: a:9999\r\n\r\n", Ok(32)),
        (b"GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n", Ok(33)),
        (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Err(400)),
    ];
    for (input, expected) in table {
        assert_eq!(every_cut(input, &LIMITS), *expected, "{}", input.escape_ascii());
    }
}

#[test]
fn limits_from_both_sides() {
    let request = |target: usize, fields: usize, filler: usize| {
        let target = "t".repeat(target - 1);
        let fields = "a: b\r\n".repeat(fields - 1);
        let filler = "f".repeat(filler);
        format!("GET /{target} HTTP/1.1\r\nHost: {filler}\r\n{fields}\r\n").into_bytes()
    };
    let limits = Limits { head: 900, target: 50, fields: 7, ..LIMITS };
    assert_eq!(every_cut(&request(50, 7, 1), &limits), Ok(request(50, 7, 1).len()));
    assert_eq!(every_cut(&request(51, 7, 1), &limits), Err(414));
    assert_eq!(every_cut(&request(50, 8, 1), &limits), Err(431));
    let filler = 900 - request(50, 7, 0).len();
    assert_eq!(every_cut(&request(50, 7, filler), &limits), Ok(900));
    assert_eq!(every_cut(&request(50, 7, filler + 1), &limits), Err(431));
    // A target that does not end, or is not followed by a version; a head limit below the limit of the target.
    assert_eq!(every_cut(&[b"GET /", &[b'a'; 49][..]].concat(), &limits), Err(0));
    assert_eq!(every_cut(&[b"GET /", &[b'a'; 50][..]].concat(), &limits), Err(414));
    assert_eq!(every_cut(&[b"GET /", &[b' '; 200][..]].concat(), &limits), Err(400));
    assert_eq!(every_cut(&request(60, 7, 1), &Limits { head: 40, target: 50, ..LIMITS }), Err(414));
}

#[test]
fn defaults_from_both_sides() {
    let request = |target: usize, fields: usize, filler: usize| {
        let (target, filler) = ("t".repeat(target - 1), "f".repeat(filler));
        let fields = "a: b\r\n".repeat(fields - 2);
        format!("GET /{target} HTTP/1.1\r\nHost: a\r\n{fields}x:{filler}\r\n\r\n").into_bytes()
    };
    let code = |input: Vec<u8>| match parse(&input, &LIMITS) {
        Parse::Complete(head) => head.size(),
        Parse::Partial => 0,
        Parse::Invalid(status) => usize::from(status.code()),
    };
    let most = 32_768 - request(8_192, 100, 0).len();
    assert_eq!(code(request(8_192, 100, most)), 32_768);
    assert_eq!(code(request(8_192, 100, most + 1)), 431);
    assert_eq!(code(request(8_193, 100, 0)), 414);
    assert_eq!(code(request(8_192, 101, 0)), 431);
}

/// Checks that the search for line ends examines every byte once.
#[test]
fn a_line_in_single_bytes_is_not_scanned_again() {
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    let start = input.len();
    input.extend_from_slice(&[b'x'; 4_000]);
    let mut progress = Progress::default();
    for come in 1..=input.len() {
        assert_eq!(resume(&mut progress, &input[..come], &LIMITS), Parse::Partial);
        if come > start {
            // Bytes that were searched are not read again: line feeds written there change nothing.
            let mut garbled = input[..come].to_vec();
            garbled[start - 3..come].fill(b'\n');
            let mut copy = progress;
            assert_eq!(resume(&mut copy, &garbled, &LIMITS), Parse::Partial);
        }
    }
    input.extend_from_slice(b"\r\n\r\n");
    assert!(matches!(resume(&mut progress, &input, &LIMITS), Parse::Complete(_)));
}

const METHODS: &[&str] =
    &["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "BREW", "CONNECT"];
const TARGETS: &[&str] =
    &["/", "/foo", "/users/17/posts?x=y&z=%20", "*", "http://a/b?c", "/a/very/long/path/of/many/words"];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0"];
const FIELDS: &[&str] = &[
    "Host: a",
    "host: localhost:8080",
    "HOST:\t[::1]",
    "Content-Length: 5",
    "Content-Length: 0",
    "Accept: */*",
    "Transfer-Encoding: chunked",
    "Connection: keep-alive, Upgrade",
    "Connection: close",
    "Expect: 100-continue",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
    "X_1.2: \t tabbed \t value\t",
    "Empty:",
    "Cookie: a=b; c=d; e=\x7e",
    "Accept-Encoding: gzip, deflate, br",
    "transfer-encoding: gzip, chunked",
];
const PLAIN: &[&str] = &[
    "Accept: */*",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
    "X_1.2: \t tabbed \t value\t",
    "Empty:",
    "Cookie: a=b; c=d; e=~",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: http://example.org/",
];
const DIRT: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"\x80",
    b"\x7f",
    b"a",
    b"?",
    b"#",
    b"\r\n\r\n",
    b"HTTP/1.1",
    b"0",
];

fn generate(random: &mut Random) -> Vec<u8> {
    let mut input =
        format!("{} {} {}\r\n", random.pick(METHODS), random.pick(TARGETS), random.pick(VERSIONS))
            .into_bytes();
    if random.below(8) > 0 {
        input.extend_from_slice(b"Host: example.org\r\n");
    }
    for _ in 0..random.below(6) {
        let line = if random.below(3) > 0 { random.pick(PLAIN) } else { random.pick(FIELDS) };
        input.extend_from_slice(line.as_bytes());
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"\r\n");
    input.extend(vec![b'z'; random.below(4)]);
    input
}

fn mutate(random: &mut Random, input: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(input.len());
        match random.below(5) {
            0 => input[at] = u8::try_from(random.below(256)).unwrap(),
            1 => drop(input.remove(at)),
            2 => drop(input.splice(at..at, random.pick(DIRT).iter().copied())),
            3 => input.truncate(at.max(1)),
            _ => {
                let end = (at + random.below(20)).min(input.len());
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
        }
        if input.is_empty() {
            input.push(b'G');
        }
    }
}

/// Compares the verdict with that of `httparse`: this parser may refuse more, but `httparse` must read an accepted head
/// in the same way.
fn compare(input: &[u8]) -> &'static str {
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut oracle = httparse::Request::new(&mut space);
    let theirs = oracle.parse(input);
    let shown = input.escape_ascii();
    match parse(input, &LIMITS) {
        Parse::Complete(ours) => {
            if theirs == Err(httparse::Error::Version) {
                return "a version that httparse does not know";
            }
            assert_eq!(theirs, Ok(httparse::Status::Complete(ours.size())), "{shown}");
            assert_eq!(oracle.method, Some(ours.method.as_str()), "{shown}");
            assert_eq!(oracle.path.map(str::as_bytes), Some(ours.target()), "{shown}");
            assert_eq!(oracle.version, Some(ours.minor), "{shown}");
            let fields = oracle.headers.iter().map(|field| (field.name.as_bytes(), field.value));
            assert!(ours.fields().eq(fields), "{shown}");
            "accepted"
        }
        Parse::Partial => {
            if matches!(theirs, Ok(httparse::Status::Complete(_))) {
                panic!("httparse finds an end, we do not: {shown}");
            }
            "partial"
        }
        Parse::Invalid(status) if status == Status::BAD_REQUEST && theirs.is_ok() => "stricter",
        Parse::Invalid(_) => "refused",
    }
}

#[test]
fn agrees_with_httparse() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut counts = std::collections::BTreeMap::new();
    let (mut last, mut plains) = (LastHost::NONE, 0);
    for round in 0..60_000 {
        let mut input = generate(&mut random);
        if round % 4 > 0 {
            mutate(&mut random, &mut input);
        }
        *counts.entry(compare(&input)).or_insert(0) += 1;
        let whole = parse(&input, &LIMITS);
        assert_eq!(in_pieces(&input, &LIMITS, |_| 1), whole, "seed {seed}: {}", input.escape_ascii());
        let pieces = in_pieces(&input, &LIMITS, |_| random.below(40));
        assert_eq!(pieces, whole, "seed {seed}: {}", input.escape_ascii());
        let (head, plain) = at_once(&input, &LIMITS, &mut last);
        assert_eq!(head, complete(whole), "seed {seed}: {}", input.escape_ascii());
        plains += u32::from(plain);
    }
    std::println!("seed {seed}: {counts:?}, {plains} plain");
    assert!(counts["accepted"] > 10_000 && counts["refused"] > 5_000, "{counts:?}");
    assert!(plains > 100, "{plains} plain heads");
}

/// `Host` lines around the lengths that [`LastHost`] remembers, and paths of one word, two words, and more.
#[test]
fn plain_heads_of_all_lengths() {
    const ENDS: [&str; 5] = ["\r\n\r\n", "\r\nA: b\r\n\r\n", "\r\n\r", "\r\n\n\n", "x\r\n\r\n"];
    let (mut last, mut plains) = (LastHost::NONE, 0);
    let lengths = (1..36).flat_map(|path| (1..30).map(move |host| (path, host)));
    for ((path, host), end) in lengths.flat_map(|lengths| ENDS.map(|end| (lengths, end))) {
        let (path, host) = ("/".repeat(path), "h".repeat(host));
        let input = format!("GET {path} HTTP/1.1\r\nHost: {host}{end}GET /");
        let whole = complete(parse(input.as_bytes(), &LIMITS));
        for _ in 0..2 {
            let (head, plain) = at_once(input.as_bytes(), &LIMITS, &mut last);
            assert_eq!(head, whole, "{input:?}");
            plains += usize::from(plain);
        }
    }
    assert!(plains > 30 * 20, "{plains}");
}

/// The limits of the target and of the head apply to a common-case head.
#[test]
fn plain_heads_at_their_limits() {
    let input = b"GET /abcdefgh HTTP/1.1\r\nHost: example.org\r\n\r\nGET /";
    let size = input.len() - 5;
    for (head, target) in (size - 3..size + 3).flat_map(|head| (7..12).map(move |target| (head, target))) {
        let limits = Limits { head, target, ..LIMITS };
        let mut last = LastHost::NONE;
        assert!(at_once(input, &LIMITS, &mut last).0.is_some());
        let (found, plain) = at_once(input, &limits, &mut last);
        assert_eq!(found, complete(parse(input, &limits)), "{head} {target}");
        assert_eq!(plain, head >= size && target >= 9, "{head} {target}");
    }
}
