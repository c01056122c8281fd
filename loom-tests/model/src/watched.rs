//! A handler that records its callbacks, and has user data that loom watches.

use std::sync::Arc;

use lightcone_core::{Address, Context, Event, Handler, Origin, PollerEvent, PollerId, Socket};

use crate::check::Racy;
use crate::trace::{What, note};
use crate::world::World;

pub(crate) struct Watched<H> {
    inner: H,
    poller: PollerId,
    world: Arc<World>,
}

/// User data with a cell that each callback touches: loom reports two callbacks at once or unordered ones.
pub(crate) struct Data<D> {
    inner: D,
    touched: Racy,
}

impl<H> Watched<H> {
    pub(crate) fn new(inner: H, poller: PollerId, world: Arc<World>) -> Self {
        Self { inner, poller, world }
    }
}

impl<H: Handler> Handler for Watched<H> {
    type Data = Data<H::Data>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        note(Some(self.poller), What::Admit(self.world.peer_at(peer)));
        let inner = self.inner.admit(origin, peer)?;
        let data = Data { inner, touched: Racy::new() };
        data.touched.touch();
        Some(data)
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let bytes = matches!(event, Event::Receive).then(|| socket.bytes().to_vec());
        note(Some(self.poller), What::Callback(socket.token(), event.name(), bytes));
        socket.data.touched.touch();
        self.inner.event(&mut socket.project(|data| &mut data.inner), event, cx);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Self::Message>) {
        self.inner.poller_event(event, cx);
    }
}
