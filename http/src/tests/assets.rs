//! Assets, ranges and compressed variants over the testing client (RFC 9110, 12.5.3 and 14).

extern crate std;

use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::testing::{TestRequest, TestResponse, TestServer};
use crate::{Asset, ETag, Exchange, Flow, Http, Method, Representation, Selection, Transfer};

use super::random::Random;

/// The clock of a test server.
const NOW: u64 = 784_111_777;
const SHORT: &[u8] = b"0123456789";
/// Larger than the output limit of a test server, which is 32 KiB.
static LONG: [u8; 100_000] = {
    let mut bytes = [0; 100_000];
    let mut at = 0_u32;
    let mut rest = bytes.as_mut_slice();
    while let Some((first, after)) = rest.split_first_mut() {
        *first = b'a' + (at % 26) as u8;
        at += 1;
        rest = after;
    }
    bytes
};

static PLAIN: Asset =
    Asset::new(SHORT).content_type("text/plain").etag(ETag::strong("a")).last_modified(NOW - 9);
static PAGE: Asset = PLAIN.cache_control("no-cache").encoded("br", b"B").encoded("gzip", b"GGG");
static BOOK: Asset = Asset::new(&LONG).content_type("text/plain").hashed();
static NOTHING: Asset = Asset::new(b"");

fn server() -> TestServer<impl lightcone_core::Handler> {
    TestServer::new(
        Http::new()
            .get("/plain", |request, response| request.asset(response, || &PLAIN))
            .get("/page", |request, response| request.asset(response, || &PAGE))
            .get("/book", |request, response| request.asset_parts::<4, _>(response, || &BOOK))
            .get("/nothing", |request, response| request.asset_parts::<2, _>(response, || &NOTHING))
            .get("/lost", |request, response| request.asset(response.status(404), || &PLAIN))
            .on(Method::Post, "/plain", |request, response| request.asset(response, || &PLAIN))
            .get("/made", |request, response| {
                request.generate(response, 100_000, ETag::weak("w"), |offset, piece| {
                    let offset = usize::try_from(offset).unwrap();
                    piece.copy_from_slice(&LONG[offset..offset + piece.len()]);
                })
            }),
    )
}

fn get(target: &str, fields: &[(&str, &str)]) -> TestResponse {
    ask("GET", target, fields)
}

fn ask(method: &str, target: &str, fields: &[(&str, &str)]) -> TestResponse {
    let request =
        fields.iter().fold(TestRequest::new(method, target), |r, (name, value)| r.header(name, value));
    server().request(request)
}

#[test]
fn the_whole_asset() {
    let response = get("/plain", &[]);
    assert_eq!((response.status(), response.body()), (200, SHORT));
    let fields: Vec<_> = response.headers().filter(|(name, _)| !matches!(*name, "Server" | "Date")).collect();
    let expected = [
        ("Accept-Ranges", "bytes"),
        ("ETag", "\"a\""),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:28 GMT"),
        ("Content-Type", "text/plain"),
        ("Content-Length", "10"),
    ];
    assert_eq!(fields, expected);
    assert_eq!(get("/book", &[]).body(), LONG);
    assert_eq!(get("/nothing", &[]).body(), b"");
}

#[test]
fn head_has_the_fields_of_the_whole() {
    for fields in [&[][..], &[("Range", "bytes=0-1")]] {
        let response = ask("HEAD", "/plain", fields);
        assert_eq!((response.status(), response.header("Content-Length")), (200, Some("10")));
        assert_eq!(response.header("Accept-Ranges"), Some("bytes"));
        assert_eq!(response.header("Content-Range"), None);
    }
    assert_eq!(ask("HEAD", "/plain", &[("If-None-Match", "\"a\"")]).status(), 304);
}

#[test]
fn one_range() {
    for (target, whole) in [("/plain", SHORT), ("/book", &LONG[..]), ("/made", &LONG[..])] {
        let end = whole.len() - 1;
        let table = [
            ("bytes=0-0".into(), 0..=0),
            ("bytes=2-5".into(), 2..=5),
            ("bytes=5-".into(), 5..=end),
            ("bytes=-3".into(), end - 2..=end),
            (format!("bytes=1-{}", 2 * end), 1..=end),
        ];
        for (range, expected) in table {
            let response = get(target, &[("Range", &range)]);
            assert_eq!(response.status(), 206, "{target} {range}");
            assert_eq!(response.body(), &whole[expected.clone()], "{target} {range}");
            let content_range = format!("bytes {}-{}/{}", expected.start(), expected.end(), whole.len());
            assert_eq!(response.header("Content-Range"), Some(content_range.as_str()));
            assert_eq!(response.header("Accept-Ranges"), Some("bytes"));
            assert!(response.header("ETag").is_some());
        }
        let beyond = format!("bytes={}-", end + 1);
        let response = get(target, &[("Range", &beyond)]);
        let content_range = format!("bytes */{}", end + 1);
        assert_eq!(
            (response.status(), response.header("Content-Range")),
            (416, Some(content_range.as_str()))
        );
        assert_eq!(response.text(), "416 Range Not Satisfiable\n");
    }
}

#[test]
fn ranges_that_do_not_count() {
    assert_eq!(ask("POST", "/plain", &[("Range", "bytes=0-1")]).status(), 200);
    for range in ["bytes=0-1,3-4", "bytes=0-1,0-1", "items=0-1", "bytes=x", "bytes=4-2"] {
        let response = get("/plain", &[("Range", range)]);
        assert_eq!((response.status(), response.body()), (200, SHORT), "{range}");
    }
    assert_eq!(get("/plain", &[("Range", "bytes=0-1"), ("Range", "bytes=0-1")]).status(), 200);
    assert_eq!(get("/nothing", &[("Range", "bytes=-1")]).status(), 200);
    assert_eq!(get("/nothing", &[("Range", "bytes=0-")]).status(), 416);
    let lost = get("/lost", &[("Range", "bytes=0-1"), ("If-None-Match", "\"a\""), ("If-Match", "\"b\"")]);
    assert_eq!((lost.status(), lost.body(), lost.header("ETag")), (404, SHORT, None));
}

#[test]
fn a_range_of_another_version_is_not_sent() {
    let date = |second: u64| format!("Sun, 06 Nov 1994 08:49:{second:02} GMT");
    let table = [
        ("\"a\"".to_string(), 206),
        ("\"b\"".to_string(), 200),
        ("W/\"a\"".to_string(), 200),
        ("\"a\", \"b\"".to_string(), 200),
        ("a".to_string(), 200),
        (String::new(), 200),
        (date(28), 206),
        (date(27), 200),
        (date(29), 200),
    ];
    for (condition, status) in table {
        let response = get("/plain", &[("Range", "bytes=0-1"), ("If-Range", &condition)]);
        assert_eq!(response.status(), status, "{condition}");
    }
    // A weak tag is no condition of a range.
    assert_eq!(get("/made", &[("Range", "bytes=0-1"), ("If-Range", "W/\"w\"")]).status(), 200);
    assert_eq!(get("/made", &[("Range", "bytes=0-1"), ("If-Range", "\"w\"")]).status(), 200);
    // Without a range, the field does not count; and other conditions come first.
    assert_eq!(get("/plain", &[("If-Range", "\"b\"")]).status(), 200);
    assert_eq!(get("/plain", &[("Range", "bytes=0-1"), ("If-None-Match", "\"a\"")]).status(), 304);
    assert_eq!(get("/plain", &[("Range", "bytes=0-1"), ("If-Match", "\"b\"")]).status(), 412);
    assert_eq!(get("/plain", &[("Range", "bytes=99-"), ("If-Range", "\"b\"")]).status(), 200);
}

/// Splits a body into its parts; returns the `Content-Range` and the data of each.
fn parts(response: &TestResponse) -> Vec<(String, String)> {
    let boundary =
        response.header("Content-Type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let body = format!("\r\n{}", response.text());
    let (parts, end) = body.rsplit_once(&format!("\r\n--{boundary}--")).unwrap();
    assert_eq!(end, "\r\n");
    let delimiter = format!("\r\n--{boundary}\r\n");
    let mut parts = parts.split(&delimiter);
    assert_eq!(parts.next(), Some(""));
    parts
        .map(|part| {
            let (head, data) = part.split_once("\r\n\r\n").unwrap();
            let range = head.strip_prefix("Content-Type: text/plain\r\nContent-Range: ").unwrap();
            (range.to_string(), data.to_string())
        })
        .collect()
}

#[test]
fn several_ranges_are_sent_in_parts() {
    let response = get("/book", &[("Range", "bytes=50-50, 0-1, -60000, 1000-31000")]);
    assert_eq!((response.status(), response.header("Content-Range")), (206, None));
    let part = |range: core::ops::Range<usize>| {
        let text = core::str::from_utf8(&LONG[range.clone()]).unwrap();
        (format!("bytes {}-{}/100000", range.start, range.end - 1), text.to_string())
    };
    assert_eq!(parts(&response), [part(50..51), part(0..2), part(40_000..100_000), part(1000..31_001)]);
    // One that is left of several is no multipart.
    let response = get("/book", &[("Range", "bytes=1-2, 100000-")]);
    assert_eq!((response.status(), response.body()), (206, &LONG[1..3]));
    assert_eq!(response.header("Content-Type"), Some("text/plain"));
    // More than allowed, or overlapping.
    for range in ["bytes=0-0,2-2,4-4,6-6,8-8", "bytes=0-50,50-60"] {
        assert_eq!(get("/book", &[("Range", range)]).body(), LONG, "{range}");
    }
    assert_eq!(get("/book", &[("Range", "bytes=100000-,100001-")]).status(), 416);
}

/// A client that reads slowly gets the same bytes: the body continues wherever the output was full.
#[test]
fn parts_continue_when_there_is_room() {
    let range = ("Range", "bytes=0-40000, 50000-50000, 60000-99999");
    let expected = get("/book", &[range]);
    for window in [1, 7, 4096, 30_000] {
        let mut server = server();
        let connection = server.connect();
        server.set_window(connection, 0);
        server.send_request(connection, TestRequest::get("/book").header(range.0, range.1));
        server.send_request(connection, TestRequest::get("/plain"));
        for step in 0.. {
            assert!(step < 120_000, "no end");
            server.set_window(connection, if step < 3000 { window } else { 30_000 });
            if server.partial(connection).is_some_and(|response| response.is_complete()) {
                break;
            }
        }
        assert_eq!(server.response(connection).unwrap(), expected, "{window}");
        server.set_window(connection, 30_000);
        assert_eq!(server.response(connection).unwrap().body(), SHORT);
    }
}

#[test]
fn a_variant_is_another_representation() {
    let get = |fields: &[(&str, &str)]| get("/page", fields);
    let table = [("", 200, "", "\"a\""), ("br", 200, "br", "\"a-br\""), ("gzip", 200, "gzip", "\"a-gzip\"")];
    for (accepted, status, coding, etag) in table {
        let response = get(&[("Accept-Encoding", accepted)]);
        assert_eq!(response.status(), status);
        assert_eq!(response.header("Content-Encoding").unwrap_or(""), coding);
        assert_eq!(response.header("ETag"), Some(etag));
        assert_eq!(response.header("Vary"), Some("Accept-Encoding"));
        assert_eq!(response.header("Cache-Control"), Some("no-cache"));
        let unchanged = get(&[("Accept-Encoding", accepted), ("If-None-Match", etag)]);
        assert_eq!((unchanged.status(), unchanged.header("Vary")), (304, Some("Accept-Encoding")));
        assert_eq!(unchanged.header("Cache-Control"), Some("no-cache"));
        assert_eq!(unchanged.header("Content-Encoding"), None);
        assert_eq!(get(&[("Accept-Encoding", accepted), ("If-None-Match", "\"x\"")]).status(), 200);
    }
    assert_eq!(get(&[("Accept-Encoding", "gzip"), ("If-None-Match", "\"a\"")]).body(), b"GGG");
    let range = get(&[("Accept-Encoding", "gzip"), ("Range", "bytes=1-")]);
    assert_eq!((range.header("Content-Range"), range.body()), (Some("bytes 1-2/3"), &b"GG"[..]));
    let none = get(&[("Accept-Encoding", "identity;q=0, zstd")]);
    assert_eq!((none.status(), none.header("Vary")), (406, Some("Accept-Encoding")));
    let failed = get(&[("If-Match", "\"x\"")]);
    assert_eq!((failed.status(), failed.header("Cache-Control")), (412, None));
}

/// Checks that a response is one of the few that are possible, and that its ranges are where it says. Returns whether
/// it has several parts.
fn check(response: &TestResponse, whole: &[u8], case: &str) -> bool {
    let multipart = response.header("Content-Type").is_some_and(|value| value.starts_with("multipart"));
    let whole = match response.header("Content-Encoding") {
        Some("gzip") => &b"GGG"[..],
        Some("br") => b"B",
        _ => whole,
    };
    let slice = |range: &str| {
        let (range, length) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
        let (first, last) = range.split_once('-').unwrap();
        assert_eq!(length.parse(), Ok(whole.len()), "{case}");
        &whole[first.parse().unwrap()..=last.parse::<usize>().unwrap()]
    };
    match response.status() {
        200 => assert_eq!(response.body(), whole, "{case}"),
        206 if multipart => {
            let parts = parts(response);
            assert!((2..=4).contains(&parts.len()), "{case}");
            parts.iter().for_each(|(range, data)| assert_eq!(data.as_bytes(), slice(range), "{case}"));
        }
        206 => assert_eq!(response.body(), slice(response.header("Content-Range").unwrap()), "{case}"),
        304 | 406 | 412 | 416 => {}
        other => panic!("{other}: {case}"),
    }
    multipart
}

#[test]
fn any_fields_get_a_response_that_is_true() {
    const RANGES: &[&str] = &[
        "0-1,",
        "4-6,",
        "8-9,",
        "2000-40000,",
        "-4",
        "0",
        "99999",
        "18446744073709551616",
        "-",
        ",",
        " ",
        "x",
    ];
    const OTHERS: &[&str] = &[
        "\"a\"",
        "\"",
        "W/\"a\"",
        "*",
        ",",
        ", ",
        " ",
        "gzip",
        "br;q=0.5",
        ";q=0",
        "identity;q=0",
        "x",
        "0",
        "Sun, 06 Nov 1994 08:49:28 GMT",
    ];
    const NAMES: [&str; 8] = [
        "Range",
        "Range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "Accept-Encoding",
    ];
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut server = server();
    let connection = server.connect();
    let mut seen = BTreeSet::new();
    for step in 0..4_000 {
        let (target, whole) = random.pick(&[("/plain", SHORT), ("/page", SHORT), ("/book", &LONG[..])]);
        let mut request = TestRequest::get(target);
        for _ in 0..random.below(3) + 1 {
            let name = random.pick(&NAMES);
            let (start, pieces) = if name == "Range" { ("bytes=", RANGES) } else { ("", OTHERS) };
            let start = if random.below(20) > 0 { start } else { "x" };
            let value: String = (0..random.below(6)).map(|_| random.pick(pieces)).collect();
            request = request.header(name, format_args!("{start}{value}"));
        }
        server.send_request(connection, request.clone());
        let response = server.response(connection).unwrap();
        let case = format!("seed {seed}, step {step}: {:?}", String::from_utf8_lossy(&request.to_bytes()));
        seen.insert((response.status(), check(&response, whole, &case)));
    }
    let all =
        [(200, false), (206, false), (206, true), (304, false), (406, false), (412, false), (416, false)];
    assert!(seen.iter().eq(&all), "{seen:?}");
}

#[test]
fn a_representation_that_is_too_long_to_be_sent_is_a_500() {
    const WHOLE: Representation<'_> = Representation::new("text/plain", 1 << 48);
    struct Never(Selection<2>);
    impl Exchange<()> for Never {
        fn advance(&mut self, io: &mut Transfer<'_, ()>) -> Flow {
            self.0.advance(&WHOLE, io, |_, _, _| None)
        }
    }
    let mut server = TestServer::new(
        Http::new().get("/", |request, response| WHOLE.respond(request.head, response, Never)),
    );
    for range in ["bytes=0-0", "bytes=0-0,2-2", "lines=1"] {
        let response = server.request(TestRequest::get("/").header("Range", range));
        assert_eq!(response.status(), 500, "{range}");
    }
}

#[test]
fn a_selection_that_gives_up_ends_the_connection() {
    const WHOLE: Representation<'_> = Representation::new("text/plain", 10);
    struct Half(Selection<2>);
    impl Exchange<()> for Half {
        fn advance(&mut self, io: &mut Transfer<'_, ()>) -> Flow {
            self.0.advance(&WHOLE, io, |io, offset, most| {
                (offset < 5).then(|| io.write(&b"01234"[..most.min(5)]))
            })
        }
    }
    let mut server = TestServer::new(
        Http::new().get("/", |request, response| WHOLE.respond(request.head, response, Half)),
    );
    for (range, whole) in [("bytes=0-4", true), ("bytes=0-5", false), ("bytes=0-1,7-8", false), ("", false)] {
        let connection = server.start(TestRequest::get("/").header("Range", range));
        assert_eq!(server.response(connection).is_some(), whole, "{range}");
        assert_eq!(server.is_ended(connection), !whole, "{range}");
    }
}
