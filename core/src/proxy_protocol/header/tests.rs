extern crate std;

use super::*;
use std::format;
use std::string::ToString as _;
use std::vec;
use std::vec::Vec;

const MAX: usize = 4_096;

/// Reads a header that is followed by other bytes, and checks that each cut of it leads to the same result.
fn read(header: &[u8]) -> Result<(Header, usize), HeaderError> {
    let stream = [header, b"\r\nGET / HTTP/1.1\r\n"].concat();
    let whole = parse(&stream, MAX);
    for cut in 0..stream.len() {
        let cut_off = parse(&stream[..cut], MAX);
        match cut_off {
            Ok(None) => {
                let was_complete = whole.is_ok_and(|read| read.is_some_and(|(_, length)| length <= cut));
                assert!(!was_complete, "at {cut}");
            }
            decided => assert_eq!(decided, whole, "at {cut}"),
        }
    }
    whole.map(|read| read.expect("the header is complete"))
}

fn forwarded(source: &str, destination: &str) -> Header {
    Header::Forwarded { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Returns a header of version 2.
fn binary(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, kind], &length, block].concat()
}

fn block_v4() -> Vec<u8> {
    [&[192, 0, 2, 7, 198, 51, 100, 1][..], &49_152_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat()
}

fn block_v6() -> Vec<u8> {
    let address = |last: u8| {
        let mut address = [0; 16];
        (address[0], address[1], address[15]) = (0x20, 0x01, last);
        address
    };
    [&address(7)[..], &address(1), &49_152_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat()
}

#[test]
fn lines_of_every_family_are_read() {
    for (line, header) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 49152 443", forwarded("192.0.2.7:49152", "198.51.100.1:443")),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0", forwarded("255.255.255.255:65535", "0.0.0.0:0")),
        ("PROXY TCP6 2001:db8::7 ::1 1 2", forwarded("[2001:db8::7]:1", "[::1]:2")),
        ("PROXY TCP6 ::ffff:192.0.2.7 2001:DB8::1 1 2", forwarded("[::ffff:192.0.2.7]:1", "[2001:db8::1]:2")),
        ("PROXY UNKNOWN", Header::Direct),
        ("PROXY UNKNOWN ", Header::Direct),
        ("PROXY UNKNOWN any \r or \n thing", Header::Direct),
        ("PROXY UNKNOWN 192.0.2.7 198.51.100.1 49152 443", Header::Direct),
    ] {
        let line = format!("{line}\r\n");
        assert_eq!(read(line.as_bytes()), Ok((header, line.len())), "{line:?}");
    }
}

#[test]
fn a_malformed_line_is_refused() {
    for line in [
        "PROXY ",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 ",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r",
        "PROXY TCP4 192.0.2.7\n198.51.100.1 1 2",
        "PROXY TCP4 192.0.02.7 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2 198.51.100.1 1 2",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 2",
        "PROXY TCP4 2001:db8::7 198.51.100.1 1 2",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2",
        "PROXY TCP6 [::1] ::1 1 2",
        "PROXY TCP6 ::1%1 ::1 1 2",
        "PROXY TCP6 00000::1 ::1 1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 00",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 ",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 2",
        "PROXY UNKNOWNS",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 \u{661}",
    ] {
        assert_eq!(read(format!("{line}\r\n").as_bytes()), Err(HeaderError::Line), "{line:?}");
    }
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let line = |length: usize| format!("{:x<1$}\r\n", "PROXY UNKNOWN ", length - 2).into_bytes();
    assert_eq!(read(&line(LINE_MAX)), Ok((Header::Direct, LINE_MAX)));
    assert_eq!(read(&line(LINE_MAX + 1)), Err(HeaderError::LineTooLong(107)));
    assert_eq!(parse(&line(LINE_MAX + 1)[..LINE_MAX - 1], MAX), Ok(None));
    // a line that ends with LF alone has not ended
    assert_eq!(parse(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", MAX), Ok(None));
    assert_eq!(parse(&line(40), 40), Ok(Some((Header::Direct, 40))));
    assert_eq!(parse(&line(40), 39), Err(HeaderError::LineTooLong(39)));
}

#[test]
fn anything_else_is_refused_at_the_first_byte_that_differs() {
    for (bytes, at) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 1),
        (b"PROXX", 5),
        (b"PROXY\t", 6),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\n", 1),
        (b"proxy ", 1),
    ] {
        assert_eq!(parse(&bytes[..at - 1], MAX), Ok(None), "{bytes:?}");
        assert_eq!(parse(&bytes[..at], MAX), Err(HeaderError::Signature), "{bytes:?}");
    }
}

#[test]
fn binary_headers_of_every_family_are_read() {
    let v4 = forwarded("192.0.2.7:49152", "198.51.100.1:443");
    let v6 = forwarded("[2001::7]:49152", "[2001::1]:443");
    for (command, kind, block, header) in [
        (PROXY, 0x11, block_v4(), v4),
        (PROXY, 0x12, block_v4(), v4),
        (PROXY, 0x21, block_v6(), v6),
        (PROXY, 0x22, block_v6(), v6),
        (PROXY, 0x31, vec![b'/'; 216], Header::Direct),
        (PROXY, 0x32, vec![b'/'; 216], Header::Direct),
        (PROXY, 0x00, vec![], Header::Direct),
        (PROXY, 0x00, vec![1; 9], Header::Direct),
        (PROXY, 0x10, block_v4(), Header::Direct),
        (PROXY, 0x01, block_v4(), Header::Direct),
        (LOCAL, 0x00, vec![], Header::Direct),
        (LOCAL, 0x11, block_v4(), Header::Direct),
        (LOCAL, 0xFF, vec![3; 5], Header::Direct),
    ] {
        let bytes = binary(command, kind, &block);
        assert_eq!(read(&bytes), Ok((header, bytes.len())), "{command:#x} {kind:#x}");
    }
}

#[test]
fn unknown_commands_and_families_are_refused() {
    for command in (0..=u8::MAX).filter(|command| !matches!(*command, LOCAL | PROXY)) {
        assert_eq!(read(&binary(command, 0x11, &block_v4())), Err(HeaderError::Command(command)));
    }
    for kind in 0..=u8::MAX {
        let known = kind >> 4 <= 3 && kind & 0xF <= 2;
        let result = read(&binary(PROXY, kind, &[4; 219]));
        assert_eq!(result == Err(HeaderError::Family(kind)), !known, "{kind:#x}: {result:?}");
    }
}

#[test]
fn the_announced_length_has_bounds_on_both_sides() {
    for (kind, block) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        let needed = FIXED + block;
        let error = HeaderError::TooShort { length: needed - 1, needed };
        assert_eq!(read(&binary(PROXY, kind, &vec![0; block - 1])), Err(error));
        assert!(read(&binary(PROXY, kind, &vec![0; block])).is_ok());
    }
    let long = binary(LOCAL, 0, &vec![7; MAX - FIXED]);
    assert_eq!(read(&long), Ok((Header::Direct, MAX)));
    let error = HeaderError::TooLong { length: MAX + 1, max: MAX };
    // without waiting for it to arrive
    let longer = binary(LOCAL, 0, &vec![7; MAX - FIXED + 1]);
    assert_eq!(parse(&longer[..FIXED], MAX), Err(error));
    assert_eq!(error.to_string(), "a header of 4097 bytes; allowed: 4096");
}

/// Returns a header of version 2 with its checksum between two other values.
fn with_checksum() -> (Vec<u8>, usize) {
    let mut block = block_v4();
    block.extend([0x04, 0, 2, 0, 0]);
    let at = FIXED + block.len() + 3;
    block.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
    block.extend([0x05, 0, 1, b'x']);
    let mut bytes = binary(PROXY, 0x11, &block);
    let checksum = crc32c(bytes.iter().copied());
    bytes[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
    (bytes, at)
}

#[test]
fn the_checksum_is_that_of_rfc_9260() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283); // the check value of CRC-32C
    assert_eq!(crc32c([0; 32].into_iter()), 0x8A91_36AA); // RFC 3720, appendix B.4
}

#[test]
fn a_checksum_is_verified_over_the_whole_header() {
    let (bytes, _) = with_checksum();
    assert!(read(&bytes).is_ok());
    // a change of any byte that the structure does not already exclude
    for at in FIXED..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert!(read(&changed).is_err() || bytes[at] == CRC32C, "at {at}");
    }
}

/// Two checksums that are both right take as much work as two headers; many of them, much more.
#[test]
fn a_second_checksum_is_refused() {
    let mut block = block_v4();
    block.extend([CRC32C, 0, 4, 0, 0, 0, 0].repeat(2));
    let bytes = binary(PROXY, 0x11, &block);
    let first = FIXED + block_v4().len() + 3;
    // each is computed with zeros in its own place, so they are made equal by trying
    let mut right = bytes.clone();
    right[first..first + 4].copy_from_slice(&crc32c(bytes.iter().copied()).to_be_bytes());
    assert_eq!(read(&right), Err(HeaderError::Values));
}

#[test]
fn values_must_end_with_the_header() {
    let with = |values: &[u8]| read(&binary(PROXY, 0x11, &[&block_v4(), values].concat())).map(drop);
    assert_eq!(with(&[]), Ok(()));
    assert_eq!(with(&[0xE0, 0, 0]), Ok(()));
    assert_eq!(with(&[0xE0, 0, 1, 9, 0x20, 0, 0]), Ok(()));
    for values in
        [&[0xE0][..], &[0xE0, 0], &[0xE0, 0, 1], &[0xE0, 1, 0, 9], &[0xE0, 0, 0, 1], &[CRC32C, 0, 3, 0, 0, 0]]
    {
        assert_eq!(with(values), Err(HeaderError::Values), "{values:?}");
    }
}

#[test]
fn an_error_names_what_was_wrong_and_what_is_allowed() {
    for (error, text) in [
        (HeaderError::Signature, "no header; allowed: one of version 1 or 2"),
        (HeaderError::LineTooLong(107), "no end of the line of version 1; allowed: 107 bytes"),
        (HeaderError::Command(0x11), "version and command 0x11; allowed: 0x20 and 0x21"),
        (HeaderError::TooShort { length: 20, needed: 28 }, "a header of 20 bytes, its addresses need 28"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
