//! The amount of a socket's output that the kernel has accepted and not yet delivered.

use std::os::fd::BorrowedFd;

#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
use libc::FIONWRITE as HELD;
/// The `ioctl` request that returns how much of a socket's output the kernel holds: on Linux `SIOCOUTQ`, which equals
/// `TIOCOUTQ` (`tcp(7)`, `unix(7)`); on FreeBSD and NetBSD `FIONWRITE`.
#[cfg(any(target_os = "linux", target_os = "android"))]
use libc::TIOCOUTQ as HELD;

/// Whether the system reports [undelivered] bytes.
pub const UNDELIVERED_REPORTED: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_vendor = "apple",
));

/// Returns how many bytes of a socket's output the kernel holds: bytes that it has not sent, and bytes that the peer's
/// system has not acknowledged. For a Unix socket, these are the bytes that the peer has not received, plus the
/// kernel's overhead. `None`: the system does not report this, or not for this descriptor.
///
/// On Linux, the end of a TCP stream counts as one byte until it is acknowledged.
#[must_use]
pub fn undelivered(socket: BorrowedFd<'_>) -> Option<usize> {
    held(socket).and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
fn held(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    use std::os::fd::AsRawFd as _;

    use crate::syscall;

    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes a C int to `bytes`, which outlives the call.
    unsafe { syscall!(ioctl(socket.as_raw_fd(), HELD, &raw mut bytes)) }.ok()?;
    Some(bytes)
}

#[cfg(target_vendor = "apple")]
fn held(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    use nix::{getsockopt_impl, sockopt_impl};

    sockopt_impl!(Undelivered, GetOnly, libc::SOL_SOCKET, libc::SO_NWRITE, libc::c_int);
    nix::sys::socket::getsockopt(&socket, Undelivered).ok()
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_vendor = "apple"
)))]
fn held(_: BorrowedFd<'_>) -> Option<libc::c_int> {
    None
}
