//! Reads the responses that a client has received.

/// A response as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether it announces the end of the connection.
    pub closes: bool,
    /// The body, without the chunked coding. That of an error is not kept.
    pub body: Vec<u8>,
    /// Whether all of the body has arrived.
    pub complete: bool,
}

impl Answer {
    pub(super) const fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, closes: false, body, complete: true }
    }

    /// Returns a response whose body does not matter.
    pub(super) const fn status(status: u16) -> Self {
        Self::new(status, Vec::new())
    }
}

/// Reads responses; the first has no body if the request was a `HEAD`. `ended`: no more bytes follow, without a reset.
///
/// # Panics
/// If the bytes are not responses.
pub fn answers(mut bytes: &[u8], is_head: bool, ended: bool) -> Vec<Answer> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (answer, rest) = answer(bytes, is_head && found.is_empty(), ended);
        found.push(answer);
        bytes = rest;
    }
    found
}

fn answer(bytes: &[u8], is_head: bool, ended: bool) -> (Answer, &[u8]) {
    let text = bytes.escape_ascii();
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {text}"));
    let head = core::str::from_utf8(&bytes[..end]).unwrap();
    let rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let line = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status: u16 =
        line.and_then(|line| line.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("no status in {text}"));
    let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let field = |name: &str| {
        fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    };
    let (body, complete, rest) = if is_head || status < 200 || status == 204 {
        (Vec::new(), true, rest)
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().unwrap();
        let (body, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        (body.to_vec(), body.len() == length, after)
    } else if field("transfer-encoding") == Some("chunked") {
        dechunked(rest)
    } else {
        (rest.to_vec(), ended, &[][..])
    };
    assert!(status != 405 || field("allow").is_some(), "a 405 without `Allow`");
    let closes = field("connection") == Some("close");
    let body = if status >= 300 { Vec::new() } else { body };
    (Answer { status, closes, body, complete }, rest)
}

/// Returns the data of a chunked body, whether all of it is there, and what follows.
fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, bool, &[u8]) {
    let mut data = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return (data, false, &[]) };
        let size =
            core::str::from_utf8(&bytes[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.unwrap_or_else(|| panic!("no size in {}", bytes.escape_ascii()));
        let rest = &bytes[end + 2..];
        let Some((piece, rest)) = rest.split_at_checked(size) else { return (data, false, &[]) };
        data.extend_from_slice(piece);
        let Some(rest) = rest.strip_prefix(b"\r\n") else {
            assert!(rest.is_empty(), "no line end after a chunk: {}", rest.escape_ascii());
            return (data, false, &[]);
        };
        if size == 0 {
            return (data, true, rest);
        }
        bytes = rest;
    }
}
