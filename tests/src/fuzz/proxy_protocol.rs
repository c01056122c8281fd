//! Headers of the PROXY protocol: the same result at every cut, and the one that a plain reader of a whole header
//! finds.
//!
//! The first two bytes of an input select how the stream is made and the maximum. The rest is the stream, or the
//! content of a header of version 2 whose lengths and checksum are right.

use std::net::{IpAddr, SocketAddr};

use lightcone_core::proxy_protocol::{Header, HeaderError, parse};

use super::tape::Tape;

const INPUT_MAX: usize = 600;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const CRC32C: u8 = 3;

type Read = Result<Option<(Header, usize)>, HeaderError>;

/// The fuzz target.
pub fn proxy_protocol(data: &[u8]) {
    check(data, Reading::Exact);
}

/// How the reader under test treats what it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Correctly.
    Exact,
    /// Mutant: it takes a line that ends with CR for a whole one.
    Hasty,
    /// Mutant: it accepts zeros in front of a port.
    Zeros,
    /// Mutant: it exchanges the two addresses.
    Swapped,
    /// Mutant: it leaves the additional values in the stream.
    Short,
    /// Mutant: it does not verify the checksum.
    Unverified,
    /// Mutant: it has no maximum.
    Endless,
}

/// Runs the target, optionally over a mutant.
pub fn check(data: &[u8], reading: Reading) {
    let mut tape = Tape::new(data);
    let (built, max) = (tape.below(2) == 1, 107 + 2 * tape.byte());
    let stream = if built { build(&mut tape) } else { tape.take(INPUT_MAX).to_vec() };
    let whole = read(&stream, max, reading);
    if let Ok(Some((_, length))) = whole {
        assert!(length <= max.min(stream.len()), "{length} bytes of {max}");
    }
    let mut decided = None;
    for end in 0..=stream.len() {
        let result = read(&stream[..end], max, reading);
        if let Ok(Some((_, length))) = result {
            assert!(length <= end, "{length} bytes of {end}");
        }
        if decided.is_none() && result != Ok(None) {
            decided = Some(result);
        }
        assert_eq!(result, decided.unwrap_or(Ok(None)), "of {end} bytes");
    }
    match plain(&stream, max) {
        Plain::Header(header, length) => assert_eq!(whole, Ok(Some((header, length)))),
        Plain::Fault => assert!(whole.is_err(), "{whole:?}"),
        Plain::More => assert_eq!(whole, Ok(None)),
        Plain::Unfinished => assert!(!matches!(whole, Ok(Some(_))), "{whole:?}"),
    }
}

fn read(stream: &[u8], max: usize, reading: Reading) -> Read {
    match reading {
        Reading::Exact => parse(stream, max),
        Reading::Hasty if stream.ends_with(b"\r") => parse(&[stream, b"\n"].concat(), max),
        Reading::Hasty => parse(stream, max),
        Reading::Zeros => {
            let mut lenient = stream.to_vec();
            while let Some(at) = lenient.windows(3).position(|w| w[..2] == *b" 0" && w[2].is_ascii_digit()) {
                lenient.remove(at + 1);
            }
            parse(&lenient, max)
        }
        Reading::Swapped => parse(stream, max).map(|read| {
            read.map(|(header, length)| match header {
                Header::Forwarded { source, destination } => {
                    (Header::Forwarded { source: destination, destination: source }, length)
                }
                Header::Direct => (header, length),
            })
        }),
        Reading::Short => {
            parse(stream, max).map(|read| read.map(|(header, length)| (header, length.min(52))))
        }
        Reading::Unverified => parse(stream, max).or_else(|error| {
            if error == HeaderError::Checksum { Ok(Some((Header::Direct, 16))) } else { Err(error) }
        }),
        Reading::Endless => parse(stream, usize::MAX),
    }
}

/// Makes a header of version 2 with additional values, and bytes that follow it.
fn build(tape: &mut Tape<'_>) -> Vec<u8> {
    let (command, kind) =
        (tape.pick(&[0x21, 0x21, 0x21, 0x20]), tape.pick(&[0x11, 0x21, 0x12, 0x22, 0x31, 0x32, 0x00]));
    let addresses = match kind >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let mut block: Vec<u8> = (0..addresses).map(|_| tape.byte() as u8).collect();
    let mut checksum = None;
    for _ in 0..tape.below(4) {
        let value = if tape.one_in(3) {
            checksum = Some(16 + block.len() + 3);
            block.push(CRC32C);
            vec![0; 4]
        } else {
            block.push(4 + tape.below(200) as u8);
            vec![b'v'; tape.below(40)]
        };
        block.extend((value.len() as u16).to_be_bytes());
        block.extend(value);
    }
    let length = (block.len() as u16).to_be_bytes();
    let mut header = [SIGNATURE, &[command, kind], &length, &block].concat();
    if let Some(at) = checksum {
        // now and then a wrong one
        let sum = crc32c(&header) ^ u32::from(tape.one_in(4));
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
    header.extend(tape.rest().iter().take(40));
    header
}

/// What a plain reader finds.
enum Plain {
    Header(Header, usize),
    Fault,
    /// More bytes are needed.
    More,
    /// More bytes are needed for a header, or it is known to be wrong already.
    Unfinished,
}

fn plain(stream: &[u8], max: usize) -> Plain {
    let starts = |start: &[u8]| stream.starts_with(start) || start.starts_with(stream);
    if starts(b"PROXY ") {
        let most = max.min(107);
        let line = &stream[..stream.len().min(most)];
        match (0..line.len()).find(|at| line[*at..].starts_with(b"\r\n")) {
            Some(end) => {
                plain_line(&line[6..end]).map_or(Plain::Fault, |header| Plain::Header(header, end + 2))
            }
            None if line.len() == most => Plain::Fault,
            None => Plain::More,
        }
    } else if starts(SIGNATURE) {
        plain_binary(stream, max)
    } else {
        Plain::Fault
    }
}

fn plain_line(line: &[u8]) -> Option<Header> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(Header::Direct);
    }
    let text = std::str::from_utf8(line).ok()?;
    let [family, from, to, from_port, to_port] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    let address = |text: &str| {
        let address = text.parse::<IpAddr>().ok()?;
        let fits = family == if address.is_ipv4() { "TCP4" } else { "TCP6" };
        // the canonical form of an IPv4 address is its only one
        (fits && (address.is_ipv6() || address.to_string() == text)).then_some(address)
    };
    Some(Header::Forwarded {
        source: SocketAddr::new(address(from)?, port(from_port)?),
        destination: SocketAddr::new(address(to)?, port(to_port)?),
    })
}

fn plain_binary(stream: &[u8], max: usize) -> Plain {
    if stream.len() < 16 {
        return if stream.len() < 13 { Plain::More } else { Plain::Unfinished };
    }
    let (family, protocol) = (stream[13] / 16, stream[13] % 16);
    let length = 16 + usize::from(stream[14]) * 256 + usize::from(stream[15]);
    let local = stream[12] == 0x20;
    let known = local || (stream[12] == 0x21 && family < 4 && protocol < 3);
    let (each, ports) = match (local, protocol, family) {
        (false, 1 | 2, 1) => (4, true),
        (false, 1 | 2, 2) => (16, true),
        (false, 1 | 2, 3) => (108, false),
        _ => (0, false),
    };
    let values = 16 + 2 * each + if ports { 4 } else { 0 };
    if !known || length > max || length < values {
        return Plain::Fault;
    }
    if stream.len() < length {
        return Plain::More;
    }
    let header = &stream[..length];
    if each > 0 && !plain_values(header, values) {
        return Plain::Fault;
    }
    if !ports {
        return Plain::Header(Header::Direct, length);
    }
    let end = |index: usize| {
        let address = &header[16 + index * each..][..each];
        let at = 16 + 2 * each + 2 * index;
        let port = u16::from(header[at]) * 256 + u16::from(header[at + 1]);
        let address: IpAddr = match <[u8; 4]>::try_from(address) {
            Ok(v4) => v4.into(),
            Err(_) => <[u8; 16]>::try_from(address).expect("16 bytes").into(),
        };
        SocketAddr::new(address, port)
    };
    Plain::Header(Header::Forwarded { source: end(0), destination: end(1) }, length)
}

/// Returns whether the additional values end with the header, at most one is a checksum, and it is right.
fn plain_values(header: &[u8], mut at: usize) -> bool {
    let mut checksums = 0;
    while at < header.len() {
        if at + 3 > header.len() {
            return false;
        }
        let (kind, length) = (header[at], usize::from(header[at + 1]) * 256 + usize::from(header[at + 2]));
        let (value, next) = (at + 3, at + 3 + length);
        if next > header.len() {
            return false;
        }
        if kind == CRC32C {
            checksums += 1;
            if length != 4 || checksums > 1 {
                return false;
            }
            let zeroed = [&header[..value], &[0; 4], &header[next..]].concat();
            if crc32c(&zeroed).to_be_bytes() != header[value..next] {
                return false;
            }
        }
        at = next;
    }
    true
}

/// Returns the CRC-32C by long division, most significant bit first.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            let carry = remainder >> 31 == 1;
            remainder = (remainder << 1) ^ if carry { 0x1EDC_6F41 } else { 0 };
        }
    }
    !remainder.reverse_bits()
}
