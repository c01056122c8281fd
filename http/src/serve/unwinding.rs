//! What happens when the program's code panics: while the panic unwinds, the request is answered with a 500 if nothing
//! of its response was written. The engine or the worker that catches the panic then ends the connection.
//!
//! No code of the program runs while a panic unwinds, since a second one would end the process. So the outcome of the
//! request is reported later, when the connection has ended.

use lightcone_core::{Context, Stream};

use crate::connection::{Exchanging, HttpConnection, Later, PackedBody, RequestBody, RequestPhase};
use crate::http::Http;
use crate::message::RequestMessage;
use crate::request::State;
use crate::respond::response::APOLOGY;
use crate::respond::writer::ResponseBody;
use crate::route::{Cause, Report, ReportContext, Routes};
use crate::status::Status;

use super::{Answer, ServeStep, ServeTurn};

/// One run of the request loop. If it is dropped before it has ended, a panic unwinds.
pub(super) struct ServeScope<'a, 's, 'c, 'x, S: State, R: Routes<S>> {
    pub(super) http: &'a mut Http<S, R>,
    pub(super) phase: &'a mut RequestPhase<R::Body>,
    pub(super) stream: &'a mut Stream<'s>,
    pub(super) turn: ServeTurn<'c, 'x, S>,
    pub(super) ended: bool,
}

impl<S: State, R: Routes<S>> ServeScope<'_, '_, '_, '_, S, R> {
    /// Runs the request loop until it has to wait.
    #[inline(always)]
    pub(super) fn run(&mut self, cause: Cause<S::Message>) -> ServeStep {
        let Self { http, phase, stream, turn, .. } = self;
        let (mut input, mut output) = stream.split();
        let queued = output.queued();
        let mut cause = cause;
        let step = loop {
            let step = match phase {
                RequestPhase::Head { .. } => http.heads(phase, &mut input, &mut output, turn),
                RequestPhase::Exchanging(_) if turn.begins => {
                    http.begin(phase, &mut input, &mut output, turn)
                }
                RequestPhase::Exchanging(_) => {
                    // The event is for the request that was in progress when it came, not for one that follows.
                    let cause = core::mem::replace(&mut cause, Cause::Progress);
                    http.busy(phase, &mut input, &mut output, turn, cause)
                }
            };
            if step != ServeStep::Again {
                break step;
            }
        };
        http.count(&turn.tally, output.queued().wrapping_sub(queued));
        step
    }

    /// Responds with a 500 if nothing of the response was written, and counts what was done before the panic.
    #[cold]
    #[inline(never)]
    fn unwind(&mut self) {
        let Self { http, phase, stream, turn, .. } = self;
        let (input, mut output) = stream.split();
        let open = match &**phase {
            RequestPhase::Head { .. } => output.queued() == turn.queued,
            RequestPhase::Exchanging(busy) if busy.outgoing == PackedBody::Deferred => {
                output.queued() == turn.queued
            }
            RequestPhase::Exchanging(busy) => busy.outgoing.is_held() && output.is_holding(),
        };
        let before = output.queued();
        let mut length = None;
        if open {
            output.discard();
            let status = Status::INTERNAL_SERVER_ERROR;
            length = http.parts.refuse(turn.mode, &mut output, status, None).length;
        }
        let outgoing = if length.is_some() { PackedBody::Complete } else { PackedBody::Failed };
        turn.tally.bytes_in += input.bytes().len();
        http.count(&turn.tally, output.queued().saturating_sub(before));
        match &mut **phase {
            RequestPhase::Exchanging(busy) if busy.exchange.is_none() => {
                **phase = HttpConnection::default().0; // a log has panicked, which has the outcome already
            }
            RequestPhase::Exchanging(busy) if length.is_some() || !busy.outgoing.is_open() => {
                busy.outgoing = outgoing;
            }
            RequestPhase::Exchanging(_) => {}
            RequestPhase::Head { flags, number, .. } => {
                let (incoming, flags, later, number) = (RequestBody::Ended, *flags, Later::NONE, *number);
                let exchange = None;
                **phase = RequestPhase::Exchanging(Exchanging {
                    incoming,
                    outgoing,
                    exchange,
                    flags,
                    later,
                    number,
                });
            }
        }
        if length.is_some() {
            stream.linger();
        }
    }
}

impl<S: State, R: Routes<S>> Drop for ServeScope<'_, '_, '_, '_, S, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.ended {
            self.unwind();
        }
    }
}

/// What is left of a response while its exchange runs. It is kept in the connection also if the exchange panics.
pub(super) struct OutgoingScope<'a> {
    kept: &'a mut PackedBody,
    pub(super) outgoing: ResponseBody,
    pub(super) held: bool,
}

impl<'a> OutgoingScope<'a> {
    pub(super) fn new(kept: &'a mut PackedBody) -> Self {
        Self { outgoing: ResponseBody::from(*kept), held: kept.is_held(), kept }
    }
}

impl Drop for OutgoingScope<'_> {
    fn drop(&mut self) {
        *self.kept = PackedBody::new(self.outgoing, self.held);
    }
}

impl<S: State, R: Routes<S>> Http<S, R> {
    /// Reports the request whose handler or exchange has panicked, when its connection has ended.
    #[cold]
    pub(super) fn report_panic(
        &mut self,
        busy: &mut Exchanging<R::Body>,
        stream: &Stream<'_>,
        cx: &mut Context<'_, RequestMessage<S::Message>>,
    ) {
        let mut turn = ServeTurn::new(stream, cx);
        let complete = busy.outgoing == PackedBody::Complete;
        let news = if complete || busy.outgoing.is_open() || busy.exchange.is_none() {
            Report::Both
        } else {
            Report::Ended
        };
        let length = complete.then_some(APOLOGY.len() as u64);
        let answer = Answer { status: Status::INTERNAL_SERVER_ERROR, length, complete, ..Answer::ABORTED };
        let mut exchange = busy.exchange.take();
        let known = exchange.is_some();
        self.report(exchange.as_mut(), news, answer, &mut turn);
        if R::WATCHED && !known {
            // The head is not there any more.
            let outcome = &mut turn.outcome(answer, None, b"");
            let scene = &mut ReportContext { state: &mut self.parts.state, now: turn.connected.now };
            self.routes.report(None, Report::Both, outcome, scene);
        }
        self.count(&turn.tally, 0);
    }
}
