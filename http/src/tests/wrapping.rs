//! CORS, request ids and credentials over the testing client.

extern crate std;

use core::time::Duration;
use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::testing::{TestRequest, TestResponse, TestServer};
use crate::{
    BasicAuth, BearerAuth, Cors, Exchange, Flow, Http, Method, RequestIds, State, TokenError, Transfer,
    is_same_secret,
};

const SECOND: Duration = Duration::from_secs(1);

const LISTED: Cors = Cors::origins(&["https://one.example", "https://two.example"])
    .methods(&[Method::Get, Method::Put])
    .headers(&["Content-Type", "X-Note"])
    .expose(&["X-Count"])
    .credentials()
    .max_age(Duration::from_secs(60));

/// Responds after a second.
struct Late(bool);

impl<S: State> Exchange<S> for Late {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if !self.0 {
            self.0 = true;
            io.wake_at(io.now() + SECOND);
            return Flow::More;
        }
        io.respond(|_state, response| response.text("late"))
    }
}

fn server(cors: Cors) -> TestServer<impl lightcone_core::Handler> {
    TestServer::new(
        Http::new()
            .get("/", |_request, response| response.text("in"))
            .get("/late", |_request, response| response.defer(Late(false)))
            .put("/", |request, response| {
                request.gather(response, |_state: &mut (), body, response| response.display(body.len()))
            })
            .wrap_each(cors),
    )
}

/// Returns the fields that CORS added.
fn fields(response: &TestResponse) -> Vec<(String, String)> {
    let found = response.headers().filter(|(name, _)| name.starts_with("Access-Control") || *name == "Vary");
    found.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn a_preflight_is_answered_without_the_handler() {
    let mut server = server(LISTED);
    let ask = |origin: &str| {
        TestRequest::new("OPTIONS", "/")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "PUT")
    };
    let response =
        server.request(ask("https://two.example").header("Access-Control-Request-Headers", "x-note"));
    let expected = [
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", "https://two.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Allow-Methods", "GET, PUT"),
        ("Access-Control-Allow-Headers", "Content-Type, X-Note"),
        ("Access-Control-Max-Age", "60"),
    ];
    assert_eq!((response.status(), fields(&response)), (204, pairs(&expected)));
    for origin in ["https://three.example", "https://one.example/", "HTTPS://one.example", "null", ""] {
        let response = server.request(ask(origin));
        assert_eq!((response.status(), fields(&response)), (204, pairs(&expected[..1])), "{origin}");
    }
    let twice = server.request(ask("https://one.example").header("Origin", "https://one.example"));
    assert_eq!(twice.header("Access-Control-Allow-Origin"), None);
    // A plain OPTIONS request is none: the server responds with the methods of the path.
    let plain = server.request(TestRequest::new("OPTIONS", "/").header("Origin", "https://one.example"));
    assert_eq!((plain.status(), plain.header("Allow")), (204, Some("GET, HEAD, PUT, OPTIONS")));
}

#[test]
fn responses_of_all_kinds_can_be_read_by_allowed_origins() {
    let mut server = server(LISTED);
    let allowed = pairs(&[
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", "https://one.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "X-Count"),
    ]);
    let others = pairs(&[("Vary", "Origin")]);
    let requests = [
        (TestRequest::get("/"), 200),
        (TestRequest::new("PUT", "/").body("1234"), 200),
        (TestRequest::get("/late"), 200),
        (TestRequest::get("/nowhere"), 404),
        (TestRequest::new("DELETE", "/"), 405),
    ];
    for (request, status) in requests {
        let response = server.request(request.clone().header("Origin", "https://one.example"));
        assert_eq!((response.status(), fields(&response)), (status, allowed.clone()), "{request}");
        let response = server.request(request.clone().header("Origin", "https://three.example"));
        assert_eq!((response.status(), fields(&response)), (status, others.clone()), "{request}");
        let response = server.request(request.clone());
        assert_eq!((response.status(), fields(&response)), (status, others.clone()), "{request}");
    }
    // Two requests at once keep apart.
    let one = server.start(TestRequest::get("/late").header("Origin", "https://one.example"));
    let two = server.start(TestRequest::get("/late").header("Origin", "https://two.example"));
    server.advance(SECOND);
    for (connection, origin) in [(one, "https://one.example"), (two, "https://two.example")] {
        let response = server.response(connection).unwrap();
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some(origin));
    }
}

#[test]
fn any_origin() {
    let mut server = server(Cors::any());
    let star = pairs(&[("Access-Control-Allow-Origin", "*")]);
    assert_eq!(fields(&server.get("/")), star);
    assert_eq!(fields(&server.request(TestRequest::get("/late").header("Origin", "null"))), star);
    let ask =
        TestRequest::new("OPTIONS", "/").header("Origin", "a").header("Access-Control-Request-Method", "GET");
    let methods = ("Access-Control-Allow-Methods".to_string(), "GET, HEAD, POST".to_string());
    assert_eq!(fields(&server.request(ask)), [star, [methods].to_vec()].concat());
}

#[test]
#[should_panic(expected = "credentials require a list of origins")]
fn credentials_of_any_origin() {
    let _ = Cors::any().credentials();
}

struct Current(String);

impl State for Current {
    type Message = core::convert::Infallible;
}

#[test]
fn each_response_has_the_identity_of_its_request() {
    let ids = RequestIds::new(7, |state: &mut Current, id: &str| state.0 = id.to_string());
    let routes = Http::with(Current(String::new()))
        .get("/", |request, response| response.text(&request.state.0))
        .get("/late", |_request, response| response.defer(Late(false)))
        .wrap_each(ids);
    let mut server = TestServer::new(routes);
    let mut made = BTreeSet::new();
    let longest = "0".repeat(36);
    for id in ["a", "31d4d96e-407a-4ad4-b3f1-5d1c83a9e07f", "A.b_c-9", longest.as_str()] {
        for path in ["/", "/late"] {
            let response = server.request(TestRequest::get(path).header("X-Request-Id", id));
            assert_eq!(response.header("X-Request-Id"), Some(id), "{path}");
        }
        assert_eq!(server.request(TestRequest::get("/").header("x-request-id", id)).text(), id);
    }
    let too_long = "0".repeat(37);
    for id in ["", "a b", "a\"", "a,b", "\u{e4}", "a;b=c", too_long.as_str()] {
        let response = server.request(TestRequest::get("/").header("X-Request-Id", id));
        let own = response.header("X-Request-Id").unwrap();
        assert!(own.len() == 16 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}: {own}");
        assert_eq!(own, response.text());
        assert!(made.insert(own.to_string()), "{own} comes twice");
    }
    for _ in 0..100 {
        let late = server.get("/nowhere").header("X-Request-Id").unwrap().to_string();
        assert!(made.insert(late));
    }
}

#[test]
fn a_name_and_a_password() {
    let guard = BasicAuth::new("notes", |_state: &mut (), user: &str, password: &str| {
        user == "Aladdin" && is_same_secret(password.trim_end_matches('\0').as_bytes(), b"open:sesame")
    });
    let routes = Http::new().post("/", |request, response| {
        request.gather(response, |_state: &mut (), body, response| response.display(body.len()))
    });
    let mut server = TestServer::new(routes.wrap(guard));
    let ask = |value: &str| TestRequest::new("POST", "/").header("Authorization", value).body("12345");
    // Aladdin:open:sesame
    let good = "QWxhZGRpbjpvcGVuOnNlc2FtZQ==";
    for value in [format!("Basic {good}"), format!("basic   {good}")] {
        assert_eq!(server.request(ask(&value)).text(), "5", "{value}");
    }
    let bad = [
        String::new(),
        "Basic".to_string(),
        "Basic ".to_string(),
        good.to_string(),
        format!("Bearer {good}"),
        format!("Basic {good}="),
        "Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ".to_string(),
        "Basic QWxhZGRpbg==".to_string(),
        // Aladdin:open:sesame with another last letter, and with a NUL after it
        "Basic QWxhZGRpbjpvcGVuOnNlc2FtZg==".to_string(),
        "Basic QWxhZGRpbjpvcGVuOnNlc2FtZQA=".to_string(),
        format!("Basic {}", "QUFB".repeat(65)),
    ];
    for value in bad {
        let connection = server.start(ask(&value));
        let response = server.response(connection).unwrap();
        let challenge = Some("Basic realm=\"notes\", charset=\"UTF-8\"");
        assert_eq!((response.status(), response.header("WWW-Authenticate")), (401, challenge), "{value}");
        server.send_request(connection, ask(&format!("Basic {good}")));
        assert_eq!(server.response(connection).unwrap().text(), "5");
    }
    let twice = ask(&format!("Basic {good}")).header("Authorization", format!("Basic {good}"));
    assert_eq!(server.request(twice).status(), 401);
}

#[test]
fn bearer_tokens() {
    let guard = BearerAuth::new("notes", |_state: &mut (), token: &str| match token {
        "good/+token==" => Ok(()),
        "narrow" => Err(TokenError::Scope("write")),
        _ => Err(TokenError::Invalid),
    });
    let routes = Http::new().get("/", |_request, response| response.text("in"));
    let mut server = TestServer::new(routes.wrap(guard));
    assert_eq!(
        server.request(TestRequest::get("/").header("Authorization", "bearer good/+token==")).text(),
        "in"
    );
    let table = [
        ("Basic YQ==", 401, ""),
        ("Bearer", 401, ""),
        ("Bearer narrow", 403, ", error=\"insufficient_scope\", scope=\"write\""),
        ("Bearer other", 401, ", error=\"invalid_token\""),
        ("Bearer a b", 400, ", error=\"invalid_request\""),
        ("Bearer ==", 400, ", error=\"invalid_request\""),
        ("Bearer a=b", 400, ", error=\"invalid_request\""),
        ("Bearer \u{e4}", 400, ", error=\"invalid_request\""),
    ];
    for (value, status, error) in table {
        let response = server.request(TestRequest::get("/").header("Authorization", value));
        let challenge = format!("Bearer realm=\"notes\"{error}");
        assert_eq!(response.header("WWW-Authenticate"), Some(challenge.as_str()), "{value}");
        assert_eq!(response.status(), status, "{value}");
    }
    assert_eq!(server.get("/").header("WWW-Authenticate"), Some("Bearer realm=\"notes\""));
    let twice = TestRequest::get("/").header("Authorization", "Bearer a").header("Authorization", "Bearer a");
    assert_eq!(server.request(twice).status(), 400);
}
