//! How many descriptors the process may have.

use core::fmt;

use crate::errno::Errno;
use crate::syscall;

/// The limit of open descriptors (`RLIMIT_NOFILE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorLimit {
    /// What counts. The process may raise it as far as `hard`.
    pub soft: u64,
    /// What an administrator allows.
    pub hard: u64,
}

/// More descriptors are wanted than there may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LimitError {
    /// How many were wanted.
    pub wanted: u64,
    /// What there is now.
    pub limit: DescriptorLimit,
    /// The error of raising the soft limit, if that was tried and refused.
    pub cause: Option<Errno>,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DescriptorLimit { soft, hard } = self.limit;
        write!(f, "{} descriptors are wanted, the limit is {soft} (at most {hard})", self.wanted)?;
        match self.cause {
            Some(errno) => write!(f, " and cannot be raised: {errno}"),
            None => f.write_str(": raise it with ulimit -n, or in the service's configuration"),
        }
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for LimitError {}

impl DescriptorLimit {
    /// The limit now.
    ///
    /// # Errors
    ///
    /// The OS's error; none is known for this call.
    pub fn read() -> Result<Self, Errno> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` has room for the structure and outlives the call.
        unsafe { syscall!(getrlimit(libc::RLIMIT_NOFILE, &raw mut limit)) }?;
        Ok(Self { soft: from_raw(limit.rlim_cur), hard: from_raw(limit.rlim_max) })
    }

    /// Sees to it that there may be `wanted` descriptors: raises the soft limit as far as the hard one if need be.
    ///
    /// A soft limit that is high enough is left alone. Above 1024, code of the same process that uses `select` may be
    /// given descriptors it cannot use.
    ///
    /// # Errors
    ///
    /// When the hard limit is too low (the soft one is raised to it nevertheless), or raising is refused.
    pub fn require(wanted: u64) -> Result<Self, LimitError> {
        let none = Self { soft: 0, hard: 0 };
        let refuse = |limit, cause| LimitError { wanted, limit, cause };
        let limit = Self::read().map_err(|errno| refuse(none, Some(errno)))?;
        if limit.soft >= wanted {
            return Ok(limit);
        }
        let raised = limit.raise(wanted).map_err(|errno| refuse(limit, Some(errno)))?;
        if raised.soft >= wanted { Ok(raised) } else { Err(refuse(raised, None)) }
    }

    /// Raises the soft limit to the hard one; where the system does not allow that much, to `wanted`.
    fn raise(self, wanted: u64) -> Result<Self, Errno> {
        match self.set_soft(self.hard) {
            // macOS reports "infinite" and takes less (kern.maxfilesperproc); FreeBSD is alike.
            Err(Errno(libc::EINVAL | libc::EPERM)) if wanted < self.hard => self.set_soft(wanted),
            result => result,
        }
    }

    /// Sets what counts, up or down; gives the limit as it is then. Descriptors that are open stay open.
    ///
    /// # Errors
    ///
    /// The OS's error: `EINVAL` when `soft` is above `hard`.
    pub fn set_soft(self, soft: u64) -> Result<Self, Errno> {
        let limit = libc::rlimit { rlim_cur: to_raw(soft), rlim_max: to_raw(self.hard) };
        // SAFETY: `limit` is read during the call only.
        unsafe { syscall!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit)) }?;
        Self::read()
    }
}

/// `rlim_t` is signed on some systems and 32 bits wide on others.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "only where rlim_t is u64"
)]
fn from_raw(limit: libc::rlim_t) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "only where rlim_t is u64"
)]
fn to_raw(limit: u64) -> libc::rlim_t {
    limit.try_into().unwrap_or(libc::RLIM_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_already_is_left_alone() {
        let limit = DescriptorLimit::read().unwrap();
        assert!(limit.soft > 0 && limit.soft <= limit.hard);
        assert_eq!(DescriptorLimit::require(1), Ok(limit));
    }

    #[test]
    fn the_error_names_all_three_figures() {
        let limit = DescriptorLimit { soft: 256, hard: 1024 };
        let text = LimitError { wanted: 5_000, limit, cause: None }.to_string();
        assert!(text.contains("5000") && text.contains("256") && text.contains("1024"), "{text}");
        let text = LimitError { wanted: 5_000, limit, cause: Some(Errno(libc::EPERM)) }.to_string();
        assert!(text.contains("EPERM"), "{text}");
    }
}
