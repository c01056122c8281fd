//! The limit on the number of open descriptors of the process.

use core::fmt;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

use crate::errno::Errno;

/// The limit on open descriptors (`RLIMIT_NOFILE`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DescriptorLimit {
    /// The limit in effect. The process may raise it up to `hard`.
    pub soft: u64,
    /// The maximum for `soft`, set by an administrator.
    pub hard: u64,
}

/// The error of requiring more descriptors than the limit allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LimitError {
    /// The number of descriptors required.
    pub wanted: u64,
    /// The current limit.
    pub limit: DescriptorLimit,
    /// The error of the system call, if reading the limit or raising the soft limit failed.
    pub cause: Option<Errno>,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DescriptorLimit { soft, hard } = self.limit;
        write!(f, "{} descriptors are required, the limit is {soft} (hard limit {hard})", self.wanted)?;
        match self.cause {
            Some(errno) => write!(f, " and cannot be raised: {errno}"),
            None => f.write_str(": raise it with ulimit -n, or in the service's configuration"),
        }
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for LimitError {}

impl DescriptorLimit {
    /// Reads the current limit.
    ///
    /// # Errors
    ///
    /// The OS's error. None is known to occur.
    pub fn read() -> Result<Self, Errno> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Errno::from_nix)?;
        Ok(Self { soft: from_raw(soft), hard: from_raw(hard) })
    }

    /// Raises the soft limit, if it is below `wanted`, to the hard limit, and returns the limit.
    ///
    /// A sufficient soft limit is not changed. With a limit above 1024, other code in the process that uses `select`
    /// may receive descriptors that it cannot use.
    ///
    /// # Errors
    ///
    /// If the hard limit is below `wanted` (the soft limit is raised to it nevertheless), or the system refuses to
    /// raise the soft limit.
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

    /// Raises the soft limit to the hard one, or to `wanted` if the system refuses the former.
    fn raise(self, wanted: u64) -> Result<Self, Errno> {
        match self.set_soft(self.hard) {
            // macOS reports an infinite hard limit but accepts less (kern.maxfilesperproc). FreeBSD is similar.
            Err(Errno(libc::EINVAL | libc::EPERM)) if wanted < self.hard => self.set_soft(wanted),
            result => result,
        }
    }

    /// Sets the soft limit and returns the resulting limit. It may be lowered; open descriptors stay open.
    ///
    /// # Errors
    ///
    /// The OS's error: `EINVAL` if `soft` is above `hard`.
    pub fn set_soft(self, soft: u64) -> Result<Self, Errno> {
        setrlimit(Resource::RLIMIT_NOFILE, to_raw(soft), to_raw(self.hard)).map_err(Errno::from_nix)?;
        Self::read()
    }
}

/// Converts a limit from `rlim_t`, which is signed on some systems and 32 bits wide on others.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "only where rlim_t is u64"
)]
fn from_raw(limit: rlim_t) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "only where rlim_t is u64"
)]
fn to_raw(limit: u64) -> rlim_t {
    limit.try_into().unwrap_or(RLIM_INFINITY)
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
        let error = LimitError { wanted: 5_000, limit, cause: Some(Errno(libc::EPERM)) };
        assert!(error.to_string().contains("EPERM"), "{error}");
    }
}
