//! The ordered trace of all sockets of an engine, which tests wait for and compare.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use lightcone_core::{Address, CloseReason, ErrorKind, Event, Origin, PollerId, Token};
use lightcone_unix::clock::Clock;

/// The current value of [`patience`], in milliseconds.
static PATIENCE_MS: AtomicU64 = AtomicU64::new(10_000);

/// Returns how long a test waits for an event before it fails.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_millis(PATIENCE_MS.load(Ordering::Relaxed))
}

/// Changes the patience of the whole process, for tests of drivers that are expected to fail.
pub fn set_patience(patience: Duration) {
    PATIENCE_MS.store(patience.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// One event of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The handler admitted the socket.
    Admit {
        /// How the socket began.
        origin: Origin,
        /// The peer's address.
        peer: Address,
    },
    /// `open`
    Open,
    /// `receive`
    Receive {
        /// The number of bytes that the handler had not consumed yet.
        unread: usize,
    },
    /// `writable`
    Writable,
    /// `sent`
    Sent,
    /// `peer_closed`
    PeerClosed,
    /// `timeout`
    Timeout,
    /// `shutdown`
    Shutdown,
    /// `message`
    Message(u64),
    /// `room`
    Room(PollerId),
    /// `refused`
    Refused(ErrorKind),
    /// `close`
    Close {
        /// The reason.
        reason: CloseReason,
        /// The number of queued bytes that were not sent.
        lost: usize,
    },
}

impl What {
    pub(crate) const fn of(event: &Event<u64>, unread: usize, queued: usize) -> Self {
        match event {
            Event::Open => Self::Open,
            Event::Receive => Self::Receive { unread },
            Event::Writable => Self::Writable,
            Event::Sent => Self::Sent,
            Event::PeerClosed => Self::PeerClosed,
            Event::Timeout => Self::Timeout,
            Event::Shutdown => Self::Shutdown,
            Event::Message(message) => Self::Message(*message),
            Event::Room(at) => Self::Room(*at),
            Event::Refused(error) => Self::Refused(*error),
            Event::Close(reason) => Self::Close { reason: *reason, lost: queued },
        }
    }

    /// Returns the name of the callback.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Admit { .. } => "admit",
            Self::Open => "open",
            Self::Receive { .. } => "receive",
            Self::Writable => "writable",
            Self::Sent => "sent",
            Self::PeerClosed => "peer_closed",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Message(_) => "message",
            Self::Room(_) => "room",
            Self::Refused(_) => "refused",
            Self::Close { .. } => "close",
        }
    }

    const fn is_last(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Close { .. })
    }
}

/// One event, with its socket, poller, thread and time.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The number of the socket. Sockets are numbered from 0 in the order of their admission.
    pub socket: usize,
    /// The token of the socket; `None` for `admit`, which is called before there is a token.
    pub token: Option<Token>,
    /// The poller.
    pub poller: PollerId,
    /// The thread.
    pub thread: ThreadId,
    /// The engine's time of the event, which excludes any delay of the thread since then. For `admit`, which receives
    /// no time, the time at which it was recorded.
    pub at_ms: u64,
    /// The event.
    pub what: What,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Record>,
    sockets: usize,
    /// Whether frequent events are left out, see [`Trace::keep_ends_only`].
    quiet: bool,
    threads: Vec<String>,
}

/// All events so far, shared by the test and the pollers.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<(Mutex<State>, Condvar)>);

impl Trace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `receive`, `writable`, `sent` and `message` out from now on, for tests with much traffic.
    pub fn keep_ends_only(&self) {
        self.lock().quiet = true;
    }

    pub(crate) fn admit(&self, origin: Origin, peer: Address, poller: PollerId) -> usize {
        let mut state = self.lock();
        let socket = state.sockets;
        state.sockets += 1;
        drop(state);
        self.add(socket, None, poller, Clock::now_ms(), What::Admit { origin, peer });
        socket
    }

    pub(crate) fn add(&self, socket: usize, token: Option<Token>, poller: PollerId, at_ms: u64, what: What) {
        let mut state = self.lock();
        let dull = matches!(what, What::Receive { .. } | What::Sent | What::Writable | What::Message(_));
        if state.quiet && dull {
            return;
        }
        let thread = thread::current().id();
        state.records.push(Record { socket, token, poller, thread, at_ms, what });
        self.0.1.notify_all();
    }

    /// Returns the system's names of the pollers' threads; empty where the system provides none.
    #[must_use]
    pub fn threads(&self) -> Vec<String> {
        self.lock().threads.clone()
    }

    pub(crate) fn add_thread(&self, name: String) {
        self.lock().threads.push(name);
    }

    /// Returns all records so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// Waits until `find` returns a value for the records so far, and returns it.
    ///
    /// # Panics
    ///
    /// If that takes longer than [`patience`].
    pub fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Record]) -> Option<T>) -> T {
        let end = Clock::now_ms() + u64::try_from(patience().as_millis()).unwrap_or(u64::MAX / 2);
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&state.records) {
                return found;
            }
            let left = end.saturating_sub(Clock::now_ms());
            assert!(left > 0, "{what}: timed out");
            let waited = self.0.1.wait_timeout(state, Duration::from_millis(left));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first event of this name for the socket.
    pub fn until(&self, socket: usize, name: &str) -> Record {
        self.until_nth(socket, name, 1)
    }

    /// Waits for the n-th event of this name for the socket, counted from 1.
    pub fn until_nth(&self, socket: usize, name: &str, nth: usize) -> Record {
        self.wait(&format!("{name} of socket {socket}"), |records| {
            let mut of = records.iter().filter(|it| it.socket == socket && it.what.name() == name);
            of.nth(nth - 1).copied()
        })
    }

    /// Waits until `count` events of this name have been recorded, over all sockets.
    pub fn until_count(&self, name: &str, count: usize) {
        self.wait(&format!("{count} of {name}"), |records| {
            (records.iter().filter(|it| it.what.name() == name).count() >= count).then_some(())
        });
    }

    /// Returns the number of events of this name so far.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.lock().records.iter().filter(|it| it.what.name() == name).count()
    }

    /// Returns the number of events of this name for the socket so far.
    #[must_use]
    pub fn count_of(&self, socket: usize, name: &str) -> usize {
        self.lock().records.iter().filter(|it| it.socket == socket && it.what.name() == name).count()
    }

    /// Waits until the socket is open, and returns its token.
    pub fn token(&self, socket: usize) -> Token {
        self.until(socket, "open").token.unwrap()
    }

    /// Waits until the socket has closed, and returns the reason.
    pub fn closed(&self, socket: usize) -> CloseReason {
        match self.until(socket, "close").what {
            What::Close { reason, .. } => reason,
            other => panic!("{other:?} is no close"),
        }
    }

    /// Waits until the socket has closed, and returns the number of bytes that it did not send.
    pub fn lost(&self, socket: usize) -> usize {
        match self.until(socket, "close").what {
            What::Close { lost, .. } => lost,
            other => panic!("{other:?} is no close"),
        }
    }

    /// Waits until a socket with this peer has been admitted, and returns its number.
    pub fn socket_of(&self, peer: Address) -> usize {
        self.wait(&format!("a socket of {peer}"), |records| {
            records
                .iter()
                .find(|it| matches!(it.what, What::Admit { peer: admitted, .. } if admitted == peer))
                .map(|it| it.socket)
        })
    }

    /// Returns the names of the socket's events, without consecutive repetitions.
    #[must_use]
    pub fn shape(&self, socket: usize) -> String {
        let state = self.lock();
        let of = state.records.iter().filter(|it| it.socket == socket);
        let mut names: Vec<String> = of
            .map(|it| match it.what {
                What::Close { reason, .. } => format!("close({reason})"),
                What::Refused(error) => format!("refused({error})"),
                What::Message(message) => format!("message({message})"),
                ref other => other.name().to_owned(),
            })
            .collect();
        names.dedup();
        names.join(" ")
    }

    /// Checks what must hold at the end of every engine.
    pub(crate) fn check_whole(&self) {
        let state = self.lock();
        let mut ended = vec![false; state.sockets];
        let mut thread_of = vec![None; state.sockets];
        for record in &state.records {
            let Record { socket, thread, what, .. } = *record;
            assert!(!ended[socket], "{what:?} after the end of socket {socket}");
            let first = *thread_of[socket].get_or_insert(thread);
            assert_eq!(first, thread, "{what:?} of socket {socket} is on another thread");
            ended[socket] = what.is_last();
        }
        if let Some(socket) = ended.iter().position(|ended| !ended) {
            panic!("socket {socket} was admitted and never ended");
        }
    }

    /// Prints the last 200 records, one per line.
    pub fn print(&self) {
        let state = self.lock();
        let skipped = state.records.len().saturating_sub(200);
        eprintln!("trace ({skipped} records left out):");
        for Record { socket, poller, at_ms, what, .. } in state.records.iter().skip(skipped) {
            eprintln!("  {at_ms} poller {} socket {socket}: {what:?}", poller.0);
        }
    }
}
