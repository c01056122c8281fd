//! The result of parsing a request head, in a form that is independent of the parser, for comparison.

use lightcone_http::{Body, Head, Limits, Parse, parse};

/// A head as a parser has read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Understood {
    /// The name of the method.
    pub method: String,
    /// The minor version.
    pub minor: u8,
    /// The request target as received.
    pub target: Vec<u8>,
    /// The path of the target.
    pub path: Vec<u8>,
    /// The query: everything after the first `?`.
    pub query: Option<Vec<u8>>,
    /// The requested host.
    pub host: Option<Vec<u8>>,
    /// Names and values of the fields.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// How the body is framed.
    pub body: Body,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    pub expects: bool,
    /// The length of the head in bytes.
    pub size: usize,
}

impl Understood {
    pub(crate) fn of(head: &Head<'_>) -> Self {
        Self {
            method: head.method.as_str().into(),
            minor: head.minor,
            target: head.target().to_vec(),
            path: head.path.to_vec(),
            query: head.query.map(<[u8]>::to_vec),
            host: head.host().map(<[u8]>::to_vec),
            fields: head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            body: head.framing.body,
            keep_alive: head.framing.keep_alive(),
            expects: head.framing.expects_continue(),
            size: head.size(),
        }
    }

    /// Returns the values of all fields with this name.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = |found: &Vec<u8>| found.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(|(found, _)| same(found)).map(|(_, value)| &value[..]).collect()
    }

    /// Returns the members of the combined list of all fields with this name, in lower case.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let joined = self.values(name).join(&b","[..]);
        let members =
            joined.split(|byte| *byte == b',').map(|member| member.trim_ascii().to_ascii_lowercase());
        members
            .filter(|member| !member.is_empty())
            .map(|member| String::from_utf8_lossy(&member).into())
            .collect()
    }
}

/// The verdict of a parser on some bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The bytes start with a complete head.
    Complete(Box<Understood>),
    /// The head is incomplete.
    Partial,
    /// The bytes cannot become a valid request; the status that refuses them.
    Invalid(u16),
}

/// A parser of heads: that of `lightcone-http`, or a mutant.
pub type Parser = fn(&[u8], &Limits) -> Verdict;

/// Parses with `lightcone-http`.
pub fn ours(input: &[u8], limits: &Limits) -> Verdict {
    match parse(input, limits) {
        Parse::Complete(head) => Verdict::Complete(Box::new(Understood::of(&head))),
        Parse::Partial => Verdict::Partial,
        Parse::Invalid(status) => Verdict::Invalid(status.code()),
    }
}

/// Mutants of the parser.
pub mod broken {
    use super::{Limits, Verdict, ours};

    fn change(input: &[u8], limits: &Limits, change: fn(&mut super::Understood)) -> Verdict {
        match ours(input, limits) {
            Verdict::Complete(mut head) => {
                change(&mut head);
                Verdict::Complete(head)
            }
            other @ (Verdict::Partial | Verdict::Invalid(_)) => other,
        }
    }

    /// Accepts a bare line feed as a line end.
    pub fn bare_line_feeds(input: &[u8], limits: &Limits) -> Verdict {
        let mut strict = Vec::new();
        for (at, byte) in input.iter().enumerate() {
            if *byte == b'\n' && !input[..at].ends_with(b"\r") {
                strict.push(b'\r');
            }
            strict.push(*byte);
        }
        match ours(&strict, limits) {
            Verdict::Complete(mut head) => {
                head.size -= strict[..head.size].len() - input.len().min(head.size);
                Verdict::Complete(head)
            }
            other @ (Verdict::Partial | Verdict::Invalid(_)) => other,
        }
    }

    /// Accepts white space before a colon, which can hide a field from other parsers.
    pub fn blank_before_colon(input: &[u8], limits: &Limits) -> Verdict {
        let mut strict = input.to_vec();
        while let Some(at) = strict.windows(2).position(|pair| pair == b" :") {
            strict.remove(at);
        }
        match ours(&strict, limits) {
            Verdict::Complete(mut head) => {
                head.size += input.len() - strict.len();
                Verdict::Complete(head)
            }
            other @ (Verdict::Partial | Verdict::Invalid(_)) => other,
        }
    }

    /// Drops the last field.
    pub fn last_field_lost(input: &[u8], limits: &Limits) -> Verdict {
        change(input, limits, |head| drop(head.fields.pop()))
    }

    /// Overlooks the body.
    pub fn body_overlooked(input: &[u8], limits: &Limits) -> Verdict {
        change(input, limits, |head| head.body = lightcone_http::Body::None)
    }

    /// Ends a head one byte late.
    pub fn end_too_late(input: &[u8], limits: &Limits) -> Verdict {
        change(input, limits, |head| head.size += 1)
    }

    /// Keeps connections open that must be closed.
    pub fn close_overlooked(input: &[u8], limits: &Limits) -> Verdict {
        change(input, limits, |head| head.keep_alive = true)
    }

    /// Refuses heads that arrive in pieces.
    pub fn impatient(input: &[u8], limits: &Limits) -> Verdict {
        match ours(input, limits) {
            Verdict::Partial if input.len() > 20 => Verdict::Invalid(400),
            other @ (Verdict::Complete(_) | Verdict::Partial | Verdict::Invalid(_)) => other,
        }
    }

    /// Refuses valid heads with a query.
    pub fn no_queries(input: &[u8], limits: &Limits) -> Verdict {
        match ours(input, limits) {
            Verdict::Complete(head) if head.query.is_some() => Verdict::Invalid(400),
            other @ (Verdict::Complete(_) | Verdict::Partial | Verdict::Invalid(_)) => other,
        }
    }
}
