//! A plain reader of responses, to check what a server sends.

/// One response, as far as it has been received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// The received part of the body, without its coding.
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
    /// Whether the body extends to the end of the connection.
    pub(crate) to_the_end: bool,
    /// The number of bytes that the response occupies.
    pub(crate) size: usize,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut found = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| &value[..]);
        assert!(found.next().is_none(), "{name} twice");
        first
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some(b"close")
    }

    /// Reads the response at the start of `bytes`. Returns `None` if its head is incomplete.
    pub(crate) fn read(bytes: &[u8], to_head: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..end - 4]).expect("a head in ASCII");
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap().strip_prefix("HTTP/1.1 ").expect("a status line");
        let status = line.get(..3).and_then(|code| code.parse().ok()).expect("a status");
        assert_eq!(line.as_bytes().get(3), Some(&b' '));
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a field line");
            (name.to_owned(), value.as_bytes().to_vec())
        });
        let (body, to_the_end) = (Vec::new(), false);
        let mut response =
            Self { status, fields: fields.collect(), body, complete: true, to_the_end, size: end };
        let bodiless = to_head || status < 200 || status == 204 || status == 304;
        let (length, coding) = (response.field("content-length"), response.field("transfer-encoding"));
        assert!(length.is_none() || coding.is_none(), "a length and a coding");
        assert!(
            !(status < 200 || status == 204) || (length.is_none() && coding.is_none()),
            "a body announced with {status}"
        );
        if bodiless {
            return Some(response);
        }
        let rest = &bytes[end..];
        if let Some(length) = length {
            let length: usize = std::str::from_utf8(length).unwrap().parse().expect("a length");
            let n = length.min(rest.len());
            response.complete = n == length;
            response.body = rest[..n].to_vec();
            response.size += n;
        } else if coding.is_some() {
            assert_eq!(coding, Some(&b"chunked"[..]));
            response.chunks(rest);
        } else {
            response.to_the_end = true;
            response.body = rest.to_vec();
            response.size += rest.len();
        }
        Some(response)
    }

    fn chunks(&mut self, rest: &[u8]) {
        let mut at = 0;
        self.complete = loop {
            let Some(line) = rest[at..].windows(2).position(|end| end == b"\r\n") else { break false };
            let digits = std::str::from_utf8(&rest[at..at + line]).expect("a chunk size");
            let size = usize::from_str_radix(digits, 16).expect("a chunk size");
            at += line + 2;
            let n = size.min(rest.len() - at);
            self.body.extend_from_slice(&rest[at..at + n]);
            at += n;
            let Some(end) = rest.get(at..at + 2) else { break false };
            assert!(n == size && end == b"\r\n", "a chunk without an end");
            at += 2;
            if size == 0 {
                break true;
            }
        };
        self.size += if self.complete { at } else { rest.len() };
    }
}
