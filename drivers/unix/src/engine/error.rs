//! The error of an engine.

use core::fmt;
use std::io;

use lightcone_core::balance::{BalanceError, POLLERS_MAX};
use lightcone_core::{ConfigError, PollerId, Rejected, RequestError};

use super::builder::{MAILBOX_MAX, SOCKETS_MAX};
use crate::driver::DriverError;
use crate::endpoint::EndpointError;
use crate::listener::{AdoptError, ListenError};
use crate::paths::UnixAddressesFull;
use crate::transport::LISTENERS_MAX;

/// The error of starting or using an engine. Its message contains the invalid value and the allowed range.
///
/// The errors of a [`Handle`](super::Handle)'s methods have types of their own, and convert to this one.
#[non_exhaustive]
pub enum Error {
    /// An invalid number of pollers.
    Pollers(usize),
    /// An invalid number of sockets.
    Sockets(usize),
    /// An invalid mailbox capacity.
    Mailbox(usize),
    /// An invalid setting of the shards.
    Config(ConfigError),
    /// A balancing policy that does not fit the number of pollers.
    Balance(BalanceError),
    /// The system refused the memory of the pollers.
    Memory {
        /// The number of bytes per poller.
        bytes: usize,
        /// The number of pollers.
        pollers: usize,
    },
    /// A driver failed to start, or cannot watch a listener because the listener's descriptor is too large for it.
    Driver(DriverError),
    /// A thread could not be started.
    Thread(io::Error),
    /// The closure passed to [`Builder::start`](super::Builder::start) panicked for this poller.
    Factory(PollerId),
    /// A text that is not a valid address.
    Endpoint(EndpointError),
    /// A listener could not be opened.
    Listen(ListenError),
    /// A socket that was passed on cannot be used as a listener.
    Adopt(AdoptError),
    /// The engine already has the maximum number of listeners.
    Listeners,
    /// All the Unix addresses that the engine can remember are those of its listeners, so it cannot add another.
    UnixAddresses(UnixAddressesFull),
    /// A request to the engine was not accepted.
    Request(RequestError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Wrapped errors are complete sentences, as they are used alone as well.
            Self::Pollers(n) => write!(f, "{n} pollers; allowed: 1 to {POLLERS_MAX}"),
            Self::Sockets(n) => write!(f, "{n} sockets per poller; allowed: 1 to {SOCKETS_MAX}"),
            Self::Mailbox(n) => {
                write!(f, "a mailbox of {n} messages; allowed: a power of two from 2 to {MAILBOX_MAX}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Balance(error) => error.fmt(f),
            Self::Memory { bytes, pollers } => write!(
                f,
                "the system refused {bytes} bytes of memory for each of {pollers} pollers: \
                 reduce the sockets, blocks or pollers"
            ),
            Self::Driver(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Factory(poller) => write!(f, "the handler factory panicked for poller {poller}"),
            Self::Endpoint(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Adopt(error) => error.fmt(f),
            Self::Listeners => write!(f, "an engine can have {LISTENERS_MAX} listeners at once"),
            Self::UnixAddresses(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
        }
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Error {
    /// Skips the wrapped error, whose text `Display` contains, and returns that error's source.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Balance(error) => error.source(),
            Self::Driver(error) => error.source(),
            Self::Thread(error) => error.source(),
            Self::Endpoint(error) => error.source(),
            Self::Listen(error) => error.source(),
            Self::Adopt(error) => error.source(),
            Self::UnixAddresses(error) => error.source(),
            Self::Request(error) => error.source(),
            Self::Pollers(_)
            | Self::Sockets(_)
            | Self::Mailbox(_)
            | Self::Memory { .. }
            | Self::Factory(_)
            | Self::Listeners => None,
        }
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident),+) => {
        $(impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        })+
    };
}
from!(ConfigError => Config, BalanceError => Balance, DriverError => Driver, EndpointError => Endpoint,
      ListenError => Listen, AdoptError => Adopt, UnixAddressesFull => UnixAddresses, RequestError => Request);

/// Drops the message.
impl<M> From<Rejected<M>> for Error {
    fn from(rejected: Rejected<M>) -> Self {
        Self::Request(rejected.into())
    }
}

#[cfg(test)]
mod tests {
    use lightcone_core::Config;
    use lightcone_core::framing::{FrameTooLong, SendFrameError};

    use super::*;
    use crate::endpoint::ToEndpoints;
    use crate::errno::Errno;
    use crate::limits::{DescriptorLimit, LimitError};
    use crate::listener::{ListenOptions, ListenSocket};

    #[test]
    fn the_errors_of_requests_convert_and_keep_their_text_and_type() {
        for (error, request) in [
            (Error::from(Rejected::Full("message")), RequestError::Full),
            (Error::from(Rejected::Gone(7)), RequestError::Gone),
            (Error::from(RequestError::Gone), RequestError::Gone),
        ] {
            assert_eq!(error.to_string(), request.to_string());
            assert!(matches!(&error, Error::Request(wrapped) if *wrapped == request), "{error}");
        }
        let error = Error::from(UnixAddressesFull);
        assert!(error.to_string().contains("4096"), "{error}");
    }

    #[test]
    fn a_chain_of_sources_has_every_text_once() {
        let errno = Errno(libc::ENOSPC);
        let driver = DriverError::Os("epoll_ctl", errno);
        let high = DriverError::DescriptorTooHigh { driver: "select", fd: 5, limit: 4 };
        let not_local = "192.0.2.1:80".parse().unwrap();
        let listen = ListenSocket::bind(&not_local, &ListenOptions::default()).unwrap_err();
        let balance = BalanceError::Pollers(0);
        let config = Config { sockets: 0, ..Config::DEVICE }.check().unwrap_err();
        let endpoint = "nowhere".to_endpoints().unwrap_err();
        let limit = DescriptorLimit { soft: 256, hard: 1024 };
        let refused = LimitError { wanted: 5_000, limit, cause: Some(errno) };
        let wrapping: [(&dyn core::error::Error, String); 12] = [
            (&refused, errno.to_string()),
            (&driver, errno.to_string()),
            (&listen, listen.errno().to_string()),
            (&Error::Config(config), config.to_string()),
            (&Error::Balance(balance), balance.to_string()),
            (&Error::Driver(driver), driver.to_string()),
            (&Error::Driver(high), high.to_string()),
            (&Error::Thread(io::Error::from_raw_os_error(libc::EAGAIN)), String::from("os error")),
            (&Error::Endpoint(endpoint.clone()), endpoint.to_string()),
            (&Error::Listen(listen.clone()), listen.to_string()),
            (&Error::UnixAddresses(UnixAddressesFull), UnixAddressesFull.to_string()),
            (&Error::Request(RequestError::Full), RequestError::Full.to_string()),
        ];
        for (error, wrapped) in wrapping {
            assert!(error.to_string().contains(&wrapped), "{error}");
            assert!(error.source().is_none(), "{error}");
        }
        // The source of an error whose text is contained is not: it comes next.
        let long = FrameTooLong { length: 300, max: 255 };
        let error = Error::Thread(io::Error::other(SendFrameError::TooLong(long)));
        let texts: Vec<_> =
            core::iter::successors(Some(&error as &dyn core::error::Error), |&error| error.source())
                .map(ToString::to_string)
                .collect();
        assert_eq!(
            texts,
            ["cannot start a thread: the length of a frame cannot be encoded", &long.to_string()]
        );
    }
}
