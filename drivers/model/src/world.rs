//! What a model knows of itself: how far the peers are, which pollers sleep, what time it is, what went wrong. It is
//! under a lock of std, which loom does not see: it adds no schedule, and orders nothing in the model.

use std::sync::{Mutex, MutexGuard, PoisonError};

use core::net::SocketAddr;

use lightcone_core::{Address, Instant, Stats};

use crate::peer::{self, Peer};

#[derive(Debug)]
pub(crate) struct World(Mutex<State>);

#[derive(Debug)]
struct State {
    peers: Vec<PeerState>,
    /// Addresses that can be connected to, each once.
    remotes: Vec<(SocketAddr, usize, Option<Peer>)>,
    /// Threads beside the pollers that are not through.
    threads: usize,
    pollers: Vec<PollerState>,
    now: Instant,
    /// The engine has been told to shut down, or is about to be.
    stopped: bool,
    stats: Vec<Stats>,
    failure: Option<String>,
}

#[derive(Clone, Debug)]
struct PeerState {
    through: bool,
    heard: Vec<u8>,
    waits: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PollerState {
    Runs,
    /// The next block returns, or this one.
    Woken,
    /// Blocks until it is woken, or until then.
    Sleeps(Option<Instant>),
    Ended,
}

impl World {
    pub(crate) fn new(
        pollers: usize,
        threads: usize,
        peers: usize,
        remotes: Vec<(SocketAddr, usize, Option<Peer>)>,
    ) -> Self {
        let state = |waits: &str| PeerState { through: false, heard: Vec::new(), waits: waits.into() };
        let peers = vec![state("to be accepted"); peers];
        let peers = peers.into_iter().chain(remotes.iter().map(|_| state("to be connected to"))).collect();
        let stats = vec![Stats::default(); pollers];
        let pollers = vec![PollerState::Runs; pollers];
        let (now, stopped, failure) = (Instant::from_millis(0), false, None);
        Self(Mutex::new(State { peers, remotes, threads, pollers, now, stopped, stats, failure }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn peer_waits(&self, peer: usize, heard: &[u8], waits: String) {
        let mut state = self.state();
        let peer = &mut state.peers[peer];
        (peer.heard, peer.waits) = (heard.to_vec(), waits);
    }

    pub(crate) fn peer_is_through(&self, peer: usize, heard: &[u8]) {
        let mut state = self.state();
        let peer = &mut state.peers[peer];
        (peer.heard, peer.through) = (heard.to_vec(), true);
    }

    /// A thread is through. `true`: it was the last to be waited for, shuts the engine down, and says
    /// [`thread_ends`](Self::thread_ends) when that is told.
    pub(crate) fn thread_is_through(&self) -> bool {
        let mut state = self.state();
        let last = state.threads == 1 && state.peers.iter().all(|peer| peer.through);
        let shuts = last && !core::mem::replace(&mut state.stopped, true);
        state.threads -= usize::from(!shuts);
        shuts
    }

    pub(crate) fn thread_ends(&self) {
        self.state().threads -= 1;
    }

    /// The script behind an address that nobody has connected to before.
    pub(crate) fn answer(&self, at: SocketAddr) -> Option<(usize, Peer)> {
        let mut state = self.state();
        let (_, index, peer) = state.remotes.iter_mut().find(|(address, ..)| *address == at)?;
        Some((*index, peer.take()?))
    }

    /// Returns the peer at an address, whether it connects or is connected to.
    pub(crate) fn peer_at(&self, at: &Address) -> Option<usize> {
        let state = self.state();
        let remote = state.remotes.iter().find(|(address, ..)| Address::Inet(*address) == *at);
        let known = remote.map(|(_, peer, _)| *peer);
        known.or_else(|| (0..state.peers.len()).find(|peer| peer::address(*peer) == *at))
    }

    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.state().peers.iter().map(|peer| peer.heard.clone()).collect()
    }

    /// Whether all scripts and threads are through, and it is time to shut the engine down. `true` once, if nobody
    /// else has done it.
    pub(crate) fn is_through(&self) -> bool {
        let mut state = self.state();
        let through = state.threads == 0 && state.peers.iter().all(|peer| peer.through);
        through && !core::mem::replace(&mut state.stopped, true)
    }

    /// Somebody has shut the engine down.
    pub(crate) fn is_stopped(&self) {
        self.state().stopped = true;
    }

    pub(crate) fn counted(&self, poller: usize, stats: Stats) {
        self.state().stats[poller] = stats;
    }

    pub(crate) fn stats(&self) -> Vec<Stats> {
        self.state().stats.clone()
    }

    /// Somebody wakes a poller.
    pub(crate) fn wakes(&self, poller: usize) {
        self.becomes(poller, PollerState::Woken);
    }

    /// A poller's block has returned.
    pub(crate) fn runs(&self, poller: usize) {
        self.becomes(poller, PollerState::Runs);
    }

    pub(crate) fn ends(&self, poller: usize) {
        self.becomes(poller, PollerState::Ended);
    }

    fn becomes(&self, poller: usize, next: PollerState) {
        let state = &mut self.state().pollers[poller];
        if *state != PollerState::Ended {
            *state = next;
        }
    }

    /// A poller is about to block.
    pub(crate) fn sleeps(&self, poller: usize, until: Option<Instant>) {
        let state = &mut self.state().pollers[poller];
        if *state != PollerState::Woken {
            *state = PollerState::Sleeps(until);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.state().now
    }

    /// Lets time pass if nothing else goes on: every poller sleeps, and the other threads are through. Returns the
    /// poller whose deadline has come, which is to be woken.
    ///
    /// # Panics
    ///
    /// If none has a deadline.
    pub(crate) fn let_time_pass(&self) -> Option<usize> {
        let mut state = self.state();
        let runs = |poller: &PollerState| matches!(poller, PollerState::Runs | PollerState::Woken);
        if state.threads > 0 || state.failure.is_some() || state.pollers.iter().any(runs) {
            return None;
        }
        let deadlines = state.pollers.iter().enumerate().filter_map(|(index, poller)| match poller {
            PollerState::Sleeps(until) => until.map(|until| (until, index)),
            PollerState::Runs | PollerState::Woken | PollerState::Ended => None,
        });
        if let Some((until, index)) = deadlines.min() {
            state.now = state.now.max(until);
            state.pollers[index] = PollerState::Woken;
            return Some(index);
        }
        if state.pollers.iter().all(|poller| *poller == PollerState::Ended) {
            return None;
        }
        let waiting: String = state
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| !peer.through)
            .map(|(index, peer)| {
                let heard = peer.heard.escape_ascii();
                format!("\n  peer {index} heard \"{heard}\" and waits: {}", peer.waits)
            })
            .collect();
        drop(state);
        panic!("nothing goes on any more: every poller sleeps and nobody will wake one{waiting}");
    }

    /// The first failure counts.
    pub(crate) fn fail(&self, why: String) {
        self.state().failure.get_or_insert(why);
    }

    pub(crate) fn failed(&self) -> bool {
        self.state().failure.is_some()
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }
}
