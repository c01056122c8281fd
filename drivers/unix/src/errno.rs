//! OS error numbers, and the macro that makes system calls and returns their errors.

use core::fmt;
use std::io;

use lightcone_core::ErrorKind;

/// An error number of the OS. Small and `Copy`, for use on the hot path.
///
/// It is displayed with its symbolic name and the OS's text: `ECONNREFUSED: Connection refused (os error 111)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Returns the error of the last failed system call on this thread.
    #[must_use]
    pub fn last() -> Self {
        Self(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// Converts an error of `nix`. Not a `From`, which would make a version of `nix` a part of this crate's interface.
    pub(crate) const fn from_nix(errno: nix::errno::Errno) -> Self {
        Self(errno as i32)
    }

    /// Returns the symbolic name, such as `EADDRINUSE`, if it is an error that socket calls return.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// Returns whether a call on a non-blocking descriptor would have had to wait. Retry when the driver reports
    /// readiness.
    #[must_use]
    pub const fn is_would_block(self) -> bool {
        // The two numbers are equal on all current systems, but POSIX allows them to differ.
        self.0 == libc::EAGAIN || self.0 == libc::EWOULDBLOCK
    }

    /// Returns whether this is an error of an established connection. A failed connect has others, such as
    /// `ECONNREFUSED`.
    #[must_use]
    pub const fn is_of_connection(self) -> bool {
        matches!(self.0, libc::ECONNRESET | libc::EPIPE)
    }

    /// Returns whether a new descriptor cannot be opened, because the limit of the process or the system is reached or
    /// the kernel is out of memory.
    ///
    /// This is not an error of a socket: the same call can succeed once other descriptors have been closed.
    #[must_use]
    pub const fn is_out_of_descriptors(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "Errno({name})"),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            write!(f, "{name}: ")?;
        }
        fmt::Display::fmt(&io::Error::from_raw_os_error(self.0), f)
    }
}

impl core::error::Error for Errno {}

/// Reduces an error number to the kinds that handlers distinguish.
impl From<Errno> for ErrorKind {
    fn from(errno: Errno) -> Self {
        match errno.0 {
            // For a Unix socket: the file exists without a server, or does not exist.
            libc::ECONNREFUSED | libc::ENOENT => Self::ConnectionRefused,
            libc::ECONNRESET => Self::ConnectionReset,
            libc::ECONNABORTED => Self::ConnectionAborted,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::EHOSTUNREACH | libc::EHOSTDOWN => Self::HostUnreachable,
            libc::ENETUNREACH | libc::ENETDOWN => Self::NetworkUnreachable,
            libc::EPIPE | libc::ESHUTDOWN => Self::BrokenPipe,
            libc::EADDRINUSE => Self::AddressInUse,
            libc::EADDRNOTAVAIL => Self::AddressNotAvailable,
            libc::EACCES | libc::EPERM => Self::PermissionDenied,
            libc::EMFILE | libc::ENFILE => Self::OutOfDescriptors,
            libc::ENOMEM | libc::ENOBUFS => Self::OutOfMemory,
            libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOSYS => Self::Unsupported,
            _ => Self::Other,
        }
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

/// Converts the result of a system call, an integer that is −1 if the call has failed. Call it directly after the
/// system call, before `errno` can change.
///
/// # Errors
///
/// The thread's `errno` if `result` is −1.
#[inline(always)]
pub fn check<T: From<i8> + PartialEq>(result: T) -> Result<T, Errno> {
    if result == T::from(-1) { Err(Errno::last()) } else { Ok(result) }
}

/// Repeats a call while signals interrupt it (`EINTR`).
///
/// The loop terminates: each repetition requires another signal, and interruptions are rare because the descriptors are
/// non-blocking (a call that does not sleep is only interrupted on entry, on some systems) and handlers installed with
/// `SA_RESTART` cause none.
///
/// Do not use it for `close`, after which the descriptor is closed in any case, nor for `connect`, which continues in
/// the background.
///
/// # Errors
///
/// Any error of `call` except `EINTR`.
#[inline(always)]
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno(libc::EINTR)) => {}
            result => return result,
        }
    }
}

/// Makes a system call: `syscall!(recv(fd, pointer, length, 0))` calls `libc::recv` and returns `Result<_, Errno>`.
///
/// It is as unsafe as the function that it calls, and requires an `unsafe` block. The calling crate depends on `libc`.
#[macro_export]
macro_rules! syscall {
    ($name:ident ( $($argument:expr),* $(,)? )) => {
        $crate::errno::check(::libc::$name($($argument),*))
    };
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// The errors that POSIX documents for socket, file and limit calls.
const NAMES: &[(i32, &str)] = names! {
    EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET
    EDESTADDRREQ EEXIST EFAULT EHOSTDOWN EHOSTUNREACH EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE
    EMSGSIZE ENAMETOOLONG ENETDOWN ENETRESET ENETUNREACH ENFILE ENOBUFS ENOENT ENOMEM ENOPROTOOPT ENOSPC ENOSYS
    ENOTCONN ENOTDIR ENOTSOCK EOPNOTSUPP EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE EROFS ESHUTDOWN ETIMEDOUT
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_name_and_text() {
        let text = Errno(libc::ECONNREFUSED).to_string();
        assert!(text.starts_with("ECONNREFUSED: "), "{text}");
        assert!(text.to_lowercase().contains("refused"), "{text}");
        assert_eq!(format!("{:?}", Errno(libc::EPIPE)), "Errno(EPIPE)");
        assert_eq!(format!("{:?}", Errno(12_345)), "Errno(12345)");
    }

    #[test]
    fn a_failed_call_returns_its_error_and_affects_no_other() {
        // SAFETY: closing a number that is not a descriptor has no effect.
        let failed = unsafe { syscall!(close(-1)) };
        assert_eq!(failed, Err(Errno(libc::EBADF)));
        // SAFETY: `getpid` takes no arguments and always succeeds.
        let pid = unsafe { syscall!(getpid()) };
        assert!(pid.is_ok_and(|pid| pid > 0));
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut calls = 0;
        let result = retry(|| {
            calls += 1;
            if calls < 4 { Err(Errno(libc::EINTR)) } else { Ok(calls) }
        });
        assert_eq!(result, Ok(4));
        assert_eq!(retry::<()>(|| Err(Errno(libc::EPIPE))), Err(Errno(libc::EPIPE)));
    }

    #[test]
    fn kinds_of_errors() {
        for (number, kind) in [
            (libc::ECONNREFUSED, ErrorKind::ConnectionRefused),
            (libc::ETIMEDOUT, ErrorKind::TimedOut),
            (libc::EPIPE, ErrorKind::BrokenPipe),
            (libc::EMFILE, ErrorKind::OutOfDescriptors),
            (libc::ENOBUFS, ErrorKind::OutOfMemory),
            (libc::EXDEV, ErrorKind::Other),
        ] {
            assert_eq!(ErrorKind::from(Errno(number)), kind);
        }
    }

    #[test]
    fn classes_of_errors() {
        assert!(Errno(libc::EAGAIN).is_would_block());
        assert!(!Errno(libc::EPIPE).is_would_block());
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(Errno(number).is_out_of_descriptors());
        }
        assert!(!Errno(libc::ECONNABORTED).is_out_of_descriptors());
        assert!(Errno(libc::ECONNRESET).is_of_connection());
        assert!(!Errno(libc::ECONNREFUSED).is_of_connection());
    }
}
