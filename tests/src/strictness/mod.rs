//! What an HTTP server does with every class of input: one table, from which the tests run and the documentation of
//! `lightcone_http::strictness` is rendered.
//!
//! Each [`Row`] is sent to four routes: one that responds without looking at the body, one that collects the body,
//! and two that stream it back. A valid request follows each row, so that a row whose end is found elsewhere, or that
//! leaves a connection open which must be closed, shows itself by one response too many or too few.
#![allow(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "for tests: a failure is a panic"
)]

mod answers;
mod rows;

use core::fmt::Write as _;

use lightcone::http::{Exchange, Flow, Http, Routes, State, Transfer};

pub use answers::{Answer, answers};
pub use rows::GROUPS;

/// A part of the table.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its title.
    pub title: &'static str,
    /// Its rows.
    pub rows: &'static [Row],
}

/// One class of input and its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The RFC and the section that decide it, such as `9112 2.2`.
    pub section: &'static str,
    /// The class, in words.
    pub class: &'static str,
    /// What is sent, as a template.
    input: &'static str,
    /// What `REPEAT` in the template is.
    repeated: (&'static str, usize),
    /// What comes of it.
    pub outcome: Outcome,
}

const fn row(section: &'static str, class: &'static str, input: &'static str, outcome: Outcome) -> Row {
    Row { section, class, input, repeated: ("", 0), outcome }
}

/// What comes of an input. Texts are the body of the request, as far as it is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request is served, and the next one as well.
    Served(&'static str),
    /// The request is served, and the connection ends.
    ServedLast(&'static str),
    /// The body is asked for by a 100 if the route reads it.
    Continued(&'static str),
    /// The request is served, and what follows is refused.
    ServedThen(&'static str, u16),
    /// The request is answered with this status, and the next one is served.
    Answered(u16),
    /// The request is answered with this status, and the connection ends.
    AnsweredLast(u16),
    /// The head is refused with this status, and the connection ends.
    Refused(u16),
    /// The body is malformed or too large.
    Malformed(u16, &'static str),
    /// The head is incomplete.
    Incomplete,
    /// The body is incomplete.
    Unfinished(&'static str),
}

/// How a route treats the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Responds at once.
    Ignores,
    /// Responds when all of the body has arrived.
    Gathers,
    /// Sends the body back as it arrives.
    Streams,
    /// The same, and announces the length of the response if that of the request is known.
    Announces,
}

impl RouteKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Ignores, Self::Gathers, Self::Streams, Self::Announces];

    /// Returns the path of the route. All have the same length, so that all limits are hit alike.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Ignores => "/ignore",
            Self::Gathers => "/gather",
            Self::Streams => "/stream",
            Self::Announces => "/length",
        }
    }
}

/// The valid request that follows each row.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n";
/// The body of the response to it.
const PROBED: &[u8] = b"probed";
const IGNORED: &[u8] = b"ignored";
const COLLECT_MAX: usize = 2 << 20;

/// Sends the request body back as it arrives.
#[derive(Debug)]
struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// Returns the server that the rows are sent to.
pub fn server() -> Http<(), impl Routes<(), Body: Send> + use<>> {
    Http::new()
        .get("/probe", |_request, response| response.bytes(PROBED))
        .get("/ignore", |_request, response| response.bytes(IGNORED))
        .post("/ignore", |_request, response| response.bytes(IGNORED))
        .get("/gather", |request, response| {
            request.collect_vec(COLLECT_MAX, response, |_state, body, response| response.owned(body))
        })
        .post("/gather", |request, response| {
            request.collect_vec(COLLECT_MAX, response, |_state, body, response| response.owned(body))
        })
        .get("/stream", |_request, response| response.stream(None, Echo))
        .post("/stream", |_request, response| response.stream(None, Echo))
        .get("/length", |request, response| response.stream(request.head.length(), Echo))
        .post("/length", |request, response| response.stream(request.head.length(), Echo))
}

/// What a client may see of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The responses.
    pub answers: Vec<Answer>,
    /// Whether the connection stays open.
    pub open: bool,
    /// Whether it ends with a reset.
    pub reset: bool,
    /// The responses after the client has ended its stream, all of them.
    pub at_end: Vec<Answer>,
}

impl Row {
    /// Sets what `REPEAT` in the input is: this text, so often.
    const fn times(self, text: &'static str, count: usize) -> Self {
        Self { repeated: (text, count), ..self }
    }

    /// Returns the bytes for a route, and the request that follows unless the row waits for more.
    pub fn bytes(&self, route: RouteKind) -> Vec<u8> {
        let (text, count) = self.repeated;
        let text = self.input.replace("PATH", route.path()).replace("REPEAT", &text.repeat(count));
        let mut bytes = latin(&text);
        if !matches!(self.outcome, Outcome::Incomplete | Outcome::Unfinished(_)) {
            bytes.extend_from_slice(PROBE);
        }
        bytes
    }

    /// Returns whether the response to the row has no body.
    pub fn is_head(&self) -> bool {
        self.input.starts_with("HEAD ")
    }

    fn is_old(&self) -> bool {
        self.input.contains(" HTTP/1.0\r\n")
    }

    /// Returns what a client must see.
    pub fn expected(&self, route: RouteKind) -> Expected {
        let streams = matches!(route, RouteKind::Streams | RouteKind::Announces);
        // A streamed response without a length ends with the connection in HTTP/1.0.
        let until_close = route == RouteKind::Streams && self.is_old();
        let body = |data: &str| match route {
            _ if self.is_head() => Vec::new(),
            RouteKind::Ignores => IGNORED.to_vec(),
            RouteKind::Gathers | RouteKind::Streams | RouteKind::Announces => latin(data),
        };
        let ok = |data: &str| Answer::new(200, body(data));
        let last = |data: &str| Answer { closes: true, ..ok(data) };
        let refusal = |status: u16| Answer { closes: true, ..Answer::status(status) };
        let probed = Answer::new(200, PROBED.to_vec());
        let open =
            |answers: Vec<Answer>| Expected { at_end: answers.clone(), answers, open: true, reset: false };
        let closed = |answers: Vec<Answer>| Expected { open: false, ..open(answers) };
        match self.outcome {
            Outcome::Served(data) if until_close => closed(vec![last(data)]),
            Outcome::Served(data) => open(vec![ok(data), probed]),
            Outcome::ServedLast(data) => closed(vec![last(data)]),
            Outcome::Continued(data) if route == RouteKind::Ignores => closed(vec![last(data)]),
            Outcome::Continued(data) => open(vec![Answer::new(100, Vec::new()), ok(data), probed]),
            Outcome::ServedThen(data, status) => closed(vec![ok(data), refusal(status)]),
            Outcome::Answered(status) => open(vec![Answer::status(status), probed]),
            Outcome::AnsweredLast(status) => closed(vec![Answer::status(status)]),
            Outcome::Refused(status) => closed(vec![refusal(status)]),
            Outcome::Malformed(_, data) if route == RouteKind::Ignores => closed(vec![ok(data)]),
            Outcome::Malformed(_, data) if streams && !data.is_empty() => {
                closed(vec![Answer { complete: false, ..ok(data) }])
            }
            Outcome::Malformed(status, _) => closed(vec![refusal(status)]),
            Outcome::Incomplete => open(Vec::new()),
            Outcome::Unfinished(data) if route == RouteKind::Ignores && self.is_old() => {
                closed(vec![last(data)])
            }
            Outcome::Unfinished(data) if route == RouteKind::Ignores => open(vec![ok(data)]),
            Outcome::Unfinished(data) if streams && !data.is_empty() => {
                let part = Answer { complete: false, closes: self.is_old(), ..ok(data) };
                Expected { reset: until_close, ..open(vec![part]) }
            }
            Outcome::Unfinished(_) => Expected { at_end: vec![refusal(400)], ..open(Vec::new()) },
        }
    }

    /// Compares what a client has seen with what it must see; `None` if it is the same.
    pub fn difference(&self, route: RouteKind, seen: &Expected) -> Option<String> {
        let expected = self.expected(route);
        (*seen != expected).then(|| {
            let (class, path) = (self.class, route.path());
            format!(
                "{class}, {path}: {}\nseen:     {seen:?}\nexpected: {expected:?}",
                self.input.escape_debug()
            )
        })
    }
}

/// Returns the bytes of a text in which each character is one byte.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(char).unwrap()).collect()
}

/// Returns all rows.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|group| group.rows)
}

impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Served(_) => f.write_str("served"),
            Self::ServedLast(_) => f.write_str("served, then closed"),
            Self::Continued(_) => f.write_str("100, then served"),
            Self::ServedThen(_, status) => write!(f, "served, then {status} and closed"),
            Self::Answered(status) => write!(f, "{status}"),
            Self::AnsweredLast(status) => write!(f, "{status}, then closed"),
            Self::Refused(status) => write!(f, "{status} and closed"),
            Self::Malformed(status, _) => write!(f, "{status} and closed (body)"),
            Self::Incomplete => f.write_str("waits; closed at the end"),
            Self::Unfinished(_) => f.write_str("waits; 400 at the end (body)"),
        }
    }
}

/// Returns the page of the documentation.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for Group { title, rows } in GROUPS {
        write!(page, "\n# {title}\n\n| input | outcome | RFC |\n| --- | --- | --- |\n").unwrap();
        for Row { class, outcome, section, .. } in *rows {
            let (rfc, number) = section.split_once(' ').unwrap();
            let link = format!("https://www.rfc-editor.org/rfc/rfc{rfc}#section-{number}");
            let class = class.replace('|', "\\|");
            writeln!(page, "| {class} | {outcome} | [{rfc}, {number}]({link}) |").unwrap();
        }
    }
    page
}

const INTRODUCTION: &str = include_str!("introduction.md");
