//! Sockets of the operating system, as the poller of core uses them.

use alloc::sync::Arc;
use core::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lightcone_core::poller::{Accept, Connect, ConnectResult, GroupTypes, Received, Transport};
use lightcone_core::sync::{Load, Padded, Slot};
use lightcone_core::{Address, ErrorKind, Interest, ListenerId, PIECES_MAX, Sent, Token};

use crate::address::{PeerAddress, SocketAddress};
use crate::driver::{Driver, check_descriptor};
use crate::errno::Errno;
use crate::listener::{self, ListenOptions, ListenSocket};
use crate::paths::PathPin;
use crate::shared::{EngineShared, OpenSocket};
use crate::socket::{self, Connecting, GATHER_MAX};

const _: () = assert!(PIECES_MAX <= GATHER_MAX, "a vectored send offers no more than one call takes");

/// Keys from this one on are listeners', which no token has, as its index stays below.
const LISTENER_KEYS: u64 = u64::MAX - 0xFF;
/// The most listeners of one engine. One key more is the waker's.
pub(crate) const LISTENERS_MAX: usize = 255;

/// The key by which a driver calls a listener.
const fn listener_key(id: ListenerId) -> u64 {
    LISTENER_KEYS + id.0 as u64
}

/// The listener that a driver calls by this key, if it is one's.
#[inline]
pub(crate) fn listener_of(key: u64) -> Option<ListenerId> {
    key.checked_sub(LISTENER_KEYS).map(|id| ListenerId(u8::try_from(id).unwrap_or(u8::MAX)))
}

type Accepts = dyn Fn(ListenerId, &Address) -> bool + Send + Sync;

/// A connection filter, asked on the thread that accepts.
#[derive(Clone)]
pub(crate) struct Filter(pub(crate) Arc<Accepts>);

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// A listening socket, with its address, which is that of its peers if it is a Unix socket.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) socket: ListenSocket,
    pub(crate) address: Address,
    /// Keeps the address, if it is a Unix socket's.
    pub(crate) _pin: Option<PathPin>,
    /// Dropped last.
    pub(crate) _open: OpenSocket,
}

/// What an engine's group of pollers is made of.
pub(crate) struct UnixGroup;

impl GroupTypes for UnixGroup {
    type Connection = OwnedFd;
    type Listener = Listening;
    type Load = Arc<Padded<Load>>;
    type Waker = Box<dyn Fn() + Send + Sync>;
    type Ring<T> = Padded<Box<[Slot<T>]>>;
}

/// The descriptors of one poller and the driver that watches them.
pub(crate) struct UnixTransport<'e, D, M> {
    pub(crate) driver: D,
    pub(crate) shared: &'e EngineShared<M>,
    /// What is set on sockets that connect, as on those that are accepted.
    pub(crate) options: ListenOptions,
    pub(crate) filter: Option<Filter>,
}

impl<D: Driver, M> Transport for UnixTransport<'_, D, M> {
    type Unregistered = OwnedFd;
    type Registered = OwnedFd;
    type Listener = Listening;

    const TELLS_UNDELIVERED: bool = socket::UNDELIVERED_TOLD;

    fn register(&mut self, fd: OwnedFd, token: Token, interest: Interest) -> Result<OwnedFd, ErrorKind> {
        let registered = self.driver.register(fd.as_fd(), token.to_bits(), interest);
        registered.map(|()| fd).map_err(|_| ErrorKind::OutOfDescriptors)
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
            // without effect on Unix sockets and connections that are gone already
            let _ = socket::set_abort_on_close(fd.as_fd());
        }
        self.driver.forget(fd.as_fd(), token.to_bits(), interest);
    }

    fn connect(&mut self, to: &Address) -> Result<Connect<OwnedFd>, ErrorKind> {
        let endpoint = self.shared.endpoint(to).ok_or(Errno(libc::EINVAL))?;
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
            // the listener's backlog is full, of which no readiness tells
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
            // it was reset before it was looked at
            Connecting::Failed(errno) if errno.is_of_connection() => ConnectResult::Broken(errno.into()),
            Connecting::Failed(errno) => ConnectResult::Failed(errno.into()),
        }
    }

    fn undelivered(&mut self, fd: &mut OwnedFd, _: Token) -> Option<usize> {
        socket::undelivered(fd.as_fd())
    }

    fn local_address(&self, fd: &OwnedFd) -> Option<Address> {
        let local = socket::local_address(fd.as_fd()).ok()?;
        local.to_endpoint().and_then(|endpoint| self.shared.address(&endpoint))
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
            listener::Accept::Accepted(fd, PeerAddress::Inet(peer)) => (fd, Address::Inet(peer)),
            listener::Accept::Accepted(fd, PeerAddress::Unix) => (fd, listener.address),
            listener::Accept::WouldBlock => return Accept::WouldBlock,
            listener::Accept::Retry(_) => return Accept::Retry,
            listener::Accept::OutOfDescriptors(_) | listener::Accept::Failed(_) => return Accept::Exhausted,
        };
        match &self.filter {
            Some(Filter(accepts)) if !accepts(id, &peer) => Accept::Filtered,
            _ => Accept::Accepted(fd, peer),
        }
    }

    /// Moves a socket to a number that the driver takes: its own, or a lower one that has come free since. All pollers
    /// have the same kind of driver: what one cannot watch, none can.
    fn make_watchable(&mut self, fd: OwnedFd) -> Result<OwnedFd, OwnedFd> {
        if check_descriptor::<D>(fd.as_raw_fd()).is_ok() {
            return Ok(fd);
        }
        match socket::lowest_number(fd.as_fd()) {
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
