//! A server in memory, with shorthands for the tests.

extern crate std;

use core::time::Duration;
use std::format;
use std::string::String;

use lightcone_core::poller::Poller;
use lightcone_core::{Config, Handler, Instant, Timeouts};

use crate::testing::TestServer;
use crate::testing::network::Peer;
use crate::testing::server::LISTENER;

pub(super) const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

pub(super) type Rig<H> = TestServer<H>;

pub(super) fn config() -> Config {
    Config {
        sockets: 8,
        receive_blocks: 4,
        timeouts: Timeouts::NONE,
        ..Rig::<crate::Http<(), crate::ChainEnd>>::CONFIG
    }
}

impl<H: Handler + 'static> TestServer<H> {
    /// Creates a server without timeouts.
    pub(crate) fn untimed(handler: H) -> Self {
        Self::with_config(handler, &config())
    }

    /// Opens a connection that may have to wait until the server accepts it; returns its number.
    pub(super) fn knock(&mut self) -> usize {
        let peer = self.peers.len();
        self.peers.push(Peer::new());
        self.poller.transport_mut().backlog = Some(peer);
        self.acceptable();
        peer
    }

    /// Runs a turn in which the listener is ready.
    pub(super) fn acceptable(&mut self) {
        self.with_poller(|poller| {
            poller.on_acceptable(LISTENER);
            poller.turn();
        });
    }

    /// Returns whether the server has accepted the connection of a peer.
    pub(super) fn is_accepted(&self, peer: usize) -> bool {
        self.peers[peer].token.is_some()
    }

    /// Lets the peer accept `n` more bytes.
    pub(super) fn open_window(&mut self, peer: usize, n: usize) {
        self.set_window(peer, self.peers[peer].window.saturating_add(n));
    }

    /// Stops the engine without grace time.
    pub(super) fn cut(&mut self) {
        self.stop(Duration::ZERO);
    }

    pub(super) fn shutdown(&mut self) {
        self.stop(Duration::from_secs(100_000));
    }

    pub(super) fn message(&mut self, peer: usize, message: H::Message) {
        if let Some(token) = self.peers[peer].token.filter(|_| !self.peers[peer].closed) {
            assert!(self.post(token, message), "the mailbox is full");
        }
    }

    /// Lets time pass, with one turn at its end.
    pub(super) fn pass(&mut self, millis: u64) {
        self.turn_at(self.now + Duration::from_millis(millis));
    }

    /// Lets time pass, with a turn whenever the poller needs one.
    pub(super) fn sleep(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    /// Returns when the shard has to be called next.
    pub(super) fn shard_deadline(&self) -> Option<Instant> {
        self.poller.shard().next_deadline()
    }

    /// Returns what the peer has received since the last call, as text.
    pub(super) fn take(&mut self, peer: usize) -> String {
        String::from_utf8_lossy(&self.receive(peer)).into_owned()
    }

    /// Returns how many queued bytes the peer does not accept, after the server has tried to send.
    pub(super) fn queued(&mut self, peer: usize) -> usize {
        self.peers[peer].queued = 0;
        self.with_socket(peer, Poller::on_writable);
        self.peers[peer].queued
    }
}

/// Returns a 200 with a text.
pub(super) fn ok(body: &str) -> String {
    response("200 OK", "", body)
}

/// Returns a response with a status, more fields and a text.
pub(super) fn response(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nServer: lightcone\r\n{DATE}Content-Type: text/plain; charset=utf-8\r\n\
         {fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Returns a response that the server itself makes.
pub(super) fn refusal(status: &str, fields: &str) -> String {
    response(status, fields, &format!("{status}\n"))
}
