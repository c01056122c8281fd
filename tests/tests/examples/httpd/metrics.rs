use core::cell::Cell;
use std::collections::HashMap;

use crate::program::Program;

use super::client::{Client, get, poll};

/// Parses the samples of a page, by name with labels, and checks the text format.
fn samples(page: &str) -> HashMap<&str, u64> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
    };
    assert!(page.ends_with('\n'));
    let (mut samples, mut family, mut families) = (HashMap::new(), "", Vec::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(
                help.split_once(' ').is_some_and(|(name, text)| is_name(name) && !text.is_empty()),
                "{line}"
            );
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(is_name(name) && !families.contains(&name), "{line}");
            assert_eq!(kind, if name.ends_with("_total") { "counter" } else { "gauge" }, "{line}");
            families.push(name);
            family = name;
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = key.strip_suffix('}').and_then(|key| key.split_once('{')).unwrap();
        assert_eq!(name, family, "samples of a family come together, after its type");
        for label in labels.split(',') {
            let (name, value) = label.split_once('=').unwrap();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
            assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
        }
        assert!(samples.insert(key, value.parse().unwrap()).is_none(), "{line} twice");
    }
    samples
}

#[test]
fn the_page_can_be_parsed_and_counts_each_poller() {
    let server = Program::start("httpd", &["--pollers", "2"]);
    let mut clients = [Client::new(&server), Client::new(&server)];
    for client in &mut clients {
        assert_eq!(client.get("/foo").text(), "bar");
        assert_eq!(client.get("/nowhere").status, 404);
        assert_eq!(client.get("/big?bytes=1000000").body.len(), 1_000_000);
    }
    let mut refused = Client::new(&server);
    refused.send("GET /foo HTTP/3.0\r\n\r\n");
    assert_eq!(refused.answer().status, 505);
    refused.ended();
    drop(refused);
    // An invalid body is counted as a refusal even after the response has begun.
    let mut broken = Client::new(&server);
    broken.send(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno size\r\n",
    );
    broken.finish();
    assert!(broken.head().contains("chunked"));
    assert_eq!(broken.read(10), b"5\r\nhello\r\n");
    broken.ended();
    drop(broken);
    // Pollers publish their stats ten times a second.
    let asked = Cell::new(0);
    let page = poll(|| {
        asked.set(asked.get() + 1);
        let page = clients[0].get("/metrics");
        assert_eq!(page.field("content-type"), Some("text/plain; version=0.0.4"));
        (sum(page.text(), "connections_closed_total", "") == 2).then_some(page)
    });
    let page = page.text();
    assert_eq!(sum(page, "connections", ""), 2);
    assert_eq!(sum(page, "connections_accepted_total", ""), 4);
    assert_eq!(sum(page, "http_requests_total", ""), 3 + 3 + 1 + asked.get() - 1);
    assert_eq!(sum(page, "http_failures_total", ""), 2);
    assert_eq!(sum(page, "http_aborted_total", ""), 1, "the broken one");
    assert!(sum(page, "sent_bytes_total", "") > 2_000_000);
    assert!(sum(page, "received_bytes_total", "") > 200);
    assert_eq!(sum(page, "http_refusals_total", ""), 2);
    assert_eq!(sum(page, "http_refusals_total", ",status=\"505\""), 1);
    assert_eq!(sum(page, "http_refusals_total", ",status=\"400\""), 1);
}

/// Returns the sum of the samples of both pollers; each must have at least one.
fn sum(page: &str, name: &str, label: &str) -> u64 {
    let samples = samples(page);
    let of = |poller: usize| {
        let start = format!("lightcone_{name}{{poller=\"{poller}\"{label}");
        samples.iter().filter(move |(key, _)| key.starts_with(&start)).map(|(_, value)| *value)
    };
    assert!((0..2).all(|poller| of(poller).next().is_some()), "{name} of each poller");
    (0..2).flat_map(of).sum()
}

/// A page that is larger than the output of a connection arrives completely.
#[test]
fn the_page_of_many_pollers_comes_whole() {
    let server = Program::start("httpd", &["--pollers", "64"]);
    let page = get(&server, "/metrics");
    assert!(page.body.len() > 64 << 10, "{} bytes", page.body.len());
    assert!(samples(page.text()).contains_key("lightcone_http_refusals_total{poller=\"63\",status=\"505\"}"));
}
