//! The operating system's sockets as a transport for the core's poller.

use alloc::sync::Arc;
use core::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lightcone_core::poller::{Accept, Connect, ConnectResult, GroupTypes, Received, Transport};
use lightcone_core::sync::{CachePadded, Load, MailboxSlot};
use lightcone_core::{Address, ErrorKind, Interest, ListenerId, PIECES_MAX, Sent, Token};

use crate::address::{PeerAddress, SocketAddress};
use crate::driver::{Driver, check_descriptor};
use crate::errno::Errno;
use crate::listener::{self, ListenOptions, ListenSocket};
use crate::paths::PathPin;
use crate::records::{AcceptRecords, record};
use crate::shared::{EngineShared, OpenSocket};
use crate::socket::{self, Connecting, GATHER_MAX};

const _: () = assert!(PIECES_MAX <= GATHER_MAX, "one call must take all pieces of a vectored send");

/// The first key of the listeners. Tokens are always lower, because `SOCKETS_MAX` limits their indexes.
const LISTENER_KEYS: u64 = u64::MAX - 0xFF;
/// The maximum number of listeners per engine. The last of the 256 keys is reserved for the waker.
pub(crate) const LISTENERS_MAX: usize = 255;

/// Returns the key with which a listener is registered at the driver.
const fn listener_key(id: ListenerId) -> u64 {
    LISTENER_KEYS + id.0 as u64
}

/// Returns the listener that is registered with this key; `None` if it is the key of a socket.
#[inline]
pub(crate) fn listener_of(key: u64) -> Option<ListenerId> {
    key.checked_sub(LISTENER_KEYS).map(|id| ListenerId(u8::try_from(id).unwrap_or(u8::MAX)))
}

type Accepts = dyn Fn(ListenerId, &Address) -> bool + Send + Sync;

/// A connection filter, called on the accepting thread.
#[derive(Clone)]
pub(crate) struct ConnectionFilter(pub(crate) Arc<Accepts>);

impl fmt::Debug for ConnectionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionFilter")
    }
}

/// A listening socket, its address, and its entries in the tables of the engine.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Shared with the handle of the listener, which does not keep it open.
    pub(crate) socket: Arc<ListenSocket>,
    /// The socket's address. Peers of a Unix listener have no name, and are reported with this address.
    pub(crate) address: Address,
    pub(crate) records: AcceptRecords,
    /// Keeps the address of a Unix socket from being forgotten.
    pub(crate) _pin: Option<PathPin>,
    /// The last field: fields are dropped in order, and the socket must be closed when this reports it as closed.
    pub(crate) _open: OpenSocket,
}

/// The types of an engine's group of pollers.
pub(crate) struct UnixGroup;

impl GroupTypes for UnixGroup {
    type Unregistered = OwnedFd;
    type Listener = Listening;
    type Load = Arc<CachePadded<Load>>;
    type Waker = Box<dyn Fn() + Send + Sync>;
    type Ring<T> = CachePadded<Box<[MailboxSlot<T>]>>;
}

/// The transport of one poller: socket calls, and the driver that watches the descriptors.
pub(crate) struct UnixTransport<'e, D, M> {
    pub(crate) driver: D,
    pub(crate) shared: &'e EngineShared<M>,
    /// The options of listeners, of which `nodelay` and `unsent_limit` are also set on connecting sockets.
    pub(crate) options: ListenOptions,
    pub(crate) filter: Option<ConnectionFilter>,
}

impl<D: Driver, M> Transport for UnixTransport<'_, D, M> {
    type Unregistered = OwnedFd;
    type Registered = OwnedFd;
    type Listener = Listening;

    const REPORTS_UNDELIVERED: bool = socket::UNDELIVERED_REPORTED;

    fn register(&mut self, fd: OwnedFd, token: Token, interest: Interest) -> Result<OwnedFd, ErrorKind> {
        let registered = self.driver.register(fd.as_fd(), token.to_bits(), interest);
        registered.map(|()| fd).map_err(|error| {
            record!(debug, "cannot watch the socket {token:?}: {error}");
            ErrorKind::OutOfDescriptors
        })
    }

    fn modify(
        &mut self,
        fd: &mut OwnedFd,
        token: Token,
        old: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind> {
        self.driver.modify(fd.as_fd(), token.to_bits(), old, new).map_err(|_| ErrorKind::OutOfMemory)
    }

    #[inline(always)]
    fn receive(&mut self, fd: &mut OwnedFd, _: Token, buffer: &mut [u8]) -> Received {
        match socket::receive(fd.as_fd(), buffer) {
            socket::Received::Bytes(n) => Received::Bytes(n),
            socket::Received::WouldBlock => Received::WouldBlock,
            socket::Received::End => Received::End,
            socket::Received::Failed(errno) => Received::Failed(errno.into()),
        }
    }

    #[inline(always)]
    fn send(&mut self, fd: &mut OwnedFd, _: Token, bytes: &[u8]) -> Sent {
        sent(socket::send(fd.as_fd(), bytes))
    }

    fn send_vectored(&mut self, fd: &mut OwnedFd, _: Token, pieces: &[&[u8]]) -> Sent {
        sent(socket::send_gathered(fd.as_fd(), pieces))
    }

    fn shutdown_write(&mut self, fd: &mut OwnedFd, _: Token) -> Result<(), ErrorKind> {
        socket::shutdown_write(fd.as_fd()).map_err(Into::into)
    }

    fn close(&mut self, fd: OwnedFd, token: Token, interest: Interest, reset: bool) {
        if reset {
            // Fails without harm on Unix sockets and closed connections.
            let _ = socket::set_abort_on_close(fd.as_fd());
        }
        // Before `fd` is dropped (which closes it): afterwards its number may belong to another socket.
        self.driver.forget(fd.as_fd(), token.to_bits(), interest);
    }

    fn connect(&mut self, to: Address) -> Result<Connect<OwnedFd>, ErrorKind> {
        let endpoint = self.shared.endpoint(&to).ok_or(Errno(libc::EINVAL))?;
        let fd = socket::stream_socket(&endpoint)?;
        if endpoint.as_inet().is_some() {
            if self.options.nodelay {
                socket::set_nodelay(fd.as_fd())?;
            }
            if let Some(limit) = self.options.unsent_limit {
                socket::set_unsent_limit(fd.as_fd(), limit)?;
            }
        }
        match socket::connect(fd.as_fd(), &SocketAddress::new(&endpoint)) {
            Connecting::Done => Ok(Connect::Established(fd)),
            Connecting::InProgress => Ok(Connect::InProgress(fd)),
            // The listener's backlog is full. No readiness event says when it has room again, so the poller retries.
            Connecting::Failed(errno) if errno.is_would_block() && endpoint.as_inet().is_none() => {
                Ok(Connect::Later)
            }
            Connecting::Failed(errno) => Err(errno.into()),
        }
    }

    fn connect_result(&mut self, fd: &mut OwnedFd, _: Token) -> ConnectResult {
        match socket::connect_result(fd.as_fd()) {
            Connecting::Done => ConnectResult::Established,
            Connecting::InProgress => ConnectResult::InProgress,
            // It was established, and reset before this call.
            Connecting::Failed(errno) if errno.is_of_connection() => ConnectResult::Broken(errno.into()),
            Connecting::Failed(errno) => ConnectResult::Failed(errno.into()),
        }
    }

    fn undelivered(&mut self, fd: &mut OwnedFd, _: Token) -> Option<usize> {
        socket::undelivered(fd.as_fd())
    }

    fn local_address(&self, fd: &OwnedFd) -> Option<Address> {
        let local = socket::local_address(fd.as_fd()).ok()?;
        local.to_endpoint().and_then(|endpoint| self.shared.address(&endpoint).ok())
    }

    fn watch_listener(&mut self, listener: &mut Listening, id: ListenerId) -> Result<(), ErrorKind> {
        let registered = self.driver.register(listener.socket.as_fd(), listener_key(id), Interest::READ);
        registered.map_err(|_| ErrorKind::OutOfDescriptors)
    }

    fn unwatch_listener(&mut self, listener: &mut Listening, id: ListenerId) {
        self.driver.deregister(listener.socket.as_fd(), listener_key(id), Interest::READ);
    }

    fn close_listener(&mut self, listener: Listening, id: ListenerId, watched: bool) {
        if watched {
            self.driver.forget(listener.socket.as_fd(), listener_key(id), Interest::READ);
        }
    }

    fn accept(&mut self, listener: &mut Listening, id: ListenerId) -> Accept<OwnedFd> {
        let (fd, peer) = match listener.socket.accept() {
            listener::AcceptResult::Accepted(fd, PeerAddress::Inet(peer)) => (fd, Address::Inet(peer)),
            listener::AcceptResult::Accepted(fd, PeerAddress::Unix) => (fd, listener.address),
            listener::AcceptResult::WouldBlock => return Accept::WouldBlock,
            listener::AcceptResult::Retry(_) => return Accept::Retry,
            listener::AcceptResult::OutOfDescriptors(errno) => {
                listener.records.failed(listener.socket.endpoint(), errno);
                return Accept::Exhausted;
            }
            listener::AcceptResult::Failed(errno) => {
                listener.records.broken(listener.socket.endpoint(), errno);
                return Accept::Exhausted;
            }
        };
        listener.records.accepted(listener.socket.endpoint());
        match &self.filter {
            Some(ConnectionFilter(accepts)) if !accepts(id, &peer) => Accept::Filtered,
            _ => Accept::Accepted(fd, peer),
        }
    }

    /// Duplicates a socket to a lower descriptor number if its number is beyond the driver's limit.
    ///
    /// A lower number may have become free since the accept. Trying another poller would be pointless, since all have
    /// the same kind of driver.
    fn make_watchable(&mut self, fd: OwnedFd) -> Result<OwnedFd, OwnedFd> {
        if check_descriptor::<D>(fd.as_raw_fd()).is_ok() {
            return Ok(fd);
        }
        // The copy gets the lowest free number, apart from those of the standard streams.
        match fd.try_clone() {
            Ok(lower) if check_descriptor::<D>(lower.as_raw_fd()).is_ok() => Ok(lower),
            _ => Err(fd),
        }
    }
}

#[inline(always)]
fn sent(sent: socket::Sent) -> Sent {
    match sent {
        socket::Sent::Bytes(n) => Sent::Bytes(n),
        socket::Sent::WouldBlock => Sent::WouldBlock,
        socket::Sent::Failed(errno) => Sent::Failed(errno.into()),
    }
}
