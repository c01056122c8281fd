//! What can go wrong, by whose fault it is.
//!
//! | whose | channel |
//! | --- | --- |
//! | peer or network | [`CloseReason`] in the `close` event, [`ErrorKind`] in `refused` |
//! | caller | a small error value; what was rejected is given back |
//! | the engine's own bug | a panic |

use core::fmt;

/// An output buffer had no room for all of it, so nothing was taken.
///
/// The socket will get `writable` when there is room again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("output buffer full: nothing was taken, `writable` will come")
    }
}

impl core::error::Error for Full {}

impl embedded_io::Error for Full {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::WriteZero
    }
}

/// No bytes have come, or not as many as were wanted, and more may come: nothing was taken.
///
/// The socket will get `receive` when there are more. The end of the stream is no error: then a read returns 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WouldBlock;

impl fmt::Display for WouldBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not enough bytes have come: nothing was taken, `receive` will come")
    }
}

impl core::error::Error for WouldBlock {}

impl embedded_io::Error for WouldBlock {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::Other
    }
}

/// A message that was not taken, given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Rejected<M> {
    /// The mailbox of the socket's poller is full: try again later, or drop it.
    Full(M),
    /// No such poller, or it has stopped.
    Gone(M),
}

impl<M> Rejected<M> {
    /// The message.
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(message) | Self::Gone(message) => message,
        }
    }
}

impl<M> fmt::Display for Rejected<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "mailbox full",
            Self::Gone(_) => "no such poller, or it has stopped",
        })
    }
}

impl<M: fmt::Debug> core::error::Error for Rejected<M> {}

/// Why a connection could not be begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// No socket is free now, or more connects were asked for in one turn than the driver takes.
    Full,
    /// The driver cannot connect, or not to this kind of address.
    Unsupported,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no socket is free for another connection, or this turn has begun its most",
            Self::Unsupported => "the driver cannot connect to this kind of address",
        })
    }
}

impl core::error::Error for ConnectError {}

/// What the operating system or network said, reduced to what programs act on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nobody listens there.
    ConnectionRefused,
    /// The peer reset the connection.
    ConnectionReset,
    /// The connection was aborted on this side of the network.
    ConnectionAborted,
    /// No answer in time.
    TimedOut,
    /// No route to the host.
    HostUnreachable,
    /// No route to the network.
    NetworkUnreachable,
    /// The peer no longer receives.
    BrokenPipe,
    /// The address is in use.
    AddressInUse,
    /// The address is not one of this machine.
    AddressNotAvailable,
    /// Not permitted.
    PermissionDenied,
    /// No descriptor is left, in this process or in the system.
    OutOfDescriptors,
    /// The system has no memory left for it.
    OutOfMemory,
    /// The system does not support it.
    Unsupported,
    /// Anything else.
    Other,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionReset => "connection reset",
            Self::ConnectionAborted => "connection aborted",
            Self::TimedOut => "timed out",
            Self::HostUnreachable => "host unreachable",
            Self::NetworkUnreachable => "network unreachable",
            Self::BrokenPipe => "broken pipe",
            Self::AddressInUse => "address in use",
            Self::AddressNotAvailable => "address not available",
            Self::PermissionDenied => "permission denied",
            Self::OutOfDescriptors => "out of descriptors",
            Self::OutOfMemory => "out of memory",
            Self::Unsupported => "unsupported",
            Self::Other => "other error",
        })
    }
}

impl core::error::Error for ErrorKind {}

/// Which of the engine's timeouts ended a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Timeout {
    /// The connection was not established in time.
    Connect,
    /// No byte came after the connection was opened.
    FirstByte,
    /// Nothing was received or sent for too long.
    Idle,
    /// Output was queued and the peer took none of it.
    WriteStall,
    /// After `close`, output was queued and the peer took none of it.
    Drain,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::FirstByte => "first byte",
            Self::Idle => "idle",
            Self::WriteStall => "write stall",
            Self::Drain => "drain",
        })
    }
}

/// Why a socket ended. Given exactly once, with the last event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended it in good order.
    Peer,
    /// The peer or the network reset it.
    Reset,
    /// The handler called `close`, `linger` or `finish`, and everything queued has left.
    Local,
    /// The handler called `abort`.
    Aborted,
    /// One of the engine's timeouts passed.
    TimedOut(Timeout),
    /// The engine is shutting down.
    Shutdown,
    /// The handler panicked in a callback of this socket.
    HandlerPanic,
    /// The operating system reported this.
    Error(ErrorKind),
}

impl CloseReason {
    /// Number of different [`index`](Self::index) values.
    pub const COUNT: usize = 8;

    /// A number below [`COUNT`](Self::COUNT) for counting by reason, details left out.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Peer => 0,
            Self::Reset => 1,
            Self::Local => 2,
            Self::Aborted => 3,
            Self::TimedOut(_) => 4,
            Self::Shutdown => 5,
            Self::HandlerPanic => 6,
            Self::Error(_) => 7,
        }
    }

    /// The reasons' names, by [`index`](Self::index): lower case, one word each.
    pub const NAMES: [&'static str; Self::COUNT] =
        ["peer", "reset", "local", "aborted", "timeout", "shutdown", "panic", "error"];
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("closed by the peer"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Local => f.write_str("closed locally"),
            Self::Aborted => f.write_str("aborted locally"),
            Self::TimedOut(which) => write!(f, "timed out ({which})"),
            Self::Shutdown => f.write_str("engine shut down"),
            Self::HandlerPanic => f.write_str("handler panicked"),
            Self::Error(kind) => write!(f, "error: {kind}"),
        }
    }
}

static_assertions::const_assert_eq!(size_of::<CloseReason>(), 1 + 1);
