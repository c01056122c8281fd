//! What middleware and logs see of the responses that the server itself makes.

extern crate std;

use core::convert::Infallible;
use core::time::Duration;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use lightcone_core::Handler;

use crate::testing::{TestRequest, TestResponse, TestServer};
use crate::{
    BearerAuth, Cors, Done, Exchange, Flow, Headers, Http, Limits, Log, Middleware, Outcome, Reply, Request,
    RequestIds, Response, State, Stats, Status, TokenError, Transfer,
};

const ALLOWED: &str = "Access-Control-Allow-Origin";
const ORIGIN: &str = "https://one.example";
const CORS: Cors = Cors::origins(&[ORIGIN]);

fn from_origin(request: TestRequest) -> TestRequest {
    request.header("Origin", ORIGIN)
}

/// Returns the status, and whether a script of the origin can read the response.
fn seen(response: &TestResponse) -> (u16, bool) {
    (response.status(), response.header(ALLOWED) == Some(ORIGIN))
}

#[test]
fn a_group_wraps_the_misses_below_its_prefix() {
    let notes = Http::group()
        .get("/", |_request, response| response.text("notes"))
        .put("/{id}", |_request, response| response.text("put"))
        .wrap_each(CORS);
    let deep = Http::group().get("/x", |_request, response| response.text("x"));
    let merged = Http::group().get("/merged", |_request, response| response.text("merged")).wrap_each(CORS);
    let mut server = TestServer::new(
        Http::new()
            .get("/notes/own", |_request, response| response.text("own"))
            .get("/", |_request, response| response.text("root"))
            .nest("/notes/deep", deep)
            .nest("/outer", Http::group().nest("/notes", Http::group().wrap_each(CORS)))
            .merge(merged)
            .nest("/notes", notes),
    );
    let table = [
        ("GET", "/notes", 200, true),
        ("GET", "/notes/", 200, true),
        ("DELETE", "/notes", 405, true),
        ("GET", "/notes/1", 405, true),
        ("GET", "/notes/1/2", 404, true),
        // Not below the prefix.
        ("GET", "/notes2", 404, false),
        ("GET", "/nowhere", 404, false),
        ("DELETE", "/", 405, false),
        // The most specific route for other methods is the server's own.
        ("DELETE", "/notes/own", 405, false),
        // The group with the longest prefix is not wrapped.
        ("GET", "/notes/deep/y", 404, false),
        ("PUT", "/notes/deep/x", 405, false),
        // A group in a group, without routes.
        ("GET", "/outer/x", 404, false),
        ("GET", "/outer/notes/x", 404, true),
        // A merged group has no prefix: only the paths of its routes belong to it.
        ("PUT", "/merged", 405, true),
        ("PUT", "/mergedx", 404, false),
    ];
    for (method, path, status, readable) in table {
        let response = server.request(from_origin(TestRequest::new(method, path)));
        assert_eq!(seen(&response), (status, readable), "{method} {path}");
    }
    let allow = server.request(from_origin(TestRequest::new("DELETE", "/notes/1")));
    assert_eq!(allow.header("Allow"), Some("PUT, OPTIONS"));
    // So a group can be wrapped in CORS: it also answers the preflights of its routes, and no others.
    for (path, readable) in [("/notes/1", true), ("/merged", true), ("/notes/own", false), ("/", false)] {
        let ask = from_origin(TestRequest::new("OPTIONS", path));
        let response = server.request(ask.header("Access-Control-Request-Method", "PUT"));
        assert_eq!(seen(&response), (204, readable), "{path}");
        assert_eq!(response.header("Access-Control-Allow-Methods").is_some(), readable, "{path}");
    }
}

/// The fallback of the server answers below the prefixes of groups that have none, and is not wrapped by these.
#[test]
fn a_fallback_takes_the_misses_of_groups() {
    let group = || Http::group().get("/x", |_request, response| response.text("x")).wrap_each(CORS);
    let mut server = TestServer::new(
        Http::new()
            .nest("/a", group())
            .nest("/b", group().fallback(|_request, response| response.refuse(404)).wrap_each(CORS))
            .fallback(|_request, response| response.text("fallback")),
    );
    for (method, path, status, readable) in [
        ("GET", "/a/y", 200, false),
        ("PUT", "/a/x", 405, true),
        ("GET", "/b/y", 404, true),
        ("PUT", "/b/x", 405, true),
        ("GET", "/c", 200, false),
    ] {
        let response = server.request(from_origin(TestRequest::new(method, path)));
        assert_eq!(seen(&response), (status, readable), "{method} {path}");
    }
}

/// Collects what middleware and logs see.
#[derive(Default)]
struct Notes {
    id: String,
    lines: Vec<String>,
}

impl State for Notes {
    type Message = Infallible;
}

/// Notes what happens, and adds the status as a field.
struct Watch(&'static str);

impl Middleware<Notes> for Watch {
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, Notes>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        request.state.lines.push(format!("{} before", self.0));
        Ok(response)
    }

    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        headers.add("X-Watch", format_args!("{} {}", self.0, status.code()));
    }

    fn after(&mut self, state: &mut Notes, outcome: &Outcome<'_>) {
        state.lines.push(format!("{} after {outcome}", self.0));
    }
}

struct Lines(&'static str);

impl Log<Notes> for Lines {
    fn ended(&mut self, state: &mut Notes, outcome: &Outcome<'_>) {
        state.lines.push(format!("{} {outcome} {}", self.0, state.id));
    }
}

/// Reads the body, then does what its name says.
struct Slow(&'static str);

impl<S: State> Exchange<S> for Slow {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.consume(io.body().len());
        if !io.is_ended() {
            return Flow::More;
        }
        match self.0 {
            "forgets" => Flow::Done,
            "invalid" => io.respond(|_, response| response.header("a b", "").text("")),
            "streams" => io.stream(None, |_, response| response.header("a b", "")),
            _ => Flow::More,
        }
    }
}

fn notes(limits: Limits) -> TestServer<impl Handler> {
    static STATS: Stats = Stats::new();
    let ids = RequestIds::new(7, |state: &mut Notes, id: &str| state.id = id.to_string());
    let group = Http::<Notes, _, _>::group()
        .post("/whole", |request, response| {
            request.collect::<8, _>(response, |_, _, response| response.text(""))
        })
        .post("/held", |_request, response| response.stream(None, Slow("waits")))
        .post("/slow", |_request, response| response.defer(Slow("waits")))
        .post("/forgets", |_request, response| response.defer(Slow("forgets")))
        .post("/invalid", |_request, response| response.defer(Slow("invalid")))
        .post("/streams", |_request, response| response.defer(Slow("streams")))
        .get("/at-once", |_request, response| response.header("a b", "").text(""))
        .get("/formatted", |_request, response| response.header("a b", "").display(1))
        .get("/interim", |_request, response| response.status(700).empty())
        .wrap(Watch("group"))
        .log(Lines("group"));
    let server = Http::with(Notes::default())
        .limits(limits)
        .stats(&STATS)
        .nest("/in", group)
        .wrap_each(ids)
        .wrap_each(CORS)
        .wrap(Watch("all"))
        .post("/out", |request, response| {
            request.collect::<8, _>(response, |_, _, response| response.text(""))
        })
        .log(Lines("all"))
        .get("/lines", |request, response| {
            let lines = core::mem::take(&mut request.state.lines);
            response.text(&lines.join("\n"))
        });
    TestServer::untimed(server)
}

/// Returns the values of all fields with this name.
fn all<'r>(response: &'r TestResponse, name: &str) -> Vec<&'r str> {
    response.headers().filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
}

#[test]
fn a_body_that_is_refused_with_its_head_passes_the_middleware_of_its_route() {
    let mut server = notes(Limits { body: 10, ..Limits::DEFAULT });
    let body = [b'x'; 11];
    let ask =
        |path: &str| from_origin(TestRequest::new("POST", path)).header("X-Request-Id", "one").body(body);
    let connection = server.start(ask("/in/whole"));
    let response = server.response(connection).unwrap();
    assert_eq!((seen(&response), response.text()), ((413, true), "413 Content Too Large\n"));
    assert_eq!(all(&response, "X-Watch"), ["group 413", "all 413"]);
    assert_eq!(response.header("X-Request-Id"), Some("one"));
    assert_eq!(response.header("Connection"), Some("close"));
    server.end(connection);
    assert!(server.is_ended(connection));
    let lines = "all before\ngroup before\ngroup after POST /in/whole 413 22 0ms\n\
                 group POST /in/whole 413 22 0ms one\nall after POST /in/whole 413 22 0ms\n\
                 all POST /in/whole 413 22 0ms one";
    assert_eq!(server.get("/lines").text(), lines);
    // A route that was added after the middleware is not wrapped.
    let response = server.request(ask("/out"));
    assert_eq!((seen(&response), all(&response, "X-Watch")), ((413, false), [].to_vec()));
    assert_eq!(server.get("/lines").text(), "all POST /out 413 22 0ms one");
    // A path without a route.
    let response = server.request(ask("/in/none"));
    assert_eq!(
        (seen(&response), all(&response, "X-Watch")),
        ((413, true), ["group 413", "all 413"].to_vec())
    );
    // HEAD gets no body, and an expectation of `100 Continue` does not get it.
    let mut head =
        b"HEAD /in/at-once HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n".to_vec();
    head.extend_from_slice(b"Origin: https://one.example\r\n\r\n");
    let connection = server.connect();
    server.send(connection, &head);
    let text = String::from_utf8(server.receive(connection)).unwrap();
    assert!(text.starts_with("HTTP/1.1 413 ") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.contains("Access-Control-Allow-Origin: https://one.example\r\n"), "{text}");
}

/// Middleware that turns requests away comes first, as without a body.
#[test]
fn a_body_that_is_too_large_is_not_told_to_strangers() {
    let guard = BearerAuth::new(
        "notes",
        |_state: &mut (), token: &str| {
            if token == "good" { Ok(()) } else { Err(TokenError::Invalid) }
        },
    );
    static STATS: Stats = Stats::new();
    let routes = Http::new()
        .post("/", |_request, _response| -> Reply<Done> { panic!("the body is too large") })
        .limits(Limits { body: 10, ..Limits::DEFAULT })
        .stats(&STATS);
    let mut server = TestServer::new(routes.wrap(guard));
    for (token, status) in [("good", 413), ("bad", 401)] {
        let ask = TestRequest::new("POST", "/").header("Authorization", format!("Bearer {token}"));
        let connection = server.start(ask.body([0; 11]));
        let response = server.response(connection).unwrap();
        assert_eq!((response.status(), response.header("Connection")), (status, Some("close")));
    }
    let refused = STATS.refusals().find(|(status, _)| *status == Status::CONTENT_TOO_LARGE);
    assert_eq!((refused.map(|(_, count)| count), STATS.requests(), STATS.failures()), (Some(2), 0, 0));
}

#[test]
fn a_body_that_fails_later_passes_the_middleware_of_its_route() {
    let second = Duration::from_secs(1);
    let limits = Limits { body: 10, body_time: second, answer_time: Some(second), ..Limits::DEFAULT };
    let table = [
        ("/in/slow", "Transfer-Encoding: chunked", "b\r\n01234567890\r\n", 413),
        ("/in/slow", "Transfer-Encoding: chunked", "x\r\n", 400),
        ("/in/slow", "Content-Length: 3", "12", 408),
        ("/in/slow", "Content-Length: 3", "123", 503),
        ("/in/held", "Transfer-Encoding: chunked", "x\r\n", 400),
        ("/in/whole", "Content-Length: 9", "123456789", 413),
        ("/in/forgets", "Content-Length: 1", "1", 500),
        ("/in/invalid", "Content-Length: 1", "1", 500),
        ("/in/streams", "Content-Length: 1", "1", 500),
    ];
    for (path, field, body, status) in table {
        let mut server = notes(limits);
        let connection = server.connect();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nX-Request-Id: one\r\n{field}");
        server.send(connection, format!("{head}\r\n\r\n{body}").as_bytes());
        server.advance(2 * second);
        let response = server.response(connection).unwrap();
        assert_eq!(seen(&response), (status, true), "{path} {body:?}");
        let marks = [format!("group {status}"), format!("all {status}")];
        assert_eq!(all(&response, "X-Watch"), marks, "{path} {body:?}");
        assert_eq!(response.header("X-Request-Id"), Some("one"), "{path} {body:?}");
        let lines = server.get("/lines");
        for who in ["group", "all"] {
            for what in [format!("{who} after POST "), format!("{who} POST {path} {status} ")] {
                let count = lines.text().lines().filter(|line| line.starts_with(&what)).count();
                assert_eq!(count, 1, "{what:?} of {}", lines.text());
            }
        }
    }
}

#[test]
fn a_response_that_cannot_be_sent_is_replaced_by_one_with_the_fields_of_middleware() {
    let mut server = notes(Limits::DEFAULT);
    for path in ["/in/at-once", "/in/formatted", "/in/interim"] {
        let ask = from_origin(TestRequest::get(path)).header("X-Request-Id", "one");
        let response = server.request(ask);
        assert_eq!(
            (seen(&response), response.text()),
            ((500, true), "500 Internal Server Error\n"),
            "{path}"
        );
        // The group's saw the status that was to be sent; what it added then is not sent twice.
        assert_eq!(all(&response, "X-Watch"), ["group 500", "all 500"], "{path}");
        assert_eq!(response.header("X-Request-Id"), Some("one"), "{path}");
        assert_eq!(response.header("Connection"), None, "{path}");
    }
    // A client that waits for `100 Continue` may send the body or not, so the connection ends.
    let connection = server.connect();
    let head = "GET /in/at-once HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
    server.send(connection, head.as_bytes());
    assert_eq!(server.response(connection).unwrap().header("Connection"), Some("close"));
}

/// Adds more fields to one status than a response can have.
struct Flood(u16);

impl<S: State> Middleware<S> for Flood {
    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        headers.add("X-Flood", "f".repeat(if status.code() == self.0 { 3_000 } else { 1 }));
    }
}

#[test]
fn fields_that_cannot_be_sent_do_not_keep_back_the_refusal() {
    for (status, flood) in [(500, 200), (500, 500), (400, 400), (413, 413)] {
        let routes = Http::new()
            .get("/", |_request, response| response.header("a b", "").text(""))
            .limits(Limits { body: 10, ..Limits::DEFAULT });
        let mut server = TestServer::new(routes.wrap(Flood(flood)));
        let connection = server.connect();
        let length = if status == 413 { 11 } else { 0 };
        let host = if status == 400 { "" } else { "Host: a\r\n" };
        server
            .send(connection, format!("GET / HTTP/1.1\r\n{host}Content-Length: {length}\r\n\r\n").as_bytes());
        let response = server.response(connection).unwrap();
        let expected = (flood != status).then_some("f");
        assert_eq!((response.status(), response.header("X-Flood")), (status, expected), "{flood}");
    }
}

#[test]
fn a_head_that_cannot_be_read_gets_the_fields_that_every_response_has() {
    let mut server = notes(Limits { head: 500, target: 100, ..Limits::DEFAULT });
    let long = "t".repeat(200);
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_string(), 400),
        (format!("GET /in/{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET /in HTTP/1.1\r\nHost: a\r\nX: {long}{long}{long}\r\n\r\n"), 431),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_string(), 505),
    ] {
        let connection = server.connect();
        server.send(connection, head.as_bytes());
        let response = server.response(connection).unwrap();
        assert_eq!(response.status(), status, "{head}");
        // No group's, since the path may be anything; nor what is kept of a request.
        assert_eq!(all(&response, "X-Watch"), [format!("all {status}")], "{head}");
        assert_eq!((response.header("Vary"), response.header(ALLOWED)), (Some("Origin"), None), "{head}");
        assert_eq!(response.header("X-Request-Id"), None, "{head}");
    }
    let routes = Http::new().get("/", |_request, response| response.text("in"));
    let mut server = TestServer::new(routes.wrap_each(Cors::any().expose(&["X-Count"])));
    let connection = server.connect();
    server.send(connection, b"GET / HTTP/1.1\r\n\r\n");
    let response = server.response(connection).unwrap();
    assert_eq!((response.status(), response.header(ALLOWED)), (400, Some("*")));
}

/// A handler or middleware that defers the response but keeps no exchange can never respond.
#[test]
fn a_response_that_nothing_can_make_is_a_500() {
    struct Defers;
    impl Middleware<()> for Defers {
        fn before<'r>(
            &mut self,
            _: &mut Request<'_, ()>,
            response: Response<'r>,
        ) -> Result<Response<'r>, Reply<Done>> {
            Err(response.defer(Done))
        }
    }
    let deferring = Http::group().get("/inside", |_request, response| response.text("in")).wrap(Defers);
    let mut server = TestServer::new(
        Http::new()
            .get("/any", |_request, response| response.defer(Done).into_any::<Done>())
            .get("/done", |_request, response| response.defer(Done))
            .merge(deferring)
            .limits(Limits { body: 3, ..Limits::DEFAULT }),
    );
    let large = server.request(TestRequest::new("GET", "/inside").body("1234"));
    assert_eq!(large.status(), 413);
    for target in ["/any", "/done", "/inside"] {
        assert_eq!(server.get(target).status(), 500, "{target}");
    }
}
