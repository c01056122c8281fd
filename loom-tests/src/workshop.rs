//! The shipped workers, from the pollers' handler to the shadows of sockets, with scripted pollers.
//!
//! A poller here is a shard, the handler [`Offload`], connections that accept all bytes, and a mailbox with a lock. It
//! runs its script, then handles its mail until all its sockets have closed. If a job, a wake-up or a message is lost,
//! a thread waits forever, which loom reports.

use core::mem::MaybeUninit;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Noted};

use lightcone_core::{
    Address, Calls, CloseReason, Config, Context, ContextCalls, ErrorKind, Event, Handler, Instant,
    ListenerId, NoOutbox, Origin, PollerId, Rejected, Sent, Settled, Shard, Slot, Socket, Storage, Timeouts,
    Token, UnixId,
};
use loom::thread::{Builder, JoinHandle};

use crate::Racy;
use crate::locks::{Condvar, Mutex};
use crate::message::{Offloaded, PollerLink};
use crate::offload::{Offload, Ticket};
use crate::report::Report;
use crate::scheduler::{BridgeLimits, Scheduler, places};
use crate::shadow::{Memory, Shadow};
use crate::worker::Worker;

/// The stack size of a thread in words, the unit that loom uses.
const STACK: usize = 1 << 15;
/// Longer than any step takes: a wait with this timeout must end by a notification.
const LONG: Duration = Duration::from_secs(30);

/// The configuration of a shadow's shard, and of a poller's shard for each socket.
const SMALL: Config = Config {
    sockets: 1,
    block_size: 64,
    input_blocks: 1,
    output_blocks: 1,
    output_limit: 1,
    receive_size: 64,
    receive_blocks: 0,
    timeouts: Timeouts::NONE,
    ..Config::DEVICE
};

/// A message upon which a handler closes its socket, and which is not recorded.
pub const CLOSE: u32 = 0;
/// From this value on, a handler records the message and closes its socket.
const LAST: u32 = 7;

/// A step of a poller, for one of its sockets.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Delivers a message of the program: a digit that is recorded. From 7 on, it also closes the socket.
    Message(usize, u32),
    /// Receives bytes.
    Bytes(usize, &'static [u8]),
    /// Finds the connection reset.
    Reset(usize),
}

/// Records of the callbacks of one socket: statistics, which loom does not see.
#[derive(Default)]
struct Notes {
    /// The messages, as the digits of a number.
    heard: AtomicUsize,
    /// The worker that handled the last message, plus one.
    worker: AtomicUsize,
    closed: Noted<Vec<CloseReason>>,
    /// The bytes that the poller has sent.
    sent: Noted<Vec<u8>>,
}

/// Unusual conditions of a model.
#[derive(Clone, Copy, Default, Debug)]
pub struct Unusual {
    /// The number of messages to pollers that are refused at first, because the mailbox is full.
    pub refusals: usize,
    /// A message upon which a callback blocks after those refusals, until a message to a poller is accepted.
    pub blocks: Option<u32>,
}

/// Workers, pollers and what they share.
pub struct Workshop {
    scheduler: Arc<Scheduler<u32>>,
    notes: Box<[Notes]>,
    unusual: Unusual,
    refused: AtomicUsize,
    /// Whether a message to a poller has been accepted.
    answered: (Mutex<bool>, Condvar),
    aborted_by_pollers: AtomicUsize,
}

type Shadows = Arc<Box<[Mutex<Shadow<'static, Hand>>]>>;

impl Workshop {
    /// Creates workers, and shadows for a number of sockets.
    pub fn new(workers: usize, sockets: usize) -> Arc<Self> {
        Self::with(workers, sockets, Unusual::default())
    }

    /// Does the same under unusual conditions.
    pub fn with(workers: usize, sockets: usize, unusual: Unusual) -> Arc<Self> {
        let limits = BridgeLimits { input: SMALL.receive_size, messages: 4 };
        Arc::new(Self {
            scheduler: Arc::new(Scheduler::new(workers, sockets as u32, limits)),
            notes: (0..sockets).map(|_| Notes::default()).collect(),
            unusual,
            refused: AtomicUsize::new(0),
            answered: (Mutex::new(false), Condvar::new()),
            aborted_by_pollers: AtomicUsize::new(0),
        })
    }

    /// Runs workers and pollers, each on a thread, and ends the workers when the pollers have ended.
    pub fn run(self: &Arc<Self>, pollers: &[&'static [Step]]) -> Report {
        let workers = self.start_workers();
        self.start_pollers(pollers).into_iter().for_each(|poller| poller.join().expect("no panic"));
        let report = self.scheduler.end(LONG, LONG);
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        self.check(report)
    }

    /// Does the same, but ends the workers without grace while the pollers are running.
    pub fn run_without_grace(self: &Arc<Self>, pollers: &[&'static [Step]]) -> Report {
        let workers = self.start_workers();
        let pollers = self.start_pollers(pollers);
        self.scheduler.end(Duration::ZERO, LONG);
        pollers.into_iter().for_each(|poller| poller.join().expect("no panic"));
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        self.check(self.scheduler.report())
    }

    /// Checks what always holds.
    fn check(&self, report: Report) -> Report {
        assert_eq!((report.panics, report.unfinished, report.stuck), (0, 0, 0), "{report}");
        assert_eq!((report.opened, report.unnotified), (report.closed, 0), "{report}");
        let closed: usize = self.notes.iter().map(|notes| notes.closed.lock().expect("no panic").len()).sum();
        assert_eq!(closed as u64, report.closed, "{report}");
        report
    }

    fn start_workers(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        // leaked, some hundred bytes per socket: threads borrow it, and loom has no scoped threads
        let place = |_| Mutex::new(Shadow::new(Box::leak(Box::new(Memory::new()))));
        let places: Shadows = Arc::new((0..places(self.notes.len() as u32)).map(place).collect());
        let start = |id| {
            let (shop, places) = (Arc::clone(self), Arc::clone(&places));
            spawn(move || {
                let hand = Hand { id, shop: Arc::clone(&shop) };
                let mut worker = Worker::new(id, &shop.scheduler, &SMALL, hand);
                worker.work(&places);
                shop.scheduler.ended();
            })
        };
        (0..self.scheduler.counts.len()).map(start).collect()
    }

    /// Starts the pollers. Sockets are numbered across pollers, by the indices in their steps.
    fn start_pollers(self: &Arc<Self>, pollers: &[&'static [Step]]) -> Vec<JoinHandle<()>> {
        let mut first = 0;
        let mut started = Vec::new();
        for &steps in pollers {
            let count = steps.iter().map(|step| step.socket() + 1).max().unwrap_or_default();
            let (shop, sockets) = (Arc::clone(self), first..first + count);
            first += count;
            started.push(spawn(move || Poller::run(&shop, sockets, steps)));
        }
        started
    }

    /// Returns the messages that a socket has received, as the digits of a number; a close is not recorded.
    pub fn heard(&self, socket: usize) -> usize {
        self.notes[socket].heard.load(Ordering::Relaxed)
    }

    /// Returns the worker that delivered the last message of a socket.
    pub fn worker(&self, socket: usize) -> Option<usize> {
        self.notes[socket].worker.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Returns the reason of each close callback of a socket.
    pub fn closed(&self, socket: usize) -> Vec<CloseReason> {
        self.notes[socket].closed.lock().expect("no panic").clone()
    }

    /// Returns the bytes that a poller has sent for a socket.
    pub fn sent(&self, socket: usize) -> Vec<u8> {
        self.notes[socket].sent.lock().expect("no panic").clone()
    }

    /// Returns how often pollers found that there are no workers any more.
    pub fn rejected(&self) -> usize {
        self.aborted_by_pollers.load(Ordering::Relaxed)
    }

    /// Returns whether messages to pollers are still refused.
    fn refuses(&self) -> bool {
        self.refused.load(Ordering::Relaxed) < self.unusual.refusals
    }

    fn wait_until_answered(&self) {
        let (answered, bell) = &self.answered;
        let mut answered = answered.lock().expect("no panic");
        while !*answered {
            answered = bell.wait(answered).expect("no panic");
        }
    }

    fn is_answered(&self) {
        let (answered, bell) = &self.answered;
        *answered.lock().expect("no panic") = true;
        bell.notify_all();
    }
}

impl Step {
    const fn socket(self) -> usize {
        match self {
            Self::Message(socket, _) | Self::Bytes(socket, _) | Self::Reset(socket) => socket,
        }
    }
}

fn spawn(runs: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().stack_size(STACK).spawn(runs).expect("at most five threads")
}

/// The program's handler, one for each worker.
struct Hand {
    id: usize,
    shop: Arc<Workshop>,
}

/// A socket's number, and a cell that each callback touches: loom reports two callbacks at once or unordered ones.
struct Data {
    socket: usize,
    touched: Racy,
}

impl Handler for Hand {
    type Data = Data;
    type Message = u32;

    fn admit(&mut self, _: Origin, peer: &Address) -> Option<Data> {
        let Address::Unix(UnixId(socket)) = peer else { return None };
        Some(Data { socket: *socket as usize, touched: Racy::new() })
    }

    fn event(&mut self, socket: &mut Socket<'_, Data>, event: Event<u32>, _: &mut Context<'_, u32>) {
        socket.data.touched.touch();
        let notes = &self.shop.notes[socket.data.socket];
        match event {
            Event::Message(CLOSE) => socket.close(),
            Event::Message(digit) => {
                let digits = notes.heard.load(Ordering::Relaxed) * 10 + digit as usize;
                notes.heard.store(digits, Ordering::Relaxed);
                notes.worker.store(self.id + 1, Ordering::Relaxed);
                if self.shop.unusual.blocks == Some(digit) && !self.shop.refuses() {
                    self.shop.wait_until_answered();
                }
                if digit >= LAST {
                    socket.close();
                }
            }
            Event::Receive => {
                let (mut input, mut output) = socket.stream.split();
                let taken = output.send_some(input.bytes());
                input.consume(taken);
            }
            Event::Close(reason) => notes.closed.lock().expect("no panic").push(reason),
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

/// A poller's mailbox.
struct Mail {
    letters: Mutex<VecDeque<(Token, Offloaded<u32>)>>,
    came: Condvar,
    shop: Arc<Workshop>,
}

impl PollerLink<u32> for Mail {
    fn post(&self, to: Token, message: Offloaded<u32>) -> Result<(), Rejected<Offloaded<u32>>> {
        if self.shop.refuses() {
            self.shop.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Rejected::Full(message));
        }
        self.letters.lock().expect("no panic").push_back((to, message));
        self.came.notify_one();
        // loom explores this lock as well, so it is taken only if a callback may wait for it
        if self.shop.unusual.blocks.is_some() {
            self.shop.is_answered();
        }
        Ok(())
    }

    fn broadcast(
        &self,
        message: Offloaded<u32>,
        _: fn(&Offloaded<u32>) -> Offloaded<u32>,
    ) -> Result<(), Rejected<Offloaded<u32>>> {
        Err(Rejected::Gone(message))
    }
}

impl Mail {
    fn next(&self) -> (Token, Offloaded<u32>) {
        let mut letters = self.letters.lock().expect("no panic");
        loop {
            if let Some(letter) = letters.pop_front() {
                return letter;
            }
            letters = self.came.wait(letters).expect("no panic");
        }
    }
}

/// The calls of a connection that accepts all bytes at once, and of a peer that ends when the engine does.
struct Line {
    sent: Vec<u8>,
    shut: bool,
    outbox: NoOutbox,
}

impl Calls for Line {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.sent.extend_from_slice(bytes);
        Sent::Bytes(bytes.len())
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        self.shut = true;
        Ok(())
    }
}

impl<M> ContextCalls<M> for Line {
    fn context(&mut self) -> Context<'_, M> {
        Context::new(Instant::from_millis(1), None, PollerId(0), &mut self.outbox)
    }
}

struct Poller<'s> {
    shop: &'s Workshop,
    shard: Shard<'s, Ticket<u32>>,
    offload: Offload<u32>,
    line: Line,
    /// The open sockets, with their numbers among all.
    open: Vec<(Token, usize)>,
}

impl Poller<'_> {
    fn run(shop: &Arc<Workshop>, sockets: core::ops::Range<usize>, steps: &[Step]) {
        let count = sockets.len();
        let config = Config { sockets: count, input_blocks: count, output_blocks: count, ..SMALL };
        let mut slots: Box<[MaybeUninit<Slot<_>>]> = Box::new_uninit_slice(count);
        let mut memory = vec![0; config.memory()];
        let storage = Storage { slots: &mut slots, memory: &mut memory };
        let shard = Shard::new(storage, &config, Instant::from_millis(1)).expect("a valid configuration");
        let mail = Arc::new(Mail {
            letters: Mutex::new(VecDeque::new()),
            came: Condvar::new(),
            shop: Arc::clone(shop),
        });
        let link: Arc<dyn PollerLink<u32>> = Arc::<Mail>::clone(&mail);
        let offload = Offload::new(Arc::clone(&shop.scheduler), link);
        let line = Line { sent: Vec::new(), shut: false, outbox: NoOutbox };
        let mut poller = Poller { shop, shard, offload, line, open: Vec::new() };
        let tokens: Vec<_> = sockets.map(|number| poller.open(number)).collect();
        for step in steps {
            let Some(token) = tokens[step.socket()] else { continue };
            match *step {
                Step::Message(_, message) => poller.deliver(token, message.into()),
                Step::Bytes(_, bytes) => poller.receive(token, bytes),
                Step::Reset(_) => poller.reset(token),
            }
        }
        // messages from workers wait until the script has ended, and all of them are handled before the thread ends
        while !poller.open.is_empty() {
            let (token, letter) = mail.next();
            poller.deliver(token, letter);
        }
    }

    /// Admits a socket. Returns `None` if there are no workers any more.
    fn open(&mut self, number: usize) -> Option<Token> {
        let (origin, peer) =
            (Origin::Accepted { listener: ListenerId(0) }, Address::Unix(UnixId(number as u16)));
        let Ok(token) = self.shard.admit(&mut self.offload, origin, &peer) else {
            self.shop.aborted_by_pollers.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.open.push((token, number));
        self.receive(token, b"");
        Some(token)
    }

    fn receive(&mut self, token: Token, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let Some(mut conn) = self.shard.connection(token) else { return };
        let settled = conn.receive(&mut bytes, &mut self.offload, &mut self.line);
        self.see(token, settled);
    }

    fn deliver(&mut self, token: Token, message: Offloaded<u32>) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        if let Ok(next) = conn.message(message, &mut self.offload, &mut self.line.context()) {
            let settled = conn.carry_out(next, 0, &mut self.offload, &mut self.line);
            self.see(token, settled);
        }
    }

    fn reset(&mut self, token: Token) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        conn.abort_with(CloseReason::Reset);
        let settled = conn.receive(&mut [], &mut self.offload, &mut self.line);
        self.see(token, settled);
    }

    /// Records what was sent and whether the socket has closed. If this side has ended, the peer ends as well.
    fn see(&mut self, token: Token, mut settled: Settled) {
        if core::mem::take(&mut self.line.shut)
            && let Some(mut conn) = self.shard.connection(token)
        {
            conn.peer_ended();
            settled = conn.receive(&mut [], &mut self.offload, &mut self.line);
        }
        let Some(place) = self.open.iter().position(|(open, _)| *open == token) else { return };
        let notes = &self.shop.notes[self.open[place].1];
        notes.sent.lock().expect("no panic").append(&mut self.line.sent);
        if settled == Settled::Closed {
            self.open.remove(place);
        }
    }
}
