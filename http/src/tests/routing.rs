//! Routing: which handler serves a request, and the middleware around it.

extern crate std;

use std::cell::RefCell;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use core::convert::Infallible;

use lightcone_core::{Config, Handler};

use crate::tests::random::Random;
use crate::{
    AccessLog, Done, Headers, Http, Method, Middleware, Outcome, Reply, Request, Response, State, Status,
};

use super::rig::{Rig, config, ok, refusal, response};

/// Returns the body of the response to a `GET`, or its status.
fn get<H: Handler + 'static>(rig: &mut Rig<H>, path: &str) -> String {
    let peer = rig.connect();
    rig.send(peer, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
    let answer = rig.take(peer);
    rig.end(peer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    if head.contains("200 OK") { body.into() } else { head[9..12].into() }
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let forwards = Http::new()
        .get("/{*all}", |_q, r| r.text("all"))
        .get("/a/{b}", |_q, r| r.text("a/{b}"))
        .get("/a/b", |_q, r| r.text("a/b"))
        .get("/{a}/b", |_q, r| r.text("{a}/b"));
    let backwards = Http::new()
        .get("/{a}/b", |_q, r| r.text("{a}/b"))
        .get("/a/b", |_q, r| r.text("a/b"))
        .get("/a/{b}", |_q, r| r.text("a/{b}"))
        .get("/{*all}", |_q, r| r.text("all"));
    let (mut forwards, mut backwards) = (Rig::untimed(forwards), Rig::untimed(backwards));
    for (path, expected) in
        [("/a/b", "a/b"), ("/a/c", "a/{b}"), ("/c/b", "{a}/b"), ("/c", "all"), ("/a/b/c", "all")]
    {
        assert_eq!(get(&mut forwards, path), expected, "{path}");
        assert_eq!(get(&mut backwards, path), expected, "{path}");
        forwards.peers.clear();
    }
}

#[test]
fn a_route_for_head_and_one_for_get_with_the_same_pattern_answer_their_own_method() {
    fn mark<'q>(way: &'static str) -> impl FnMut(Request<'q, ()>, Response<'_>) -> Reply<Done> {
        move |request, response| {
            response.header("X-Way", format_args!("{way} {}", request.param("id"))).text("in")
        }
    }
    let forwards =
        Http::new()
            .get("/u/{id}", |q, r| mark("get")(q, r))
            .on(Method::Head, "/u/{id}", |q, r| mark("head")(q, r));
    let backwards = Http::new()
        .on(Method::Head, "/u/{id}", |q, r| mark("head")(q, r))
        .get("/u/{id}", |q, r| mark("get")(q, r));
    let nested = Http::new()
        .on(Method::Head, "/u/{other}", |q, r| {
            r.header("X-Way", format_args!("head {}", q.param("other"))).text("in")
        })
        .nest("/u", Http::group().get("/{id}", |q, r| mark("get")(q, r)));
    both_ways(forwards);
    both_ways(backwards);
    both_ways(nested);
}

fn both_ways(app: Http<(), impl crate::Routes<()> + 'static>) {
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    for (method, way, body) in [("HEAD", "head", ""), ("GET", "get", "in"), ("HEAD", "head", "")] {
        rig.send(peer, format!("{method} /u/7 HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(
            rig.take(peer),
            response("200 OK", &format!("X-Way: {way} 7\r\n"), "in")
                .replace("\r\n\r\nin", &format!("\r\n\r\n{body}"))
        );
    }
}

#[test]
fn groups_parameters_and_fallback() {
    let users = Http::group()
        .get("/", |_q, r| r.text("users"))
        .get("/{id}", |request, r| r.text(request.param("id")))
        .post("/{id}", |_q, r| r.text("changed"));
    let app = Http::new()
        .get("/", |request, r| r.text(request.query("x").unwrap_or("-")))
        .nest("/users", users)
        .merge(
            Http::group()
                .get("/merged", |_q, r| r.text("merged"))
                .get("/f/{*rest}", |q, r| r.text(q.param("rest"))),
        )
        .nest(
            "/v1",
            Http::group().nest(
                "/deep",
                Http::group()
                    .get("/{x}/{y}", |q, r| r.display(format_args!("{}-{}", q.param("y"), q.param("x")))),
            ),
        )
        .fallback(|request, r| r.status(404).text(request.param("path")));
    let mut rig = Rig::untimed(app);
    let table = [
        ("/", "-"),
        ("/?x=1", "1"),
        ("/users", "users"),
        ("/users/", "users"),
        ("/users/17", "17"),
        ("/usersx", "404"),
        ("/users/17/x", "404"),
        ("/merged", "merged"),
        ("/f/a/b", "a/b"),
        ("/v1/deep/1/2", "2-1"),
        ("/v1", "404"),
    ];
    for (path, expected) in table {
        assert_eq!(get(&mut rig, path), expected, "{path}");
    }
    let peer = rig.connect();
    rig.send(peer, b"PUT /users/17 HTTP/1.1\r\nHost: a\r\n\r\nGET /x/y HTTP/1.1\r\nHost: a\r\n\r\n");
    let not_allowed = refusal("405 Method Not Allowed", "Allow: GET, HEAD, POST, OPTIONS\r\n");
    assert_eq!(rig.take(peer), not_allowed + &response("404 Not Found", "", "x/y"));
}

#[test]
#[should_panic(expected = "GET /a has a route already")]
fn two_routes_for_the_same() {
    let _ = Http::new().get("/a", |_q, r| r.text("")).get("/a", |_q, r| r.text(""));
}

#[test]
#[should_panic(expected = "GET /a/b has a route already")]
fn two_routes_for_the_same_by_merging() {
    let group = Http::group().get("/b", |_q, r| r.text(""));
    let _ = Http::new().get("/a/b", |_q, r| r.text("")).merge(Http::group().nest("/a", group));
}

#[test]
#[should_panic(expected = "POST /a/ has a route already")]
fn two_routes_for_the_same_by_nesting() {
    let _ = Http::new()
        .post("/a", |_q, r| r.text(""))
        .nest("/a", Http::group().get("/", |_q, r| r.text("")).post("/", |_q, r| r.text("")));
}

#[test]
#[should_panic(expected = "PUT /a has a route already")]
fn a_route_for_what_a_group_has() {
    let _ = Http::new()
        .nest("/a", Http::group().put("/", |_q, r| r.text("")).wrap(Tag("")))
        .put("/a", |_q, r| r.text(""));
}

#[test]
#[should_panic(expected = "GET /u/{name} has a route already: GET /u/{id}")]
fn two_names_for_the_same_parameter() {
    let _ = Http::new().get("/u/{id}", |_q, r| r.text("")).get("/u/{name}", |_q, r| r.text(""));
}

#[test]
#[should_panic(expected = "GET /u/v/{*rest} has a route already: GET /u/v/{*all}")]
fn two_names_for_the_same_parameter_of_two_groups() {
    let one = Http::group().nest("/v", Http::group().get("/{*all}", |_q, r| r.text("")));
    let other = Http::group().get("/v/{*rest}", |_q, r| r.text(""));
    let _ = Http::new().nest("/u", one).nest("/u", other);
}

#[test]
#[should_panic(expected = "the fallback of /a has a route already: the fallback of /a")]
fn two_fallbacks_for_the_same() {
    let group = || Http::group().nest("/a", Http::group().fallback(|_q, r| r.text("")));
    let _ = Http::new().merge(group()).fallback(|_q, r| r.text("")).merge(group());
}

#[test]
#[should_panic(expected = "has 31 segments at most")]
fn too_many_segments_with_the_prefix() {
    let long = "/a".repeat(30).leak();
    let group = || Http::group().get("/{a}/{b}", |_q, r| r.text(""));
    let _ = Http::new().nest(&long[..2 * 29], group()).nest(long, group());
}

#[test]
fn head_beside_get_on_one_pattern_in_both_orders() {
    let group = || {
        Http::group().get("/{a}/{b}", |_q, r| r.header("X", "get").text("get")).on(
            Method::Head,
            "/{a}/{c}",
            |q, r| r.header("X", q.param("c")).text("head"),
        )
    };
    let first = Http::new()
        .on(Method::Head, "/x/{a}", |q, r| r.header("X", q.param("a")).text("head"))
        .get("/x/{b}", |_q, r| r.header("X", "get").text("get"))
        .nest("/g", group());
    let last = Http::new().nest("/g", group()).get("/x/{b}", |_q, r| r.header("X", "get").text("get")).on(
        Method::Head,
        "/x/{a}",
        |q, r| r.header("X", q.param("a")).text("head"),
    );
    fn check<H: Handler + 'static>(app: H) {
        let mut rig = Rig::untimed(app);
        let peer = rig.connect();
        for path in ["/x/1", "/g/2/1"] {
            rig.send(peer, format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            let answer = rig.take(peer);
            assert!(answer.contains("\r\nX: 1\r\n") && answer.contains("Content-Length: 4\r\n"), "{answer}");
            rig.send(peer, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            assert!(rig.take(peer).contains("\r\nX: get\r\n"));
        }
    }
    check(first);
    check(last);
}

#[test]
fn a_group_is_as_specific_as_with_its_prefix() {
    let app = Http::new()
        .nest(
            "/static",
            Http::group().get("/{*file}", |q, r| r.display(format_args!("file {}", q.param("file")))),
        )
        .get("/{*page}", |_q, r| r.text("page"))
        .get("/{user}/{repo}", |_q, r| r.text("repo"))
        .nest("/api", Http::group().get("/{id}", |q, r| r.display(format_args!("id {}", q.param("id")))));
    let mut rig = Rig::untimed(app);
    for (path, expected) in [
        ("/static/app.js", "file app.js"),
        ("/static/js/app.js", "file js/app.js"),
        ("/api/7", "id 7"),
        ("/me/api", "repo"),
        ("/api/7/x", "page"),
        ("/static", "page"),
    ] {
        assert_eq!(get(&mut rig, path), expected, "{path}");
        rig.end(rig.peers.len() - 1);
    }
}

/// The routes of a router: method, prefix and pattern.
type Set = [(Method, &'static str, &'static str); 6];

/// Adds the routes with these numbers, with or without their prefixes.
macro_rules! add {
    ($http:expr, $set:expr, $whole:expr; $($number:literal)*) => {
        $http$(.on(
            $set[$number].0,
            if $whole { format!("{}{}", $set[$number].1, $set[$number].2).leak() } else { $set[$number].2 },
            |_q, r| r.header("X-Route", $number).text(""),
        ))*
    };
}

/// Returns the responses of a router to all of `paths`; `None` if building it panics.
fn answers<H: Handler + 'static>(make: impl FnOnce() -> H, paths: &[String]) -> Option<Vec<String>> {
    let app = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).ok()?;
    let small = Config {
        sockets: 1,
        block_size: 512,
        output_blocks: 4,
        output_limit: 4,
        receive_blocks: 0,
        ..config()
    };
    let mut rig = Rig::with_config(app, &small);
    let peer = rig.connect();
    let ask = |path: &String| {
        rig.send(peer, format!("{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        rig.take(peer)
    };
    Some(paths.iter().map(ask).collect())
}

/// Whether panics can be caught. Targets on which they can't also have little memory.
const CATCHES: bool = cfg!(not(target_os = "none"));
const ROUNDS: usize = if CATCHES { 300 } else { 2 };

/// Returns whether two routes of a set are for the same paths, or a pattern has a name twice.
fn is_refused(set: &Set) -> bool {
    let shape = |(method, prefix, pattern): (Method, &str, &str)| {
        let segments = format!("{prefix}{pattern}");
        let names = segments.split('/').map(|segment| match segment {
            "{x}" | "{y}" | "{z}" => "{}",
            literal => literal,
        });
        (method, names.collect::<Vec<_>>().join("/"))
    };
    let shapes = set.map(shape);
    let twice = |pattern: &str| ["{x}", "{y}", "{z}"].iter().any(|name| pattern.matches(name).count() > 1);
    set.iter().any(|(_, _, pattern)| twice(pattern))
        || (1..shapes.len()).any(|at| shapes[..at].contains(&shapes[at]))
}

#[test]
fn grouping_changes_nothing() {
    let mut random = Random::new(Random::seed());
    let (mut good, mut bad) = (0, 0);
    for _ in 0..ROUNDS {
        let prefix = |random: &mut Random| random.pick(&["/a", "/b", "/a/b", "/a/a"]);
        let (one, two, deep) = (prefix(&mut random), prefix(&mut random), random.pick(&["/a", "/b"]));
        let inner: &'static str = format!("{two}{deep}").leak();
        let set: Set = [one, one, two, inner, "", ""].map(|prefix| {
            let mut pattern = String::new();
            for _ in 0..=random.below(3) {
                pattern += random.pick(&["/a", "/b", "/{x}", "/{y}", "/{z}"]);
            }
            if random.below(4) == 0 {
                pattern += "/{*rest}";
            }
            (random.pick(&[Method::Get, Method::Get, Method::Head, Method::Post]), prefix, &*pattern.leak())
        });
        let mut requests = Vec::new();
        for path in ["/", "/a/", "/a/b/", "*"].map(String::from) {
            requests.push(format!("GET {path}"));
        }
        for _ in 0..60 {
            let mut path = random.pick(&["GET ", "HEAD ", "POST ", "PUT "]).to_string();
            for _ in 0..=random.below(5) {
                path += random.pick(&["/a", "/b", "/c"]);
            }
            requests.push(path);
        }
        requests.retain(|request| request != "GET *");
        if !CATCHES && is_refused(&set) {
            continue;
        }
        let flat = answers(|| add!(Http::new(), set, true; 0 1 2 3 4 5), &requests);
        let back = answers(|| add!(Http::new(), set, true; 5 4 3 2 1 0), &requests);
        let nested = answers(
            || {
                let deeper = add!(Http::group(), set, false; 3);
                let group = add!(Http::group().nest(deep, deeper), set, false; 2);
                let app = Http::new().nest(one, add!(Http::group(), set, false; 1 0));
                add!(app.nest(two, group), set, false; 4 5)
            },
            &requests,
        );
        let merged = answers(
            || {
                let group = add!(Http::group(), set, false; 4).nest(one, add!(Http::group(), set, false; 0));
                let app = add!(Http::new(), set, false; 5).merge(group.wrap(Tag("t")));
                let app = app
                    .nest(one, add!(Http::group(), set, false; 1))
                    .nest(inner, add!(Http::group(), set, false; 3));
                app.nest(two, add!(Http::group(), set, false; 2))
            },
            &requests,
        );
        let merged = merged.map(|answers| {
            answers
                .iter()
                .map(|answer| {
                    let mark =
                        |answer: String, status| answer.replace(&format!("X-Head: t {status}\r\n"), "");
                    // a group wraps what the server responds to requests for its routes
                    [200, 404, 405].into_iter().fold(answer.replace("X-Before: t\r\n", ""), mark)
                })
                .collect()
        });
        assert_eq!(flat.is_none(), is_refused(&set), "{set:?}");
        assert_eq!(flat, back, "{set:?}");
        assert_eq!(flat, nested, "{set:?}");
        assert_eq!(flat, merged, "{set:?}");
        *(if flat.is_some() { &mut good } else { &mut bad }) += 1;
    }
    assert!(!CATCHES || good > 50 && bad > 20, "{good} {bad}");
}

/// Builds a group below `/a` with a pattern of this length, including the prefix.
fn nested(length: usize) {
    let long = format!("/{}", "x".repeat(length - 3)).leak();
    let _ = Http::new().nest("/a", Http::group().get(long, |_q, r| r.text("")));
}

#[test]
fn the_longest_pattern_that_can_be_nested() {
    nested(256);
}

#[test]
#[should_panic(expected = "a pattern with its prefixes has 256 bytes at most")]
fn a_pattern_too_long_to_be_nested() {
    nested(257);
}

#[test]
fn groups_may_have_the_same_patterns_with_other_methods_and_prefixes() {
    let group = || Http::group().get("/x", |_q, r| r.text("")).post("/y", |_q, r| r.text(""));
    let _ = Http::new()
        .get("/y", |_q, r| r.text(""))
        .put("/x", |_q, r| r.text(""))
        .merge(group())
        .nest("/a", group())
        .nest("/b", group());
}

static LONG: [u8; 40_000] = [b'l'; 40_000];

struct App {
    hits: u64,
    log: Vec<String>,
}

impl State for App {
    type Message = Infallible;
    fn log(&mut self, outcome: &Outcome<'_>) {
        self.log.push(outcome.to_string());
    }
}

struct Tag(&'static str);

impl<S: State> Middleware<S> for Tag {
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        match request.head.field("x-stop") {
            Some(who) if who == self.0.as_bytes() => Err(response.refuse(403)),
            _ => Ok(response.header("X-Before", self.0)),
        }
    }

    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        headers.add("X-Head", format_args!("{} {}", self.0, status.code()));
    }
}

#[test]
fn middleware_and_state() {
    let app = Http::with(App { hits: 0, log: Vec::new() })
        .get("/", |request, response| {
            request.state.hits += 1;
            response.display(request.state.hits)
        })
        .post("/", |request, response| {
            request.collect::<8, _>(response, |state: &mut App, body, response| {
                state.hits += body.len() as u64;
                response.status(201).display(state.hits)
            })
        })
        .wrap(Tag("inner"))
        .log(AccessLog::new())
        .wrap(Tag("outer"));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(peer, b"POST /?x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    rig.send(peer, b"PUT / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX-Stop: inner\r\n\r\n");
    let around = |status: &str, body: &str| {
        let code = &status[..3];
        // Fields are in the order in which they were added; the type is a field that `display` adds.
        (format!("X-Head: inner {code}\r\nX-Head: outer {code}\r\n"), format!("\r\n\r\n{body}"))
    };
    let answers = rig.take(peer);
    for (status, body) in [("200 OK", "1"), ("201 Created", "4")] {
        let (fields, body) = around(status, body);
        assert!(answers.contains(&fields) && answers.contains(&body), "{answers}");
    }
    assert!(
        answers.contains("X-Before: outer\r\nX-Before: inner\r\nX-Head: inner 404\r\nX-Head: outer 404\r\n")
    );
    assert!(answers.contains("X-Head: inner 405\r\nX-Head: outer 405\r\n"), "{answers}");
    assert!(answers.contains("X-Before: outer\r\nX-Head: outer 403\r\n"), "{answers}");
    let log = [
        "GET / 200 1 0ms",
        "GET /no 404 14 0ms",
        "POST /?x 201 1 0ms",
        "PUT / 405 23 0ms",
        "GET / 403 14 0ms",
    ];
    assert_eq!(rig.handler().state_mut().log, log);
}

#[test]
fn a_log_to_a_closure() {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&lines);
    let app = Http::new()
        .get("/foo", |_q, r| r.text("bar"))
        .log(AccessLog::to(move |outcome: &Outcome<'_>| sink.borrow_mut().push(outcome.to_string())));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), ok("bar"));
    assert_eq!(*lines.borrow(), ["GET /foo 200 3 0ms"]);
}

#[test]
fn kinds_of_answers() {
    let app = Http::new()
        .get("/json", |_q, r| r.json("{}"))
        .get("/html", |_q, r| r.status(202).html("<p>"))
        .get("/bytes", |_q, r| r.header("Content-Type", "image/x").bytes(b"\x01"))
        .get("/close", |_q, r| r.close().text("bye"))
        .get("/broken", |_q, r| r.header("X", "a\r\nb").text("never"))
        .get("/framed", |_q, r| r.header("Content-Length", 5).text("never"))
        .get("/odd", |_q, r| r.status(299).text("x"))
        .get("/interim", |_q, r| r.status(101).text("x"))
        .get("/no-status", |_q, r| r.status(600).text("x"))
        .get("/no-refusal", |_q, r| r.refuse(0))
        .get("/mended", |_q, r| r.status(99).status(200).text("x"))
        .get("/long", |_q, r| r.text(core::str::from_utf8(&[b'l'; 16_000]).unwrap()))
        .get("/too-long", |_q, r| r.text(core::str::from_utf8(&LONG).unwrap()));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    let mut ask = |path: &str| {
        rig.send(peer, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        rig.take(peer)
    };
    let text = "Content-Type: text/plain; charset=utf-8\r\n";
    assert_eq!(ask("/json"), ok("{}").replace(text, "Content-Type: application/json\r\n"));
    assert_eq!(ask("/html"), response("202 Accepted", "", "<p>").replace("text/plain", "text/html"));
    assert_eq!(ask("/bytes"), ok("\x01").replace(text, "Content-Type: image/x\r\n"));
    let failed = refusal("500 Internal Server Error", "");
    for path in ["/broken", "/framed", "/interim", "/no-status", "/no-refusal", "/mended", "/too-long"] {
        assert_eq!(ask(path), failed, "{path}");
    }
    assert_eq!(ask("/odd"), response("299 ", "", "x"));
    assert_eq!(ask("/long").len(), ok("").len() + 4 + 16_000);
    assert_eq!(ask("/close"), response("200 OK", "Connection: close\r\n", "bye"));
    assert!(rig.peers[peer].shut);
}

#[test]
fn the_parts_of_a_request() {
    let app = Http::new().fallback(|request, response| {
        let (method, path) = (request.method(), request.path());
        let told = [request.header("x-a"), request.cookie("c"), request.query("q")];
        response.display(format_args!("{method} {path} {told:?} {}", request.peer()))
    });
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(
        peer,
        b"PUT /a%20/!b?q=1 HTTP/1.1\r\nHost: a\r\nX-A: 2\r\nCookie: b=1\r\nCookie: d; c=3\r\n\r\n",
    );
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\nX-A: \xff\r\nCookie: c=\xff\r\n\r\n");
    let bodies = [
        r#"PUT /a%20/!b [Some("2"), Some("3"), Some("1")] 192.0.2.1:1234"#,
        "GET / [None, None, None] 192.0.2.1:1234",
    ];
    assert_eq!(rig.take(peer), bodies.map(ok).concat());
}

#[test]
fn redirects() {
    let app = Http::new()
        .get("/303", |_q, r| r.redirect("/there"))
        .get("/308", |_q, r| r.status(308).redirect("http://b/there"))
        .get("/404", |_q, r| r.status(404).redirect("/there"))
        .get("/broken", |_q, r| r.redirect("/\r\nSet-Cookie: a"));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    let mut ask = |path: &str| {
        rig.send(peer, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        rig.take(peer)
    };
    let type_line = "Content-Type: text/plain; charset=utf-8\r\n";
    let other = response("303 See Other", "Location: /there\r\n", "").replace(type_line, "");
    let permanent =
        response("308 Permanent Redirect", "Location: http://b/there\r\n", "").replace(type_line, "");
    assert_eq!([ask("/303"), ask("/308")], [other, permanent]);
    assert_eq!(ask("/404"), refusal("500 Internal Server Error", ""));
    assert_eq!(ask("/broken"), refusal("500 Internal Server Error", ""));
}

#[test]
fn json_that_is_displayed() {
    let app = Http::new().get("/{name}", |request, response| {
        let name = crate::JsonString(request.query("name").unwrap_or(request.param("name")));
        response.display_json(format_args!(r#"{{"name":{name}}}"#))
    });
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"GET /a\"b HTTP/1.1\r\nHost: a\r\n\r\n");
    let expected = ok(r#"{"name":"a\"b"}"#).replace("text/plain; charset=utf-8", "application/json");
    assert_eq!(rig.take(peer), expected);
}

/// `*` is the only path that does not start with a slash. It has no parameter for a fallback, which must not panic.
#[test]
fn a_fallback_is_called_for_the_server_itself() {
    let app = Http::new().fallback(|request, response| response.text(request.param("path"))).wrap(Tag("t"));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(peer, b"GET /a//b/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let answers = rig.take(peer);
    let bodies: Vec<_> = answers
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
        .collect();
    assert_eq!(bodies, ["", "", "a//b/"]);
}

#[cfg(debug_assertions)] // without them, the parameter is empty
#[test]
#[should_panic(expected = "has no parameter")]
fn a_parameter_that_the_pattern_has_not() {
    get(&mut Rig::untimed(Http::new().get("/{id}", |request, r| r.text(request.param("name")))), "/1");
}

#[test]
fn the_most_specific_fallback_answers_whatever_the_order() {
    let group = || {
        let deep = Http::group()
            .get("/x", |_q, r| r.text("x"))
            .fallback(|q, r| r.display(format_args!("deep {}", q.param("path"))));
        Http::group()
            .nest("/deep", deep)
            .fallback(|q, r| r.display(format_args!("group {}", q.param("path"))))
    };
    let first =
        Http::new().nest("/g", group()).fallback(|q, r| r.display(format_args!("all {}", q.param("path"))));
    let last =
        Http::new().fallback(|q, r| r.display(format_args!("all {}", q.param("path")))).nest("/g", group());
    let (mut first, mut last) = (Rig::untimed(first), Rig::untimed(last));
    for (path, expected) in [
        ("/", "all "),
        ("/gg/x", "all gg/x"),
        ("/g", "group "),
        ("/g/y/z", "group y/z"),
        ("/g/deep/y", "deep y"),
        ("/g/deep/x", "x"),
    ] {
        assert_eq!(get(&mut first, path), expected, "{path}");
        assert_eq!(get(&mut last, path), expected, "{path}");
    }
}
