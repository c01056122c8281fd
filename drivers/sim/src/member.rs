//! A simulated poller's membership in its group: core's own, with the posts that were refused in the trace.

use std::rc::Rc;

use lightcone_core::poller::{
    AcceptedSocket, Command, Envelope, LoadPermit, Member, Membership, Placement, RoomAsk,
};
use lightcone_core::{PollerId, Rejected, Token, Unpublished};

use crate::probe::Shared;
use crate::trace::{self, Did};
use crate::transport::{Descriptor, SimTypes};

pub(crate) struct Noted<'g, M> {
    pub(crate) inner: Member<'g, M, SimTypes>,
    pub(crate) me: PollerId,
    pub(crate) shared: Rc<Shared>,
}

impl<M> Noted<'_, M> {
    /// Notes a refused post to a socket, or if `to` is `None`, a refused broadcast or published message.
    fn note<R>(&self, to: Option<Token>, posted: Result<(), Rejected<R>>) -> Result<(), Rejected<R>> {
        if let Err(rejected) = &posted {
            let why =
                if matches!(rejected, Rejected::Full(_)) { trace::MAILBOX_FULL } else { trace::MAILBOX_GONE };
            match to {
                Some(to) => self.shared.trace.note(Did::RefusePost, to.to_bits(), why),
                None => self.shared.trace.note(Did::RefuseBroadcast, self.me.0.into(), why),
            }
        }
        posted
    }
}

impl<M> Membership<Descriptor, Descriptor, M> for Noted<'_, M> {
    type Permit = LoadPermit<SimTypes>;

    #[inline]
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        let posted = self.inner.post(to, message);
        self.note(Some(to), posted)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        let posted = self.inner.broadcast(message, clone);
        self.note(None, posted)
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        let posted = self.inner.publish(message);
        self.note(None, posted)
    }

    fn acquire(&mut self) -> Option<Self::Permit> {
        self.inner.acquire()
    }

    fn merge(&mut self, permit: Self::Permit) {
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

    fn place(&mut self, accepted: AcceptedSocket<Descriptor>) -> Placement<Descriptor, Self::Permit> {
        self.inner.place(accepted)
    }

    #[inline]
    fn next_command(&mut self) -> Option<Command<Descriptor, Descriptor, Self::Permit>> {
        self.inner.next_command()
    }

    #[inline]
    fn next_envelope(&mut self) -> Option<Envelope<M>> {
        self.inner.next_envelope()
    }

    #[inline]
    fn has_command(&self) -> bool {
        self.inner.has_command()
    }

    #[inline]
    fn has_envelope(&self) -> bool {
        self.inner.has_envelope()
    }

    fn ask_room(&mut self, at: PollerId) -> RoomAsk {
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
