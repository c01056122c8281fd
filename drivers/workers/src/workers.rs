//! The threads, and how to have them.

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::io;
use std::sync::{Mutex, mpsc};
use std::thread;

use lightcone_core::{Config, ConfigError, Handler, Timeouts};
use lightcone_unix::{Handle, PollerContext};

use crate::crew::{Crew, Limits};
use crate::message::{Link, Offloaded};
use crate::offload::Offload;
use crate::report::Report;
use crate::stand_in::{BLOCKS_MAX, Memory, StandIn};
use crate::worker::Worker;

/// The most workers.
pub const WORKERS_MAX: usize = 256;
/// The most sockets whose callbacks the same workers run.
pub const SOCKETS_MAX: usize = 1 << 20;
/// The most messages that wait at one socket.
pub const MESSAGES_MAX: usize = 1 << 20;
/// How long workers that are in no callback have to end, whatever the grace time.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Why workers can't be had. Names the value and what is allowed.
#[non_exhaustive]
pub enum Error {
    /// A number of workers that can't be.
    Workers(usize),
    /// A number of sockets that can't be.
    Sockets(usize),
    /// A number of messages that can't be.
    Messages(usize),
    /// An output bound that can't be.
    OutputLimit(usize),
    /// Another setting that can't be.
    Config(ConfigError),
    /// A thread could not be started.
    Thread(io::Error),
    /// The factory of handlers panicked for this worker.
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
            Self::Factory(worker) => write!(f, "the factory of handlers panicked for worker {worker}"),
        }
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Error {}

/// Sets up [`Workers`]. Every setting has a default.
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
            timeouts: Timeouts::NONE, // they are the engine's
            ..Config::DEVICE
        };
        Self { workers: None, sockets: 16_384, messages: 256, config }
    }
}

impl Builder {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many threads: 1 to [`WORKERS_MAX`]. As many callbacks can block at once. Default: four for each processor.
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The most sockets at once: 1 to [`SOCKETS_MAX`]. Default 16,384. Beyond them peers are turned away and counted;
    /// an engine with no more sockets in all turns nobody away for it. Memory is taken as it is used.
    pub const fn sockets(mut self, sockets: usize) -> Self {
        self.sockets = sockets;
        self
    }

    /// How many messages may wait at one socket while its callback runs: 1 to [`MESSAGES_MAX`]. Default 256. Those
    /// beyond are dropped and counted.
    pub const fn messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Bytes of a buffer block: a power of two. Default 4,096.
    pub const fn block_size(mut self, bytes: usize) -> Self {
        self.config.block_size = bytes;
        self
    }

    /// The most output blocks of one socket: 1 to 64. Default 8, which is 32 KiB.
    pub const fn output_limit(mut self, blocks: usize) -> Self {
        self.config.output_limit = blocks;
        self.config.output_blocks = blocks;
        self
    }

    /// The most bytes that a socket can leave unconsumed, and the most that wait for a worker beside: a power of two,
    /// at least the block size. Default 32 KiB.
    pub const fn receive(mut self, bytes: usize) -> Self {
        self.config.receive_size = bytes;
        self
    }

    /// Starts the workers. `make` is called once for each, on its own thread: what it makes belongs to that thread, and
    /// needs neither `Send` nor a lock. What `admit` makes goes from worker to worker with its socket.
    ///
    /// # Errors
    ///
    /// A setting out of its range, with what is allowed; what the system refused; a factory that panicked. Nothing is
    /// left running then.
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
        let places = u32::try_from(self.sockets).unwrap_or(u32::MAX);
        if !(1..=SOCKETS_MAX).contains(&self.sockets) {
            return Err(Error::Sockets(self.sockets));
        }
        if !(1..=MESSAGES_MAX).contains(&self.messages) {
            return Err(Error::Messages(self.messages));
        }
        if !(1..=BLOCKS_MAX).contains(&self.config.output_limit) {
            return Err(Error::OutputLimit(self.config.output_limit));
        }
        self.config.check().map_err(Error::Config)?;
        let limits = Limits { input: self.config.receive_size, messages: self.messages };
        let crew = Arc::new(Crew::new(workers, places, limits));
        let (ready, started) = mpsc::channel();
        let host = Host { crew: Arc::clone(&crew), config: self.config, sockets: self.sockets, make };
        let thread = name(0).spawn(move || host.run(workers, ready)).map_err(Error::Thread)?;
        let mut is_ready = vec![false; workers];
        let mut failed = None;
        for news in started {
            match news {
                Ok(worker) => is_ready.iter_mut().skip(worker).take(1).for_each(|ready| *ready = true),
                Err(error) => failed = Some(Error::Thread(error)),
            }
        }
        let missing = is_ready.iter().position(|ready| !ready).map(Error::Factory);
        if let Some(error) = failed.or(missing) {
            crew.close();
            // it has nothing to run; its panic was told
            let _ = thread.join();
            return Err(error);
        }
        Ok(Workers { crew, ended: false })
    }
}

fn name(worker: usize) -> thread::Builder {
    thread::Builder::new().name(format!("lightcone-work-{worker}"))
}

/// What the first worker's thread holds for all: the memory, which they borrow.
struct Host<H: Handler, F> {
    crew: Arc<Crew<H::Message>>,
    config: Config,
    sockets: usize,
    make: F,
}

type News = mpsc::Sender<io::Result<usize>>;

impl<H, F> Host<H, F>
where
    H: Handler<Data: Send, Message: Send>,
    F: Fn(usize) -> H + Sync,
{
    fn run(&self, workers: usize, ready: News) {
        let mut memory: Vec<_> = (0..self.sockets).map(|_| Memory::<H::Data>::new()).collect();
        let places: Box<[_]> = memory.iter_mut().map(|memory| Mutex::new(StandIn::new(memory))).collect();
        thread::scope(|scope| {
            for id in 1..workers {
                let (news, places) = (ready.clone(), &places);
                let spawned = name(id).spawn_scoped(scope, move || self.work(id, news, places));
                spawned.map(drop).unwrap_or_else(|error| self.miss(&ready, error));
            }
            self.work(0, ready, &places);
        });
    }

    /// Nobody waits for a worker that never ran; the others end when its error has been seen.
    fn miss(&self, ready: &News, error: io::Error) {
        self.crew.ended();
        let _ = ready.send(Err(error));
    }

    fn work(&self, id: usize, ready: News, places: &crate::worker::Places<'_, H>) {
        // last of all, when the handler has been dropped, too
        let _end = End { crew: &self.crew };
        let handler = (self.make)(id);
        let Some(mut worker) = Worker::new(id, &self.crew, &self.config, handler) else { return };
        let _ = ready.send(Ok(id));
        drop(ready);
        worker.work(places);
    }
}

/// Says that a worker has ended, also when it panicked; then that is the end of all.
struct End<'a, M> {
    crew: &'a Crew<M>,
}

impl<M> Drop for End<'_, M> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.crew.close();
        }
        self.crew.ended();
    }
}

/// Threads that run the callbacks of sockets, for handlers that block or compute.
///
/// Shut the engine down first, then these. Dropping them is a [`shutdown`](Self::shutdown) without grace.
#[must_use = "dropping the workers shuts them down"]
pub struct Workers<M> {
    crew: Arc<Crew<M>>,
    /// They were shut down, and are not waited for again.
    ended: bool,
}

impl<M> fmt::Debug for Workers<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("report", &self.report()).finish()
    }
}

impl<M: Send + 'static> Workers<M> {
    /// A factory of handlers for an engine's pollers, which have their callbacks run here:
    /// `builder.start(workers.offload())`. Several engines may share the workers.
    pub fn offload(
        &self,
    ) -> impl Fn(PollerContext<Offloaded<M>>) -> Offload<M> + Send + Sync + 'static + use<M> {
        let crew = Arc::clone(&self.crew);
        move |poller| {
            let handle: Handle<Offloaded<M>> = poller.handle();
            Offload::new(Arc::clone(&crew), Arc::new(handle))
        }
    }

    /// A poller's handler for an engine of another make, which is reached by `link`.
    pub fn handler(&self, link: Arc<dyn Link<M>>) -> Offload<M> {
        Offload::new(Arc::clone(&self.crew), link)
    }
}

impl<M> Workers<M> {
    /// What has been counted so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.crew.report()
    }

    /// Ends the workers: when all their sockets have ended, or after the grace time, when those that are left are
    /// aborted with [`CloseReason::Shutdown`](lightcone_core::CloseReason).
    ///
    /// An engine that was shut down before has ended its sockets; what is waited for then is their last callbacks. It
    /// takes no longer than twice the grace time (a second, if that is more): who is in a callback even then is counted
    /// as stuck, and ends when that returns.
    pub fn shutdown(mut self, grace: Duration) -> Report {
        self.ended = true;
        self.end(grace)
    }

    fn end(&self, grace: Duration) -> Report {
        self.crew.end(grace, LEAST_PATIENCE)
    }
}

impl<M> Drop for Workers<M> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Duration::ZERO);
        }
    }
}
