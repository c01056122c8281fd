//! A transport in memory. Tests act as the peer of each connection, and set what its calls return. A call that the
//! contract forbids is recorded in `misuse`.

use core::cell::{Cell, RefCell};
use lightcone_core::poller::{Accept, Connect, ConnectResult, Received, Transport};
use lightcone_core::{Address, ErrorKind, Interest, ListenerId, Sent, Token};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fate {
    /// It is in a backlog, or on its way to a poller.
    #[default]
    Loose,
    Watched,
    Closed,
    Reset,
    Rejected,
    /// `register` refused it.
    Unwatchable,
    /// It was dropped without being closed or rejected.
    Dropped,
}

/// One connection, as its peer and the test see it.
#[derive(Debug)]
pub struct Wire {
    pub fate: Fate,
    pub token: Option<Token>,
    pub interest: Interest,
    /// The bytes from the peer that the poller has not received yet.
    pub to_poller: VecDeque<u8>,
    pub peer_ended: bool,
    pub receive_fails: Option<ErrorKind>,
    /// The bytes that the peer has received.
    pub to_peer: Vec<u8>,
    /// How many more bytes the peer accepts, and the most per call.
    pub window: usize,
    pub chunk: usize,
    pub send_fails: Option<ErrorKind>,
    /// The number of undelivered bytes that the system reports.
    pub undelivered: Option<usize>,
    pub shut: bool,
    pub shut_fails: Option<ErrorKind>,
    pub register_fails: Option<ErrorKind>,
    pub modify_fails: Option<ErrorKind>,
    /// A `modify` has failed, so the watched interest is unspecified.
    pub unspecified: bool,
    /// How often `make_watchable` will still fail.
    pub unwatchable: usize,
    /// The result of `connect_result`, until the connect is decided.
    pub connecting: Option<ConnectResult>,
    /// For a completion-based transport: the send in flight, and the result of a cancel.
    pub in_flight: Option<Vec<u8>>,
    pub cancel: Option<usize>,
    /// Whether bytes or an end of stream were not taken, and reading has not been requested since.
    pub left: bool,
    pub calls: BTreeMap<&'static str, usize>,
    /// The number of bytes of each sending call.
    pub sends: Vec<usize>,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            fate: Fate::Loose,
            token: None,
            interest: Interest::NONE,
            to_poller: VecDeque::new(),
            peer_ended: false,
            receive_fails: None,
            to_peer: Vec::new(),
            window: usize::MAX,
            chunk: usize::MAX,
            send_fails: None,
            undelivered: None,
            shut: false,
            shut_fails: None,
            register_fails: None,
            modify_fails: None,
            unspecified: false,
            unwatchable: 0,
            connecting: None,
            in_flight: None,
            cancel: Some(0),
            left: false,
            calls: BTreeMap::new(),
            sends: Vec::new(),
        }
    }
}

pub type WireRef = Rc<RefCell<Wire>>;

/// The actions of a peer and of the test on a connection.
pub trait Peer {
    fn says(&self, bytes: &[u8]);
    fn ends(&self);
    fn set(&self, change: impl FnOnce(&mut Wire));
    fn fate(&self) -> Fate;
    fn token(&self) -> Token;
    fn heard(&self) -> Vec<u8>;
    fn count(&self, call: &str) -> usize;
}

impl Peer for WireRef {
    fn says(&self, bytes: &[u8]) {
        self.borrow_mut().to_poller.extend(bytes);
    }

    fn ends(&self) {
        self.borrow_mut().peer_ended = true;
    }

    fn set(&self, change: impl FnOnce(&mut Wire)) {
        change(&mut self.borrow_mut());
    }

    fn fate(&self) -> Fate {
        self.borrow().fate
    }

    fn token(&self) -> Token {
        self.borrow().token.expect("the connection was registered")
    }

    fn heard(&self) -> Vec<u8> {
        self.borrow().to_peer.clone()
    }

    fn count(&self, call: &str) -> usize {
        self.borrow().calls.get(call).copied().unwrap_or(0)
    }
}

/// A connection that is not watched by a poller.
#[derive(Debug)]
pub struct Loose(pub WireRef);

impl Drop for Loose {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        if wire.fate == Fate::Loose {
            wire.fate = Fate::Dropped;
        }
    }
}

/// A connection that is watched by a poller.
#[derive(Debug)]
pub struct Watched(pub WireRef);

impl Drop for Watched {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        if wire.fate == Fate::Watched {
            wire.fate = Fate::Dropped;
        }
    }
}

/// One item of a listener's backlog.
#[derive(Debug)]
pub enum Arrival {
    Peer(WireRef, Address),
    Filtered,
    Retry,
    Exhausted,
    FilterPanics,
}

/// A listener, as the test sees it.
#[derive(Default, Debug)]
pub struct Door {
    pub backlog: VecDeque<Arrival>,
    pub watched: bool,
    pub closed: bool,
    pub dropped: bool,
    /// How often `watch_listener` will still fail.
    pub unwatchable: usize,
    pub calls: BTreeMap<&'static str, usize>,
}

pub type DoorRef = Rc<RefCell<Door>>;

/// A listener, as the transport holds it.
#[derive(Debug)]
pub struct Listener(pub DoorRef);

impl Drop for Listener {
    fn drop(&mut self) {
        let mut door = self.0.borrow_mut();
        door.dropped |= !door.closed;
    }
}

/// The result of a connect.
#[derive(Clone, Copy, Debug)]
pub enum Dial {
    Established,
    InProgress,
    Later,
    Fails(ErrorKind),
}

/// The payload of a panic that a test causes on purpose.
pub struct Planned;

/// Panics with a payload that tests recognise, without calling the panic hook.
pub fn planned_panic() -> ! {
    std::panic::resume_unwind(Box::new(Planned))
}

#[derive(Default)]
pub struct Net<const CONNECTS: bool = true> {
    pub completes: bool,
    /// Whether sends complete immediately, even if receives complete later.
    pub sends_at_once: bool,
    /// The results of the next connects, in order; connects after those are established at once.
    pub dials: VecDeque<Dial>,
    pub dialled: Vec<(Address, WireRef)>,
    /// The registration error of connections that `connect` creates.
    pub register_fails: Option<ErrorKind>,
    pub doors: BTreeMap<u8, DoorRef>,
    watched: Vec<Option<WireRef>>,
    pub calls: BTreeMap<&'static str, usize>,
    pub misuse: Vec<String>,
    asked_local: Cell<usize>,
}

impl<const C: bool> Net<C> {
    pub fn watched(&self) -> Vec<WireRef> {
        self.watched.iter().flatten().cloned().collect()
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls.get(call).copied().unwrap_or(0)
    }

    fn bad(&mut self, what: impl Into<String>) {
        self.misuse.push(what.into());
    }

    /// Counts a call, and records misuse if the connection is not a watched one of this transport.
    fn call(&mut self, name: &'static str, wire: &WireRef, token: Token) {
        *self.calls.entry(name).or_default() += 1;
        let mut seen = wire.borrow_mut();
        *seen.calls.entry(name).or_default() += 1;
        let mine = self.watched.get(token.index() as usize).and_then(Option::as_ref);
        let is_mine = mine.is_some_and(|mine| Rc::ptr_eq(mine, wire));
        if !is_mine || seen.fate != Fate::Watched || seen.token != Some(token) {
            let what = format!("{name} for {token}, a connection that is {:?}", seen.fate);
            drop(seen);
            self.bad(what);
        }
    }

    fn door_call(&mut self, name: &'static str, door: &DoorRef) {
        *self.calls.entry(name).or_default() += 1;
        *door.borrow_mut().calls.entry(name).or_default() += 1;
        if door.borrow().closed {
            self.bad(format!("{name} for a listener that is closed"));
        }
    }

    fn send_pieces(&mut self, wire: &WireRef, pieces: &[&[u8]]) -> Sent {
        if pieces.is_empty() || pieces.iter().any(|piece| piece.is_empty()) {
            self.bad("an empty send");
        }
        let bytes = pieces.concat();
        let mut state = wire.borrow_mut();
        if state.shut {
            self.misuse.push("a send after writing was shut down".into());
        }
        if state.connecting.is_some() {
            self.misuse.push("a send before the connection is established".into());
        }
        if let Some(kind) = state.send_fails {
            return Sent::Failed(kind);
        }
        if self.completes && !self.sends_at_once {
            if state.in_flight.is_some() {
                self.misuse.push("a second send in flight".into());
            }
            state.in_flight = Some(bytes);
            return Sent::InFlight;
        }
        let n = bytes.len().min(state.window).min(state.chunk);
        if n == 0 {
            return Sent::WouldBlock;
        }
        // `usize::MAX` means unlimited.
        if state.window != usize::MAX {
            state.window -= n;
        }
        state.sends.push(n);
        state.to_peer.extend(&bytes[..n]);
        Sent::Bytes(n)
    }
}

impl<const C: bool> Transport for Net<C> {
    const CONNECTS: bool = C;
    const REPORTS_UNDELIVERED: bool = true;
    type Unregistered = Loose;
    type Registered = Watched;
    type Listener = Listener;

    fn completes(&self) -> bool {
        self.completes
    }

    fn register(&mut self, loose: Loose, token: Token, interest: Interest) -> Result<Watched, ErrorKind> {
        *self.calls.entry("register").or_default() += 1;
        let wire = Rc::clone(&loose.0);
        if wire.borrow().fate != Fate::Loose {
            self.bad(format!("register of a connection that is {:?}", wire.fate()));
        }
        let mut state = wire.borrow_mut();
        state.token = Some(token);
        if let Some(kind) = state.register_fails {
            state.fate = Fate::Unwatchable;
            return Err(kind);
        }
        (state.fate, state.interest) = (Fate::Watched, interest);
        let index = token.index() as usize;
        self.watched.resize(self.watched.len().max(index + 1), None);
        if self.watched[index].replace(Rc::clone(&wire)).is_some() {
            self.misuse.push(format!("register of {token} over another connection"));
        }
        drop(state);
        Ok(Watched(wire))
    }

    fn modify(
        &mut self,
        watched: &mut Watched,
        token: Token,
        old: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind> {
        self.call("modify", &watched.0, token);
        let mut wire = watched.0.borrow_mut();
        if wire.interest != old || old == new {
            self.misuse
                .push(format!("modify {old:?} to {new:?} of {token}, watched for {:?}", wire.interest));
        }
        if let Some(kind) = wire.modify_fails {
            wire.unspecified = true;
            return Err(kind);
        }
        wire.interest = new;
        // A request to read makes the remaining bytes available again.
        wire.left &= !new.reads();
        Ok(())
    }

    fn receive(&mut self, watched: &mut Watched, token: Token, buffer: &mut [u8]) -> Received {
        self.call("receive", &watched.0, token);
        if buffer.is_empty() {
            self.bad("a receive into an empty buffer");
        }
        if self.completes {
            self.bad("a receive on a completion-based transport");
        }
        let mut wire = watched.0.borrow_mut();
        if let Some(kind) = wire.receive_fails {
            return Received::Failed(kind);
        }
        let n = buffer.len().min(wire.to_poller.len());
        buffer.iter_mut().zip(wire.to_poller.drain(..n)).for_each(|(to, byte)| *to = byte);
        match n {
            0 if wire.peer_ended => Received::End,
            0 => Received::WouldBlock,
            n => Received::Bytes(n),
        }
    }

    fn send(&mut self, watched: &mut Watched, token: Token, bytes: &[u8]) -> Sent {
        self.call("send", &watched.0, token);
        self.send_pieces(&watched.0, &[bytes])
    }

    fn send_vectored(&mut self, watched: &mut Watched, token: Token, pieces: &[&[u8]]) -> Sent {
        self.call("send_vectored", &watched.0, token);
        self.send_pieces(&watched.0, pieces)
    }

    fn cancel_send(&mut self, watched: &mut Watched, token: Token) -> Option<usize> {
        self.call("cancel_send", &watched.0, token);
        let mut wire = watched.0.borrow_mut();
        let Some(bytes) = wire.in_flight.clone() else {
            self.misuse.push("a cancel with nothing in flight".into());
            return Some(0);
        };
        let n = wire.cancel?.min(bytes.len());
        wire.to_peer.extend(&bytes[..n]);
        wire.in_flight = None;
        Some(n)
    }

    fn shutdown_write(&mut self, watched: &mut Watched, token: Token) -> Result<(), ErrorKind> {
        self.call("shutdown_write", &watched.0, token);
        let mut wire = watched.0.borrow_mut();
        if wire.shut || wire.in_flight.is_some() {
            self.misuse.push("writing is shut down twice, or with a send in flight".into());
        }
        if let Some(kind) = wire.shut_fails {
            return Err(kind);
        }
        wire.shut = true;
        Ok(())
    }

    fn close(&mut self, watched: Watched, token: Token, interest: Interest, reset: bool) {
        self.call("close", &watched.0, token);
        let wire = watched.0.borrow();
        if wire.in_flight.is_some() {
            self.misuse.push(format!("{token} is closed with a send in flight"));
        }
        if wire.interest != interest && !wire.unspecified {
            self.misuse.push(format!("close of {token} with {interest:?}, watched for {:?}", wire.interest));
        }
        drop(wire);
        if let Some(place) = self.watched.get_mut(token.index() as usize) {
            *place = None;
        }
        watched.0.borrow_mut().fate = if reset { Fate::Reset } else { Fate::Closed };
    }

    fn reject(&mut self, loose: Loose) {
        *self.calls.entry("reject").or_default() += 1;
        if loose.0.fate() != Fate::Loose {
            self.bad(format!("reject of a connection that is {:?}", loose.0.fate()));
        }
        loose.0.borrow_mut().fate = Fate::Rejected;
    }

    fn connect(&mut self, to: Address) -> Result<Connect<Loose>, ErrorKind> {
        *self.calls.entry("connect").or_default() += 1;
        if !C {
            self.bad("a connect on a transport that does not support it");
        }
        let wire = WireRef::default();
        wire.set(|wire| wire.register_fails = self.register_fails);
        let dial = self.dials.pop_front().unwrap_or(Dial::Established);
        match dial {
            Dial::Fails(kind) => return Err(kind),
            Dial::Later => return Ok(Connect::Later),
            Dial::Established | Dial::InProgress => {}
        }
        self.dialled.push((to, Rc::clone(&wire)));
        Ok(match dial {
            Dial::InProgress => {
                wire.borrow_mut().connecting = Some(ConnectResult::InProgress);
                Connect::InProgress(Loose(wire))
            }
            _ => Connect::Established(Loose(wire)),
        })
    }

    fn connect_result(&mut self, watched: &mut Watched, token: Token) -> ConnectResult {
        self.call("connect_result", &watched.0, token);
        let mut wire = watched.0.borrow_mut();
        let Some(result) = wire.connecting else {
            self.misuse.push("the result of a connect that is already decided".into());
            return ConnectResult::Established;
        };
        if result != ConnectResult::InProgress {
            wire.connecting = None;
        }
        result
    }

    fn undelivered(&mut self, watched: &mut Watched, token: Token) -> Option<usize> {
        self.call("undelivered", &watched.0, token);
        watched.0.borrow().undelivered
    }

    fn local_address(&self, watched: &Watched) -> Option<Address> {
        self.asked_local.set(self.asked_local.get() + 1);
        assert_eq!(watched.0.fate(), Fate::Watched, "the address of a closed connection");
        Some(local_address(watched.0.token()))
    }

    fn watch_listener(&mut self, listener: &mut Listener, id: ListenerId) -> Result<(), ErrorKind> {
        self.door_call("watch_listener", &listener.0);
        let mut door = listener.0.borrow_mut();
        if door.watched {
            self.misuse.push(format!("listener {} is watched twice", id.0));
        }
        if door.unwatchable > 0 {
            door.unwatchable -= 1;
            return Err(ErrorKind::OutOfDescriptors);
        }
        door.watched = true;
        self.doors.insert(id.0, Rc::clone(&listener.0));
        Ok(())
    }

    fn unwatch_listener(&mut self, listener: &mut Listener, id: ListenerId) {
        self.door_call("unwatch_listener", &listener.0);
        if !core::mem::take(&mut listener.0.borrow_mut().watched) {
            self.bad(format!("listener {} is not watched", id.0));
        }
        self.doors.remove(&id.0);
    }

    fn close_listener(&mut self, listener: Listener, id: ListenerId, watched: bool) {
        self.door_call("close_listener", &listener.0);
        if listener.0.borrow().watched != watched {
            self.bad(format!("listener {} is closed with a wrong flag: watched = {watched}", id.0));
        }
        if watched {
            self.doors.remove(&id.0);
        }
        let mut door = listener.0.borrow_mut();
        (door.closed, door.watched) = (true, false);
    }

    fn accept(&mut self, listener: &mut Listener, id: ListenerId) -> Accept<Loose> {
        self.door_call("accept", &listener.0);
        if !listener.0.borrow().watched {
            self.bad(format!("an accept from listener {}, which is not watched", id.0));
        }
        let arrival = listener.0.borrow_mut().backlog.pop_front();
        match arrival {
            None => Accept::WouldBlock,
            Some(Arrival::Peer(wire, peer)) => Accept::Accepted(Loose(wire), peer),
            Some(Arrival::Filtered) => Accept::Filtered,
            Some(Arrival::Retry) => Accept::Retry,
            Some(Arrival::Exhausted) => Accept::Exhausted,
            Some(Arrival::FilterPanics) => planned_panic(),
        }
    }

    fn make_watchable(&mut self, loose: Loose) -> Result<Loose, Loose> {
        *self.calls.entry("make_watchable").or_default() += 1;
        let left = loose.0.borrow().unwatchable;
        if left > 0 {
            loose.0.borrow_mut().unwatchable = left - 1;
            return Err(loose);
        }
        Ok(loose)
    }
}

/// Returns a local address that is different for each socket.
pub fn local_address(token: Token) -> Address {
    Address::Inet(([127, 0, 0, 1], token.index() as u16).into())
}
