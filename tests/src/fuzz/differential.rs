//! Compares request heads with `httparse`: heads that both accept are read in the same way, heads that only `httparse`
//! accepts are refused for a known reason, and `httparse` accepts every head that we accept.

use httparse::{EMPTY_HEADER, Error, Request, Status};
use lightcone_http::{Limits, Method};

use super::head::is_encoded;
use super::verdict::{Parser, Understood, Verdict, ours};

const INPUT_MAX: usize = 4_000;
const LIMITS: Limits = Limits { body: u64::MAX, ..Limits::DEFAULT };

/// The fuzz target.
pub fn differential(data: &[u8]) {
    check(data, ours);
}

/// Runs the target over another parser.
pub fn check(data: &[u8], parser: Parser) {
    let input = &data[..data.len().min(INPUT_MAX)];
    let mut space = [EMPTY_HEADER; 128];
    let mut request = Request::new(&mut space);
    let theirs = request.parse(input);
    match (parser(input, &LIMITS), theirs) {
        (Verdict::Complete(head), Ok(Status::Complete(size))) => {
            same(&head, &request, size);
            assert_eq!(reason(&request, &input[..size]), None, "accepted");
        }
        // `httparse` knows only HTTP/1.0 and HTTP/1.1; we treat a higher minor version as HTTP/1.1 (RFC 9110, 2.5).
        (Verdict::Complete(head), Err(Error::Version)) => {
            let version = head.method.len() + 1 + head.target.len() + 1;
            let minor = input[version..][..8].strip_prefix(b"HTTP/1.").expect("version 1");
            assert!(head.minor == 1 && matches!(minor, [b'2'..=b'9']), "httparse refuses the version");
        }
        (Verdict::Complete(head), other) => panic!("httparse returns {other:?} for {head:?}"),
        (Verdict::Partial, Ok(Status::Complete(size))) => panic!("httparse finds an end at {size}"),
        (Verdict::Partial, Ok(Status::Partial) | Err(_)) => {}
        (Verdict::Invalid(status), Ok(Status::Complete(size))) => {
            let reason = reason(&request, &input[..size]);
            assert!(reason.is_some(), "refused with {status} for no reason");
        }
        (Verdict::Invalid(_), Ok(Status::Partial) | Err(_)) => {}
    }
}

fn same(head: &Understood, request: &Request<'_, '_>, size: usize) {
    assert_eq!(head.size, size);
    assert_eq!(request.method, Some(&head.method[..]));
    assert_eq!(request.path.map(str::as_bytes), Some(&head.target[..]));
    assert_eq!(request.version, Some(head.minor));
    let theirs = request.headers.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec()));
    assert_eq!(head.fields, theirs.collect::<Vec<_>>());
}

/// Returns why a careful server must refuse a head that `httparse` accepts. Written independently of our parser.
fn reason(request: &Request<'_, '_>, bytes: &[u8]) -> Option<&'static str> {
    let (method, path) = (request.method?, request.path?.as_bytes());
    let values = |name: &str| -> Vec<&[u8]> {
        request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
            .collect()
    };
    let bare = |at: usize| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r');
    if (0..bytes.len()).any(bare) {
        return Some("a bare line feed");
    }
    if bytes.starts_with(b"\r") {
        return Some("a leading empty line");
    }
    if Method::from_bytes(method.as_bytes()).is_none_or(|method| method == Method::Connect) {
        return Some("an unsupported method");
    }
    if !is_target(method, path) {
        return Some("a target of unknown form");
    }
    // The request line is method, target and version, separated by single spaces.
    let line = method.len() + 1 + path.len() + 1 + 8;
    if bytes.get(line..line + 2) != Some(b"\r\n") {
        return Some("white space in the request line");
    }
    let (hosts, lengths, codings) = (values("host"), values("content-length"), values("transfer-encoding"));
    if hosts.len() > 1
        || (hosts.is_empty() && request.version != Some(0))
        || !hosts.iter().all(|host| is_host(host))
    {
        return Some("not exactly one valid host");
    }
    let number = |length: &&[u8]| !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if lengths.len() > 1 || !lengths.iter().all(number) {
        return Some("not exactly one valid length");
    }
    if lengths.iter().any(|length| std::str::from_utf8(length).unwrap().parse::<u64>().is_err()) {
        return Some("a length beyond 64 bits");
    }
    let chunked = codings.len() == 1 && {
        let members = codings[0].split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let members: Vec<_> = members.filter(|member| !member.is_empty()).collect();
        members.len() == 1 && members[0].eq_ignore_ascii_case(b"chunked")
    };
    if !codings.is_empty() && (!chunked || !lengths.is_empty() || request.version == Some(0)) {
        return Some("a coding other than chunked alone");
    }
    let expected = |value: &&[u8]| {
        let mut members = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        members.all(|member| member.is_empty() || member.eq_ignore_ascii_case(b"100-continue"))
    };
    if !values("expect").iter().all(expected) {
        return Some("an unsupported expectation");
    }
    (request.headers.len() > usize::from(LIMITS.fields)).then_some("too many fields")
}

fn is_target(method: &str, target: &[u8]) -> bool {
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') || !is_encoded(target) {
        return false;
    }
    let lower = target.to_ascii_lowercase();
    let authority = lower.strip_prefix(b"http://").or_else(|| lower.strip_prefix(b"https://"));
    let authority =
        authority.map(|rest| rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or(rest));
    target.starts_with(b"/") || (target == b"*" && method == "OPTIONS") || authority.is_some_and(is_host)
}

fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |digits: &str| {
        let significant = digits.trim_start_matches('0');
        let number = significant.is_empty() || significant.parse::<u16>().is_ok();
        number && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let good_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    good_port && good_host
}

fn is_name(host: &str) -> bool {
    let hexadecimal =
        |text: Option<&str>| text.is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let marks = "-._~!$&'()*+,;=";
    let good = |(at, byte): (usize, char)| match byte {
        '%' => hexadecimal(host.get(at + 1..at + 3)),
        _ => byte.is_ascii_alphanumeric() || marks.contains(byte),
    };
    !host.is_empty() && host.char_indices().all(good)
}
