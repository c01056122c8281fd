//! The error numbers of the OS, and the one macro that turns a failed call into one.

use core::fmt;
use std::io;

use lightcone_core::ErrorKind;

/// An error number of the OS. Small and `Copy`, so that it can be returned from the hot path.
///
/// Prints as the OS names it: `ECONNREFUSED: Connection refused (os error 111)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The error of the last failed call on this thread.
    #[must_use]
    pub fn last() -> Self {
        Self(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The symbolic name, such as `EADDRINUSE`, where it is one that socket calls give.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// A call on a non-blocking descriptor had nothing to do: try again when the driver reports readiness.
    #[must_use]
    pub const fn is_would_block(self) -> bool {
        // The two numbers are one on every system of today; POSIX lets them differ.
        self.0 == libc::EAGAIN || self.0 == libc::EWOULDBLOCK
    }

    /// The error of a connection that was there. One that never came to be has others, such as `ECONNREFUSED`.
    #[must_use]
    pub const fn is_of_connection(self) -> bool {
        matches!(self.0, libc::ECONNRESET | libc::EPIPE)
    }

    /// The process, the system or the kernel's memory is out of what a new descriptor needs.
    ///
    /// Nothing is wrong with any socket: the same call works again once something was closed.
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

/// What a program acts on, as handlers are told it.
impl From<Errno> for ErrorKind {
    fn from(errno: Errno) -> Self {
        match errno.0 {
            // A Unix socket file without a server refuses, and so does one that is not there.
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

/// What a system call returns: a number whose value −1 means "look at `errno`".
pub trait CallResult: Copy + PartialEq {
    /// The value −1 of this type.
    const FAILED: Self;
}

impl CallResult for i32 {
    const FAILED: Self = -1;
}

impl CallResult for i64 {
    const FAILED: Self = -1;
}

impl CallResult for isize {
    const FAILED: Self = -1;
}

/// Turns the −1 of a system call into the thread's `errno`. Must be the first thing after the call.
///
/// # Errors
///
/// The thread's error number when `result` is −1.
#[inline(always)]
pub fn check<T: CallResult>(result: T) -> Result<T, Errno> {
    if result == T::FAILED { Err(Errno::last()) } else { Ok(result) }
}

/// Calls again while a signal interrupted the call (`EINTR`).
///
/// The loop ends: each interruption stands for one delivered signal, the descriptors here are non-blocking (a call
/// that does not sleep is not interrupted, but some systems give `EINTR` on the way in), and a handler installed with
/// `SA_RESTART` never shows. Not for `close` (the descriptor is gone either way) nor for `connect` (it goes on).
///
/// # Errors
///
/// Whatever `call` fails with, except `EINTR`.
#[inline(always)]
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno(libc::EINTR)) => {}
            result => return result,
        }
    }
}

/// `syscall!(recv(fd, pointer, length, 0))` calls `libc::recv` and gives `Result<_, Errno>`.
///
/// The call is as unsafe as the function: it stands in an `unsafe` block with its reason.
#[macro_export]
macro_rules! syscall {
    ($name:ident ( $($argument:expr),* $(,)? )) => {
        $crate::errno::check(::libc::$name($($argument),*))
    };
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// The errors that socket, file and limit calls are documented to give, in POSIX.
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
    fn a_failed_call_gives_its_error_and_leaves_others_alone() {
        // SAFETY: `close` of a number that is no descriptor touches nothing.
        let failed = unsafe { syscall!(close(-1)) };
        assert_eq!(failed, Err(Errno(libc::EBADF)));
        // SAFETY: `getpid` takes nothing and always succeeds.
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
