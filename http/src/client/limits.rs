//! Limits of a client.

use core::time::Duration;

use crate::limits::Limits;

/// Limits of what a server can make a client store or wait for. A response that exceeds one fails with the error that
/// is listed for the limit, and its connection ends.
///
/// Limits are inclusive: a value that equals its limit is accepted. Set some and take the others from
/// [`ClientLimits::DEFAULT`]: later versions add limits.
///
/// The framing of a chunked body has fixed limits besides, the defaults of the server's [`Limits`]: 256 bytes for the
/// size and the extensions of a chunk (more: [`Chunk`](super::InvalidResponse::Chunk)), 16 KiB for all extensions of a
/// body (more: [`BodyTooLarge`](super::InvalidResponse::BodyTooLarge)), and 8 KiB for the trailer section (more:
/// [`Trailers`](super::InvalidResponse::Trailers)).
///
/// ```
/// use core::time::Duration;
/// use lightcone_http::client::ClientLimits;
///
/// let limits = ClientLimits { total_time: Some(Duration::from_secs(5)), ..ClientLimits::DEFAULT };
/// assert_eq!(limits.head, 32 << 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ClientLimits {
    /// The maximum size of a response's head in bytes: the status line, the fields and the final empty line. The
    /// capacity of a connection's input buffer is a limit as well. More:
    /// [`HeadTooLarge`](super::InvalidResponse::HeadTooLarge). Default: 32 KiB.
    pub head: usize,
    /// The maximum number of field lines in a head. More: [`HeadTooLarge`](super::InvalidResponse::HeadTooLarge).
    /// Default: 100.
    pub fields: u16,
    /// The maximum number of interim responses (1xx) before the final one. More:
    /// [`TooManyInterims`](super::InvalidResponse::TooManyInterims). Default: 8.
    pub interims: u8,
    /// The maximum size of a response's body in bytes. The client does not store it, so the default is the largest that
    /// can be counted: 2^48 - 1. More: [`BodyTooLarge`](super::InvalidResponse::BodyTooLarge).
    pub body: u64,
    /// How long the sending of a request may make no progress, because the server takes nothing or the program supplies
    /// nothing. Each byte that leaves is progress. Default: 30 seconds.
    pub send_time: Duration,
    /// How long the first byte of a response may take, from the end of the request on, or from the interim response
    /// before it. Default: 30 seconds.
    pub first_byte_time: Duration,
    /// How long a head may take from its first byte to its last. Default: 10 seconds.
    pub head_time: Duration,
    /// How long the next bytes of a body may take. Begins again when bytes of the request leave, if the server responds
    /// before it has the whole request, and does not run while the program pauses the body. Default: 30 seconds.
    pub body_time: Duration,
    /// How long the whole exchange may take, from the moment at which a connection is available. `None` for no limit,
    /// which is the default.
    pub total_time: Option<Duration>,
}

impl ClientLimits {
    /// The default limits.
    pub const DEFAULT: Self = Self {
        head: 32 << 10,
        fields: 100,
        interims: 8,
        body: (1 << 48) - 1,
        send_time: Duration::from_secs(30),
        first_byte_time: Duration::from_secs(30),
        head_time: Duration::from_secs(10),
        body_time: Duration::from_secs(30),
        total_time: None,
    };

    /// Returns the limits of a chunked body's framing, which are those of a server.
    pub(super) const fn chunks(&self) -> Limits {
        Limits { body: self.body, ..Limits::DEFAULT }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
