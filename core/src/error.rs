//! Errors, by the party at fault.
//!
//! | Fault of | Reported as |
//! | --- | --- |
//! | the peer or the network | [`CloseReason`] in the `close` event, [`ErrorKind`] in `refused` |
//! | the caller | a small error value, which returns a rejected message to the caller |
//! | the engine (a bug) | a panic |

use core::fmt;

/// The output buffer has no room for all of the bytes, so none were queued.
///
/// The `writable` event follows when there is room again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("output buffer full: nothing was queued")
    }
}

impl core::error::Error for Full {}

impl embedded_io::Error for Full {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::WriteZero
    }
}

/// Too few bytes have arrived, and more may follow: nothing was consumed.
///
/// The `receive` event follows when more bytes arrive. The end of the stream is not an error: a read then
/// returns 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WouldBlock;

impl fmt::Display for WouldBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not enough bytes received: nothing was consumed")
    }
}

impl core::error::Error for WouldBlock {}

impl embedded_io::Error for WouldBlock {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::Other
    }
}

/// A message that was not accepted, returned to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Rejected<M> {
    /// The mailbox of the socket's poller is full. Retry later, or drop the message.
    Full(M),
    /// There is no such poller, or it has stopped.
    Gone(M),
}

impl<M> Rejected<M> {
    /// Returns the message.
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

/// The reason why a request to an engine was not accepted, for example to connect or to close a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestError {
    /// There is no room at the moment: the poller's mailbox is full, or all sockets are in use. Retry later.
    Full,
    /// The engine has stopped, or the poller or listener does not exist any more.
    Gone,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full: the poller has no room at the moment",
            Self::Gone => "gone: the engine has stopped, or the poller or listener is closed",
        })
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for RequestError {}

/// Drops the message.
impl<M> From<Rejected<M>> for RequestError {
    fn from(rejected: Rejected<M>) -> Self {
        match rejected {
            Rejected::Full(_) => Self::Full,
            Rejected::Gone(_) => Self::Gone,
        }
    }
}

/// The reason why a connect could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConnectError {
    /// No socket is free, or too many connects were started in one turn.
    Full,
    /// The driver cannot connect at all, or not to this kind of address.
    Unsupported,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no socket is free, or too many connects were started in this turn",
            Self::Unsupported => "the driver cannot connect to this kind of address",
        })
    }
}

impl core::error::Error for ConnectError {}

/// The reason why a request to be notified of [room](crate::Context::request_room) was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RoomError {
    /// As many requests as [`Config::room_requests`](crate::Config) allows wait on this poller.
    Full,
    /// The callback does not run on a poller with such requests: `room_requests` is 0, or it runs on a worker. Or the
    /// socket is one of another poller.
    Unsupported,
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "as many requests for room as the poller can keep are waiting",
            Self::Unsupported => "requests for room are not possible here",
        })
    }
}

impl core::error::Error for RoomError {}

/// An error of the operating system or the network, reduced to the kinds that programs distinguish.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ErrorKind {
    /// No listener accepts connections at the address.
    ConnectionRefused,
    /// The peer reset the connection.
    ConnectionReset,
    /// The connection was aborted on the local side.
    ConnectionAborted,
    /// No reply arrived in time.
    TimedOut,
    /// No route to the host.
    HostUnreachable,
    /// No route to the network.
    NetworkUnreachable,
    /// The peer no longer receives.
    BrokenPipe,
    /// The address is already in use.
    AddressInUse,
    /// The address is not a local one.
    AddressNotAvailable,
    /// The operation is not permitted.
    PermissionDenied,
    /// The process or the system is out of descriptors.
    OutOfDescriptors,
    /// The system is out of memory.
    OutOfMemory,
    /// The system does not support the operation.
    Unsupported,
    /// Any other error.
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

/// The engine timeout that ended a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Timeout {
    /// The connection was not established in time.
    Connect,
    /// No byte arrived after the connection was opened.
    FirstByte,
    /// Nothing was received or sent for too long.
    Idle,
    /// Output was queued, and the peer took none of it for too long.
    WriteStall,
    /// After `close`, output was queued, and the peer took none of it for too long.
    Drain,
    /// Output was queued, and the peer took less of it than the [minimum rate](crate::WriteRate) requires.
    WriteRate,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::FirstByte => "first byte",
            Self::Idle => "idle",
            Self::WriteStall => "write stall",
            Self::Drain => "drain",
            Self::WriteRate => "write rate",
        })
    }
}

/// The reason why a socket ended. Reported exactly once, with the `close` event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed cleanly.
    Peer,
    /// The peer or the network reset the connection.
    Reset,
    /// The handler called `close`, `linger` or `finish`, and all queued bytes were sent.
    Local,
    /// The handler or the driver aborted the socket.
    Aborted,
    /// One of the engine's timeouts passed.
    TimedOut(Timeout),
    /// The engine is shutting down.
    Shutdown,
    /// The handler panicked in a callback of this socket.
    HandlerPanic,
    /// The operating system reported this error.
    Error(ErrorKind),
    /// The socket was idle and made room for another one, see [`Config::evict_after`](crate::Config::evict_after).
    Evicted,
}

impl CloseReason {
    /// The number of different [`index`](Self::index) values.
    pub const COUNT: usize = 9;

    /// Returns an index below [`COUNT`](Self::COUNT), for counting by reason. It omits the details of the
    /// reason.
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
            Self::Evicted => 8,
        }
    }

    /// The names of the reasons, by [`index`](Self::index): one lower-case word each.
    pub const NAMES: [&'static str; Self::COUNT] =
        ["peer", "reset", "local", "aborted", "timeout", "shutdown", "panic", "error", "evicted"];
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
            Self::Evicted => f.write_str("evicted"),
        }
    }
}

static_assertions::const_assert_eq!(size_of::<CloseReason>(), 1 + 1);
