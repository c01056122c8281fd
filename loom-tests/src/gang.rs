//! The workers' crew and their sockets' lanes, without the handlers: what a poller and a worker do with them.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lightcone_core::{Address, ListenerId, Origin, Token, UnixId};
use loom::sync::{Condvar, Mutex};

use crate::Racy;
use crate::crew::{Crew, Duty, Job, Limits};
use crate::lane::Lane;
use crate::message::Link;

struct NoLink;

impl<M> Link<M> for NoLink {}

/// One socket, as its stand-in.
struct Socket {
    lane: Arc<Lane<u32>>,
    /// What callbacks touch.
    data: Racy,
    /// Messages that callbacks have heard, as digits: statistics, which loom does not see.
    heard: AtomicUsize,
    /// The worker of the last turn, one higher.
    worker: AtomicUsize,
}

/// News for which a socket's poller has no room.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct News {
    /// So many turns, the first ones, have some.
    pub turns: usize,
    /// So often a poller has no room when it is tried again.
    pub refusals: usize,
    /// Turns block until some were told.
    pub blocks: bool,
}

/// What has become of the messages of all sockets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fates {
    /// Heard in a callback.
    pub heard: usize,
    /// There when the workers had ended, with a job that a worker found.
    pub left_over: usize,
    /// Told that there are no workers any more.
    pub refused: usize,
}

/// Workers and sockets.
pub struct Gang {
    crew: Crew<u32>,
    sockets: Box<[Socket]>,
    /// So many messages end it, when they are heard.
    enough: usize,
    heard: AtomicUsize,
    left_over: AtomicUsize,
    refused: AtomicUsize,
    news: News,
    turns: AtomicUsize,
    tries: AtomicUsize,
    told: AtomicUsize,
    /// Whether some were told.
    some_told: (Mutex<bool>, Condvar),
}

impl Gang {
    /// The workers close when so many messages were heard.
    pub fn new(workers: usize, sockets: u32, enough: usize) -> Arc<Self> {
        Self::with(workers, sockets, enough, News::default())
    }

    /// The workers close when so many messages were heard, and all news told.
    pub fn with(workers: usize, sockets: u32, enough: usize, news: News) -> Arc<Self> {
        let socket = |place| {
            let who = (Origin::Accepted { listener: ListenerId(0) }, Address::Unix(UnixId(0)));
            let lane = Lane::new(Token::from_bits(u64::from(place)), place, who, None, Arc::new(NoLink));
            Socket {
                lane: Arc::new(lane),
                data: Racy::new(),
                heard: AtomicUsize::new(0),
                worker: AtomicUsize::new(0),
            }
        };
        Arc::new(Self {
            crew: Crew::new(workers, sockets, Limits { input: 1, messages: 4 }),
            sockets: (0..sockets).map(socket).collect(),
            enough,
            heard: AtomicUsize::new(0),
            left_over: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            news,
            turns: AtomicUsize::new(0),
            tries: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            some_told: (Mutex::new(false), Condvar::new()),
        })
    }

    /// A poller leaves a message for a socket, and sees to it that a worker runs it.
    pub fn post(&self, socket: usize, message: u32) {
        let lane = &self.sockets[socket].lane;
        let mut exchange = lane.exchange();
        exchange.messages.push_back(message);
        let worker = exchange.worker;
        drop(exchange);
        if let Some(pass) = lane.gate.post()
            && self.crew.schedule(Job { lane: Arc::clone(lane), pass }, worker).is_err()
        {
            self.refused.fetch_add(lane.exchange().messages.len(), Ordering::Relaxed);
        }
    }

    /// What a worker does until nobody works any more.
    pub fn work(&self, me: usize) {
        let mut again = None;
        loop {
            match self.crew.next(me, again.take(), Duration::ZERO) {
                Duty::Run(job) => again = self.run(me, job),
                Duty::Retry => {}
                Duty::End => break,
            }
            self.tell_untold();
        }
        while let Some(job) = self.crew.take_leftover() {
            self.left_over.fetch_add(job.lane.exchange().messages.len(), Ordering::Relaxed);
        }
        self.crew.ended();
    }

    fn run(&self, me: usize, job: Job<u32>) -> Option<Job<u32>> {
        let Job { lane, mut pass } = job;
        let socket = &self.sockets[lane.place as usize];
        pass.look(&lane.gate);
        socket.data.touch();
        socket.worker.store(me + 1, Ordering::Relaxed);
        // one message a turn
        let (message, more) = {
            let mut exchange = lane.exchange();
            exchange.worker = me;
            (exchange.messages.pop_front(), !exchange.messages.is_empty())
        };
        if let Some(message) = message {
            let digits = socket.heard.load(Ordering::Relaxed) * 10 + message as usize;
            socket.heard.store(digits, Ordering::Relaxed);
            self.heard.fetch_add(1, Ordering::Relaxed);
            if self.turns.fetch_add(1, Ordering::Relaxed) < self.news.turns {
                self.crew.put_off(Arc::clone(&lane));
            }
            if self.news.blocks {
                self.wait_until_some_are_told();
            }
            self.end_if_all_is_done();
        }
        if more {
            return Some(Job { lane, pass });
        }
        let pass = pass.leave(&lane.gate).err()?;
        Some(Job { lane, pass })
    }

    fn wait_until_some_are_told(&self) {
        let (some_told, bell) = &self.some_told;
        let mut some_told = some_told.lock().expect("no panic");
        while !*some_told {
            some_told = bell.wait(some_told).expect("no panic");
        }
    }

    /// Tries the pollers of those that were put off.
    fn tell_untold(&self) {
        for lane in self.crew.take_untold() {
            if self.tries.fetch_add(1, Ordering::Relaxed) < self.news.refusals {
                self.crew.put_off(lane);
                continue;
            }
            self.told.fetch_add(1, Ordering::Relaxed);
            let (some_told, bell) = &self.some_told;
            *some_told.lock().expect("no panic") = true;
            bell.notify_all();
            self.end_if_all_is_done();
        }
    }

    fn end_if_all_is_done(&self) {
        if self.heard.load(Ordering::Relaxed) == self.enough && self.told() == self.news.turns {
            self.crew.close();
        }
    }

    /// Nobody works any more.
    pub fn close(&self) {
        self.crew.close();
    }

    /// What a socket has heard, each message as a digit.
    pub fn heard(&self, socket: usize) -> usize {
        self.sockets[socket].heard.load(Ordering::Relaxed)
    }

    /// The worker that ran a socket last.
    pub fn worker(&self, socket: usize) -> Option<usize> {
        self.sockets[socket].worker.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Sockets whose pollers were told.
    pub fn told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }

    /// What has become of the messages.
    pub fn fates(&self) -> Fates {
        Fates {
            heard: self.heard.load(Ordering::Relaxed),
            left_over: self.left_over.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
