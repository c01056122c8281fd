//! The state of an execution: the progress of the peers, sleeping pollers, the time, and the first failure.
//!
//! It has a lock of std, which loom does not see: it adds no schedule, and orders nothing in the model.

use std::sync::{Mutex, MutexGuard, PoisonError};

use core::net::SocketAddr;

use lightcone_core::{Address, Instant, Stats};

use crate::peer::{self, Peer};

#[derive(Debug)]
pub(crate) struct World(Mutex<State>);

#[derive(Debug)]
struct State {
    peers: Vec<PeerState>,
    /// The addresses that can be connected to, once each.
    remotes: Vec<(SocketAddr, usize, Option<Peer>)>,
    /// The number of unfinished threads other than the pollers.
    threads: usize,
    pollers: Vec<PollerState>,
    now: Instant,
    /// Whether the engine is shutting down, or is about to.
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
    /// The current or the next block returns.
    Woken,
    /// Blocks until a wake-up or this instant.
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

    /// Records that a thread has finished. Returns `true` if it was the last unfinished one: then it shuts the engine
    /// down, and calls [`thread_ends`](Self::thread_ends) afterwards.
    pub(crate) fn thread_is_through(&self) -> bool {
        let mut state = self.state();
        let last = state.threads == 1 && state.peers.iter().all(|peer| peer.through);
        let shuts = last && !core::mem::replace(&mut state.stopped, true);
        // a thread that begins the shutdown still counts as running: time must not pass before all pollers have the
        // command
        state.threads -= usize::from(!shuts);
        shuts
    }

    pub(crate) fn thread_ends(&self) {
        self.state().threads -= 1;
    }

    /// Takes the script of the peer at an address; `None` if there is none or it was taken before.
    pub(crate) fn answer(&self, at: SocketAddr) -> Option<(usize, Peer)> {
        let mut state = self.state();
        let (_, index, peer) = state.remotes.iter_mut().find(|(address, ..)| *address == at)?;
        Some((*index, peer.take()?))
    }

    /// Returns the peer at an address, in either direction of the connect.
    pub(crate) fn peer_at(&self, at: &Address) -> Option<usize> {
        let state = self.state();
        let remote = state.remotes.iter().find(|(address, ..)| Address::Inet(*address) == *at);
        let known = remote.map(|(_, peer, _)| *peer);
        known.or_else(|| (0..state.peers.len()).find(|peer| peer::address(*peer) == *at))
    }

    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.state().peers.iter().map(|peer| peer.heard.clone()).collect()
    }

    /// Returns `true` once, if all scripts and threads have finished and the engine was not shut down before.
    pub(crate) fn is_through(&self) -> bool {
        let mut state = self.state();
        let through = state.threads == 0 && state.peers.iter().all(|peer| peer.through);
        through && !core::mem::replace(&mut state.stopped, true)
    }

    /// Records that the engine is shutting down.
    pub(crate) fn is_stopped(&self) {
        self.state().stopped = true;
    }

    pub(crate) fn counted(&self, poller: usize, stats: Stats) {
        self.state().stats[poller] = stats;
    }

    pub(crate) fn stats(&self) -> Vec<Stats> {
        self.state().stats.clone()
    }

    /// Records that a poller was woken.
    pub(crate) fn wakes(&self, poller: usize) {
        self.becomes(poller, PollerState::Woken);
    }

    /// Records that a poller's block has returned.
    pub(crate) fn runs(&self, poller: usize) {
        self.becomes(poller, PollerState::Runs);
    }

    pub(crate) fn ends(&self, poller: usize) {
        self.becomes(poller, PollerState::Ended);
    }

    fn becomes(&self, poller: usize, next: PollerState) {
        let state = &mut self.state().pollers[poller];
        // a late wake-up does not revive a poller that has ended
        if *state != PollerState::Ended {
            *state = next;
        }
    }

    /// Records that a poller is about to block.
    pub(crate) fn sleeps(&self, poller: usize, until: Option<Instant>) {
        let state = &mut self.state().pollers[poller];
        // after an early wake-up, the block returns at once
        if *state != PollerState::Woken {
            *state = PollerState::Sleeps(until);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.state().now
    }

    /// Advances the clock if nothing else is running: every poller sleeps, and the other threads have finished. Returns
    /// the poller with the earliest deadline, which the caller wakes.
    ///
    /// # Panics
    ///
    /// If no poller has a deadline, and not all have ended.
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
            // counts as running from now on, so that no other thread advances the clock again before this poller has
            // run
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
        panic!("no progress: every poller sleeps and none will be woken{waiting}");
    }

    /// Records a failure. Only the first one is kept.
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
