//! Frame headers (RFC 6455, 5.2).

use super::mask::Mask;
use super::violation::Violation;

/// The longest payload of a control frame.
pub const CONTROL_MAX: usize = 125;
/// The longest header of a frame.
pub const HEADER_MAX: usize = 14;
/// The length of the mask at the end of a header.
pub(crate) const MASK_LENGTH: usize = 4;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// The side of a connection that receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The server, whose peer masks its frames.
    Server,
    /// The client, whose peer does not.
    Client,
}

/// The meaning of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further frame of a message.
    Continuation = 0,
    /// The first frame of a text message.
    Text = 1,
    /// The first frame of a binary message.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A frame that asks for a pong.
    Ping = 9,
    /// The response to a ping, or a sign of life.
    Pong = 10,
}

impl Opcode {
    const fn new(opcode: u8) -> Option<Self> {
        match opcode {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// Returns whether frames of this opcode control the connection, and carry no data of messages.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }
}

/// The header of a frame.
///
/// ```
/// use lightcone_websocket::{FrameHeader, Opcode, Role};
///
/// let (header, size) = FrameHeader::parse(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f", Role::Server).unwrap().unwrap();
/// assert_eq!((header.fin, header.opcode, header.length, size), (true, Opcode::Text, 5, 6));
/// assert_eq!(header.encode().as_bytes(), b"\x81\x85\x37\xfa\x21\x3d");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// Whether the frame is the last of its message.
    pub fin: bool,
    /// The meaning of the frame.
    pub opcode: Opcode,
    /// The mask, in frames of clients.
    pub mask: Option<Mask>,
    /// The length of the payload, below 2^63.
    pub length: u64,
}

impl FrameHeader {
    /// Parses the header at the front of `bytes`, and returns it with its size; `None` if it is incomplete. A header
    /// that cannot become valid is refused as soon as that is known.
    ///
    /// # Errors
    /// If the header violates a rule for frames that `role` receives.
    #[inline]
    pub fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, Violation> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Violation::ReservedBit);
        }
        let opcode = Opcode::new(first & 15).ok_or(Violation::ReservedOpcode)?;
        let fin = first & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(Violation::FragmentedControl);
        }
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        if (second & MASKED != 0) != matches!(role, Role::Server) {
            return Err(Violation::Masking);
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > CONTROL_MAX {
            return Err(Violation::LongControl);
        }
        let (length, rest) = match short {
            LENGTH_16 => {
                let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            LENGTH_64 => {
                // The first bit is known to be wrong before the rest has arrived.
                if rest.first().is_some_and(|first| first & 0x80 != 0) {
                    return Err(Violation::LengthForm);
                }
                let Some((length, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        // RFC 6455, 5.2: the shortest form that fits must be used
        let least = match short {
            LENGTH_16 => u64::from(LENGTH_16),
            LENGTH_64 => 0x1_0000,
            _ => 0,
        };
        if length < least {
            return Err(Violation::LengthForm);
        }
        let (mask, rest) = match role {
            Role::Client => (None, rest),
            Role::Server => {
                let Some((mask, rest)) = rest.split_first_chunk::<MASK_LENGTH>() else { return Ok(None) };
                (Some(Mask::new(*mask)), rest)
            }
        };
        Ok(Some((Self { fin, opcode, mask, length }, bytes.len() - rest.len())))
    }

    /// Returns the header as bytes.
    #[must_use]
    #[inline]
    pub fn encode(&self) -> EncodedHeader {
        let mut bytes = [0; HEADER_MAX];
        let first = if self.fin { FIN } else { 0 } | self.opcode as u8;
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        let mut size = 2;
        let short = match self.length {
            0..=125 => self.length.to_be_bytes()[7],
            126..=0xffff => {
                let [.., high, low] = self.length.to_be_bytes();
                (bytes[2], bytes[3]) = (high, low);
                size = 4;
                LENGTH_16
            }
            _ => {
                let [_, _, place @ .., _, _, _, _] = &mut bytes;
                *place = self.length.to_be_bytes();
                size = 10;
                LENGTH_64
            }
        };
        (bytes[0], bytes[1]) = (first, masked | short);
        if let Some(mask) = self.mask {
            for (place, byte) in bytes.iter_mut().skip(size).zip(mask.bytes()) {
                *place = byte;
            }
            size += MASK_LENGTH;
        }
        EncodedHeader { bytes, size }
    }
}

/// A [`FrameHeader`] as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodedHeader {
    bytes: [u8; HEADER_MAX],
    size: usize,
}

impl EncodedHeader {
    /// Returns the bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.size).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [u64; 12] =
        [0, 1, 124, 125, 126, 127, 0xfffe, 0xffff, 0x1_0000, 1 << 32, (1 << 63) - 1, 0x1234_5678_9abc];
    const OPCODES: [Opcode; 6] =
        [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];

    fn in_all_cuts(header: &FrameHeader, role: Role) {
        let mut bytes = header.encode().as_bytes().to_vec();
        let control = header.opcode.is_control();
        let error = match () {
            () if control && !header.fin => Some(Violation::FragmentedControl),
            () if control && header.length > 125 => Some(Violation::LongControl),
            () => None,
        };
        for cut in 0..bytes.len() {
            let part = FrameHeader::parse(&bytes[..cut], role);
            assert!(part == Ok(None) || part.err() == error, "{header:?} cut at {cut}: {part:?}");
        }
        let size = bytes.len();
        bytes.extend_from_slice(b"payload");
        let expected = error.map_or(Ok(Some((*header, size))), Err);
        assert_eq!(FrameHeader::parse(&bytes, role), expected);
        let other = if role == Role::Server { Role::Client } else { Role::Server };
        let error = if control && !header.fin { Violation::FragmentedControl } else { Violation::Masking };
        assert_eq!(FrameHeader::parse(&bytes, other), Err(error));
    }

    #[test]
    fn what_is_encoded_is_parsed_in_all_cuts() {
        let masked = Some(Mask::new(*b"\x80mas"));
        for (length, opcode) in LENGTHS.iter().flat_map(|length| OPCODES.map(|opcode| (*length, opcode))) {
            for fin in [false, true] {
                in_all_cuts(&FrameHeader { fin, opcode, mask: masked, length }, Role::Server);
                in_all_cuts(&FrameHeader { fin, opcode, mask: None, length }, Role::Client);
            }
        }
    }

    #[test]
    fn every_first_byte_is_allowed_or_refused_at_once() {
        for first in 0..=u8::MAX {
            let expected = match (first & 0x70, first & 15, first & 0x80 != 0) {
                (1.., ..) => Err(Violation::ReservedBit),
                (_, 3..=7 | 11..=15, _) => Err(Violation::ReservedOpcode),
                (_, 8..=10, false) => Err(Violation::FragmentedControl),
                _ => Ok(None),
            };
            assert_eq!(FrameHeader::parse(&[first], Role::Server), expected, "{first:x}");
        }
    }

    #[test]
    fn lengths_have_the_shortest_form() {
        let parse =
            |bytes: &[u8]| FrameHeader::parse(bytes, Role::Client).map(|found| found.map(|(h, _)| h.length));
        assert_eq!(parse(b"\x82\x7e\x00\x7d"), Err(Violation::LengthForm));
        assert_eq!(parse(b"\x82\x7e\x00\x7e"), Ok(Some(126)));
        assert_eq!(parse(b"\x82\x7f\0\0\0\0\0\0\xff\xff"), Err(Violation::LengthForm));
        assert_eq!(parse(b"\x82\x7f\0\0\0\0\0\x01\0\0"), Ok(Some(0x1_0000)));
        assert_eq!(parse(b"\x82\x7f\x80"), Err(Violation::LengthForm));
        assert_eq!(parse(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), Ok(Some((1 << 63) - 1)));
        assert_eq!(parse(b"\x89\x7e"), Err(Violation::LongControl));
    }
}
