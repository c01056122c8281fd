//! Request heads: the verdict is strict, the same for all cuts, and consistent with the bytes.
//!
//! The first two bytes of an input select limits and cuts; the rest is what a client sends.

use std::cell::RefCell;
use std::rc::Rc;

use lightcone_core::{Config, Handler, Timeouts};
use lightcone_http::{Body, Http, Limits, RequestMessage, State};

use super::tape::Tape;
use super::verdict::{Parser, Understood, Verdict, ours};
use super::wire::{Flaw, Memory, Wire};

/// The most bytes of an input that are used.
const INPUT_MAX: usize = 3_000;
/// Longer inputs are not sent byte by byte, because that takes long.
const BY_BYTE_MAX: usize = 48;
/// The largest body that the server can announce.
const BODY_MAX: u64 = (1 << 48) - 1;

/// The fuzz target.
pub fn head(data: &[u8]) {
    check(data, ours);
}

/// Runs the target over another parser. The behaviour of a server on the same bytes is compared with its verdict as
/// well.
pub fn check(data: &[u8], parser: Parser) {
    let mut tape = Tape::new(data);
    let (small, cut) = (tape.byte(), 1 + tape.below(40));
    let limits = Limits {
        head: if small & 1 == 0 { 4_000 } else { 90 },
        target: if small & 2 == 0 { 1_000 } else { 20 },
        fields: if small & 4 == 0 { 100 } else { 3 },
        body: u64::MAX,
        ..Limits::DEFAULT
    };
    let input = tape.take(INPUT_MAX);
    let verdict = parser(input, &limits);
    prefixes(input, &limits, parser, &verdict);
    if let Verdict::Complete(head) = &verdict {
        lawful(head, input, &limits);
        again(head, parser);
    }
    let whole = serve(input, &limits, usize::MAX);
    // A server skips one empty line before a request, and waits for the rest of what may be half of one.
    let head = input.strip_prefix(b"\r\n").unwrap_or(input);
    as_the_server(&if head == b"\r" { Verdict::Partial } else { parser(head, &limits) }, &whole);
    for cut in [cut, 1] {
        if cut == 1 && input.len() > BY_BYTE_MAX {
            continue;
        }
        assert_eq!(serve(input, &limits, cut), whole, "in pieces of {cut}");
    }
}

/// Checks that the verdict on each prefix is either the final verdict or `Partial`.
fn prefixes(input: &[u8], limits: &Limits, parser: Parser, verdict: &Verdict) {
    let step = (input.len() / 50).max(1);
    let mut settled = false;
    for end in (0..=input.len()).rev().step_by(step).collect::<Vec<_>>().into_iter().rev() {
        let early = parser(&input[..end], limits);
        assert!(early == *verdict || (early == Verdict::Partial && !settled), "{early:?} on {end} bytes");
        settled = early != Verdict::Partial;
    }
    if let Verdict::Complete(head) = verdict {
        assert_eq!(parser(&input[..head.size], limits), *verdict, "cut after the head");
        assert_eq!(parser(&input[..head.size - 1], limits), Verdict::Partial, "cut within the head");
    }
}

fn is_token(name: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || special.contains(byte))
}

/// Returns whether two hexadecimal digits follow each percent sign.
pub(crate) fn is_encoded(target: &[u8]) -> bool {
    let mut after_signs = target.split(|byte| *byte == b'%').skip(1);
    after_signs.all(|rest| rest.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| blank(byte)).count();
    let end = value.iter().rev().take_while(|byte| blank(byte)).count();
    &value[start..value.len().saturating_sub(end).max(start)]
}

/// Checks that an accepted head conforms to RFC 9112, by reading it a second time in the plainest way.
fn lawful(head: &Understood, input: &[u8], limits: &Limits) {
    let bytes = &input[..head.size];
    assert!(bytes.len() <= limits.head && head.target.len() <= limits.target);
    let text = bytes.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    for line in &lines {
        assert!(
            line.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)),
            "a control character"
        );
        assert!(!line.is_empty(), "an empty line within the head");
    }
    let words: Vec<&[u8]> = lines[0].split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("a request line of {} words", words.len()) };
    assert_eq!((method, target), (head.method.as_bytes(), &head.target[..]));
    assert!(!target.is_empty() && target.iter().all(u8::is_ascii_graphic) && is_encoded(target));
    assert!(version.starts_with(b"HTTP/1.") && version.len() == 8 && version[7].is_ascii_digit());
    assert_eq!(head.minor, u8::from(version[7] != b'0'));
    assert!(lines.len() - 1 <= usize::from(limits.fields));
    let mut fields = Vec::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field without a colon");
        assert!(is_token(&line[..colon]), "a field without a name");
        fields.push((line[..colon].to_vec(), trim(&line[colon + 1..]).to_vec()));
    }
    assert_eq!(fields, head.fields);
    target_parts(head);
    framing(head);
}

fn target_parts(head: &Understood) {
    let target = &head.target[..];
    if target == b"*" {
        assert_eq!((&head.method[..], &head.path[..], &head.query), ("OPTIONS", target, &None));
        return;
    }
    let lower = target.to_ascii_lowercase();
    let authority = lower.strip_prefix(b"http://").or_else(|| lower.strip_prefix(b"https://"));
    let local = match authority {
        Some(behind) => {
            let at = target.len() - behind.len();
            let length = behind.iter().take_while(|byte| !matches!(byte, b'/' | b'?')).count();
            assert_eq!(
                head.host.as_deref(),
                Some(&target[at..at + length]),
                "the target's host takes precedence"
            );
            assert!(length > 0 && !target[at..at + length].contains(&b'@'));
            &target[at + length..]
        }
        None => {
            assert!(target.starts_with(b"/"), "a target of unknown form");
            assert_eq!(head.host.as_deref(), head.values("host").first().copied());
            target
        }
    };
    assert!(!local.contains(&b'#'), "a fragment is not sent");
    let question = local.iter().position(|byte| *byte == b'?');
    let path = &local[..question.unwrap_or(local.len())];
    let default: &[u8] = if head.method == "OPTIONS" && local.is_empty() { b"*" } else { b"/" };
    assert_eq!(head.path, if path.is_empty() { default } else { path });
    assert_eq!(head.query.as_deref(), question.map(|at| &local[at + 1..]));
}

/// Checks the framing by sections 6.3 and 9.3 of RFC 9112, from the fields alone.
fn framing(head: &Understood) {
    let (lengths, codings) = (head.values("content-length"), head.list("transfer-encoding"));
    let hosts = head.values("host");
    assert!(hosts.len() <= 1 && (head.minor == 0 || hosts.len() == 1), "{} hosts", hosts.len());
    assert!(hosts.iter().all(|host| !host.is_empty()));
    let is_port = |digits: &str| {
        digits.is_empty() || digits.ends_with(']') || digits.parse::<u64>().is_ok_and(|port| port < 65_536)
    };
    let ports = hosts.iter().filter_map(|host| std::str::from_utf8(host).ok()?.rsplit_once(':'));
    assert!(ports.map(|(_, port)| port).all(is_port), "a port beyond the largest");
    let coded = !head.values("transfer-encoding").is_empty();
    assert!(lengths.len() <= 1, "two lengths");
    assert!(!coded || lengths.is_empty(), "a length and a coding");
    assert!(!coded || head.minor > 0, "a coding in HTTP/1.0");
    let expected = match lengths[..] {
        [] if coded => {
            assert_eq!(codings, ["chunked"], "a coding that is not supported");
            Body::Chunked
        }
        [length] => {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit));
            Body::Length(std::str::from_utf8(length).unwrap().parse().expect("a length of 64 bits"))
        }
        _ => Body::None,
    };
    assert_eq!(head.body, expected);
    let options = head.list("connection");
    let says = |option: &str| options.iter().any(|said| said == option);
    assert_eq!(head.keep_alive, !says("close") && (head.minor > 0 || says("keep-alive")));
    let expectations = head.list("expect");
    assert!(expectations.iter().all(|expectation| expectation == "100-continue"));
    let comes = !matches!(expected, Body::None | Body::Length(0));
    assert_eq!(head.expects, head.minor > 0 && comes && !expectations.is_empty());
}

/// Checks that a head rewritten from its parsed parts is parsed in the same way.
fn again(head: &Understood, parser: Parser) {
    let line =
        [head.method.as_bytes(), b" ", &head.target, b" HTTP/1.", &[b'0' + head.minor], b"\r\n"].concat();
    let mut bytes = line;
    for (name, value) in &head.fields {
        bytes.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    let expected = Understood { size: bytes.len(), ..head.clone() };
    let limits = Limits { head: 10_000, target: 10_000, fields: 1_000, ..Limits::DEFAULT };
    assert_eq!(parser(&bytes, &limits), Verdict::Complete(Box::new(expected)));
}

/// Records every head that reaches a handler.
#[derive(Clone, Default)]
pub(crate) struct Heads(pub(crate) Rc<RefCell<Vec<Understood>>>);

impl State for Heads {
    type Message = u8;
}

/// What a server did with the bytes of one connection.
#[derive(PartialEq, Eq, Debug)]
struct Served {
    heads: Vec<Understood>,
    got: Vec<u8>,
    /// Whether the server ended the connection before its peer did.
    over: bool,
}

fn serve(input: &[u8], limits: &Limits, cut: usize) -> Served {
    let config = Config {
        sockets: 1,
        block_size: 512,
        input_blocks: 1,
        output_blocks: 4,
        output_limit: 4,
        receive_size: 4_096,
        receive_blocks: 1,
        timeouts: Timeouts::NONE,
        ..Config::DEVICE
    };
    let heads = Heads::default();
    let mut memory = Memory::new(&config);
    let mut wire = Wire::new(&mut memory, &config, server(heads.clone(), *limits), Flaw::None);
    let peer = wire.connect().unwrap();
    wire.peers[peer].pieces = (cut, usize::MAX);
    wire.peers[peer].sends.extend_from_slice(input);
    wire.settle();
    let over = wire.peers[peer].shut || wire.peers[peer].closed;
    let got = std::mem::take(&mut wire.peers[peer].got);
    wire.peers[peer].ends = true;
    wire.settle();
    wire.peers[peer].got.splice(0..0, got.iter().copied());
    wire.is_clean();
    let heads = heads.0.take();
    Served { heads, got, over }
}

fn server(heads: Heads, limits: Limits) -> impl Handler<Message = RequestMessage<u8>> {
    Http::with(heads).limits(limits).fallback(|request, response| {
        request.state.0.borrow_mut().push(Understood::of(request.head));
        response.empty()
    })
}

fn status_of(got: &[u8]) -> Option<u16> {
    let digits = got.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Checks that a server acts on the verdict.
fn as_the_server(verdict: &Verdict, served: &Served) {
    let status = status_of(&served.got);
    match verdict {
        Verdict::Complete(head) if matches!(head.body, Body::Length(length) if length > BODY_MAX) => {
            assert_eq!((served.heads.first(), status), (None, Some(413)));
        }
        Verdict::Complete(head) => {
            assert_eq!(served.heads.first(), Some(&**head));
            assert_eq!(status, Some(200));
        }
        Verdict::Partial => assert_eq!((served.heads.len(), status, served.over), (0, None, false)),
        Verdict::Invalid(code) => {
            assert_eq!((served.heads.len(), status, served.over), (0, Some(*code), true));
        }
    }
}
