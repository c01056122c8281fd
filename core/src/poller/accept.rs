//! The listeners of one poller, and the back-off of accepting.

use core::time::Duration;

use crate::{Instant, ListenerId, TokenBucket};

use super::membership::AcceptedSocket;
use super::transport::Transport;

/// The maximum number of accepts from one listener in one turn.
pub(crate) const ACCEPTS_A_TURN: usize = 64;
/// How long accepting backs off if there is no room or no descriptor.
pub(crate) const BACK_OFF: Duration = Duration::from_millis(20);

/// A listener, in the memory lent to a poller.
#[derive(Debug)]
pub struct ListenerEntry<L> {
    listener: L,
    watched: bool,
}

pub(crate) struct Acceptor<'s, T: Transport> {
    /// Indexed by the listener's number.
    listeners: &'s mut [Option<ListenerEntry<T::Listener>>],
    /// An accepted connection for which no poller has room, or that cannot be watched now.
    pub(crate) held: Option<AcceptedSocket<T::Unregistered>>,
    /// The listener at which a connection was left waiting because there was neither room nor a socket to evict, and
    /// when that was.
    pub(crate) left: Option<(ListenerId, Instant)>,
    /// The connections that may still be admitted, if their rate is limited.
    pub(crate) bucket: TokenBucket,
    /// The end of the back-off, when the held connection is placed and all listeners are watched again.
    resume_at: Option<Instant>,
}

impl<'s, T: Transport> Acceptor<'s, T> {
    pub(crate) fn new(listeners: &'s mut [Option<ListenerEntry<T::Listener>>]) -> Self {
        Self { listeners, held: None, left: None, bucket: TokenBucket::new(), resume_at: None }
    }

    /// Returns the maximum number of listeners.
    pub(crate) fn places(&self) -> usize {
        self.listeners.len()
    }

    fn entries(&mut self) -> impl Iterator<Item = (ListenerId, &mut ListenerEntry<T::Listener>)> {
        let ids = (0..=u8::MAX).map(ListenerId);
        ids.zip(self.listeners.iter_mut()).filter_map(|(id, place)| Some((id, place.as_mut()?)))
    }

    /// Begins to accept from a listener. Fails with the listener if there is no place for its number, or if that place
    /// is taken.
    pub(crate) fn listen(
        &mut self,
        mut listener: T::Listener,
        id: ListenerId,
        transport: &mut T,
        now: Instant,
    ) -> Result<(), T::Listener> {
        let place = self.listeners.get_mut(usize::from(id.0)).filter(|place| place.is_none());
        let Some(place) = place else { return Err(listener) };
        // during a back-off it is not watched either, since there is a place for only one held connection
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

    /// Closes a listener.
    pub(crate) fn close(&mut self, id: ListenerId, transport: &mut T) {
        if let Some(entry) = self.listeners.get_mut(usize::from(id.0)).and_then(Option::take) {
            transport.close_listener(entry.listener, id, entry.watched);
        }
    }

    /// Closes all listeners, and the held connection.
    pub(crate) fn close_all(&mut self, transport: &mut T) {
        for id in (0..=u8::MAX).map(ListenerId).take(self.listeners.len()) {
            self.close(id, transport);
        }
        if let Some(accepted) = self.held.take() {
            transport.reject(accepted.connection);
        }
        self.resume_at = None;
    }

    /// Returns when the back-off ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Returns whether the back-off has ended, and clears it.
    #[inline]
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        self.resume_at.take_if(|at| *at <= now).is_some()
    }

    /// Watches the listeners that are not watched.
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

    /// Stops watching all listeners for a while. Their connections wait in the transport's queue.
    pub(crate) fn back_off(&mut self, transport: &mut T, now: Instant) {
        for (id, entry) in self.entries().filter(|(_, entry)| entry.watched) {
            transport.unwatch_listener(&mut entry.listener, id);
            entry.watched = false;
        }
        self.resume_at = Some(now + BACK_OFF);
    }

    /// Ends the back-off when a socket has ended, because there may be room or a descriptor now.
    #[inline]
    pub(crate) fn retry_now(&mut self, now: Instant) {
        if self.resume_at.is_some() {
            self.resume_at = Some(now);
        }
    }

    /// Returns a listener, if it is watched.
    pub(crate) fn watched(&mut self, id: ListenerId) -> Option<&mut T::Listener> {
        let entry = self.listeners.get_mut(usize::from(id.0))?.as_mut()?;
        entry.watched.then_some(&mut entry.listener)
    }
}
