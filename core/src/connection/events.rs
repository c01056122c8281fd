//! The events of a connection, in their order.

use super::Connection;
use crate::buffer::WritableGate;
use crate::error::{CloseReason, ErrorKind};
use crate::handler::Event;
use crate::slot::{Flags, Pending};
use crate::socket::{Socket, Stream};

impl<D> Connection<'_, '_, D> {
    /// Returns the next pending event, with its socket. First applies the requests made in the previous
    /// event.
    pub fn next_event<M>(&mut self) -> Option<(Event<M>, Socket<'_, D>)> {
        self.settle();
        loop {
            let pending = self.control().pending;
            if pending.is_empty() {
                return None;
            }
            let first = pending.first();
            self.control().pending.clear(first);
            if !self.is_overtaken(first) {
                let event = self.event(first);
                return Some((event, self.view(first)?));
            }
        }
    }

    /// Returns whether earlier events of this connection have made an event obsolete.
    pub(super) fn is_overtaken(&mut self, event: Pending) -> bool {
        let most = self.shard.config.output_limit;
        let fresh = !self.fresh.is_empty();
        let control = self.control();
        match event {
            // the bytes were consumed in an earlier event
            Pending::RECEIVE => !fresh && control.kept.is_empty(),
            // more was queued: `sent` comes when that has been sent, too
            Pending::SENT => !control.chain.is_empty(),
            // the queue was filled again: `writable` comes later
            Pending::WRITABLE => {
                control.chain.armed |= !control.chain.is_low(most);
                if !control.chain.armed {
                    control.chain.set_hold(WritableGate::Given);
                }
                control.chain.armed
            }
            _ => false,
        }
    }

    pub(super) fn event<M>(&mut self, which: Pending) -> Event<M> {
        // The flags are set before the callback, which may panic: after an `open` that panics, `close` follows, and
        // after a last event that panics, no event does.
        match which {
            Pending::OPEN => {
                self.control().flags.set(Flags::OPENED);
                Event::Open
            }
            Pending::RECEIVE => Event::Receive,
            Pending::WRITABLE => Event::Writable,
            Pending::SENT => Event::Sent,
            Pending::PEER_CLOSED => Event::PeerClosed,
            Pending::TIMEOUT => Event::Timeout,
            Pending::SHUTDOWN => Event::Shutdown,
            Pending::REFUSED => {
                self.control().flags.set(Flags::ENDED);
                Event::Refused(match self.control().reason {
                    Some(CloseReason::Error(kind)) => kind,
                    Some(CloseReason::TimedOut(_)) => ErrorKind::TimedOut,
                    Some(CloseReason::Reset) => ErrorKind::ConnectionReset,
                    _ => ErrorKind::ConnectionAborted,
                })
            }
            _ => {
                self.control().flags.set(Flags::ENDED);
                Event::Close(self.control().reason.unwrap_or(CloseReason::Local))
            }
        }
    }

    /// Returns the view of the socket that an event shows.
    pub(super) fn view(&mut self, event: Pending) -> Option<Socket<'_, D>> {
        let shard = &mut *self.shard;
        let slot = shard.slots.get_mut(self.index)?;
        let data = slot.data.as_mut()?;
        let control = &mut slot.control;
        let still_to_come = control.pending.has(Pending::RECEIVE);
        let bytes = if still_to_come && (control.kept.is_empty() || event == Pending::OPEN) {
            &mut [] // new bytes are first shown in `receive`; before `open`, all kept bytes are new
        } else if !control.kept.is_empty() {
            shard.input.slice_mut(&control.kept)
        } else {
            &mut *self.fresh
        };
        let (pool, shared, index) = (shard.output.lend(), &shard.shared, self.index);
        let consumed = &mut self.consumed;
        Some(Socket { stream: Stream { control, pool, bytes, consumed, shared, index }, data })
    }
}
