//! Creation of descriptors, where POSIX systems differ: flags in the creating call, or `fcntl` afterwards.
//!
//! The variant for systems without the flags is compiled and tested everywhere.

use core::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage};

use crate::address::SocketAddress;
use crate::errno::{Errno, retry};
use crate::syscall;

use super::options;

/// Compiles items on systems where `socket`, `accept4` and `pipe2` take `NONBLOCK` and `CLOEXEC`. Apple's systems have
/// neither the flags nor the last two calls.
macro_rules! with_flags {
    ($($item:item)*) => { $(#[cfg(not(target_vendor = "apple"))] $item)* };
}
/// Compiles items on systems without these flags.
macro_rules! without_flags {
    ($($item:item)*) => { $(#[cfg(target_vendor = "apple")] $item)* };
}

with_flags! {
    /// Creates a stream socket that is non-blocking and close-on-exec and raises no `SIGPIPE`.
    pub(super) fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        nix::sys::socket::socket(family, SockType::Stream, flags, None).map_err(Errno::from_nix)
    }

    /// Accepts a connection and returns it with its peer's address.
    ///
    /// # Errors
    ///
    /// The OS's error; [`AcceptResult`](crate::listener::AcceptResult) classifies them.
    pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        accept_by(|address, length| {
            // SAFETY: `address` has room for `length` bytes.
            unsafe { syscall!(accept4(listener.as_raw_fd(), address, length, flags)) }
        })
    }

    /// Creates a pipe and returns its read end and its write end, both non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
        nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).map_err(Errno::from_nix)
    }
}

without_flags! {
    /// Creates a stream socket that is non-blocking and close-on-exec and raises no `SIGPIPE`.
    pub(super) fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
        portable::socket(family)
    }

    /// Accepts a connection and returns it with its peer's address.
    ///
    /// # Errors
    ///
    /// The OS's error; [`AcceptResult`](crate::listener::AcceptResult) classifies them.
    pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        portable::accept(listener)
    }

    /// Creates a pipe and returns its read end and its write end, both non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
        portable::pipe()
    }
}

/// The calls without flags, each followed by two calls of `fcntl`.
///
/// If another thread forks and executes a program before the `fcntl` calls, that program inherits the descriptor. This
/// cannot be prevented here.
#[cfg_attr(
    not(any(test, target_vendor = "apple")),
    expect(dead_code, reason = "the fallback, tested everywhere")
)]
mod portable {
    use super::{
        AddressFamily, AsFd, AsRawFd, BorrowedFd, Errno, OwnedFd, SockFlag, SockType, SocketAddress,
    };
    use super::{accept_by, close_on_exec, nonblocking, options, syscall};

    pub(super) fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
        let socket = nix::sys::socket::socket(family, SockType::Stream, SockFlag::empty(), None);
        let fd = socket.map_err(Errno::from_nix)?;
        options::silence_broken_pipes(fd.as_fd())?;
        prepare(fd)
    }

    pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        let (fd, address) = accept_by(|address, length| {
            // SAFETY: `address` has room for `length` bytes.
            unsafe { syscall!(accept(listener.as_raw_fd(), address, length)) }
        })?;
        options::silence_broken_pipes(fd.as_fd())?;
        Ok((prepare(fd)?, address))
    }

    pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
        let (read, write) = nix::unistd::pipe().map_err(Errno::from_nix)?;
        Ok((prepare(read)?, prepare(write)?))
    }

    fn prepare(fd: OwnedFd) -> Result<OwnedFd, Errno> {
        close_on_exec(&fd)?;
        nonblocking(&fd)?;
        Ok(fd)
    }
}

/// Accepts with a call that fills in the peer's address. (`nix` accepts without it.)
fn accept_by(
    call: impl Fn(*mut libc::sockaddr, *mut libc::socklen_t) -> Result<RawFd, Errno>,
) -> Result<(OwnedFd, SocketAddress), Errno> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let address = storage.as_mut_ptr().cast();
    let mut length = SockaddrStorage::size();
    // The length is correct for a retry as well: the kernel only writes it on success.
    let fd = retry(|| call(address, &raw mut length))?;
    // SAFETY: the call succeeded and created the descriptor, which has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: every byte of the storage is initialised, and a length beyond its size is refused.
    let peer = unsafe { SockaddrStorage::from_raw(address, Some(length)) };
    Ok((fd, SocketAddress::filled_in(peer.as_ref())))
}

/// Makes the descriptor close-on-exec: programs that this process starts do not inherit it.
///
/// # Errors
///
/// The OS's error.
pub fn close_on_exec(fd: impl AsFd) -> Result<(), Errno> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop).map_err(Errno::from_nix)
}

/// Makes the descriptor non-blocking.
///
/// # Errors
///
/// The OS's error.
pub fn nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(Errno::from_nix)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).map_err(Errno::from_nix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::PeerAddress;
    use crate::endpoint::Endpoint;
    use crate::socket::{Connecting, bind, connect, listen, local_address};

    fn flags(fd: &OwnedFd) -> (bool, bool) {
        let descriptor = fcntl(fd, FcntlArg::F_GETFD).unwrap();
        let status = fcntl(fd, FcntlArg::F_GETFL).unwrap();
        (descriptor & libc::FD_CLOEXEC != 0, status & libc::O_NONBLOCK != 0)
    }

    type Accepting = fn(BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno>;
    type Making = fn(AddressFamily) -> Result<OwnedFd, Errno>;

    /// Accepts the loopback connection, and waits up to five seconds for it.
    fn accept_soon(accept: Accepting, listener: &OwnedFd) -> (OwnedFd, SocketAddress) {
        for _ in 0..5_000 {
            match accept(listener.as_fd()) {
                Err(errno) if errno.is_would_block() => {
                    std::thread::sleep(core::time::Duration::from_millis(1));
                }
                result => return result.unwrap(),
            }
        }
        panic!("no connection");
    }

    fn both_forms_agree(make: Making, accept: Accepting) {
        let listener = make(AddressFamily::Inet).unwrap();
        assert_eq!(flags(&listener), (true, true));
        let any: Endpoint = "127.0.0.1:0".parse().unwrap();
        bind(listener.as_fd(), &SocketAddress::new(&any)).unwrap();
        listen(listener.as_fd(), 4).unwrap();
        assert!(accept(listener.as_fd()).unwrap_err().is_would_block());
        let client = make(AddressFamily::Inet).unwrap();
        let address = local_address(listener.as_fd()).unwrap();
        assert!(!matches!(connect(client.as_fd(), &address), Connecting::Failed(_)));
        let (server, peer) = accept_soon(accept, &listener);
        assert_eq!(flags(&server), (true, true));
        let expected = local_address(client.as_fd()).unwrap().to_inet().unwrap();
        assert_eq!(peer.to_peer(), Some(PeerAddress::Inet(expected)));
    }

    #[test]
    fn sockets_made_with_flags() {
        both_forms_agree(socket, accept);
    }

    #[test]
    fn sockets_made_without_flags() {
        both_forms_agree(portable::socket, portable::accept);
    }

    #[test]
    fn pipes_of_both_forms() {
        for (read, write) in [pipe().unwrap(), portable::pipe().unwrap()] {
            assert_eq!((flags(&read), flags(&write)), ((true, true), (true, true)));
            assert_eq!(super::super::write(write.as_fd(), b"x"), Ok(1));
            let mut buffer = [0; 8];
            assert_eq!(super::super::read(read.as_fd(), &mut buffer), Ok(1));
            assert!(super::super::read(read.as_fd(), &mut buffer).unwrap_err().is_would_block());
        }
    }
}
