//! The state of one run of the request loop.

use lightcone_core::{Context, Instant, Output, Stream};

use crate::connection::{ConnectionFlags, RequestBody};
use crate::message::{Outlet, RequestMessage};
use crate::method::Method;
use crate::middleware::Outcome;
use crate::mode::ResponseMode;
use crate::request::{ConnectionInfo, State};
use crate::respond::writer::Fault;
use crate::stats::StatsDelta;
use crate::status::Status;
use crate::transfer::{ROOM_MIN, room_for_answer};

/// Why no head was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// It is incomplete.
    Wait,
    /// An empty line precedes it.
    Blank,
    /// It is refused with this status.
    Refuse(Status),
}

/// The facts of a request head that are needed after its handler has returned.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestFacts {
    pub(super) incoming: RequestBody,
    pub(super) mode: ResponseMode,
}

/// A response as it is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) length: Option<u64>,
    pub(super) complete: bool,
    pub(super) fault: Option<Fault>,
}

impl Answer {
    /// No response, or an incomplete one.
    pub(super) const ABORTED: Self =
        Self { status: Status::CLIENT_CLOSED_REQUEST, length: None, complete: false, fault: None };
}

/// The state of one run of the request loop: the connection's properties, and what is counted and noted on the way.
#[derive(Debug)]
pub(super) struct ServeTurn<'c, 'x, S: State> {
    pub(super) connected: ConnectionInfo,
    /// A reference, because a copy of what it refers to would be read before the stores that made it are complete.
    pub(super) cx: &'c mut Context<'x, RequestMessage<S::Message>>,
    pub(super) peer_closed: bool,
    /// While fewer bytes than this are queued, there is room for any response.
    pub(super) enough: usize,
    /// When the exchange is to be called again.
    pub(super) wake: Option<Instant>,
    /// Whether a body has reached its next step or its end, which renews its time limit.
    pub(super) renews: bool,
    /// Whether a request that is not answered at once has just begun.
    pub(super) begins: bool,
    /// How many bytes were queued when the code of the current request began to run.
    pub(super) queued: usize,
    /// The mode of that request.
    pub(super) mode: ResponseMode,
    pub(super) tally: StatsDelta,
}

impl<'c, 'x, S: State> ServeTurn<'c, 'x, S> {
    #[inline(always)]
    pub(super) fn new(stream: &Stream<'_>, cx: &'c mut Context<'x, RequestMessage<S::Message>>) -> Self {
        Self {
            cx,
            connected: ConnectionInfo {
                token: stream.token(),
                peer: stream.packed_peer(),
                now: stream.now(),
                stopping: stream.is_stopping(),
                capacity: stream.capacity(),
            },
            peer_closed: stream.peer_closed(),
            enough: 0,
            wake: None,
            renews: false,
            begins: false,
            queued: 0,
            mode: ResponseMode::PLAIN,
            tally: StatsDelta::default(),
        }
    }

    /// Notes that the exchange has subscribed to a topic, and ends its subscriptions if it is over.
    pub(super) fn keep_subscriptions(&mut self, flags: &mut ConnectionFlags, subscribes: bool, over: bool) {
        if !subscribes && !flags.has(ConnectionFlags::SUBSCRIBED) {
            return;
        }
        flags.set(ConnectionFlags::SUBSCRIBED, !over);
        if over {
            Outlet::<S>::new(self.cx.outbox()).unsubscribe_all(self.connected.token);
        }
    }

    pub(super) fn outcome<'o>(
        &self,
        answer: Answer,
        method: Option<Method>,
        target: &'o [u8],
    ) -> Outcome<'o> {
        let Answer { status, length, complete, fault } = answer;
        let ConnectionInfo { token, peer, .. } = self.connected;
        Outcome {
            method,
            target,
            status,
            length,
            duration: None,
            complete,
            fault,
            peer: peer.unpack(),
            token,
        }
    }

    /// Returns whether there is [room for a response](room_for_answer).
    #[inline(always)]
    pub(super) fn has_room(&mut self, output: &mut Output<'_>) -> bool {
        let queued = output.queued();
        if queued == 0 && output.free_block() >= ROOM_MIN {
            self.enough = 1; // the next request of a pipeline needs the exact check
            return true;
        }
        let Some(room) = room_for_answer(output) else { return false };
        // Blocks are not always filled to their ends, so the room shrinks faster than the queue grows: check again when
        // a quarter of the difference is used up.
        self.enough = queued + (room - output.occupied()) / 4;
        true
    }
}
