//! The folder that is served, and how its files are opened.

use alloc::ffi::CString;
use alloc::sync::Arc;
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lightcone_http::Status;
use lightcone_unix::errno::Errno as ReadError;
use lightcone_unix::file::read_cached;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;

/// The maximum number of links on the way to a file, as in Linux.
const LINKS_MAX: usize = 40;

/// How the paths of files are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// By the kernel, which also knows whether a path is in its caches.
    #[cfg(target_os = "linux")]
    Cached,
    /// By the kernel.
    #[cfg(target_os = "linux")]
    Beneath,
    /// Segment by segment.
    Walk,
}

/// Reads what of a file is in memory: see [`read_cached`].
pub(crate) type ReadCached = fn(&File, &mut [u8], u64) -> Result<usize, ReadError>;

/// A folder with a limit for the files that are open in it.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    resolver: Resolver,
    open: AtomicUsize,
    open_max: usize,
    pub(crate) read_cached: ReadCached,
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// A disk would have to be waited for.
    WouldBlock,
    /// The response is this status.
    Refused(Status),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        let is_one_of = |these: &[Errno]| these.contains(&errno);
        Self::Refused(if is_one_of(&[Errno::EACCES, Errno::EPERM]) {
            Status::FORBIDDEN
        } else if is_one_of(&[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN]) {
            // The last: the file is leased to a process that is asked to return it, or its path changes all the time.
            Status::SERVICE_UNAVAILABLE
        } else if is_one_of(&[Errno::EIO]) {
            Status::INTERNAL_SERVER_ERROR
        } else {
            Status::NOT_FOUND // it does not exist, cannot exist, is outside, or cannot be opened as a file
        })
    }
}

/// What a file is, and what identifies its version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileState {
    pub(crate) is_file: bool,
    pub(crate) is_folder: bool,
    pub(crate) length: u64,
    /// When the file was last changed: seconds since 1970 and nanoseconds.
    pub(crate) changed: (i64, i64),
    pub(crate) inode: u64,
}

/// A file or a folder that counts as open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) state: FileState,
    pub(crate) tree: Arc<Tree>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.tree.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tree {
    /// Opens the folder.
    ///
    /// # Errors
    /// If it cannot be opened, or is not a folder.
    pub(crate) fn new(path: &Path, open_max: usize) -> io::Result<Self> {
        let root = open(path, folder_flags(), Mode::empty())?;
        let resolver = Resolver::of(root.as_fd());
        let read_cached: ReadCached = |file, buffer, offset| read_cached(file, buffer, offset);
        Ok(Self { root, resolver, open: AtomicUsize::new(0), open_max, read_cached })
    }

    /// Selects how to open and to read, in place of the best way of the system.
    #[cfg(test)]
    pub(crate) fn with(self, resolver: Resolver, read_cached: ReadCached) -> Self {
        Self { resolver, read_cached, ..self }
    }

    /// Returns the number of open files.
    pub(crate) fn open_files(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Opens the file at `path`, which may be anything: see its state. Without `wait`, only if no disk
    /// has to be waited for.
    pub(crate) fn open(self: &Arc<Self>, path: &CStr, wait: bool) -> Result<OpenFile, OpenError> {
        let counted = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < self.open_max).then_some(open + 1)
        });
        if counted.is_err() {
            return Err(OpenError::Refused(Status::SERVICE_UNAVAILABLE));
        }
        let opened = self.resolve(path, wait).and_then(|file| {
            let file = File::from(file);
            let found = file.metadata().map_err(|_| OpenError::Refused(Status::NOT_FOUND))?;
            let state = FileState {
                is_file: found.is_file(),
                is_folder: found.is_dir(),
                length: found.len(),
                changed: (found.mtime(), found.mtime_nsec()),
                inode: found.ino(),
            };
            Ok((file, state))
        });
        match opened {
            Ok((file, state)) => Ok(OpenFile { file, state, tree: Arc::clone(self) }),
            Err(error) => {
                self.open.fetch_sub(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn resolve(&self, path: &CStr, wait: bool) -> Result<OwnedFd, OpenError> {
        match self.resolver {
            #[cfg(target_os = "linux")]
            Resolver::Cached if !wait => match linux::open_cached(self.root.as_fd(), path, file_flags()) {
                Err(Errno::EAGAIN) => Err(OpenError::WouldBlock),
                opened => Ok(opened?),
            },
            #[cfg(target_os = "linux")]
            Resolver::Cached | Resolver::Beneath if wait => {
                Ok(linux::open_beneath(self.root.as_fd(), path, file_flags())?)
            }
            Resolver::Walk if wait => Ok(walk(self.root.as_fd(), path)?),
            _ => Err(OpenError::WouldBlock),
        }
    }
}

impl Resolver {
    /// Returns the best resolver of the system.
    fn of(root: BorrowedFd<'_>) -> Self {
        #[cfg(target_os = "linux")]
        {
            // EINVAL: a kernel without this flag. Others: without the call, or in a sandbox that forbids it.
            match linux::open_cached(root, c".", folder_flags()) {
                Ok(_) | Err(Errno::EAGAIN) => return Self::Cached,
                Err(_) => {}
            }
            if linux::open_beneath(root, c".", folder_flags()).is_ok() {
                return Self::Beneath;
            }
        }
        let _ = root;
        Self::Walk
    }
}

/// Returns the flags for a file to read. It must neither wait for the writer of a pipe nor become the terminal of the process.
fn file_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
}

/// Returns the flags for a folder on the way to a file: on Linux, without the permission to list it.
fn folder_flags() -> OFlag {
    #[cfg(target_os = "linux")]
    let access = OFlag::O_PATH;
    #[cfg(not(target_os = "linux"))]
    let access = OFlag::O_RDONLY;
    access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{BorrowedFd, CStr, Errno, OFlag, OwnedFd};
    use nix::fcntl::{OpenHow, ResolveFlag, openat2};

    /// `RESOLVE_CACHED`, which nix has no name for.
    const CACHED: ResolveFlag = ResolveFlag::from_bits_retain(0x20);
    /// How often a path is resolved again because a part of it was renamed meanwhile.
    const ATTEMPTS_MAX: usize = 8;

    fn how(flags: OFlag, extra: ResolveFlag) -> OpenHow {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | extra;
        OpenHow::new().flags(flags).resolve(resolve)
    }

    pub(super) fn open_cached(root: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat2(root, path, how(flags, CACHED))
    }

    pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
        let mut opened = Err(Errno::EAGAIN);
        for _ in 0..ATTEMPTS_MAX {
            opened = openat2(root, path, how(flags, ResolveFlag::empty()));
            if opened.as_ref().err() != Some(&Errno::EAGAIN) {
                break;
            }
        }
        opened
    }
}

/// Opens a file segment by segment, without following links: those are read, and resolved from the root on.
fn walk(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let segments = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        parts.rev().map(<[u8]>::to_vec).collect()
    };
    // What is to be resolved, the next segment last; and the folders that were opened, none of which is a link.
    let (mut pending, mut done) = (segments(path.to_bytes()), Vec::<CString>::new());
    let mut folder: Option<OwnedFd> = None;
    let mut links = 0;
    while let Some(segment) = pending.pop() {
        if segment == b".." {
            // Out of the folder only if there is one to leave. It may have been moved, so it is opened again by name.
            done.pop().ok_or(Errno::EXDEV)?;
            folder = None;
            for name in &done {
                folder = Some(enter(folder.as_ref().map_or(root, AsFd::as_fd), name, folder_flags())?);
            }
            continue;
        }
        let name = CString::new(segment).map_err(|_| Errno::ENOENT)?;
        let place = folder.as_ref().map_or(root, AsFd::as_fd);
        let flags = if pending.is_empty() { file_flags() } else { folder_flags() };
        match enter(place, &name, flags) {
            Ok(file) if pending.is_empty() => return Ok(file),
            Ok(next) => {
                done.push(name);
                folder = Some(next);
            }
            // The number for a link differs between systems, so the link is looked for instead.
            Err(errno) => {
                let link = readlinkat(place, &*name).map_err(|_| errno)?.into_vec();
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                if link.starts_with(b"/") {
                    return Err(Errno::EXDEV);
                }
                pending.extend(segments(&link));
            }
        }
    }
    enter(folder.as_ref().map_or(root, AsFd::as_fd), c".", file_flags())
}

/// Opens `name` in a folder, unless it is a link.
fn enter(folder: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat(folder, name, flags | OFlag::O_NOFOLLOW, Mode::empty())
}
