//! Creation of descriptors, where POSIX systems differ: flags in the creating call, or `fcntl` afterwards.
//!
//! The variant for systems without the flags is compiled and tested everywhere.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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
    /// Creates a socket that is non-blocking and close-on-exec and raises no `SIGPIPE`.
    pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Errno> {
        let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: `socket` only takes numbers.
        let fd = unsafe { syscall!(socket(family, kind, 0)) }?;
        let fd = own(fd);
        options::silence_broken_pipes(&fd)?;
        Ok(fd)
    }

    /// Accepts a connection and returns it with its peer's address.
    ///
    /// # Errors
    ///
    /// The OS's error; [`Accept`](crate::listener::Accept) classifies them.
    pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let mut address = SocketAddress::empty();
        let (pointer, length) = address.as_parts_mut();
        // SAFETY: both pointers are into `address`, and its length field contains the size of its storage, also for a
        // retry after EINTR: the kernel only writes the length on success.
        let fd = retry(|| unsafe { syscall!(accept4(listener.as_raw_fd(), pointer, length, flags)) })?;
        address.clamp();
        let fd = own(fd);
        options::silence_broken_pipes(&fd)?;
        Ok((fd, address))
    }

    /// Creates a pipe and returns its read end and its write end, both non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for the two numbers.
        unsafe { syscall!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC)) }?;
        let [read, write] = ends;
        Ok((own(read), own(write)))
    }
}

without_flags! {
    /// Creates a socket that is non-blocking and close-on-exec and raises no `SIGPIPE`.
    pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Errno> {
        portable::socket(family, kind)
    }

    /// Accepts a connection and returns it with its peer's address.
    ///
    /// # Errors
    ///
    /// The OS's error; [`Accept`](crate::listener::Accept) classifies them.
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
    use super::{AsRawFd, BorrowedFd, Errno, OwnedFd, SocketAddress, options, own, retry};
    use super::{close_on_exec, nonblocking};
    use crate::syscall;

    pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Errno> {
        // SAFETY: `socket` only takes numbers.
        let fd = own(unsafe { syscall!(socket(family, kind, 0)) }?);
        options::silence_broken_pipes(&fd)?;
        prepare(fd)
    }

    pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        let mut address = SocketAddress::empty();
        let (pointer, length) = address.as_parts_mut();
        // SAFETY: both pointers are into `address`, and its length field contains the size of its storage, also for a
        // retry after EINTR: the kernel only writes the length on success.
        let fd = retry(|| unsafe { syscall!(accept(listener.as_raw_fd(), pointer, length)) })?;
        address.clamp();
        let fd = own(fd);
        options::silence_broken_pipes(&fd)?;
        Ok((prepare(fd)?, address))
    }

    pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for the two numbers.
        unsafe { syscall!(pipe(ends.as_mut_ptr())) }?;
        let [read, write] = ends.map(own);
        Ok((prepare(read)?, prepare(write)?))
    }

    fn prepare(fd: OwnedFd) -> Result<OwnedFd, Errno> {
        close_on_exec(&fd)?;
        nonblocking(&fd)?;
        Ok(fd)
    }
}

/// Takes ownership of a descriptor that the kernel has just created.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes the result of a successful call that created the descriptor, which has no other
    // owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes the descriptor close-on-exec: programs that this process starts do not inherit it.
///
/// # Errors
///
/// The OS's error.
pub fn close_on_exec(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `F_SETFD` only takes a number.
    unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC)) }.map(drop)
}

/// Duplicates the descriptor to the lowest free number.
///
/// # Errors
///
/// The OS's error, such as `EMFILE`.
pub fn lowest_number(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: `F_DUPFD_CLOEXEC` only takes a number.
    let fd = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0)) }?;
    // SAFETY: the call succeeded and created the descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the descriptor non-blocking.
///
/// # Errors
///
/// The OS's error.
pub fn nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `F_GETFL` takes no argument.
    let flags = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFL)) }?;
    // SAFETY: `F_SETFL` only takes a number.
    unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::PeerAddress;
    use crate::endpoint::Endpoint;
    use crate::socket::{Connecting, bind, connect, listen, local_address};
    use std::os::fd::AsFd;

    fn flags(fd: &OwnedFd) -> (bool, bool) {
        // SAFETY: `F_GETFD` takes no argument.
        let descriptor = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFD)) }.unwrap();
        // SAFETY: `F_GETFL` takes no argument.
        let status = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFL)) }.unwrap();
        (descriptor & libc::FD_CLOEXEC != 0, status & libc::O_NONBLOCK != 0)
    }

    type Accepting = fn(BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno>;
    type Making = fn(libc::c_int, libc::c_int) -> Result<OwnedFd, Errno>;

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
        let listener = make(libc::AF_INET, libc::SOCK_STREAM).unwrap();
        assert_eq!(flags(&listener), (true, true));
        let any: Endpoint = "127.0.0.1:0".parse().unwrap();
        bind(listener.as_fd(), &SocketAddress::new(&any)).unwrap();
        listen(listener.as_fd(), 4).unwrap();
        assert!(accept(listener.as_fd()).unwrap_err().is_would_block());
        let client = make(libc::AF_INET, libc::SOCK_STREAM).unwrap();
        let address = local_address(listener.as_fd()).unwrap();
        assert!(!matches!(connect(client.as_fd(), &address), Connecting::Failed(_)));
        let (server, peer) = accept_soon(accept, &listener);
        assert_eq!(flags(&server), (true, true));
        let expected = local_address(client.as_fd()).unwrap().as_inet().unwrap();
        assert_eq!(peer.as_peer(), Some(PeerAddress::Inet(expected)));
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
