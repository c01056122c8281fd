//! From a request to the file that it is for.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use lightcone_http::{ETag, Head, Representation, Status, Validators};

use crate::files::FileOptions;
use crate::listing;
use crate::media::media_type;
use crate::target::Target;
use crate::tree::{FileState, OpenError, OpenFile, Tree};

/// The content codings of files that were compressed in advance, the preferred first, with their suffixes.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Located {
    /// A regular file.
    File(OpenFile, FileFacts),
    /// The listing of a folder, as a page.
    Listing(OpenFile, String),
    /// A folder, whose path lacks the slash at the end.
    Folder,
    /// Nothing that is served.
    Refused(Status),
}

/// What a response says of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileFacts {
    content_type: Cow<'static, str>,
    /// The content coding; empty for none.
    coding: &'static str,
}

/// The tag and the date of a file.
pub(crate) type FileValidators = Validators<'static>;

impl FileState {
    /// Returns the validators at the time `now`, in seconds since 1970.
    pub(crate) fn validators(&self, now: Option<u64>) -> FileValidators {
        let Self { length, changed: (seconds, nanoseconds), inode, .. } = *self;
        let mut identity = [0; 33]; // four words, and whether they may still change
        let words = [length, seconds.cast_unsigned(), nanoseconds.cast_unsigned(), inode];
        for (place, word) in identity.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let seconds = u64::try_from(seconds).ok();
        // RFC 9110, 8.8.2.2: a strong validator needs a change that is older than the precision of the clock. `now` is
        // rounded down, so at least one second has passed.
        let settled = now.is_some_and(|now| seconds.is_none_or(|seconds| seconds.saturating_add(2) <= now));
        if !settled {
            // Another tag than the strong one, which must not match what the file was before it settled.
            identity[32] = 1;
            return Validators::new().etag(ETag::hash(&identity).weakened());
        }
        let validators = Validators::new().etag(ETag::hash(&identity));
        seconds.map_or(validators, |seconds| validators.last_modified(seconds))
    }
}

impl FileFacts {
    /// Returns the representation of this length with these validators.
    pub(crate) fn representation(&self, length: u64, validators: FileValidators) -> Representation<'_> {
        Representation::new(&self.content_type, length).validators(validators).encoded(self.coding)
    }
}

/// Finds what a request is for. Without `wait`, only if no disk has to be waited for.
///
/// # Errors
/// [`OpenError::WouldBlock`], without `wait`.
pub(crate) fn locate(
    tree: &Arc<Tree>,
    options: &FileOptions,
    head: &Head<'_>,
    target: &Target,
    wait: bool,
) -> Result<Located, OpenError> {
    let lookup = FileLookup { tree, options, head, wait };
    let found = if target.is_folder { lookup.folder(target) } else { lookup.file(target, "") };
    match found {
        Err(OpenError::Refused(status)) => Ok(Located::Refused(status)),
        found => found,
    }
}

struct FileLookup<'a> {
    tree: &'a Arc<Tree>,
    options: &'a FileOptions,
    head: &'a Head<'a>,
    wait: bool,
}

impl FileLookup<'_> {
    /// Finds the index or the listing of a folder.
    fn folder(&self, target: &Target) -> Result<Located, OpenError> {
        let absent = OpenError::Refused(Status::NOT_FOUND);
        if self.options.index {
            match self.file(target, "/index.html") {
                Ok(Located::Folder) => {} // a folder of that name is no index
                Err(error) if error == absent => {}
                found => return found,
            }
        }
        if !self.options.listing {
            return Err(absent);
        }
        if !self.wait {
            return Err(OpenError::WouldBlock); // a folder is read from the disk
        }
        let folder = self.tree.open(&target.with(""), true)?;
        // Of anything but a folder, there is nothing to list: an error.
        let page = listing::page(&folder, target.as_bytes(), self.options.hidden)?;
        Ok(Located::Listing(folder, page))
    }

    /// Finds a file, in the coding that the client prefers.
    fn file(&self, target: &Target, suffix: &str) -> Result<Located, OpenError> {
        let path = target.with(suffix);
        let found = self.tree.open(&path, self.wait)?;
        if found.state.is_folder {
            return Ok(Located::Folder);
        }
        if !found.state.is_file {
            return Err(OpenError::Refused(Status::NOT_FOUND));
        }
        let (file, coding) =
            if self.options.precompressed { self.variant(found, target, suffix)? } else { (found, "") };
        let content_type = media_type(path.to_bytes(), &self.options.types);
        let facts = FileFacts { content_type, coding };
        Ok(Located::File(file, facts))
    }

    /// Returns the neighbour of a file that the client prefers, or the file, and its coding. A neighbour that is older
    /// than the file was compressed from an earlier version.
    fn variant(
        &self,
        plain: OpenFile,
        target: &Target,
        suffix: &str,
    ) -> Result<(OpenFile, &'static str), OpenError> {
        let mut left = CODINGS.to_vec();
        loop {
            let names: Vec<_> = left.iter().map(|(coding, _)| *coding).collect();
            let coding = self.head.preferred_coding(&names);
            let coding = coding.ok_or(OpenError::Refused(Status::NOT_ACCEPTABLE))?;
            let Some(index) = left.iter().position(|(name, _)| *name == coding) else {
                return Ok((plain, ""));
            };
            let (coding, ending) = left.remove(index);
            let refused = match self.tree.open(&target.with(&format!("{suffix}{ending}")), self.wait) {
                Ok(file) if file.state.is_file && file.state.changed >= plain.state.changed => {
                    return Ok((file, coding));
                }
                Ok(_) => continue,
                Err(error) => error,
            };
            // What is absent or unreadable is no variant. At a limit, the file may be sent without one.
            if refused == OpenError::WouldBlock {
                return Err(refused);
            }
        }
    }
}
