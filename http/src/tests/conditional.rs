//! Conditional requests over the testing client (RFC 9110, 13).

extern crate std;

use std::format;
use std::string::String;

use crate::testing::{TestRequest, TestServer};
use crate::{ETag, Http, Validators, date};

/// The clock of a test server: Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: u64 = 784_111_777;
const CHANGED: u64 = NOW - 3600;

fn text(unix_time: u64) -> String {
    String::from_utf8(date(unix_time).to_vec()).unwrap()
}

/// Returns the status of a request to a representation with these validators, and whether the handler ran.
fn status(validators: Validators<'static>, method: &str, fields: &[(&str, &str)]) -> (u16, bool) {
    let mut server = TestServer::new(
        Http::new()
            .get("/", move |request, response| {
                request.conditional(response, validators, |_request, response| response.text("done"))
            })
            .put("/", move |request, response| {
                request.conditional(response, validators, |_request, response| response.text("done"))
            })
            .on(crate::Method::Options, "/", move |request, response| {
                request.conditional(response, validators, |_request, response| response.text("done"))
            }),
    );
    let request = fields.iter().fold(TestRequest::new(method, "/"), |r, (name, value)| r.header(name, value));
    let response = server.request(request);
    let done = if method == "HEAD" { response.status() == 200 } else { response.text() == "done" };
    (response.status(), done)
}

#[test]
fn preconditions_are_evaluated_in_the_order_of_the_standard() {
    let both = Validators::new().etag(ETag::strong("a")).last_modified(CHANGED);
    let (before, same, after) = (text(CHANGED - 1), text(CHANGED), text(CHANGED + 1));
    let (before, same, after) = (before.as_str(), same.as_str(), after.as_str());
    // The fields, then the statuses of GET and PUT.
    type Row<'a> = (&'a [(&'a str, &'a str)], u16, u16);
    let table: &[Row<'_>] = &[
        (&[], 200, 200),
        (&[("If-Match", "\"a\"")], 200, 200),
        (&[("If-Match", "\"b\"")], 412, 412),
        (&[("If-Match", "\"b\", \"a\"")], 200, 200),
        (&[("If-Match", "\"b\""), ("if-match", "\"a\"")], 200, 200),
        (&[("If-Match", "*")], 200, 200),
        (&[("If-Match", "W/\"a\"")], 412, 412),
        (&[("If-Match", "a")], 412, 412),
        (&[("If-Match", "")], 412, 412),
        (&[("If-Unmodified-Since", before)], 412, 412),
        (&[("If-Unmodified-Since", same)], 200, 200),
        (&[("If-Unmodified-Since", after)], 200, 200),
        (&[("If-Unmodified-Since", "yesterday")], 200, 200),
        // If-Match takes the place of If-Unmodified-Since.
        (&[("If-Unmodified-Since", before), ("If-Match", "\"a\"")], 200, 200),
        (&[("If-Unmodified-Since", after), ("If-Match", "\"b\"")], 412, 412),
        (&[("If-None-Match", "\"a\"")], 304, 412),
        (&[("If-None-Match", "W/\"a\"")], 304, 412),
        (&[("If-None-Match", "\"b\"")], 200, 200),
        (&[("If-None-Match", ", ,\"b\" ,\t\"a\"")], 304, 412),
        (&[("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")], 304, 412),
        (&[("If-None-Match", "*")], 304, 412),
        (&[("If-None-Match", "\"b\" x, \"a\"")], 200, 200),
        (&[("If-Modified-Since", before)], 200, 200),
        (&[("If-Modified-Since", same)], 304, 200),
        (&[("If-Modified-Since", after)], 304, 200),
        (&[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], 304, 200),
        (&[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], 304, 200),
        (&[("If-Modified-Since", same), ("If-Modified-Since", same)], 200, 200),
        (&[("If-Modified-Since", "\"a\"")], 200, 200),
        // If-None-Match takes the place of If-Modified-Since.
        (&[("If-Modified-Since", same), ("If-None-Match", "\"b\"")], 200, 200),
        (&[("If-Modified-Since", before), ("If-None-Match", "\"a\"")], 304, 412),
        // A failed first step decides.
        (&[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")], 412, 412),
        (&[("If-Match", "\"a\""), ("If-None-Match", "\"a\"")], 304, 412),
        (&[("If-Unmodified-Since", before), ("If-Modified-Since", same)], 412, 412),
    ];
    for (fields, get, put) in table {
        for (method, expected) in [("GET", *get), ("HEAD", *get), ("PUT", *put), ("OPTIONS", 200)] {
            assert_eq!(status(both, method, fields), (expected, expected == 200), "{method} {fields:?}");
        }
    }
}

#[test]
fn validators_that_a_representation_lacks() {
    let (same, after) = (text(CHANGED), text(CHANGED + 1));
    let weak = Validators::from(ETag::weak("a"));
    assert_eq!(status(weak, "GET", &[("If-None-Match", "\"a\"")]).0, 304);
    assert_eq!(status(weak, "PUT", &[("If-Match", "W/\"a\"")]).0, 412);
    assert_eq!(status(weak, "PUT", &[("If-Match", "\"a\"")]).0, 412);
    assert_eq!(status(weak, "GET", &[("If-Modified-Since", &after)]).0, 200);
    assert_eq!(status(weak, "GET", &[("If-Unmodified-Since", &same)]).0, 200);
    let none = Validators::new();
    assert_eq!(status(none, "PUT", &[("If-None-Match", "*")]).0, 412);
    assert_eq!(status(none, "PUT", &[("If-Match", "*")]).0, 200);
    assert_eq!(status(none, "GET", &[("If-None-Match", "\"\"")]).0, 200);
    let absent = Validators::absent();
    assert_eq!(status(absent, "PUT", &[("If-None-Match", "*")]).0, 200);
    assert_eq!(status(absent, "PUT", &[("If-Match", "*")]).0, 412);
}

#[test]
fn fields_of_the_responses() {
    let both = Validators::new().etag(ETag::number(7)).last_modified(CHANGED);
    let mut server = TestServer::new(Http::new().get("/", move |request, response| {
        let response = response.header("Cache-Control", "no-cache");
        request.conditional(response, both, |_request, response| response.text("done"))
    }));
    let changed = text(CHANGED);
    let whole = server.get("/");
    assert_eq!(whole.header("ETag"), Some("\"0000000000000007\""));
    assert_eq!(whole.header("Last-Modified"), Some(changed.as_str()));
    let request = TestRequest::get("/").header("If-None-Match", "\"0000000000000007\"");
    let connection = server.start(request);
    let expected = "HTTP/1.1 304 Not Modified\r\nServer: lightcone\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        Cache-Control: no-cache\r\nETag: \"0000000000000007\"\r\n\r\n";
    assert_eq!(String::from_utf8(server.receive(connection)).unwrap(), expected);
    let refused = server.request(TestRequest::get("/").header("If-Match", "\"8\""));
    assert_eq!((refused.status(), refused.header("ETag")), (412, None));
    // A date in the future is sent as the current one, and compared as that.
    server.set_unix_time(Some(CHANGED - 10));
    let earlier = text(CHANGED - 10);
    assert_eq!(server.get("/").header("Last-Modified"), Some(earlier.as_str()));
    server.set_unix_time(None);
    assert_eq!(server.get("/").header("Last-Modified"), Some(changed.as_str()));
}

#[test]
fn a_change_that_is_refused_leaves_the_connection_usable() {
    let mut server = TestServer::new(Http::new().put("/", |request, response| {
        request.conditional(response, ETag::strong("new"), |request, response| {
            request.gather(response, |_state: &mut (), body, response| response.display(body.len()))
        })
    }));
    let put = |tag: &str| TestRequest::new("PUT", "/").header("If-Match", format!("\"{tag}\"")).body("12345");
    let connection = server.start(put("old"));
    assert_eq!(server.response(connection).unwrap().status(), 412);
    server.send_request(connection, put("new"));
    assert_eq!(server.response(connection).unwrap().text(), "5");
}
