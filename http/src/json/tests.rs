extern crate std;

use std::collections::BTreeMap;
use std::string::String;
use std::vec;

use serde::Deserialize;

use super::*;
use crate::Http;
use crate::testing::{TestRequest, TestResponse, TestServer};

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Order {
    name: String,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize, Serialize, Debug, PartialEq)]
struct Item {
    price: u8,
    #[serde(default)]
    tags: BTreeMap<String, bool>,
}

fn error(text: &str) -> String {
    from_json::<Order>(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn errors_name_the_path_the_line_and_the_column() {
    let table = [
        ("", "line 1, column 0: EOF while parsing a value"),
        ("{", "line 1, column 1: EOF while parsing an object"),
        ("{\n  \"name\": 7\n}", "name, line 2, column 11: invalid type: integer `7`, expected a string"),
        (
            r#"{"name":"a","items":[{"price":1},{"price":300}]}"#,
            "items[1].price, line 1, column 45: invalid value: integer `300`, expected u8",
        ),
        (
            r#"{"name":"a","items":[{"price":1,"tags":{"x,{[\"y":1}}]}"#,
            r#"items[0].tags.x,{[\"y, line 1, column 51: invalid type: integer `1`, expected a boolean"#,
        ),
        (r#"{"name":"[{\\","items":[{"price":1},{}]}"#, "items[1], line 1, column 38: missing field `price`"),
        (
            r#"{"name":"a","items":[{"price":1,"tags":[]}]}"#,
            "items[0].tags, line 1, column 39: invalid type: sequence, expected a map",
        ),
        (r#"{"name":{},"items":[]}"#, "name, line 1, column 8: invalid type: map, expected a string"),
        (r#"{"items":[]}"#, "line 1, column 12: missing field `name`"),
        (
            r#"{"name":"a","age":1}"#,
            "age, line 1, column 17: unknown field `age`, expected `name` or `items`",
        ),
        (r#"{"name":"a","name":"b"}"#, "name, line 1, column 18: duplicate field `name`"),
        ("{\"name\":\"a\"}\r\n x", "line 2, column 2: trailing characters"),
        (r#"{"name":"a" "items"}"#, "name, line 1, column 13: expected `,` or `}`"),
        (
            "{\"name\":\"\u{1}\"}",
            "name, line 1, column 10: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        ("[1,2]", "[0], line 1, column 2: invalid type: integer `1`, expected a string"),
    ];
    for (text, expected) in table {
        assert_eq!(error(text), format!("invalid JSON at {expected}"), "{text}");
    }
}

#[test]
fn any_text_has_an_error_of_bounded_length_or_a_value() {
    let long = "k".repeat(100_000);
    let deep = "[".repeat(100_000);
    let wide = format!("{{\"name\":\"a\",\"items\":[{}]}}", "[".repeat(200));
    for text in
        [format!("{{\"{long}\":1}}"), format!("{{\"name\":[\"{long}\"]}}"), format!("\"{long}\""), deep, wide]
    {
        let length = error(&text).len();
        assert!(length < 600, "{length}");
    }
    let good = br#"{"name":"a","items":[{"price":255,"tags":{"x":true}}]}"#;
    let mut random = crate::tests::random::Random::new(crate::tests::random::Random::seed());
    for _ in 0..20_000 {
        let mut text = good.to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(text.len());
            text[at] = random.pick(b"\"\\{}[]:,\n\xff0a");
        }
        if let Err(error) = from_json::<Order>(&text) {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&error.line()), "{error}: {}", text.escape_ascii());
        }
    }
}

/// The values of unknown fields are skipped at any depth; their path is not kept beyond what can be shown.
#[test]
fn values_that_are_ignored_may_be_nested_deeper_than_those_that_are_not() {
    let nested = |depth: usize| format!(r#"{{"x":{}{},"price":7}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(from_json::<Item>(nested(200).as_bytes()).map(|item| item.price), Ok(7));
    let deep = format!("{{\"name\":{}", "[".repeat(1 << 20));
    assert_eq!(levels(deep.as_bytes()).len(), LEVELS_MAX);
    assert!(from_json::<Item>(deep.as_bytes()).unwrap_err().path().len() < 600);
    // What is in a level that is not kept changes none of those that are.
    for depth in [LEVELS_MAX - 1, LEVELS_MAX, LEVELS_MAX + 1] {
        let inner = format!("{}\"a,\",{{\"b\":[0,0]}}", "[".repeat(depth));
        let all = format!("{{\"x\":{inner}{},\"price\":\"", "]".repeat(depth));
        assert_eq!(from_json::<Item>(all.as_bytes()).unwrap_err().path(), "price", "{depth}");
        let open = from_json::<Item>(format!("{{\"x\":{inner}").as_bytes()).unwrap_err();
        assert!(open.path().starts_with("x[0][0]"), "{depth}: {open}");
    }
}

fn server() -> TestServer<impl lightcone_core::Handler> {
    TestServer::new(
        Http::new()
            .post("/order", |request, response| {
                request.parse_json(100, response, |_state, order: Order, response| {
                    if order.items.is_empty() {
                        let error = JsonError::unacceptable("items", "nothing is ordered");
                        return response.bad_json(&error).into_any();
                    }
                    response.status(201).serialize_json(&order.items)
                })
            })
            .get("/large", |_request, response| response.serialize_json(&Vec::from_iter(0..50_000)))
            .get("/own", |_request, response| {
                response.header("Content-Type", "application/problem+json").serialize_json("a \"text\"")
            })
            .get("/broken", |_request, response| response.serialize_json(&BTreeMap::from([(vec![1], 1)]))),
    )
}

fn post(body: &str) -> TestRequest {
    TestRequest::new("POST", "/order").header("Content-Type", "application/json").body(body)
}

fn facts(response: &TestResponse) -> (u16, &str) {
    (response.status(), response.text())
}

const GOOD: &str = r#"{"name":"a","items":[{"price":1}]}"#;

#[test]
fn a_body_becomes_a_value_and_a_value_a_body() {
    let mut server = server();
    let response = server.request(post(GOOD));
    assert_eq!(facts(&response), (201, r#"[{"price":1,"tags":{}}]"#));
    assert_eq!(response.header("content-type"), Some("application/json"));
    for media_type in
        ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+JSON ;x=y"]
    {
        let request = TestRequest::new("POST", "/order").header("Content-Type", media_type).body(GOOD);
        assert_eq!(server.request(request).status(), 201, "{media_type}");
    }
    let chunks: Vec<&[u8]> = GOOD.as_bytes().chunks(1).collect();
    let request =
        TestRequest::new("POST", "/order").header("Content-Type", "application/json").chunks(&chunks);
    assert_eq!(server.request(request).status(), 201);
    let identity = post(GOOD).header("Content-Encoding", "identity");
    assert_eq!(server.request(identity).status(), 201);
}

#[test]
fn a_body_that_is_not_acceptable_is_refused_with_the_reason() {
    let mut server = server();
    let refused = server.request(post(r#"{"name":"a","items":[{"price":-1}]}"#));
    let reason =
        "invalid JSON at items[0].price, line 1, column 32: invalid value: integer `-1`, expected u8\n";
    assert_eq!(facts(&refused), (400, reason));
    assert_eq!(refused.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        facts(&server.request(post(r#"{"name":"a"}"#))),
        (400, "invalid JSON at items: nothing is ordered\n")
    );
    assert_eq!(
        facts(&server.request(post(""))),
        (400, "invalid JSON at line 1, column 0: EOF while parsing a value\n")
    );
    let padded = |length: usize| format!("{GOOD}{}", " ".repeat(length - GOOD.len()));
    assert_eq!(server.request(post(&padded(100))).status(), 201);
    assert_eq!(facts(&server.request(post(&padded(101)))), (413, "the body has more than 100 bytes\n"));
    for (length, expected) in [(100, 201), (101, 413)] {
        let body = padded(length);
        let request = TestRequest::new("POST", "/order").header("Content-Type", "application/json");
        let response = server.request(request.chunks(&[&body.as_bytes()[..90], &body.as_bytes()[90..]]));
        assert_eq!(response.status(), expected);
        assert!(expected == 201 || response.text() == "the body has more than 100 bytes\n");
    }
}

#[test]
fn a_body_of_another_type_is_refused() {
    let mut server = server();
    let of_type =
        |media_type: &str| TestRequest::new("POST", "/order").header("Content-Type", media_type).body(GOOD);
    for media_type in
        ["text/json", "application/jsonp", "text/plain; charset=application/json", "json", "+json/x", ""]
    {
        let refused = server.request(of_type(media_type));
        let text = format!("the content type must be application/json, and is {media_type}\n");
        assert_eq!(facts(&refused), (415, &*text));
        assert_eq!(refused.header("accept"), Some("application/json"));
    }
    assert_eq!(
        facts(&server.request(TestRequest::new("POST", "/order").body(GOOD))),
        (415, "the content type must be application/json, and is missing\n")
    );
    assert_eq!(server.request(of_type(&"x".repeat(5_000))).status(), 415);
    let twice = post(GOOD).header("Content-Type", "text/plain");
    assert_eq!(server.request(twice).status(), 415, "two types contradict each other");
    let compressed = server.request(post(GOOD).header("Content-Encoding", "gzip"));
    assert_eq!(facts(&compressed), (415, "the body must not be compressed\n"));
    assert_eq!(compressed.header("accept-encoding"), Some("identity"));
}

#[test]
fn values_of_any_size_are_sent() {
    let mut server = server();
    let large = server.get("/large");
    assert_eq!((large.status(), large.header("content-type")), (200, Some("application/json")));
    assert_eq!(from_json::<Vec<u32>>(large.body()), Ok(Vec::from_iter(0..50_000)));
    let own = server.get("/own");
    assert_eq!(
        (own.header("content-type"), own.text()),
        (Some("application/problem+json"), r#""a \"text\"""#)
    );
    assert_eq!(server.get("/broken").status(), 500, "its keys are no strings");
}
