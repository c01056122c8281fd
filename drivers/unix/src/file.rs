//! Reading files without waiting for a disk.

use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

use crate::errno::Errno;
#[cfg(target_os = "linux")]
use crate::syscall;

/// Reads at `offset` what the system has in memory, into the start of `buffer`, and returns the number of bytes. Never
/// waits for a disk (`preadv2` with `RWF_NOWAIT`, on Linux).
///
/// At the end of the file, that is 0. But 0 does not show that the file has ended: Linux 5.9 and 5.10 may also return
/// it where nothing is in memory (readv(2), under BUGS). Only an ordinary read shows the end.
///
/// # Errors
///
/// An [error](Errno::is_would_block) if nothing is in memory at `offset`; `EOPNOTSUPP` if the system or the file's
/// file system does not know.
pub fn read_cached(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    #[cfg(target_os = "linux")]
    {
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno(libc::EOPNOTSUPP))?;
        let (descriptor, pieces) = (file.as_fd().as_raw_fd(), [std::io::IoSliceMut::new(buffer)]);
        // SAFETY: `IoSliceMut` has the layout of `iovec`; the one piece is borrowed mutably during the call.
        let read =
            unsafe { syscall!(preadv2(descriptor, pieces.as_ptr().cast(), 1, offset, libc::RWF_NOWAIT)) }?;
        Ok(usize::try_from(read).unwrap_or(0))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, buffer, offset);
        Err(Errno(libc::EOPNOTSUPP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_just_written_is_in_memory_or_the_file_system_does_not_know() {
        let path = std::env::temp_dir().join(format!("lightcone-read-cached-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut buffer = [0; 4];
        match read_cached(&file, &mut buffer, 8) {
            Ok(n) => {
                assert_eq!(&buffer[..n], b"89");
                assert_eq!(read_cached(&file, &mut buffer, 10), Ok(0));
            }
            Err(error) => assert_eq!(error, Errno(libc::EOPNOTSUPP)),
        }
        assert_eq!(read_cached(&file, &mut buffer, u64::MAX), Err(Errno(libc::EOPNOTSUPP)));
    }

    #[test]
    fn errors_are_returned() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let error = read_cached(&reader, &mut [0], 0).unwrap_err();
        assert!([libc::ESPIPE, libc::EOPNOTSUPP].contains(&error.0), "{error}");
    }
}
