//! The exchange that opens a file and sends it.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use lightcone_http::{
    Exchange, Flow, Head, Limits, Parse, Representation, Selection, State, Status, Transfer, parse,
};

use crate::files::Files;
use crate::locate::{FileFacts, FileValidators, Located, locate};
use crate::target::Target;
use crate::tree::OpenFile;

/// The maximum number of ranges in one response.
pub const PARTS: usize = 8;
/// The maximum number of bytes that a thread reads at once.
const BUFFER: usize = 64 << 10;

/// A file that is being opened or sent: see [`Files::serve`](crate::Files::serve).
pub struct FileBody(FileStage);

enum FileStage {
    Opening(Opening),
    Sending(Sending),
    Listing {
        page: String,
        /// Counts as open until the page is sent, so pages have a bound.
        _folder: OpenFile,
        selection: Selection<PARTS>,
    },
}

impl FileBody {
    /// Creates the exchange of a request whose file has to be opened by a thread.
    pub(crate) fn opening(files: Files, head: &Head<'_>, target: Target) -> Self {
        let (head, target) = (head.as_bytes().into(), Arc::new(target));
        Self(FileStage::Opening(Opening { files, head, target, located: None }))
    }

    /// Creates the exchange that sends what is selected of a file.
    pub(crate) fn sending(
        files: Files,
        file: OpenFile,
        facts: FileFacts,
        validators: FileValidators,
        selection: Selection<PARTS>,
    ) -> Self {
        let source = FileSource { files, file: Arc::new(file), reading: Reading::Direct, retries: 0 };
        Self(FileStage::Sending(Sending { facts, validators, selection, source }))
    }

    /// Creates the exchange that sends what is selected of the page of a folder.
    pub(crate) const fn listing(page: String, folder: OpenFile, selection: Selection<PARTS>) -> Self {
        Self(FileStage::Listing { page, _folder: folder, selection })
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody").finish_non_exhaustive()
    }
}

impl<S: State> Exchange<S> for FileBody {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        match &mut self.0 {
            FileStage::Opening(opening) => match opening.advance(io) {
                Ok(body) => {
                    *self = body;
                    self.advance(io)
                }
                Err(flow) => flow,
            },
            FileStage::Sending(sending) => sending.advance(io),
            FileStage::Listing { page, selection, .. } => {
                let of = Representation::new("text/html; charset=utf-8", page.len() as u64);
                selection.advance(&of, io, |io, offset, most| {
                    let rest = usize::try_from(offset).ok().and_then(|at| page.as_bytes().get(at..))?;
                    Some(io.write(rest.get(..most).unwrap_or(rest)))
                })
            }
        }
    }

    /// Looks for the result of a thread: only that is a reason to post to this request alone.
    fn message(&mut self, _: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        self.advance(io)
    }
}

/// The result of a thread, for which a request waits.
struct Awaited<T> {
    result: Receiver<T>,
    /// How often it was looked for.
    looks: u32,
}

impl<T: Send + 'static> Awaited<T> {
    /// Queues a task; `None` if there is no place for it.
    fn queue<S: State>(
        files: &Files,
        io: &Transfer<'_, S>,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Self> {
        let (sender, result) = sync_channel(1);
        // The request may have ended by the time of the result.
        let queued = files.queue(io.id(), move || drop(sender.send(task())));
        queued.then_some(Self { result, looks: 0 })
    }

    /// Returns the result. Without one, the exchange is called again when it may have come.
    ///
    /// # Errors
    /// [`TryRecvError::Disconnected`] if there will be none.
    fn look<S: State>(&mut self, files: &Files, io: &mut Transfer<'_, S>) -> Result<T, TryRecvError> {
        let result = self.result.try_recv();
        if matches!(result, Err(TryRecvError::Empty)) {
            look_later(files, io, self.looks);
            self.looks += 1;
        }
        result
    }
}

/// Schedules the next look for a result, after `looks` of them.
fn look_later<S: State>(files: &Files, io: &mut Transfer<'_, S>, looks: u32) {
    // A notification comes earlier, unless the mailbox was full.
    let patience = if files.notify.is_some() { 100 } else { 1 << looks.min(5) };
    io.wake_at(io.now() + Duration::from_millis(patience));
}

/// A request whose file has to be opened by a thread.
struct Opening {
    files: Files,
    /// The head of the request, to which the response is made later.
    head: Arc<[u8]>,
    target: Arc<Target>,
    located: Option<Awaited<Located>>,
}

impl Opening {
    /// Returns the exchange that continues, once the response has begun.
    fn advance<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Result<FileBody, Flow> {
        if !io.is_ready() {
            return Err(Flow::More);
        }
        let located = match &mut self.located {
            Some(located) => located.look(&self.files, io),
            None => self.begin(io),
        };
        let located = match located {
            Ok(located) => located,
            Err(TryRecvError::Empty) => return Err(Flow::More),
            Err(TryRecvError::Disconnected) => Located::Refused(Status::INTERNAL_SERVER_ERROR),
        };
        let (files, head) = (&self.files, Arc::clone(&self.head));
        let Some(head) = again(&head) else { return Err(Flow::Abort) };
        io.respond_with(|_, response| files.respond(&head, response, located)).ok_or(Flow::Done)
    }

    /// Lets a thread open the file.
    fn begin<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Result<Located, TryRecvError> {
        let (files, head, target) = (self.files.clone(), Arc::clone(&self.head), Arc::clone(&self.target));
        let task = move || {
            let head = again(&head);
            let located =
                head.and_then(|head| locate(&files.tree, &files.options, &head, &target, true).ok());
            located.unwrap_or(Located::Refused(Status::INTERNAL_SERVER_ERROR))
        };
        self.located = Awaited::queue(&self.files, io, task);
        if self.located.is_none() {
            return Ok(Located::Refused(Status::SERVICE_UNAVAILABLE));
        }
        look_later(&self.files, io, 0);
        Err(TryRecvError::Empty)
    }
}

/// Reads a head again that was read before.
fn again(bytes: &[u8]) -> Option<Head<'_>> {
    let limits = Limits { head: bytes.len(), target: bytes.len(), fields: u16::MAX, ..Limits::DEFAULT };
    match parse(bytes, &limits) {
        Parse::Complete(head) => Some(head),
        Parse::Partial | Parse::Invalid(_) => None,
    }
}

/// A file that is being sent.
struct Sending {
    facts: FileFacts,
    validators: FileValidators,
    selection: Selection<PARTS>,
    source: FileSource,
}

impl Sending {
    fn advance<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let Self { facts, validators, selection, source } = self;
        selection.advance(
            &facts.representation(source.file.state.length, *validators),
            io,
            |io, offset, most| source.write(io, offset, most),
        )
    }
}

struct FileSource {
    files: Files,
    file: Arc<OpenFile>,
    reading: Reading,
    /// How often there was no place for the next read in the queue of the threads.
    retries: u32,
}

/// Where the next bytes of a file come from.
enum Reading {
    /// From memory, if they are there.
    Direct,
    /// From a thread that is reading them.
    Awaited(Awaited<io::Result<Vec<u8>>>),
    /// From a buffer that a thread has read, from this position on.
    Buffer(Vec<u8>, usize),
}

impl FileSource {
    /// Writes up to `most` bytes from `offset` on. `None` if the file has ended there, or cannot be read.
    fn write<S: State>(&mut self, io: &mut Transfer<'_, S>, offset: u64, most: usize) -> Option<usize> {
        if let Reading::Awaited(awaited) = &mut self.reading {
            match awaited.look(&self.files, io) {
                Err(TryRecvError::Empty) => return Some(0),
                Err(TryRecvError::Disconnected) => return None,
                Ok(read) => {
                    let buffer = read.ok().filter(|buffer| !buffer.is_empty())?;
                    self.reading = Reading::Buffer(buffer, 0);
                }
            }
        }
        if let Reading::Buffer(buffer, at) = &mut self.reading {
            let n = io.write(buffer.get(*at..).unwrap_or(&[]));
            *at += n;
            if *at == buffer.len() {
                self.reading = Reading::Direct;
            }
            return Some(n);
        }
        // In place, so that bytes that are in memory are copied once. The closure is not called without room.
        let OpenFile { file, tree, .. } = &*self.file;
        let mut is_missing = false;
        let n = io.fill(|piece| {
            let room = piece.len().min(most);
            let read = (tree.read_cached)(file, piece.split_at_mut(room).0, offset);
            // Nothing is in memory, or the system does not know, or the file has ended. A thread finds out, since
            // `read_cached` may return 0 before the end. Another error is found by the thread as well.
            is_missing = matches!(read, Ok(0) | Err(_));
            read.unwrap_or(0)
        });
        if is_missing {
            self.read_later(io, offset, most);
        }
        Some(n)
    }

    /// Lets a thread read from `offset` on.
    fn read_later<S: State>(&mut self, io: &mut Transfer<'_, S>, offset: u64, most: usize) {
        let file = Arc::clone(&self.file);
        let task = move || {
            let mut buffer = vec![0; most.min(BUFFER)];
            let mut read = file.file.read_at(&mut buffer, offset);
            while read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                read = file.file.read_at(&mut buffer, offset);
            }
            buffer.truncate(read?);
            Ok(buffer)
        };
        let queued = Awaited::queue(&self.files, io, task);
        self.retries = if queued.is_some() { 0 } else { self.retries + 1 };
        look_later(&self.files, io, self.retries);
        if let Some(awaited) = queued {
            self.reading = Reading::Awaited(awaited);
        }
    }
}
