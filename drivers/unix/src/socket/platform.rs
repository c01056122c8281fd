//! Where POSIX systems differ in making descriptors: in one call with flags, or by `fcntl` afterwards.
//!
//! The form for systems without the flags is compiled and tested everywhere.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::address::SocketAddress;
use crate::errno::{Errno, retry};
use crate::syscall;

use super::options;

/// Whether `socket`, `accept4` and `pipe2` take `NONBLOCK` and `CLOEXEC`. Apple's systems lack all three.
macro_rules! with_flags {
    ($($item:item)*) => { $(#[cfg(not(target_vendor = "apple"))] $item)* };
}
macro_rules! without_flags {
    ($($item:item)*) => { $(#[cfg(target_vendor = "apple")] $item)* };
}

with_flags! {
    /// Makes a socket that is non-blocking, close-on-exec and silent about broken pipes.
    pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Errno> {
        let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: `socket` takes numbers only.
        let fd = unsafe { syscall!(socket(family, kind, 0)) }?;
        let fd = own(fd);
        options::silence_broken_pipes(&fd)?;
        Ok(fd)
    }

    /// Takes a connection and its peer's address in one call.
    ///
    /// # Errors
    ///
    /// The OS's error; [`Accept`](crate::listener::Accept) sorts them.
    pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let mut address = SocketAddress::empty();
        let (pointer, length) = address.as_parts_mut();
        // SAFETY: both pointers are into `address`, whose length field says how much room there is. A retry after
        // EINTR finds the length untouched: it is written on success only.
        let fd = retry(|| unsafe { syscall!(accept4(listener.as_raw_fd(), pointer, length, flags)) })?;
        address.clamp();
        let fd = own(fd);
        options::silence_broken_pipes(&fd)?;
        Ok((fd, address))
    }

    /// A pipe, the end to read first; both ends non-blocking and close-on-exec.
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
    /// Makes a socket that is non-blocking, close-on-exec and silent about broken pipes.
    pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Errno> {
        portable::socket(family, kind)
    }

    /// Takes a connection and its peer's address.
    ///
    /// # Errors
    ///
    /// The OS's error; [`Accept`](crate::listener::Accept) sorts them.
    pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        portable::accept(listener)
    }

    /// A pipe, the end to read first; both ends non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
        portable::pipe()
    }
}

/// The calls of 1983 with two `fcntl` behind each.
///
/// Between the two a thread that forks and executes hands the descriptor on: nothing can be done about it here.
#[cfg_attr(
    not(any(test, target_vendor = "apple")),
    expect(dead_code, reason = "the fallback, tested everywhere")
)]
mod portable {
    use super::{AsRawFd, BorrowedFd, Errno, OwnedFd, SocketAddress, options, own, retry};
    use super::{close_on_exec, nonblocking};
    use crate::syscall;

    pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Errno> {
        // SAFETY: `socket` takes numbers only.
        let fd = own(unsafe { syscall!(socket(family, kind, 0)) }?);
        options::silence_broken_pipes(&fd)?;
        prepare(fd)
    }

    pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno> {
        let mut address = SocketAddress::empty();
        let (pointer, length) = address.as_parts_mut();
        // SAFETY: both pointers are into `address`, whose length field says how much room there is. A retry after
        // EINTR finds the length untouched: it is written on success only.
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

/// Takes ownership of a number that the kernel has just given.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes the result of a call that made the descriptor and that succeeded; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Keeps the descriptor from programs that this process starts.
///
/// # Errors
///
/// The OS's error.
pub fn close_on_exec(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `F_SETFD` takes a number.
    unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC)) }.map(drop)
}

/// The same socket under the lowest number that is free, as a second descriptor of it.
///
/// # Errors
///
/// The OS's error, such as `EMFILE`.
pub fn lowest_number(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: `F_DUPFD_CLOEXEC` takes a number.
    let fd = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0)) }?;
    // SAFETY: the call made the descriptor and succeeded; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets calls on the descriptor return instead of wait.
///
/// # Errors
///
/// The OS's error.
pub fn nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `F_GETFL` takes nothing.
    let flags = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFL)) }?;
    // SAFETY: `F_SETFL` takes a number.
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
        // SAFETY: `F_GETFD` takes nothing.
        let descriptor = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFD)) }.unwrap();
        // SAFETY: `F_GETFL` takes nothing.
        let status = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFL)) }.unwrap();
        (descriptor & libc::FD_CLOEXEC != 0, status & libc::O_NONBLOCK != 0)
    }

    type Accepting = fn(BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddress), Errno>;
    type Making = fn(libc::c_int, libc::c_int) -> Result<OwnedFd, Errno>;

    /// Waits, for at most five seconds in all, until the loopback connection is there.
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
