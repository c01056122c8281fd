//! What the kernel has taken of a socket's output and not delivered.

use std::os::fd::BorrowedFd;

#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
use libc::FIONWRITE as HELD;
/// The request of `ioctl` that tells how much of a socket's output the kernel holds: `SIOCOUTQ`, which is `TIOCOUTQ`
/// (`tcp(7)`, `unix(7)`), on Linux, and `FIONWRITE` on FreeBSD and NetBSD.
#[cfg(any(target_os = "linux", target_os = "android"))]
use libc::TIOCOUTQ as HELD;

/// Whether the system can tell what is [undelivered].
pub const UNDELIVERED_TOLD: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_vendor = "apple",
));

/// How many bytes of a socket's output the kernel holds: those that it has not sent, and those that the peer's system
/// has not acknowledged. Of a Unix socket, those that the peer has not received, with what the kernel needs on top.
/// `None`: the system cannot tell, or not of this descriptor.
///
/// On Linux the end of a TCP stream counts for a byte until it is acknowledged.
#[must_use]
pub fn undelivered(socket: BorrowedFd<'_>) -> Option<usize> {
    held(socket).and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
fn held(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    use std::os::fd::AsRawFd as _;

    use crate::syscall;

    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes a C int, for which `bytes` has room, and it outlives the call.
    unsafe { syscall!(ioctl(socket.as_raw_fd(), HELD, &raw mut bytes)) }.ok()?;
    Some(bytes)
}

#[cfg(target_vendor = "apple")]
fn held(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    use std::os::fd::AsRawFd as _;

    use crate::syscall;

    let mut bytes: libc::c_int = 0;
    let mut length = super::options::length_of::<libc::c_int>();
    let value = (&raw mut bytes).cast();
    // SAFETY: `value` has room for the `length` bytes of a C int, and both outlive the call.
    unsafe {
        syscall!(getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NWRITE, value, &raw mut length))
    }
    .ok()?;
    Some(bytes)
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
