//! The header of the PROXY protocol: from bytes to addresses.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str;

/// The beginning of a header of version 1 (section 2.1).
const LINE: &[u8; 6] = b"PROXY ";
/// The beginning of a header of version 2 (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The length of a header of version 2 up to its addresses.
const FIXED: usize = 16;
/// The versions and commands of version 2.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// The type of the only TLV that is read: the checksum (2.2.3).
const CRC32C: u8 = 0x03;
/// The CRC-32C (RFC 9260, appendix A), with its bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The length of the longest line of version 1, its line end included (section 2.1). A maximum below that would refuse
/// valid lines.
pub const LINE_MAX: usize = 107;

/// The addresses of the connection on behalf of which a proxy has connected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Header {
    /// None, so those of the connection itself apply.
    ///
    /// The proxy has connected by itself, for example to check whether the server is alive (`LOCAL`), or it does not
    /// know the addresses (`UNKNOWN`, `UNSPEC`), or its client has connected over a Unix-domain socket. An
    /// [`Address`](crate::Address) has no room for the path of such a socket, which could not be connected to from
    /// here anyway.
    Direct,
    /// Those of the connection of a client to the proxy.
    Forwarded {
        /// The address of the client.
        source: SocketAddr,
        /// The address to which the client has connected.
        destination: SocketAddr,
    },
}

/// The reason why bytes are not a header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum HeaderError {
    /// The first bytes are those of neither version.
    Signature,
    /// The line of version 1 is malformed.
    Line,
    /// The line of version 1 does not end within this number of bytes.
    LineTooLong(usize),
    /// The version or the command of version 2 is unknown.
    Command(u8),
    /// The address family or the transport protocol of version 2 is unknown.
    Family(u8),
    /// A header of version 2 is longer than the maximum.
    TooLong {
        /// The length that the header announces.
        length: usize,
        /// The maximum.
        max: usize,
    },
    /// A header of version 2 is too short for its addresses.
    TooShort {
        /// The length that the header announces.
        length: usize,
        /// The length up to the end of the addresses.
        needed: usize,
    },
    /// The additional values of version 2 (TLVs) do not end where the header does.
    Values,
    /// The checksum of version 2 is not that of the header.
    Checksum,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("no header; allowed: one of version 1 or 2"),
            Self::Line => f.write_str(
                "malformed line of version 1; allowed: PROXY TCP4 or TCP6, two addresses and two ports, or PROXY UNKNOWN",
            ),
            Self::LineTooLong(max) => write!(f, "no end of the line of version 1; allowed: {max} bytes"),
            Self::Command(byte) => write!(f, "version and command {byte:#04x}; allowed: 0x20 and 0x21"),
            Self::Family(byte) => {
                write!(f, "address family and protocol {byte:#04x}; allowed: families 0 to 3, protocols 0 to 2")
            }
            Self::TooLong { length, max } => write!(f, "a header of {length} bytes; allowed: {max}"),
            Self::TooShort { length, needed } => {
                write!(f, "a header of {length} bytes, its addresses need {needed}")
            }
            Self::Values => f.write_str("additional values that do not end with the header, or two checksums"),
            Self::Checksum => f.write_str("wrong checksum"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Reads a header of version 1 or 2 at the start of `bytes`. Returns it with its length, or `None` if more bytes are
/// needed.
///
/// The result depends only on the bytes of the header: once it is not `None`, more bytes do not change it. So a stream
/// can be read again from its start whenever bytes have arrived. At most `max` bytes are a header; `max` should be at
/// least [`LINE_MAX`].
///
/// Of version 1, the exact form is required: single spaces, canonical numbers, a line that ends with CR LF. An IPv6
/// address may end with an IPv4 one, as `inet_ntop(3)` writes some. Of version 2, addresses of a datagram protocol
/// count as well, since a client may have reached the proxy over QUIC. After the addresses, the additional values
/// (TLVs) must end where the header does; of these, a checksum is verified, and the others are skipped. What follows
/// in a header without addresses ([`Header::Direct`], except for Unix-domain sockets) is skipped as it is.
///
/// ```
/// use lightcone_core::proxy_protocol::{Header, LINE_MAX, parse};
///
/// let stream = b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 80\r\nGET / HTTP/1.1\r\n";
/// let (header, length) = parse(stream, LINE_MAX)?.expect("the header is complete");
/// assert!(stream[length..].starts_with(b"GET"));
/// assert_eq!(header, Header::Forwarded {
///     source: "192.0.2.7:49152".parse().unwrap(),
///     destination: "198.51.100.1:80".parse().unwrap(),
/// });
/// assert_eq!(parse(&stream[..20], LINE_MAX)?, None);
/// # Ok::<(), lightcone_core::proxy_protocol::HeaderError>(())
/// ```
///
/// # Errors
///
/// [`HeaderError`], as soon as the bytes cannot be the start of a header.
pub fn parse(bytes: &[u8], max: usize) -> Result<Option<(Header, usize)>, HeaderError> {
    if begins(bytes, LINE) {
        return parse_line(bytes, max.min(LINE_MAX));
    }
    if begins(bytes, SIGNATURE) {
        return parse_binary(bytes, max);
    }
    Err(HeaderError::Signature)
}

/// Returns whether `bytes` may be the start of a stream that begins with `start`.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes.get(..common) == start.get(..common)
}

fn parse_line(bytes: &[u8], max: usize) -> Result<Option<(Header, usize)>, HeaderError> {
    let first = bytes.get(..max).unwrap_or(bytes);
    // In a line of an unknown protocol, a CR or LF alone may be a part of what is ignored.
    let Some(end) = first.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < max { Ok(None) } else { Err(HeaderError::LineTooLong(max)) };
    };
    let line = bytes.get(LINE.len()..end).unwrap_or_default();
    let header = match line.strip_prefix(b"UNKNOWN") {
        Some([] | [b' ', ..]) => Header::Direct,
        _ => str::from_utf8(line).ok().and_then(parse_fields).ok_or(HeaderError::Line)?,
    };
    Ok(Some((header, end + 2)))
}

/// Reads what follows `PROXY ` in a line with addresses.
fn parse_fields(line: &str) -> Option<Header> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let (protocol, source, destination) = (next()?, next()?, next()?);
    let (source_port, destination_port) = (next()?, next()?);
    if next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match protocol {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    // `parse` alone would accept a sign and leading zeros
    let port = |text: &str| -> Option<u16> {
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        if canonical { text.parse().ok() } else { None }
    };
    Some(Header::Forwarded {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn parse_binary(bytes: &[u8], max: usize) -> Result<Option<(Header, usize)>, HeaderError> {
    let command = match bytes.get(SIGNATURE.len()) {
        Some(byte @ (&LOCAL | &PROXY)) => *byte,
        Some(byte) => return Err(HeaderError::Command(*byte)),
        None => return Ok(None),
    };
    let Some((&[.., kind, high, low], _)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    // What follows the family of a local connection is ignored, and the family itself, too.
    let addresses = match (command, kind >> 4, kind & 0xF) {
        (LOCAL, ..) => None,
        (_, 0..=3, 0) | (_, 0, 1 | 2) => None,
        (_, 1, 1 | 2) => Some(2 * (4 + 2)),
        (_, 2, 1 | 2) => Some(2 * (16 + 2)),
        (_, 3, 1 | 2) => Some(2 * 108),
        _ => return Err(HeaderError::Family(kind)),
    };
    if length > max {
        return Err(HeaderError::TooLong { length, max });
    }
    let needed = FIXED + addresses.unwrap_or(0);
    if length < needed {
        return Err(HeaderError::TooShort { length, needed });
    }
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    if addresses.is_some() {
        check_values(whole, needed)?;
    }
    let block = whole.get(FIXED..needed).unwrap_or_default();
    Ok(Some((parse_addresses(block), length)))
}

/// Reads a block of addresses, whose length identifies the family.
fn parse_addresses(block: &[u8]) -> Header {
    let ports = |block: [u8; 4]| {
        let [a, b, c, d] = block;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    };
    let forwarded = |source: IpAddr, destination: IpAddr, (from, to): (u16, u16)| Header::Forwarded {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    };
    if let Ok(&[a, b, c, d, e, f, g, h, ref last @ ..]) = <&[u8; 12]>::try_from(block) {
        forwarded([a, b, c, d].into(), [e, f, g, h].into(), ports(*last))
    } else if let (36, Some((source, rest))) = (block.len(), block.split_first_chunk::<16>())
        && let Some((destination, rest)) = rest.split_first_chunk::<16>()
        && let Some(last) = rest.first_chunk::<4>()
    {
        forwarded((*source).into(), (*destination).into(), ports(*last))
    } else {
        Header::Direct
    }
}

/// Checks the values from `at` to the end of a header: their lengths, and a checksum.
fn check_values(header: &[u8], mut at: usize) -> Result<(), HeaderError> {
    let mut checked = false;
    while at < header.len() {
        let rest = header.get(at..).unwrap_or_default();
        let Some((&[kind, high, low], rest)) = rest.split_first_chunk::<3>() else {
            return Err(HeaderError::Values);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..length).ok_or(HeaderError::Values)?;
        at += 3;
        if kind == CRC32C {
            let value = <[u8; 4]>::try_from(value).map_err(|_length| HeaderError::Values)?;
            // One is enough, and bounds the work: several that are all right can be made.
            if core::mem::replace(&mut checked, true) {
                return Err(HeaderError::Values);
            }
            // The checksum is that of the header with zeros in its place.
            let is_value = |index: usize| (at..at + 4).contains(&index);
            let zeroed =
                header.iter().enumerate().map(|(index, byte)| if is_value(index) { 0 } else { *byte });
            if crc32c(zeroed) != u32::from_be_bytes(value) {
                return Err(HeaderError::Checksum);
            }
        }
        at += length;
    }
    Ok(())
}

/// Returns the CRC-32C of the bytes. Bit by bit: a header is short, and a table would take 1 KiB.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    })
}

#[cfg(test)]
mod tests;
