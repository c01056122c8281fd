//! The listeners of one poller, and when accepting backs off.

use core::time::Duration;

use crate::{Instant, ListenerId};

use super::membership::AcceptedSocket;
use super::transport::Transport;

/// The most accepts from one listener in one turn.
pub(crate) const ACCEPTS_A_TURN: usize = 64;
/// How long accepting backs off when there is no room or no descriptor.
pub(crate) const BACK_OFF: Duration = Duration::from_millis(20);

/// A listener in the memory lent to a poller.
#[derive(Debug)]
pub struct ListenerEntry<L> {
    listener: L,
    watched: bool,
}

pub(crate) struct Acceptor<'s, T: Transport> {
    /// Each at the place of its number.
    listeners: &'s mut [Option<ListenerEntry<T::Listener>>],
    /// An accepted connection for which no poller has room, or which cannot be watched now.
    pub(crate) held: Option<AcceptedSocket<T::Unregistered>>,
    /// When to accept again. While it is set no listener is watched.
    resume_at: Option<Instant>,
}

impl<'s, T: Transport> Acceptor<'s, T> {
    pub(crate) fn new(listeners: &'s mut [Option<ListenerEntry<T::Listener>>]) -> Self {
        Self { listeners, held: None, resume_at: None }
    }

    /// The most listeners.
    pub(crate) fn places(&self) -> usize {
        self.listeners.len()
    }

    fn entries(&mut self) -> impl Iterator<Item = (ListenerId, &mut ListenerEntry<T::Listener>)> {
        let ids = (0..=u8::MAX).map(ListenerId);
        ids.zip(self.listeners.iter_mut()).filter_map(|(id, place)| Some((id, place.as_mut()?)))
    }

    /// Begins to accept from a listener. Returns it if there is no place for its number, or that place is taken.
    pub(crate) fn listen(
        &mut self,
        mut listener: T::Listener,
        id: ListenerId,
        transport: &mut T,
        now: Instant,
    ) -> Result<(), T::Listener> {
        let place = self.listeners.get_mut(usize::from(id.0)).filter(|place| place.is_none());
        let Some(place) = place else { return Err(listener) };
        // while the others wait this one does as well: there is a place for one held connection only
        let watched = self.resume_at.is_none() && transport.watch_listener(&mut listener, id).is_ok();
        if !watched {
            self.resume_at.get_or_insert(now + BACK_OFF);
        }
        *place = Some(ListenerEntry { listener, watched });
        Ok(())
    }

    /// Returns the number of the first listener.
    pub(crate) fn first(&mut self) -> Option<ListenerId> {
        self.entries().next().map(|(id, _)| id)
    }

    pub(crate) fn close(&mut self, id: ListenerId, transport: &mut T) {
        if let Some(entry) = self.listeners.get_mut(usize::from(id.0)).and_then(Option::take) {
            transport.close_listener(entry.listener, id, entry.watched);
        }
    }

    pub(crate) fn close_all(&mut self, transport: &mut T) {
        for id in (0..=u8::MAX).map(ListenerId).take(self.listeners.len()) {
            self.close(id, transport);
        }
        if let Some(accepted) = self.held.take() {
            transport.reject(accepted.connection);
        }
        self.resume_at = None;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Takes the end of the back-off, if it has come.
    #[inline]
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        self.resume_at.take_if(|at| *at <= now).is_some()
    }

    /// Watches the listeners again.
    pub(crate) fn watch_all(&mut self, transport: &mut T, now: Instant) {
        let mut failed = false;
        for (id, entry) in self.entries().filter(|(_, entry)| !entry.watched) {
            entry.watched = transport.watch_listener(&mut entry.listener, id).is_ok();
            failed |= !entry.watched;
        }
        if failed {
            self.resume_at = Some(now + BACK_OFF);
        }
    }

    /// Stops watching all listeners for a while: their connections wait in the transport's queue.
    pub(crate) fn back_off(&mut self, transport: &mut T, now: Instant) {
        for (id, entry) in self.entries().filter(|(_, entry)| entry.watched) {
            transport.unwatch_listener(&mut entry.listener, id);
            entry.watched = false;
        }
        self.resume_at = Some(now + BACK_OFF);
    }

    /// A socket has ended, so what accepting waits for may have come: room, or a descriptor.
    #[inline]
    pub(crate) fn retry_now(&mut self, now: Instant) {
        if self.resume_at.is_some() {
            self.resume_at = Some(now);
        }
    }

    pub(crate) fn watched(&mut self, id: ListenerId) -> Option<&mut T::Listener> {
        let entry = self.listeners.get_mut(usize::from(id.0))?.as_mut()?;
        entry.watched.then_some(&mut entry.listener)
    }
}
