//! Listening sockets. An error of binding explains the problem, and the result of an accept says what to do next.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::address::{PeerAddress, SocketAddress};
use crate::endpoint::Endpoint;
use crate::errno::Errno;
use crate::socket::{self, Connecting, KeepAlive};

/// The options of a listener and of the sockets that it accepts.
///
/// Set some fields and take the others from [`ListenOptions::DEFAULT`]: later versions add fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenOptions {
    /// The number of completed connections that the kernel queues until they are accepted. The kernel lowers it to its
    /// own limit.
    pub backlog: u32,
    /// Whether to share the port with other listeners, one per poller. The kernel distributes the connections.
    pub reuse_port: bool,
    /// Whether to send small segments without delay (`TCP_NODELAY`). No effect on Unix sockets.
    pub nodelay: bool,
    /// When to probe idle peers; `None`: never. No effect on Unix sockets.
    pub keep_alive: Option<KeepAlive>,
    /// The maximum number of unsent bytes of a socket's output that the kernel accepts; `None`: the kernel decides. No
    /// effect on Unix sockets, and where the [system has no such limit](socket::set_unsent_limit).
    pub unsent_limit: Option<u32>,
}

/// The default of [`ListenOptions::unsent_limit`], in bytes. It keeps a fast connection busy between two turns, and is
/// a twentieth of what the kernel would otherwise buffer for a peer that does not read.
const UNSENT_LIMIT: u32 = 128 * 1024;

impl ListenOptions {
    /// The default options, as a constant.
    pub const DEFAULT: Self = Self {
        backlog: 4_096,
        reuse_port: false,
        nodelay: true,
        keep_alive: None,
        unsent_limit: Some(UNSENT_LIMIT),
    };
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A listening socket. Dropping it closes it and removes its Unix socket file, unless the file has been replaced or the
/// socket has been [duplicated](Self::duplicate) or [adopted](Self::adopt).
#[derive(Debug)]
pub struct ListenSocket {
    /// Dropped before `socket`, so that no client finds the file after the socket has been closed.
    file: Option<RemoveOnDrop>,
    socket: OwnedFd,
    endpoint: Endpoint,
    /// The options to set on each accepted socket.
    per_socket: PerSocket,
}

/// The options that are set on each accepted socket, on systems where it does not inherit them from the listener.
#[derive(Clone, Copy, Debug)]
struct PerSocket {
    nodelay: bool,
    keep_alive: Option<KeepAlive>,
    unsent_limit: Option<u32>,
}

impl PerSocket {
    const NONE: Self = Self { nodelay: false, keep_alive: None, unsent_limit: None };
}

/// The result of an accept. The variants differ in what the caller does next.
#[derive(Debug)]
pub enum AcceptResult {
    /// A connection, which is non-blocking, and its peer.
    Accepted(OwnedFd, PeerAddress),
    /// No connection is waiting. Wait until the listener is readable.
    WouldBlock,
    /// A connection was closed before it was accepted. The listener is intact: accept again.
    ///
    /// Each such result removes a connection from the queue. The caller should nevertheless limit the number of
    /// accepts.
    Retry(Errno),
    /// No descriptor or memory is available for a connection. The listener is intact.
    ///
    /// The connection stays in the queue and the listener readable: stop watching it and try again later.
    OutOfDescriptors(Errno),
    /// The listener itself is broken.
    Failed(Errno),
}

/// The error of opening a listener: the endpoint and the cause.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ListenError {
    endpoint: Endpoint,
    cause: ListenCause,
}

/// Why a listener could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ListenCause {
    /// The system call that failed, and its error.
    Os(&'static str, Errno),
    /// Another server listens on the Unix socket.
    Answered,
    /// The path exists and is not a socket. It is not touched.
    NotASocket,
}

impl ListenError {
    /// Returns the endpoint that was requested.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the cause.
    #[must_use]
    pub const fn cause(&self) -> ListenCause {
        self.cause
    }

    /// Returns the OS's error, or `EADDRINUSE` if the Unix path is occupied.
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
            ListenCause::Answered => f.write_str("the address is in use by another server"),
            ListenCause::NotASocket => f.write_str("the path exists and is not a socket"),
            ListenCause::Os(call, errno) => {
                f.write_str(explain(errno))?;
                write!(f, " ({call}: {errno})")
            }
        }
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for ListenError {}

/// The error of taking over a listening socket: the number of the descriptor and the cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdoptError {
    descriptor: RawFd,
    cause: AdoptCause,
}

/// Why a socket could not be taken over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AdoptCause {
    /// The system call that failed, and its error. `ENOTSOCK` if the descriptor is not a socket.
    Os(&'static str, Errno),
    /// The socket is not a stream socket that listens.
    NotListening,
    /// The address of the socket is neither of IPv4 nor of IPv6 nor the name of a Unix socket.
    NoEndpoint,
}

impl AdoptError {
    /// Returns the number of the descriptor, which is closed now.
    #[must_use]
    pub const fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Returns the cause.
    #[must_use]
    pub const fn cause(&self) -> AdoptCause {
        self.cause
    }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on descriptor {}: ", self.descriptor)?;
        match self.cause {
            AdoptCause::Os(_, Errno(libc::ENOTSOCK)) => f.write_str("it is not a socket"),
            AdoptCause::Os(call, errno) => write!(f, "the system refused ({call}: {errno})"),
            AdoptCause::NotListening => f.write_str("it is not a stream socket that listens"),
            AdoptCause::NoEndpoint => {
                f.write_str("its address is neither of IPv4 nor of IPv6 nor the name of a Unix socket")
            }
        }
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for AdoptError {}

/// Explains the usual errors to a user who starts a server.
const fn explain(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EADDRINUSE => "the address is in use",
        libc::EACCES | libc::EPERM => "it is not permitted",
        libc::EADDRNOTAVAIL => "no interface has this address",
        libc::EAFNOSUPPORT => "the system does not support this kind of address",
        libc::ENOENT | libc::ENOTDIR => "the directory does not exist",
        libc::EROFS => "the file system is read-only",
        libc::EMFILE | libc::ENFILE => "no descriptor is left",
        _ => "the system refused",
    }
}

impl ListenSocket {
    /// Binds a socket to the endpoint and listens.
    ///
    /// An existing Unix socket file is replaced only if no server listens on it, as after a crash. It is kept if a
    /// server listens, if that cannot be determined, or if the file is not a socket. Two servers that start at the same
    /// moment and find the same stale file may still displace each other: no system call tests and replaces atomically.
    ///
    /// # Errors
    ///
    /// An error that contains the endpoint and the cause.
    pub fn bind(endpoint: &Endpoint, options: &ListenOptions) -> Result<Self, ListenError> {
        Self::open(endpoint, options).map_err(|cause| ListenError { endpoint: endpoint.clone(), cause })
    }

    fn open(endpoint: &Endpoint, options: &ListenOptions) -> Result<Self, ListenCause> {
        let os = |call| move |errno| ListenCause::Os(call, errno);
        let socket = socket::stream_socket(endpoint).map_err(os("socket"))?;
        // Before `bind`: reuse of the address and the restriction to IPv6 cannot be set afterwards.
        let per_socket = prepare(&socket, endpoint, options)?;
        let file = bind(&socket, endpoint)?;
        socket::listen(socket.as_fd(), options.backlog).map_err(os("listen"))?;
        let bound = socket::local_address(socket.as_fd()).map_err(os("getsockname"))?;
        // The bound address differs from the requested one only in a port that the system has chosen.
        let endpoint = bound.to_endpoint().unwrap_or_else(|| endpoint.clone());
        Ok(Self { file, socket, endpoint, per_socket })
    }

    /// Takes over a socket that listens already, such as one that a service manager passed to this process.
    ///
    /// Of the options, those of accepted sockets are set; the queue and the sharing of the port stay as they are. The
    /// file of a Unix socket belongs to the process that bound it, and is not removed.
    ///
    /// # Errors
    ///
    /// If the descriptor is not a stream socket that listens on an address of IPv4, IPv6 or a Unix socket with a name,
    /// or an option cannot be set. The socket is closed.
    pub fn adopt(socket: OwnedFd, options: &ListenOptions) -> Result<Self, AdoptError> {
        let descriptor = socket.as_raw_fd();
        let error = |cause| AdoptError { descriptor, cause };
        let os = |call| move |errno| error(AdoptCause::Os(call, errno));
        if !socket::is_listening(socket.as_fd()).map_err(os("getsockopt"))? {
            return Err(error(AdoptCause::NotListening));
        }
        let bound = socket::local_address(socket.as_fd()).map_err(os("getsockname"))?;
        let endpoint = bound.to_endpoint().ok_or(error(AdoptCause::NoEndpoint))?;
        socket::nonblocking(&socket).map_err(os("fcntl"))?;
        socket::close_on_exec(&socket).map_err(os("fcntl"))?;
        let per_socket = match &endpoint {
            Endpoint::Inet(_) => prepare_accepted(&socket, options).map_err(os("setsockopt"))?,
            Endpoint::Unix(_) => PerSocket::NONE,
        };
        Ok(Self { file: None, socket, endpoint, per_socket })
    }

    /// Duplicates the socket, to pass it on to another process. The file of a Unix socket is not removed from now on,
    /// because the other process needs it.
    ///
    /// # Errors
    ///
    /// If no descriptor is left.
    pub fn duplicate(&self) -> Result<OwnedFd, ListenError> {
        let duplicate = self.socket.try_clone().map_err(|error| {
            let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
            ListenError { endpoint: self.endpoint.clone(), cause: ListenCause::Os("dup", errno) }
        })?;
        if let Some(file) = &self.file {
            file.keep();
        }
        Ok(duplicate)
    }

    /// Returns the endpoint on which the socket listens. If the requested port was 0, it contains the port that the
    /// system chose.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Accepts a waiting connection.
    #[must_use]
    pub fn accept(&self) -> AcceptResult {
        let (fd, address) = match socket::accept(self.socket.as_fd()) {
            Ok(accepted) => accepted,
            Err(errno) => return AcceptResult::of(errno),
        };
        let Some(peer) = address.to_peer() else {
            // BSD: the peer has disconnected before its address could be read.
            return AcceptResult::Retry(Errno(libc::ECONNABORTED));
        };
        // An error here means that the connection is already closed, which its first receive will report.
        if self.per_socket.nodelay {
            let _ = socket::set_nodelay(fd.as_fd());
        }
        if let Some(keep_alive) = self.per_socket.keep_alive {
            let _ = socket::set_keep_alive(fd.as_fd(), keep_alive);
        }
        if let Some(limit) = self.per_socket.unsent_limit {
            let _ = socket::set_unsent_limit(fd.as_fd(), limit);
        }
        AcceptResult::Accepted(fd, peer)
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AcceptResult {
    /// Classifies an error of `accept`. Linux also returns errors that were pending on the new connection, and
    /// firewalls cause `EPERM`. Those concern one connection only, so every error that is not known to be the
    /// listener's is [`Retry`](Self::Retry).
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

/// Sets the options of a listener, and returns those that must be set on each accepted socket as well.
fn prepare(socket: &OwnedFd, endpoint: &Endpoint, options: &ListenOptions) -> Result<PerSocket, ListenCause> {
    let fd = socket.as_fd();
    let Endpoint::Inet(address) = endpoint else { return Ok(PerSocket::NONE) };
    let os = |errno| ListenCause::Os("setsockopt", errno);
    socket::set_reuse_address(fd).map_err(os)?;
    if options.reuse_port {
        socket::set_reuse_port(fd).map_err(os)?;
    }
    if address.is_ipv6() {
        socket::set_only_v6(fd).map_err(os)?;
    }
    prepare_accepted(socket, options).map_err(os)
}

/// Sets the options of accepted sockets on their listener, and returns those that must be set on each of them as well.
///
/// They are set on the listener even where they are not inherited: an invalid setting is then found at the start.
fn prepare_accepted(socket: &OwnedFd, options: &ListenOptions) -> Result<PerSocket, Errno> {
    let ListenOptions { nodelay, keep_alive, unsent_limit, .. } = *options;
    let fd = socket.as_fd();
    if nodelay {
        socket::set_nodelay(fd)?;
    }
    if let Some(keep_alive) = keep_alive {
        socket::set_keep_alive(fd, keep_alive)?;
    }
    if let Some(limit) = unsent_limit {
        socket::set_unsent_limit(fd, limit)?;
    }
    let inherited = socket::NODELAY_INHERITED;
    Ok(if inherited { PerSocket::NONE } else { PerSocket { nodelay, keep_alive, unsent_limit } })
}

/// Binds the socket, after removing a stale Unix socket file if there is one.
fn bind(socket: &OwnedFd, endpoint: &Endpoint) -> Result<Option<RemoveOnDrop>, ListenCause> {
    let address = SocketAddress::new(endpoint);
    let os = |errno| ListenCause::Os("bind", errno);
    let path = match endpoint {
        Endpoint::Inet(_) => None,
        Endpoint::Unix(name) => name.as_path(),
    };
    match (socket::bind(socket.as_fd(), &address), path) {
        (Ok(()), path) => Ok(path.and_then(SocketFile::of).map(RemoveOnDrop::new)),
        (Err(Errno(libc::EADDRINUSE)), Some(path)) => {
            remove_if_dead(path, endpoint)?;
            socket::bind(socket.as_fd(), &address).map_err(os)?;
            Ok(SocketFile::of(path).map(RemoveOnDrop::new))
        }
        (Err(errno), _) => Err(os(errno)),
    }
}

/// Removes a socket file on which no server listens.
fn remove_if_dead(path: &Path, endpoint: &Endpoint) -> Result<(), ListenCause> {
    // Identified before the probe: if another server replaces the file in the meantime, `remove` leaves it alone.
    let Some(file) = SocketFile::of(path) else {
        // Either the file has been removed in the meantime, or it is not a socket and must be kept.
        return if path.symlink_metadata().is_err() { Ok(()) } else { Err(ListenCause::NotASocket) };
    };
    let probe = socket::stream_socket(endpoint).map_err(|errno| ListenCause::Os("socket", errno))?;
    match socket::connect(probe.as_fd(), &SocketAddress::new(endpoint)) {
        Connecting::Failed(Errno(libc::ECONNREFUSED | libc::ENOENT)) => {}
        // EAGAIN: a server listens, but its queue is full. EPROTOTYPE: the socket is in use, with another type.
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

/// The file of a bound Unix socket, identified by its inode so that a later server's file is not removed.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Returns the socket at the path; `None` if there is none. A symbolic link does not count as a socket.
    fn of(path: &Path) -> Option<Self> {
        let found = path.symlink_metadata().ok().filter(|found| found.file_type().is_socket())?;
        // Absolute, so that a later change of the working directory does not make it refer to another file.
        let path = std::path::absolute(path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }

    /// Removes the file, unless another one has taken its path.
    fn remove(&self) -> io::Result<()> {
        let found = self.path.symlink_metadata()?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            fs::remove_file(&self.path)
        } else {
            Ok(())
        }
    }
}

/// The file of a listener, removed when the listener is closed unless another process needs it.
#[derive(Debug)]
struct RemoveOnDrop {
    file: SocketFile,
    keep: AtomicBool,
}

impl RemoveOnDrop {
    const fn new(file: SocketFile) -> Self {
        Self { file, keep: AtomicBool::new(false) }
    }

    fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if !*self.keep.get_mut() {
            // Ignore errors: the file may already have been removed, for example together with its directory.
            let _ = self.file.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_sorted_by_what_to_do() {
        let sorted = |number| match AcceptResult::of(Errno(number)) {
            AcceptResult::Accepted(..) => "accepted",
            AcceptResult::WouldBlock => "would block",
            AcceptResult::Retry(_) => "retry",
            AcceptResult::OutOfDescriptors(_) => "out",
            AcceptResult::Failed(_) => "failed",
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
