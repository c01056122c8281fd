//! Connections in memory: the transport of a model's pollers, and the types of their group.

use std::sync::Arc;

use lightcone_core::{
    Address, ErrorKind, Interest, ListenerId, PollerId, Rejected, Sent, Token, Unpublished,
};

use crate::peer::{self, Arrivals, ModelConnection};
use crate::poller::{
    Accept, AcceptedSocket, Command, Connect, ConnectResult, Envelope, GroupTypes, Membership, Placement,
    Received, RoomAsk, Transport,
};
use crate::sync::{Load, MailboxSlot};
use crate::trace::{What, note};
use crate::waker::Steering;
use crate::world::World;

/// The types of a model's group.
#[derive(Debug)]
pub struct InMemory;

impl GroupTypes for InMemory {
    type Unregistered = Line;
    type Listener = Arrivals;
    type Load = Arc<Load>;
    type Waker = Box<dyn Fn() + Send + Sync>;
    type Ring<T> = Box<[MailboxSlot<T>]>;
}

/// A connection that no poller watches; `None` if it belongs to a connect that will be refused.
#[derive(Debug)]
pub struct Line(Option<ModelConnection>);

impl Line {
    fn close(self) {
        self.0.into_iter().for_each(ModelConnection::close);
    }
}

/// A connection that is registered with its poller.
#[derive(Debug)]
pub(crate) struct WatchedLine {
    line: Line,
    interest: Interest,
}

impl WatchedLine {
    /// Returns whether it is readable and whether it is writable, as far as there is interest.
    pub(crate) fn ready(&self) -> (bool, bool) {
        let readable = self.line.0.as_ref().is_some_and(ModelConnection::is_readable);
        (self.interest.reads() && readable, self.interest.writes())
    }
}

/// The network of one poller. A send accepts all bytes at once.
pub(crate) struct Net {
    world: Arc<World>,
    /// The sockets, each at the index of its token.
    watched: Vec<Option<Token>>,
    /// The watched listener, and the number of peers that wait there.
    listening: Option<(ListenerId, usize)>,
}

impl Net {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, watched: Vec::new(), listening: None }
    }

    /// Returns the length of the table of sockets.
    pub(crate) fn places(&self) -> usize {
        self.watched.len()
    }

    /// Returns the socket at an index of the table.
    pub(crate) fn socket(&self, place: usize) -> Option<Token> {
        self.watched[place]
    }

    /// Returns the watched listener if a peer waits there.
    pub(crate) fn acceptable(&self) -> Option<ListenerId> {
        self.listening.filter(|(_, waiting)| *waiting > 0).map(|(id, _)| id)
    }

    fn place(&mut self, token: Token) -> &mut Option<Token> {
        let index = token.index() as usize;
        if self.watched.len() <= index {
            self.watched.resize(index + 1, None);
        }
        &mut self.watched[index]
    }
}

impl Transport for Net {
    type Unregistered = Line;
    type Registered = WatchedLine;
    type Listener = Arrivals;

    fn register(&mut self, line: Line, token: Token, interest: Interest) -> Result<WatchedLine, ErrorKind> {
        *self.place(token) = Some(token);
        Ok(WatchedLine { line, interest })
    }

    fn modify(
        &mut self,
        watched: &mut WatchedLine,
        _: Token,
        _: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind> {
        watched.interest = new;
        Ok(())
    }

    fn receive(&mut self, watched: &mut WatchedLine, _: Token, buffer: &mut [u8]) -> Received {
        let connection = watched.line.0.as_mut().filter(|connection| connection.is_readable());
        let Some(connection) = connection else { return Received::WouldBlock };
        match connection.receive(buffer.len()) {
            peer::Received::Bytes(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Received::Bytes(bytes.len())
            }
            peer::Received::End => Received::End,
            peer::Received::Failed(kind) => Received::Failed(kind),
        }
    }

    fn send(&mut self, watched: &mut WatchedLine, _: Token, bytes: &[u8]) -> Sent {
        watched.line.0.iter_mut().for_each(|connection| connection.send(bytes));
        Sent::Bytes(bytes.len())
    }

    fn send_vectored(&mut self, watched: &mut WatchedLine, token: Token, pieces: &[&[u8]]) -> Sent {
        self.send(watched, token, &pieces.concat())
    }

    fn shutdown_write(&mut self, _: &mut WatchedLine, _: Token) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn close(&mut self, watched: WatchedLine, token: Token, _: Interest, _: bool) {
        *self.place(token) = None;
        watched.line.close();
    }

    fn reject(&mut self, line: Line) {
        line.close();
    }

    fn connect(&mut self, to: Address) -> Result<Connect<Line>, ErrorKind> {
        let answer = match to {
            Address::Inet(at) => self.world.answer(at),
            Address::Unix(_) => None,
        };
        let connection =
            answer.map(|(peer, script)| ModelConnection::new(peer, script, Arc::clone(&self.world)));
        Ok(Connect::InProgress(Line(connection)))
    }

    fn connect_result(&mut self, watched: &mut WatchedLine, _: Token) -> ConnectResult {
        match watched.line.0 {
            Some(_) => ConnectResult::Established,
            None => ConnectResult::Failed(ErrorKind::ConnectionRefused),
        }
    }

    fn local_address(&self, _: &WatchedLine) -> Option<Address> {
        Some(Address::Inet(([192, 0, 2, 1], 80).into()))
    }

    fn watch_listener(&mut self, arrivals: &mut Arrivals, id: ListenerId) -> Result<(), ErrorKind> {
        self.listening = Some((id, arrivals.len()));
        Ok(())
    }

    fn unwatch_listener(&mut self, _: &mut Arrivals, _: ListenerId) {
        self.listening = None;
    }

    fn close_listener(&mut self, arrivals: Arrivals, _: ListenerId, _: bool) {
        self.listening = None;
        arrivals.close();
    }

    fn accept(&mut self, arrivals: &mut Arrivals, id: ListenerId) -> Accept<Line> {
        let Some(connection) = arrivals.accept() else { return Accept::WouldBlock };
        self.listening = Some((id, arrivals.len()));
        let peer = peer::address(connection.peer);
        Accept::Accepted(Line(Some(connection)), peer)
    }
}

/// A poller's membership in its group, which steers loom and records a shutdown.
pub(crate) struct Steered<'h, L> {
    pub(crate) inner: L,
    pub(crate) me: PollerId,
    pub(crate) steering: &'h [Steering],
    pub(crate) world: Arc<World>,
}

impl<C, N, M, L: Membership<C, N, M>> Membership<C, N, M> for Steered<'_, L> {
    type Permit = L::Permit;

    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        if to.poller() != self.me {
            self.steering.get(usize::from(to.poller().0)).into_iter().for_each(Steering::here);
        }
        self.inner.post(to, message)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.inner.broadcast(message, clone)
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.inner.publish(message)
    }

    fn acquire(&mut self) -> Option<L::Permit> {
        self.inner.acquire()
    }

    fn merge(&mut self, permit: L::Permit) {
        self.inner.merge(permit);
    }

    fn release(&mut self) {
        self.inner.release();
    }

    fn has_room(&self, here: bool) -> bool {
        self.inner.has_room(here)
    }

    fn choose_evictor(&mut self, here: bool) -> bool {
        self.inner.choose_evictor(here)
    }

    fn place(&mut self, accepted: AcceptedSocket<C>) -> Placement<C, L::Permit> {
        self.inner.place(accepted)
    }

    fn next_command(&mut self) -> Option<Command<C, N, L::Permit>> {
        let command = self.inner.next_command();
        if let Some(Command::Stop { .. }) = command {
            note(Some(self.me), What::Stop);
            self.world.is_stopped();
        }
        command
    }

    fn next_envelope(&mut self) -> Option<Envelope<M>> {
        self.inner.next_envelope()
    }

    fn has_command(&self) -> bool {
        self.inner.has_command()
    }

    fn has_envelope(&self) -> bool {
        self.inner.has_envelope()
    }

    fn ask_room(&mut self, at: PollerId) -> RoomAsk {
        if at != self.me {
            self.steering.get(usize::from(at.0)).into_iter().for_each(Steering::here);
        }
        self.inner.ask_room(at)
    }

    fn keep_asker(&mut self, asker: PollerId) {
        self.inner.keep_asker(asker);
    }

    fn answer_askers(&mut self) -> bool {
        self.inner.answer_askers()
    }

    fn take_answers(&mut self) {
        self.inner.take_answers();
    }

    fn has_answer(&self, from: PollerId) -> bool {
        self.inner.has_answer(from)
    }

    fn end_answers(&mut self) {
        self.inner.end_answers();
    }

    fn answers_further(&self) -> bool {
        self.inner.answers_further()
    }

    fn close(&mut self) {
        self.inner.close();
    }

    fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
}
