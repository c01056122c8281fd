//! What a peer can do wrong.

use core::fmt;

use super::close::CloseCode;

/// A rule of RFC 6455 or a limit that the peer has violated. The connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A reserved bit is set, although no extension was negotiated (5.2).
    ReservedBit,
    /// An opcode is reserved (5.2).
    ReservedOpcode,
    /// A frame of a client is not masked, or a frame of a server is (5.1).
    Masking,
    /// A length is not in its shortest form, or has more than 63 bits (5.2).
    LengthForm,
    /// A control frame has more than 125 bytes (5.5).
    LongControl,
    /// A control frame is fragmented (5.5).
    FragmentedControl,
    /// A continuation has no message to continue (5.4).
    NothingToContinue,
    /// A message begins within another (5.4).
    MessageWithinMessage,
    /// A text, or the reason of a close frame, is not UTF-8 (8.1, 5.5.1).
    InvalidUtf8,
    /// The payload of a close frame has one byte, or a code that must not be sent (5.5.1).
    InvalidClose,
    /// A frame or a message is longer than the limits allow.
    TooLong,
}

impl Violation {
    /// Returns the code of the close frame that announces the failure.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::INVALID_DATA,
            Self::TooLong => CloseCode::TOO_BIG,
            Self::ReservedBit
            | Self::ReservedOpcode
            | Self::Masking
            | Self::LengthForm
            | Self::LongControl
            | Self::FragmentedControl
            | Self::NothingToContinue
            | Self::MessageWithinMessage
            | Self::InvalidClose => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// Returns a short text, which is also the reason in the close frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReservedBit => "a reserved bit is set",
            Self::ReservedOpcode => "the opcode is reserved",
            Self::Masking => "the frame has to be masked by clients only",
            Self::LengthForm => "the length is not in its shortest form",
            Self::LongControl => "the control frame is too long",
            Self::FragmentedControl => "the control frame is fragmented",
            Self::NothingToContinue => "there is no message to continue",
            Self::MessageWithinMessage => "the message before is incomplete",
            Self::InvalidUtf8 => "the text is not UTF-8",
            Self::InvalidClose => "the close frame is invalid",
            Self::TooLong => "the message is too long",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Violation {}
