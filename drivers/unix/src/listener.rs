//! Listening sockets: bound with errors that say what to do, accepted from with outcomes sorted by what to do next.

use core::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::address::{PeerAddress, SocketAddress};
use crate::endpoint::Endpoint;
use crate::errno::Errno;
use crate::socket::{self, Connecting, KeepAlive};

/// How a listener is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenOptions {
    /// Connections that the kernel completes and keeps until they are accepted; lowered to the kernel's own limit.
    pub backlog: u32,
    /// Share the port with other listeners, the kernel spreading the connections: one listener a poller.
    pub reuse_port: bool,
    /// Send small pieces at once. Without effect on Unix sockets.
    pub nodelay: bool,
    /// Ask silent peers whether they are still there. Without effect on Unix sockets.
    pub keep_alive: Option<KeepAlive>,
    /// The most bytes that the kernel takes of a socket's output before it has sent them; `None`: as many as it likes.
    /// Without effect on Unix sockets, and where the [system](socket::set_unsent_limit) cannot.
    pub unsent_limit: Option<u32>,
}

/// The default of [`ListenOptions::unsent_limit`]: enough to keep a fast connection busy between two turns, and a
/// twentieth of what a peer that reads nothing holds without it.
const UNSENT_LIMIT: u32 = 128 * 1024;

impl Default for ListenOptions {
    fn default() -> Self {
        let unsent_limit = Some(UNSENT_LIMIT);
        Self { backlog: 4_096, reuse_port: false, nodelay: true, keep_alive: None, unsent_limit }
    }
}

/// A socket that listens. Closing it (dropping it) removes its Unix socket file, if that is still its own.
#[derive(Debug)]
pub struct ListenSocket {
    /// Dropped before `socket`, so that nobody finds the file and is refused.
    _file: Option<RemoveOnDrop>,
    socket: OwnedFd,
    endpoint: Endpoint,
    /// What each accepted socket is to be given, because it does not inherit it.
    per_socket: PerSocket,
}

/// What is set on each accepted socket, where the system does not hand it down from the listener.
#[derive(Clone, Copy, Debug)]
struct PerSocket {
    nodelay: bool,
    keep_alive: Option<KeepAlive>,
    unsent_limit: Option<u32>,
}

/// What an accept came to, sorted by what to do next.
#[derive(Debug)]
pub enum Accept {
    /// A connection, non-blocking, and whose it is.
    Accepted(OwnedFd, PeerAddress),
    /// Nobody waits. Wait for the listener to be readable.
    WouldBlock,
    /// One connection was lost before it was accepted, the listener is fine: accept again.
    ///
    /// Each such result took a connection out of the queue, but a caller bounds its loop anyway.
    Retry(Errno),
    /// Nothing is wrong with the listener, but there is no descriptor or memory for a connection. The connection
    /// stays in the queue and the listener readable: stop watching it, and try again later.
    OutOfDescriptors(Errno),
    /// The listener itself is broken.
    Failed(Errno),
}

/// A listener that could not be had: where, at which step, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct ListenError {
    endpoint: Endpoint,
    cause: ListenCause,
}

/// Why a listener could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ListenCause {
    /// The call that failed and how.
    Os(&'static str, Errno),
    /// Somebody answers on the Unix socket.
    Answered,
    /// The path holds something that is no socket, which is left alone.
    NotASocket,
}

impl ListenError {
    /// Where it was to listen.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Why it does not.
    #[must_use]
    pub const fn cause(&self) -> ListenCause {
        self.cause
    }

    /// The OS's error for the cause.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self.cause {
            ListenCause::Os(_, errno) => errno,
            ListenCause::Answered | ListenCause::NotASocket => Errno(libc::EADDRINUSE),
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.endpoint)?;
        match self.cause {
            ListenCause::Answered => f.write_str("the address is in use, somebody answers on it"),
            ListenCause::NotASocket => f.write_str("the path exists and is no socket"),
            ListenCause::Os(call, errno) => {
                f.write_str(explain(errno))?;
                write!(f, " ({call}: {errno})")
            }
        }
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for ListenError {}

/// What the usual errors mean for someone who starts a server.
const fn explain(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EADDRINUSE => "the address is in use",
        libc::EACCES | libc::EPERM => "it is not permitted",
        libc::EADDRNOTAVAIL => "no interface has this address",
        libc::EAFNOSUPPORT => "the system does not have this kind of address",
        libc::ENOENT | libc::ENOTDIR => "the directory does not exist",
        libc::EROFS => "the file system is read-only",
        libc::EMFILE | libc::ENFILE => "no descriptor is left",
        _ => "the system refused",
    }
}

impl ListenSocket {
    /// Binds and listens.
    ///
    /// A Unix socket file that is in the way is replaced when nobody answers on it (a server before has died), and
    /// only then: never when somebody answers, when the answer cannot be had, or when it is no socket. Two servers
    /// that start on one dead file in the same instant may still displace each other: no call can test and replace.
    ///
    /// # Errors
    ///
    /// An error that names the endpoint and the cause.
    pub fn bind(endpoint: &Endpoint, options: &ListenOptions) -> Result<Self, ListenError> {
        Self::open(endpoint, options).map_err(|cause| ListenError { endpoint: endpoint.clone(), cause })
    }

    fn open(endpoint: &Endpoint, options: &ListenOptions) -> Result<Self, ListenCause> {
        let os = |call| move |errno| ListenCause::Os(call, errno);
        let socket = socket::stream_socket(endpoint).map_err(os("socket"))?;
        let per_socket = prepare(&socket, endpoint, options)?;
        let file = bind(&socket, endpoint)?;
        socket::listen(socket.as_fd(), options.backlog).map_err(os("listen"))?;
        let bound = socket::local_address(socket.as_fd()).map_err(os("getsockname"))?;
        // A Unix path is reported as it was given; only a port changes.
        let endpoint = bound.to_endpoint().unwrap_or_else(|| endpoint.clone());
        Ok(Self { _file: file, socket, endpoint, per_socket })
    }

    /// Where it listens: port 0 is the port that the system chose.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes a waiting connection.
    #[must_use]
    pub fn accept(&self) -> Accept {
        let (fd, address) = match socket::accept(self.socket.as_fd()) {
            Ok(accepted) => accepted,
            Err(errno) => return Accept::of(errno),
        };
        let Some(peer) = address.as_peer() else {
            // BSD: the peer was gone before its address could be had.
            return Accept::Retry(Errno(libc::ECONNABORTED));
        };
        // Errors here mean that the connection is gone already, which its first receive will tell.
        if self.per_socket.nodelay {
            let _ = socket::set_nodelay(fd.as_fd());
        }
        if let Some(keep_alive) = self.per_socket.keep_alive {
            let _ = socket::set_keep_alive(fd.as_fd(), keep_alive);
        }
        if let Some(limit) = self.per_socket.unsent_limit {
            let _ = socket::set_unsent_limit(fd.as_fd(), limit);
        }
        Accept::Accepted(fd, peer)
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Accept {
    /// Sorts what `accept` may fail with. Linux also hands over errors that were pending on the new connection, and
    /// firewalls add `EPERM`: all of those cost one connection and say nothing about the listener.
    const fn of(errno: Errno) -> Self {
        if errno.is_would_block() {
            return Self::WouldBlock;
        }
        if errno.is_out_of_descriptors() {
            return Self::OutOfDescriptors(errno);
        }
        match errno.0 {
            libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP => {
                Self::Failed(errno)
            }
            _ => Self::Retry(errno),
        }
    }
}

/// Sets the options, and tells which ones each accepted socket needs again.
fn prepare(socket: &OwnedFd, endpoint: &Endpoint, options: &ListenOptions) -> Result<PerSocket, ListenCause> {
    let fd = socket.as_fd();
    let none = PerSocket { nodelay: false, keep_alive: None, unsent_limit: None };
    let Endpoint::Inet(address) = endpoint else { return Ok(none) };
    let set = |result: Result<(), Errno>| result.map_err(|errno| ListenCause::Os("setsockopt", errno));
    set(socket::set_reuse_address(fd))?;
    if options.reuse_port {
        set(socket::set_reuse_port(fd))?;
    }
    if address.is_ipv6() {
        set(socket::set_only_v6(fd))?;
    }
    // On the listener in any case: a bad setting is found at the start and not with the first connection.
    if options.nodelay {
        set(socket::set_nodelay(fd))?;
    }
    if let Some(keep_alive) = options.keep_alive {
        set(socket::set_keep_alive(fd, keep_alive))?;
    }
    if let Some(limit) = options.unsent_limit {
        set(socket::set_unsent_limit(fd, limit))?;
    }
    if socket::NODELAY_INHERITED {
        return Ok(none);
    }
    let ListenOptions { nodelay, keep_alive, unsent_limit, .. } = *options;
    Ok(PerSocket { nodelay, keep_alive, unsent_limit })
}

/// Binds, a dead Unix socket file cleared away first if need be.
fn bind(socket: &OwnedFd, endpoint: &Endpoint) -> Result<Option<RemoveOnDrop>, ListenCause> {
    let address = SocketAddress::new(endpoint);
    let os = |errno| ListenCause::Os("bind", errno);
    let path = match endpoint {
        Endpoint::Inet(_) => None,
        Endpoint::Unix(name) => name.as_path(),
    };
    match (socket::bind(socket.as_fd(), &address), path) {
        (Ok(()), path) => Ok(path.and_then(SocketFile::of).map(RemoveOnDrop)),
        (Err(Errno(libc::EADDRINUSE)), Some(path)) => {
            remove_if_dead(path, endpoint)?;
            socket::bind(socket.as_fd(), &address).map_err(os)?;
            Ok(SocketFile::of(path).map(RemoveOnDrop))
        }
        (Err(errno), _) => Err(os(errno)),
    }
}

/// Removes a socket file on which nobody answers.
fn remove_if_dead(path: &Path, endpoint: &Endpoint) -> Result<(), ListenCause> {
    let Some(file) = SocketFile::of(path) else {
        // Gone meanwhile is as good; anything but a socket stays.
        return if path.symlink_metadata().is_err() { Ok(()) } else { Err(ListenCause::NotASocket) };
    };
    let probe = socket::stream_socket(endpoint).map_err(|errno| ListenCause::Os("socket", errno))?;
    match socket::connect(probe.as_fd(), &SocketAddress::new(endpoint)) {
        Connecting::Failed(Errno(libc::ECONNREFUSED | libc::ENOENT)) => {}
        // EAGAIN: somebody listens whose queue is full. EPROTOTYPE: the socket is of another kind and alive.
        Connecting::Done
        | Connecting::InProgress
        | Connecting::Failed(Errno(libc::EAGAIN | libc::EPROTOTYPE)) => {
            return Err(ListenCause::Answered);
        }
        Connecting::Failed(errno) => return Err(ListenCause::Os("connect", errno)),
    }
    match file.remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ListenCause::Os("unlink", Errno(error.raw_os_error().unwrap_or(libc::EIO))))
        }
        _ => Ok(()),
    }
}

/// The file of a bound Unix socket, known by its inode so that a successor's is not removed.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The socket at the path; `None` when there is none. A symbolic link is no socket.
    fn of(path: &Path) -> Option<Self> {
        let found = path.symlink_metadata().ok().filter(|found| found.file_type().is_socket())?;
        // A change of the working directory must not make us remove another file.
        let path = std::path::absolute(path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }

    /// Removes the file if it is still this one.
    fn remove(&self) -> io::Result<()> {
        let found = self.path.symlink_metadata()?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            fs::remove_file(&self.path)
        } else {
            Ok(())
        }
    }
}

/// The file of a listener, removed when that is closed.
#[derive(Debug)]
struct RemoveOnDrop(SocketFile);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // Nobody is left to tell: the file may be gone with its directory, or be a successor's.
        let _ = self.0.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_sorted_by_what_to_do() {
        let sorted = |number| match Accept::of(Errno(number)) {
            Accept::Accepted(..) => "accepted",
            Accept::WouldBlock => "would block",
            Accept::Retry(_) => "retry",
            Accept::OutOfDescriptors(_) => "out",
            Accept::Failed(_) => "failed",
        };
        assert_eq!(sorted(libc::EAGAIN), "would block");
        for number in [libc::ECONNABORTED, libc::EPROTO, libc::EPERM, libc::ENETDOWN, libc::ETIMEDOUT] {
            assert_eq!(sorted(number), "retry");
        }
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(sorted(number), "out");
        }
        for number in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            assert_eq!(sorted(number), "failed");
        }
    }
}
