use core::convert::Infallible;
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::{Address, Builder, Context, Engine, Handler, Listener, Origin, Socket};

/// A page that was checked to be in the text format.
#[derive(Default)]
struct Parsed {
    /// By name with labels.
    samples: HashMap<String, u64>,
    /// Name, type and description.
    families: Vec<(String, String, String)>,
}

impl Parsed {
    /// Returns the sum of the samples whose key starts like this; there must be at least one.
    fn sum(&self, start: &str) -> u64 {
        let all: Vec<_> = self.samples.iter().filter(|(key, _)| key.starts_with(start)).collect();
        assert!(!all.is_empty(), "no sample {start}");
        all.iter().map(|(_, value)| **value).sum()
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Takes a label with its value from the front and returns the name and the rest.
fn label(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once("=\"")?;
    let mut escaped = false;
    for (at, letter) in value.char_indices() {
        match (escaped, letter) {
            (true, '\\' | '"' | 'n') => escaped = false,
            (true, _) | (false, '\n') => return None,
            (false, '\\') => escaped = true,
            (false, '"') => return is_name(name).then_some((name, &value[at + 1..])),
            (false, _) => {}
        }
    }
    None
}

fn are_labels(mut text: &str) -> bool {
    let mut names = HashSet::new();
    loop {
        let Some((name, rest)) = label(text) else { return false };
        if !names.insert(name) {
            return false;
        }
        match rest.strip_prefix(',') {
            Some(more) => text = more,
            None => return rest.is_empty(),
        }
    }
}

/// Parses a page in the text format of Prometheus, version 0.0.4, of which each family has a description and a type
/// before its samples. The error is the first wrong line.
fn parse(page: &str) -> Result<Parsed, &str> {
    let mut parsed = Parsed::default();
    let mut described = None;
    if !page.is_empty() && !page.ends_with('\n') {
        return Err("the end");
    }
    for line in page.lines() {
        let good = if let Some(text) = line.strip_prefix("# HELP ") {
            described = text.split_once(' ').filter(|(name, text)| is_name(name) && !text.contains('\\'));
            described.is_some()
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let kind = text.split_once(' ').filter(|(_, kind)| ["counter", "gauge"].contains(kind));
            let new = |name: &str| parsed.families.iter().all(|(known, ..)| known != name);
            match (kind, described.take()) {
                (Some((name, kind)), Some((same, text))) if name == same && new(name) => {
                    parsed.families.push((name.into(), kind.into(), text.into()));
                    true
                }
                _ => false,
            }
        } else {
            let sample = line.rsplit_once(' ').and_then(|(key, value)| Some((key, value.parse().ok()?)));
            let named = sample.and_then(|(key, value)| Some((key, key.split_once('{')?, value)));
            let current = parsed.families.last().filter(|_| described.is_none());
            match (named, current) {
                (Some((key, (name, labels), value)), Some((family, ..))) => {
                    name == family
                        && labels.strip_suffix('}').is_some_and(are_labels)
                        && parsed.samples.insert(key.into(), value).is_none()
                }
                _ => false,
            }
        };
        if !good {
            return Err(line);
        }
    }
    Ok(parsed)
}

#[test]
fn the_check_of_the_format_can_fail() {
    let head = "# HELP a_total All.\n# TYPE a_total counter\n";
    for good in ["", "a_total{x=\"1\"} 2\n", "a_total{x=\"\\\\ \\\" \\n\",y=\"2\"} 2\n"] {
        assert!(parse(&format!("{head}{good}")).is_ok(), "{good}");
    }
    for bad in [
        "a_total{x=\"1\"} 2",
        "a_total{x=\"1\"}\n",
        "a_total{x=\"1\"} many\n",
        "a_total{x=1} 2\n",
        "a_total{x=\"\"\"} 2\n",
        "a_total{x=\"\\t\"} 2\n",
        "a_total{x=\"1\",x=\"2\"} 2\n",
        "a_total{x-y=\"1\"} 2\n",
        "b_total{x=\"1\"} 2\n",
        "a_total{x=\"1\"} 2\na_total{x=\"1\"} 2\n",
        "# HELP a_total All.\n# TYPE a_total counter\n",
        "# TYPE b_total counter\n",
        "# HELP b_total More.\na_total{x=\"1\"} 2\n",
        "# HELP b_total More.\n# TYPE b_total number\n",
        "\n",
    ] {
        assert!(parse(&format!("{head}{bad}")).is_err(), "{bad}");
    }
}

/// Repeats until there is a result, for at least 30 seconds.
fn poll<T>(mut f: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(result) = f() {
            return result;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing happens");
}

fn listen<M: Send + 'static>(engine: &Engine<M>) -> (Listener<M>, impl Fn() -> TcpStream + use<M>) {
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let address = listener.endpoint().as_inet().unwrap();
    (listener, move || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    })
}

struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }
}

#[test]
fn an_engine_without_servers_formats_its_counts() {
    let metrics = Metrics::new();
    assert_eq!(metrics.to_string(), "");
    let engine = Builder::new().pollers(2).sockets(8).start(|_poller| Echo).unwrap();
    metrics.observe(engine.handle());
    let (_listener, connect) = listen(&engine);
    let mut streams = [connect(), connect(), connect()];
    for stream in &mut streams {
        stream.write_all(b"12345").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    let [_first, _second, third] = streams;
    drop(third);
    let page = poll(|| {
        let page = parse(&metrics.to_string()).unwrap();
        (page.sum("lightcone_connections_closed_total{") == 1
            && page.sum("lightcone_received_bytes_total{") == 15)
            .then_some(page)
    });
    for (start, count) in [
        ("lightcone_connections{", 2),
        ("lightcone_connections{poller=\"1\"}", 1),
        ("lightcone_connections_accepted_total{", 3),
        ("lightcone_connections_accepted_total{poller=\"0\"}", 2),
        ("lightcone_connections_closed_total{", 1),
        ("lightcone_received_bytes_total{", 15),
        ("lightcone_sent_bytes_total{", 15),
        ("lightcone_connections_turned_away_total{", 0),
        ("lightcone_connections_over_rate_total{", 0),
        ("lightcone_lost_bytes_total{", 0),
        ("lightcone_output_shortages_total{", 0),
        ("lightcone_input_shortages_total{", 0),
        ("lightcone_subscriptions{", 0),
        ("lightcone_published_total{", 0),
        ("lightcone_deliveries_total{", 0),
        ("lightcone_lag_dropped_total{", 0),
        ("lightcone_lag_replaced_total{", 0),
        ("lightcone_lag_disconnected_total{", 0),
    ] {
        assert_eq!(page.sum(start), count, "{start}");
    }
    assert_eq!(page.families.len(), 16);
    engine.shutdown(Duration::ZERO);
}

#[test]
fn only_the_first_engine_is_added() {
    let start = |pollers| Builder::new().pollers(pollers).sockets(8).start(|_poller| Echo).unwrap();
    let (one, three) = (start(1), start(3));
    let metrics = Metrics::new();
    metrics.observe(one.handle());
    metrics.observe(three.handle());
    let text = metrics.to_string();
    let page = parse(&text).unwrap();
    let members = page.samples.keys().filter(|key| key.starts_with("lightcone_connections{"));
    assert_eq!(members.count(), 1);
}

#[cfg(feature = "http")]
mod http {
    use super::*;
    use crate::http::Http;

    /// Sends a request on a new connection and returns the whole response.
    fn request(connect: impl Fn() -> TcpStream, line: &str) -> String {
        let mut stream = connect();
        write!(stream, "{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// Returns the body of a response, without the chunked coding.
    fn body(response: &str) -> String {
        let (head, mut rest) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{head}");
        let mut body = String::new();
        loop {
            let (size, more) = rest.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return body;
            }
            body += &more[..size];
            rest = more[size..].strip_prefix("\r\n").unwrap();
        }
    }

    #[test]
    fn the_page_of_pollers_has_what_their_servers_did() {
        let metrics = Metrics::new();
        let engine = Builder::new().pollers(2).sockets(64);
        let engine = engine.start(move |poller| {
            Http::with(metrics.clone())
                .stats(metrics.on_poller(&poller))
                .get("/metrics", page)
                .get("/", |_request, response| response.text("hello"))
        });
        let engine = engine.unwrap();
        let (_listener, connect) = listen(&engine);
        for _ in 0..4 {
            assert!(request(&connect, "GET /").ends_with("hello"));
        }
        assert!(request(&connect, "GET /nowhere").starts_with("HTTP/1.1 404 "));
        assert!(request(&connect, "GET nowhere").starts_with("HTTP/1.1 400 "));
        let page = poll(|| {
            let response = request(&connect, "GET /metrics");
            let page = parse(&body(&response)).map_err(str::to_owned).unwrap();
            (page.sum("lightcone_connections_closed_total{") >= 6).then_some(page)
        });
        assert!(page.sum("lightcone_http_requests_total{poller=\"0\"}") >= 2);
        assert!(page.sum("lightcone_http_requests_total{poller=\"1\"}") >= 2);
        assert_eq!(page.sum("lightcone_http_failures_total{"), 1);
        assert_eq!(page.sum("lightcone_http_refusals_total{"), 1);
        let refused = |poller| format!("lightcone_http_refusals_total{{poller=\"{poller}\",status=\"400\"}}");
        assert_eq!(page.sum(&refused(0)) + page.sum(&refused(1)), 1);
        assert_eq!(page.sum("lightcone_http_aborted_total{"), 0);
        assert!(page.sum("lightcone_sent_bytes_total{") > 500);
        engine.shutdown(Duration::ZERO);
    }

    /// Dashboards and alerts refer to these.
    #[test]
    fn the_families_keep_their_names_types_and_descriptions() {
        let metrics = Metrics::new();
        let _ = metrics.on_worker(0);
        let engine = Builder::new().pollers(1).sockets(8).start(|_poller| Echo).unwrap();
        metrics.observe(engine.handle());
        let text = metrics.to_string();
        let families = parse(&text).unwrap().families;
        let families: Vec<_> =
            families.iter().map(|(name, kind, help)| format!("{name} {kind} {help}")).collect();
        assert_eq!(
            families,
            [
                "lightcone_connections gauge Connections that are open or being opened.",
                "lightcone_connections_accepted_total counter Connections opened.",
                "lightcone_connections_turned_away_total counter Connections closed without being served.",
                "lightcone_connections_over_rate_total counter Connections turned away because of the accept rate.",
                "lightcone_connections_closed_total counter Connections closed, by reason.",
                "lightcone_received_bytes_total counter Bytes received.",
                "lightcone_sent_bytes_total counter Bytes sent.",
                "lightcone_lost_bytes_total counter Bytes not delivered when their connections ended, including those \
             in system buffers where the system reports them.",
                "lightcone_output_shortages_total counter Waits for an output block that others held.",
                "lightcone_input_shortages_total counter Waits for an input block that others held.",
                "lightcone_subscriptions gauge Subscriptions of connections to topics.",
                "lightcone_published_total counter Messages published to topics, counted by each poller.",
                "lightcone_deliveries_total counter Published messages delivered to subscribers.",
                "lightcone_lag_dropped_total counter Published messages dropped for slow subscribers.",
                "lightcone_lag_replaced_total counter Published messages replaced by newer ones for slow subscribers.",
                "lightcone_lag_disconnected_total counter Subscribers disconnected because they were too slow.",
                "lightcone_http_requests_total counter Requests answered by routes.",
                "lightcone_http_failures_total counter Requests answered by routes with status 400 or above.",
                "lightcone_http_aborted_total counter Requests answered by routes whose connection ended before the \
             response was complete.",
                "lightcone_http_refusals_total counter Requests refused by the server itself, by status.",
            ]
        );
    }

    #[test]
    fn a_second_server_of_a_thread_counts_in_the_same_place() {
        let metrics = Metrics::new();
        assert!(core::ptr::eq(metrics.on_worker(3), metrics.clone().on_worker(3)));
        assert!(!core::ptr::eq(metrics.on_worker(3), metrics.on_worker(4)));
        let page = metrics.to_string();
        assert_eq!(page.matches("lightcone_http_requests_total{worker=\"3\"} 0\n").count(), 1);
        let (third, fourth) = (page.find("worker=\"3\""), page.find("worker=\"4\""));
        assert!(third < fourth && fourth.is_some(), "in the order of their numbers");
    }

    #[test]
    fn the_last_worker_ends_its_families() {
        let metrics = Metrics::new();
        let _ = metrics.on_worker(255);
        let page = metrics.to_string();
        assert_eq!(page.matches("lightcone_http_aborted_total{worker=\"255\"} 0\n").count(), 1, "{page}");
    }

    #[test]
    #[should_panic(expected = "there is no worker 256")]
    fn a_worker_that_cannot_be_is_refused() {
        let _ = Metrics::new().on_worker(256);
    }

    /// A page that is much larger than the output of a connection arrives completely.
    #[test]
    fn the_page_of_many_pollers_is_sent_in_parts() {
        let metrics = Metrics::new();
        let engine = Builder::new().pollers(24).sockets(8).blocks(64, 64).block_size(2_048).output_limit(1);
        let engine = engine.start(move |poller| {
            Http::with(metrics.clone()).stats(metrics.on_poller(&poller)).get("/metrics", page)
        });
        let engine = engine.unwrap();
        let (_listener, connect) = listen(&engine);
        let page = body(&request(&connect, "GET /metrics"));
        assert!(page.len() > 8 * 2_048, "{} bytes", page.len());
        let page = parse(&page).unwrap();
        assert!(page.samples.contains_key("lightcone_http_refusals_total{poller=\"23\",status=\"505\"}"));
        engine.shutdown(Duration::ZERO);
    }

    #[cfg(feature = "workers")]
    #[test]
    fn the_page_of_workers_names_them_and_the_pollers() {
        let metrics = Metrics::new();
        let ours = metrics.clone();
        let workers = crate::workers::Builder::new().workers(2).sockets(16);
        let workers = workers.start(move |worker| {
            Http::with(ours.clone()).stats(ours.on_worker(worker)).get("/metrics", page)
        });
        let workers = workers.unwrap();
        let engine = Builder::new().pollers(1).sockets(16).start(workers.offload()).unwrap();
        metrics.observe(engine.handle());
        let (_listener, connect) = listen(&engine);
        let _ = request(&connect, "GET /metrics");
        let text = body(&request(&connect, "GET /metrics"));
        let page = parse(&text).unwrap();
        assert!(page.sum("lightcone_http_requests_total{worker=") >= 1, "{text}");
        assert!(page.samples.contains_key("lightcone_http_requests_total{worker=\"1\"}"), "{text}");
        assert!(page.samples.contains_key("lightcone_connections{poller=\"0\"}"), "{text}");
        assert!(!text.contains("requests_total{poller"), "{text}");
        engine.shutdown(Duration::ZERO);
        workers.shutdown(Duration::ZERO);
    }
}
