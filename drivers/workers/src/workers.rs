//! Starting and ending the threads.

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::io;
use std::sync::{Mutex, mpsc};
use std::thread;

use lightcone_core::{Config, ConfigError, Handler, Timeouts};
use lightcone_unix::{Handle, PollerContext};

use crate::message::{Offloaded, PollerLink};
use crate::offload::Offload;
use crate::report::Report;
use crate::scheduler::{BridgeLimits, Scheduler, places};
use crate::shadow::{BLOCKS_MAX, Memory, Shadow};
use crate::worker::Worker;

/// The maximum number of workers.
pub const WORKERS_MAX: usize = 256;
/// The maximum number of sockets that share the workers.
pub const SOCKETS_MAX: usize = 1 << 20;
/// The maximum number of messages waiting at one socket.
pub const MESSAGES_MAX: usize = 1 << 20;
/// The minimum time for which [`Workers::shutdown`] waits for the workers to end, regardless of the grace time:
/// workers that run no callback end within it.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Why the workers could not be started. The message names the value and its allowed range.
#[non_exhaustive]
pub enum Error {
    /// The number of workers is out of range.
    Workers(usize),
    /// The number of sockets is out of range.
    Sockets(usize),
    /// The number of messages is out of range.
    Messages(usize),
    /// The output limit is out of range.
    OutputLimit(usize),
    /// Another setting is invalid.
    Config(ConfigError),
    /// A thread could not be started.
    Thread(io::Error),
    /// The handler factory panicked for this worker.
    Factory(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers(n) => write!(f, "{n} workers; allowed: 1 to {WORKERS_MAX}"),
            Self::Sockets(n) => write!(f, "{n} sockets for the workers; allowed: 1 to {SOCKETS_MAX}"),
            Self::Messages(n) => write!(f, "{n} messages waiting at a socket; allowed: 1 to {MESSAGES_MAX}"),
            Self::OutputLimit(n) => write!(f, "{n} output blocks of a socket; allowed: 1 to {BLOCKS_MAX}"),
            Self::Config(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a worker: {error}"),
            Self::Factory(worker) => write!(f, "the handler factory panicked for worker {worker}"),
        }
    }
}

/// Formats as `Display` does: a `main` that returns the error prints it with `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Error {
    /// Skips the wrapped error, whose text `Display` contains, and returns that error's source.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Thread(error) => error.source(),
            Self::Workers(_)
            | Self::Sockets(_)
            | Self::Messages(_)
            | Self::OutputLimit(_)
            | Self::Factory(_) => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Configures and starts [`Workers`]. Every setting has a default.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Builder {
    workers: Option<usize>,
    sockets: usize,
    messages: usize,
    config: Config,
}

impl Default for Builder {
    fn default() -> Self {
        let config = Config {
            sockets: 1,
            block_size: 4_096,
            input_blocks: 1,
            output_blocks: 8,
            output_limit: 8,
            receive_size: 32 * 1_024,
            receive_blocks: 1,
            timeouts: Timeouts::NONE, // the engine's apply
            ..Config::DEVICE
        };
        Self { workers: None, sockets: 16_384, messages: 256, config }
    }
}

impl Builder {
    /// Creates a builder with the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of threads, 1 to [`WORKERS_MAX`], which is the number of callbacks that can block at
    /// once. Default: four per processor.
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets the maximum number of concurrent sockets, 1 to [`SOCKETS_MAX`]. Default 16,384. Further
    /// connections are turned away and counted; if the engine's own limit is not larger, this happens only when more
    /// than this many sockets have ended and their last callbacks have not run. Memory is allocated as it is used.
    pub const fn sockets(mut self, sockets: usize) -> Self {
        self.sockets = sockets;
        self
    }

    /// Sets how many messages may wait at one socket while its callback runs, 1 to [`MESSAGES_MAX`]. Default
    /// 256. Further messages are dropped and counted.
    pub const fn messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Sets the size of a buffer block in bytes: a power of two. Default 4,096.
    pub const fn block_size(mut self, bytes: usize) -> Self {
        self.config.block_size = bytes;
        self
    }

    /// Sets the maximum number of output blocks of one socket, 1 to 64. Default 8, which is 32 KiB.
    pub const fn output_limit(mut self, blocks: usize) -> Self {
        self.config.output_limit = blocks;
        self.config.output_blocks = blocks;
        self
    }

    /// Sets how many bytes a socket may leave unconsumed, and how many more may wait for a worker: a power of
    /// two, at least the block size. Default 32 KiB.
    pub const fn receive(mut self, bytes: usize) -> Self {
        self.config.receive_size = bytes;
        self
    }

    /// Starts the workers.
    ///
    /// `make` is called once on each worker's thread. The handler that it returns stays on that thread and
    /// needs neither `Send` nor a lock. The data that its `admit` returns moves between workers with the
    /// socket.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of range, the system refuses a thread, or `make` panics. No
    /// thread is left running.
    pub fn start<H>(
        self,
        make: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<Workers<H::Message>, Error>
    where
        H: Handler<Data: Send, Message: Send + 'static> + 'static,
    {
        let workers = self.workers.unwrap_or_else(|| {
            let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            (processors * 4).min(WORKERS_MAX)
        });
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(Error::Workers(workers));
        }
        if !(1..=SOCKETS_MAX).contains(&self.sockets) {
            return Err(Error::Sockets(self.sockets));
        }
        let sockets = u32::try_from(self.sockets).unwrap_or(u32::MAX);
        if !(1..=MESSAGES_MAX).contains(&self.messages) {
            return Err(Error::Messages(self.messages));
        }
        if !(1..=BLOCKS_MAX).contains(&self.config.output_limit) {
            return Err(Error::OutputLimit(self.config.output_limit));
        }
        self.config.check()?;
        let limits = BridgeLimits { input: self.config.receive_size, messages: self.messages };
        let scheduler = Arc::new(Scheduler::new(workers, sockets, limits));
        let (ready, started) = mpsc::channel();
        let host = Host { scheduler: Arc::clone(&scheduler), config: self.config, sockets, make };
        let thread = name(0).spawn(move || host.run(workers, ready)).map_err(Error::Thread)?;
        let mut is_ready = vec![false; workers];
        let mut failed = None;
        // Ends when every worker has sent its message or dropped its sender. One whose factory panicked sends
        // none, and is found below.
        for news in started {
            match news {
                Ok(worker) => is_ready.iter_mut().skip(worker).take(1).for_each(|ready| *ready = true),
                Err(error) => failed = Some(Error::Thread(error)),
            }
        }
        let missing = is_ready.iter().position(|ready| !ready).map(Error::Factory);
        if let Some(error) = failed.or(missing) {
            scheduler.close();
            // no worker has a job, so they all end; a panic has been reported by the panic hook
            let _ = thread.join();
            return Err(error);
        }
        Ok(Workers { scheduler, ended: false })
    }
}

fn name(worker: usize) -> thread::Builder {
    thread::Builder::new().name(format!("lightcone-work-{worker}"))
}

/// State on the first worker's thread: it owns the memory of all shadows, which the other workers borrow.
struct Host<H: Handler, F> {
    scheduler: Arc<Scheduler<H::Message>>,
    config: Config,
    sockets: u32,
    make: F,
}

type StartReports = mpsc::Sender<io::Result<usize>>;

impl<H, F> Host<H, F>
where
    H: Handler<Data: Send, Message: Send>,
    F: Fn(usize) -> H + Sync,
{
    fn run(&self, workers: usize, ready: StartReports) {
        let mut memory: Vec<_> = (0..places(self.sockets)).map(|_| Memory::<H::Data>::new()).collect();
        let places: Box<[_]> = memory.iter_mut().map(|memory| Mutex::new(Shadow::new(memory))).collect();
        thread::scope(|scope| {
            let start = |id| {
                let (news, places) = (ready.clone(), &places);
                name(id).spawn_scoped(scope, move || self.work(id, news, places))
            };
            // The end must not wait for a worker without a thread. The others end once `Builder::start` has
            // received the error.
            for error in (1..workers).filter_map(|id| start(id).err()) {
                self.scheduler.ended();
                let _ = ready.send(Err(error));
            }
            self.work(0, ready, &places);
        });
    }

    fn work(&self, id: usize, ready: StartReports, places: &crate::worker::Shadows<'_, H>) {
        // Dropped last, after the handler.
        let _end = EndGuard { scheduler: &self.scheduler };
        let handler = (self.make)(id);
        let mut worker = Worker::new(id, &self.scheduler, &self.config, handler);
        let _ = ready.send(Ok(id));
        drop(ready);
        worker.work(places);
    }
}

/// Records on drop that a worker has ended. If it panicked, also closes the scheduler.
struct EndGuard<'a, M> {
    scheduler: &'a Scheduler<M>,
}

impl<M> Drop for EndGuard<'_, M> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.scheduler.close();
        }
        self.scheduler.ended();
    }
}

/// Threads that run the callbacks of sockets, for handlers that block or compute.
///
/// Shut the engine down first, then the workers. Dropping them is a [`shutdown`](Self::shutdown) without
/// grace time.
#[must_use = "dropping the workers shuts them down"]
pub struct Workers<M> {
    scheduler: Arc<Scheduler<M>>,
    /// Whether they have been shut down, so that the drop does not do it again.
    ended: bool,
}

impl<M> fmt::Debug for Workers<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("report", &self.report()).finish()
    }
}

impl<M: Send + 'static> Workers<M> {
    /// Returns a factory of poller handlers whose callbacks run on these workers:
    /// `builder.start(workers.offload())`. Several engines may share the workers.
    pub fn offload(
        &self,
    ) -> impl Fn(PollerContext<Offloaded<M>>) -> Offload<M> + Send + Sync + 'static + use<M> {
        let scheduler = Arc::clone(&self.scheduler);
        move |poller| {
            let handle: Handle<Offloaded<M>> = poller.handle();
            Offload::new(Arc::clone(&scheduler), Arc::new(handle))
        }
    }

    /// Returns a handler for one poller of a custom engine, whose sockets are reached through `link`.
    pub fn handler(&self, link: Arc<dyn PollerLink<M>>) -> Offload<M> {
        Offload::new(Arc::clone(&self.scheduler), link)
    }
}

impl<M> Workers<M> {
    /// Returns the counts so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.scheduler.report()
    }

    /// Ends the workers when all their sockets have closed, or after the grace time; the remaining sockets
    /// are then aborted with [`CloseReason::Shutdown`](lightcone_core::CloseReason).
    ///
    /// If the engine was shut down before, its sockets have closed, and only their last callbacks are waited
    /// for. The call takes at most the grace time and then once more the grace time or a second, whichever is
    /// longer. A worker that is still in a callback is then counted as stuck, and ends when the callback
    /// returns.
    pub fn shutdown(mut self, grace: Duration) -> Report {
        self.ended = true;
        self.end(grace)
    }

    fn end(&self, grace: Duration) -> Report {
        self.scheduler.end(grace, LEAST_PATIENCE)
    }
}

impl<M> Drop for Workers<M> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::error::Error as _;

    use lightcone_core::framing::{FrameTooLong, SendFrameError};

    use super::*;

    fn is_shared<T: Send + Sync>() {}

    #[test]
    fn workers_are_shared_whatever_the_messages() {
        // `Cell` is not `Sync`. That is not required: a message is moved to another thread and never shared.
        is_shared::<Workers<Cell<u8>>>();
        is_shared::<Builder>();
        is_shared::<Error>();
    }

    #[test]
    fn a_chain_of_sources_has_every_text_once() {
        let config = Config { sockets: 0, ..Config::DEVICE }.check().unwrap_err();
        let error = Error::Config(config);
        assert_eq!(error.to_string(), config.to_string());
        assert!(error.source().is_none());
        // `source` skips the wrapped error, whose text is in `error`, and returns that error's source.
        let long = FrameTooLong { length: 300, max: 255 };
        let error = Error::Thread(io::Error::other(SendFrameError::TooLong(long)));
        assert!(error.to_string().contains(&SendFrameError::TooLong(long).to_string()), "{error}");
        assert_eq!(error.source().and_then(|source| source.downcast_ref()), Some(&long));
    }
}
