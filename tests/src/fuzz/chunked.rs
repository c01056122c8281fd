//! Bodies in chunks through a server: regardless of the cuts and of how the exchange reads the body, the data is that
//! of the chunks, the body ends at the right place, and errors are refused with the right status.
//!
//! The first four bytes of an input select limits, cuts and the pace of the exchange; the rest is the body as sent.

use std::cell::RefCell;
use std::rc::Rc;

use httparse::{Status, parse_chunk_size};
use lightcone_core::{Config, Handler, Timeouts};
use lightcone_http::{Exchange, Flow, Http, Limits, RequestMessage, State, Transfer};

use super::tape::Tape;
use super::wire::{Flaw, Memory, Wire};

const INPUT_MAX: usize = 3_000;
/// Longer inputs are not sent byte by byte, because that takes long.
const BY_BYTE_MAX: usize = 48;
const HEAD: &[u8] = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n";

/// The fuzz target.
pub fn chunked(data: &[u8]) {
    check(data, Flaw::None, Pace::Exact);
}

/// How the exchange of the test server reads a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Correctly.
    Exact,
    /// Mutant: at the end of a callback, it drops the last byte that it has recorded.
    Forgetful,
}

/// Runs the target, optionally over a mutant.
pub fn check(data: &[u8], flaw: Flaw, pace: Pace) {
    let mut tape = Tape::new(data);
    let (small, cut, most, limit) = (tape.byte(), 1 + tape.below(60), 1 + tape.below(50), tape.byte());
    let limits = Limits {
        body: if small & 1 == 0 { 1 << 20 } else { limit as u64 },
        chunk_line: if small & 2 == 0 { 256 } else { 4 },
        chunk_extensions: if small & 4 == 0 { 1_000 } else { 9 },
        trailers: if small & 8 == 0 { 1_000 } else { 12 },
        ..Limits::DEFAULT
    };
    let input = tape.take(INPUT_MAX);
    let expected = expect(input, &limits);
    if let Some(Ok(end)) = expected.end {
        beside_httparse(&input[..end], &expected.data);
    }
    let most = if small & 16 == 0 { usize::MAX } else { most };
    let room = if small & 32 == 0 { 4_096 } else { 256 };
    for cut in [usize::MAX, cut, 1] {
        if cut == 1 && input.len() > BY_BYTE_MAX {
            continue;
        }
        compare(&expected, &serve(input, &expected, &Case { limits, cut, most, room, flaw, pace }));
    }
}

/// A body as read by the rules of the RFC.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) data: Vec<u8>,
    /// Where the body ends, or the status for its error; `None` if it is incomplete.
    pub(crate) end: Option<Result<usize, u16>>,
}

/// Reads a body by section 7.1 of RFC 9112 with our limits, line by line: a reference that has none of the decoder's
/// states.
pub(crate) fn expect(input: &[u8], limits: &Limits) -> Expected {
    let mut expected = Expected::default();
    expected.end = read(input, limits, &mut expected.data)
        .map_or_else(|status| if status == MORE { None } else { Some(Err(status)) }, |end| Some(Ok(end)));
    expected
}

/// Not a status: the input ends here.
const MORE: u16 = 0;

fn read(input: &[u8], limits: &Limits, data: &mut Vec<u8>) -> Result<usize, u16> {
    let (mut at, mut extensions) = (0, 0);
    loop {
        let size = size_line(input, &mut at, limits, data.len() as u64, &mut extensions)?;
        if size == 0 {
            break;
        }
        let rest = &input[at..];
        let n = usize::try_from(size).unwrap().min(rest.len());
        data.extend_from_slice(&rest[..n]);
        at += n;
        if (n as u64) < size {
            return Err(MORE);
        }
        exactly(input, &mut at, b"\r\n")?;
    }
    trailers(input, &mut at, usize::from(limits.trailers))?;
    Ok(at)
}

fn exactly(input: &[u8], at: &mut usize, what: &[u8]) -> Result<(), u16> {
    for byte in what {
        match input.get(*at) {
            None => return Err(MORE),
            Some(found) if found == byte => *at += 1,
            Some(_) => return Err(400),
        }
    }
    Ok(())
}

const fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

fn size_line(
    input: &[u8],
    at: &mut usize,
    limits: &Limits,
    before: u64,
    extensions: &mut usize,
) -> Result<u64, u16> {
    let line_max = usize::from(limits.chunk_line);
    let start = *at;
    let mut size = 0u128;
    while let Some(digit) = input.get(*at).and_then(|byte| char::from(*byte).to_digit(16)) {
        *at += 1;
        if *at - start > line_max {
            return Err(400);
        }
        size = size * 16 + u128::from(digit);
        if size + u128::from(before) > u128::from(limits.body) {
            return Err(413);
        }
    }
    if *at == start {
        return Err(if *at == input.len() { MORE } else { 400 });
    }
    let mut line = ExtensionText { input, at: *at, start, line_max, limits, extensions };
    let read = line.all();
    *at = line.at;
    read?;
    exactly(input, at, b"\r\n")?;
    Ok(u64::try_from(size).unwrap())
}

/// The extensions of one chunk line, read by their grammar.
struct ExtensionText<'a> {
    input: &'a [u8],
    at: usize,
    /// Where the line starts.
    start: usize,
    line_max: usize,
    limits: &'a Limits,
    /// Bytes of all extensions so far.
    extensions: &'a mut usize,
}

impl ExtensionText<'_> {
    /// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
    fn all(&mut self) -> Result<(), u16> {
        let mut spaces = self.run(is_blank)?;
        while spaces > 0 || self.next() == Some(b';') {
            self.one(|byte| byte == b';')?;
            self.run(is_blank)?;
            self.one(is_tchar)?;
            self.run(is_tchar)?;
            spaces = self.run(is_blank)?;
            if self.next() == Some(b'=') {
                self.one(|byte| byte == b'=')?;
                self.run(is_blank)?;
                self.value()?;
                spaces = self.run(is_blank)?;
            }
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), u16> {
        if self.next() != Some(b'"') {
            self.one(is_tchar)?;
            return self.run(is_tchar).map(drop);
        }
        self.one(|byte| byte == b'"')?;
        loop {
            self.run(|byte| is_value(byte) && !matches!(byte, b'"' | b'\\'))?;
            if self.next() != Some(b'\\') {
                return self.one(|byte| byte == b'"');
            }
            self.one(|byte| byte == b'\\')?;
            self.one(is_value)?;
        }
    }

    fn next(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// Takes a byte that must be of the class.
    fn one(&mut self, class: fn(u8) -> bool) -> Result<(), u16> {
        let byte = self.next().ok_or(MORE)?;
        if !class(byte) {
            return Err(400);
        }
        self.at += 1;
        *self.extensions += 1;
        if self.at - self.start > self.line_max {
            return Err(400);
        }
        if *self.extensions > usize::from(self.limits.chunk_extensions) { Err(413) } else { Ok(()) }
    }

    /// Takes all bytes of the class that come next; returns their number.
    fn run(&mut self, class: fn(u8) -> bool) -> Result<usize, u16> {
        let before = self.at;
        while self.next().is_some_and(class) {
            self.one(class)?;
        }
        Ok(self.at - before)
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads the trailer section up to the end of its empty line.
fn trailers(input: &[u8], at: &mut usize, most: usize) -> Result<(), u16> {
    let start = *at;
    let result = trailer_lines(input, at);
    // Bytes beyond the limit are not examined.
    let (reached, beyond) = (*at - start, input.len() - start > most);
    match result {
        Ok(()) if reached > most => Err(431),
        Err(MORE) if beyond => Err(431),
        Err(400) if reached >= most => Err(431),
        other => other,
    }
}

fn trailer_lines(input: &[u8], at: &mut usize) -> Result<(), u16> {
    loop {
        if input.get(*at) == Some(&b'\r') {
            return exactly(input, at, b"\r\n");
        }
        let length = input[*at..].iter().take_while(|byte| is_tchar(**byte)).count();
        *at += length;
        if length == 0 && *at < input.len() {
            return Err(400);
        }
        exactly(input, at, b":")?;
        *at += input[*at..].iter().take_while(|byte| is_value(**byte)).count();
        exactly(input, at, b"\r\n")?;
    }
}

/// Checks that another parser reads sizes from an accepted body that match its data.
fn beside_httparse(body: &[u8], data: &[u8]) {
    let (mut at, mut sum) = (0, 0);
    loop {
        let Ok(Status::Complete((line, size))) = parse_chunk_size(&body[at..]) else {
            // `httparse` gives up on sizes of more than 16 digits, and on bytes from 0x80 in extensions.
            return;
        };
        at += line;
        let size = usize::try_from(size).unwrap();
        if size == 0 {
            break;
        }
        assert_eq!(body[at..at + size], data[sum..sum + size]);
        sum += size;
        at += size + 2;
    }
    assert_eq!(sum, data.len(), "httparse finds another length");
}

/// What reached the handlers of a server.
#[derive(Debug, Default)]
struct Reached {
    data: Vec<u8>,
    ended: bool,
    after: usize,
}

#[derive(Clone, Default)]
struct Log(Rc<RefCell<Reached>>);

impl State for Log {
    type Message = u8;
}

struct Case {
    limits: Limits,
    cut: usize,
    most: usize,
    room: usize,
    flaw: Flaw,
    pace: Pace,
}

/// Reads at most `most` bytes at a time, records them, and responds when the body is complete.
struct Take {
    most: usize,
    pace: Pace,
}

impl Exchange<Log> for Take {
    fn advance(&mut self, io: &mut Transfer<'_, Log>) -> Flow {
        while !io.body().is_empty() {
            let n = io.body().len().min(self.most);
            let noted = io.body()[..n].to_vec();
            io.state.0.borrow_mut().data.extend_from_slice(&noted);
            io.consume(n);
        }
        if io.is_ended() {
            io.state.0.borrow_mut().ended = true;
            return io.respond(|_, response| response.empty());
        }
        if self.pace == Pace::Forgetful {
            io.state.0.borrow_mut().data.pop();
        }
        Flow::More
    }
}

#[derive(Debug)]
struct Served {
    reached: Reached,
    got: Vec<u8>,
    over: bool,
}

fn serve(input: &[u8], expected: &Expected, case: &Case) -> Served {
    let config = Config {
        sockets: 1,
        block_size: 256,
        input_blocks: 1,
        output_blocks: 4,
        output_limit: 4,
        receive_size: case.room,
        receive_blocks: 1,
        timeouts: Timeouts::NONE,
        ..Config::DEVICE
    };
    let log = Log::default();
    let (most, pace) = (case.most, case.pace);
    let mut memory = Memory::new(&config);
    let mut wire = Wire::new(&mut memory, &config, server(log.clone(), case.limits, most, pace), case.flaw);
    let peer = wire.connect().unwrap();
    wire.peers[peer].sends.extend_from_slice(HEAD);
    if case.cut != usize::MAX {
        wire.settle(); // only the body is sent in pieces
    }
    let there = &mut wire.peers[peer];
    there.pieces = (case.cut, usize::MAX);
    match expected.end {
        Some(Ok(end)) => there.sends.extend_from_slice(&[&input[..end], AFTER].concat()),
        Some(Err(_)) | None => there.sends.extend_from_slice(input),
    }
    wire.settle();
    let over = wire.peers[peer].shut || wire.peers[peer].closed;
    let got = wire.peers[peer].got.clone();
    wire.peers[peer].ends = true;
    wire.settle();
    wire.is_clean();
    Served { reached: log.0.take(), got, over }
}

fn server(log: Log, limits: Limits, most: usize, pace: Pace) -> impl Handler<Message = RequestMessage<u8>> {
    Http::with(log)
        .limits(limits)
        .post("/body", move |_request, response| response.defer(Take { most, pace }))
        .get("/after", |request, response| {
            request.state.0.borrow_mut().after += 1;
            response.empty()
        })
}

fn compare(expected: &Expected, served: &Served) {
    let Served { reached, got, over } = served;
    let answers = got.windows(9).filter(|start| start == b"HTTP/1.1 ").count();
    match expected.end {
        Some(Ok(_)) => {
            assert_eq!(reached.data, expected.data);
            assert!(reached.ended && reached.after == 1 && answers == 2 && !over, "{served:?}");
        }
        None => {
            assert_eq!(reached.data, expected.data);
            assert!(!reached.ended && got.is_empty() && !over, "{served:?}");
        }
        Some(Err(status)) => {
            assert!(expected.data.starts_with(&reached.data), "data from nowhere");
            assert!(!reached.ended && answers == 1 && *over, "{served:?}");
            assert!(got.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{status}: {served:?}");
        }
    }
}
