//! The request loop: turns the events of a socket into calls of route handlers and exchanges.

mod state;
mod turn;
mod unwinding;

use core::time::Duration;

use lightcone_core::{Address, CloseReason, Context, Handler, Input, Origin, Output, Socket, Stream};

use self::turn::{Answer, RequestFacts, ServeTurn, Stop};
use self::unwinding::{OutgoingScope, ServeScope};
use crate::connection::{
    ConnectionFlags, Exchanging, HttpConnection, Later, PackedBody, RequestBody, RequestPhase, Timer,
};
use crate::exchange::Flow;
use crate::http::{Http, ServerState};
use crate::message::{Outlet, RequestId, RequestMessage};
use crate::method::Method;
use crate::mode::ResponseMode;
use crate::parse::chunked::Count;
use crate::parse::head::Head;
use crate::parse::scan::{self, Plain, Progress, Start};
use crate::path::Prefix;
use crate::request::State;
use crate::respond::response::{Reply, Unusual};
use crate::respond::writer::ResponseBody;
use crate::route::{Call, Cause, Lookup, Report, ReportContext, RouteMatch, Routes, find, search};
use crate::stats::StatsDelta;
use crate::status::Status;
use crate::transfer::{ConnectionContext, ROOM_MIN, ServerContext, Transfer, TransferState, can_hold};

/// The smallest output limit that a socket may have: `writable` comes when half of it is free.
const OUTPUT_MIN: usize = 2 * ROOM_MIN;

/// The longest time limit of a body that is gathered.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The next step of the request loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServeStep {
    /// Handle the next input.
    Again,
    /// Wait for input, or for what an exchange waits for.
    Wait,
    /// Wait for room in the output. There may be input that is not handled yet.
    Room,
    /// Close the connection after the queued output.
    Close,
    /// Close the connection in stages, for a peer that may still be sending.
    Linger,
    /// Reset the connection.
    Abort,
}

impl<S: State, R: Routes<S>> Handler for Http<S, R> {
    type Data = HttpConnection<R::Body>;
    type Message = RequestMessage<S::Message>;

    /// `sent` is not needed: responses continue on `writable`.
    fn wants_sent(&self) -> bool {
        false
    }

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Self::Data> {
        Some(HttpConnection::default())
    }

    /// # Panics
    /// If the output limit of the socket is so small that requests would wait for room forever. The check is here so
    /// that this shows with the first connection, not with the first slow peer.
    fn open(&mut self, socket: &mut Socket<'_, Self::Data>, _: &mut Context<'_, Self::Message>) {
        let (_, output) = socket.stream.split();
        let limit = output.limit(); // 0 if the peer has disconnected already
        assert!(
            limit == 0 || limit >= OUTPUT_MIN,
            "a socket may queue {limit} bytes of output, and an HTTP server needs {OUTPUT_MIN}"
        );
    }

    #[inline(never)]
    fn receive(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        if socket.stream.is_stopping() && socket.data.0.flags().set_shutdown() {
            return self.go_on_in_shutdown(socket, cx);
        }
        self.serve(socket, cx, Cause::Progress);
    }

    fn writable(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        self.receive(socket, cx);
    }

    /// Serves the requests that have arrived, then closes.
    fn peer_closed(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        // First, so that an exchange sees all input before it sees the end of the stream.
        self.receive(socket, cx);
        if matches!(socket.data.0, RequestPhase::Exchanging(Exchanging { exchange: Some(_), .. }))
            && !socket.stream.is_closing()
        {
            self.serve(socket, cx, Cause::PeerClosed);
        }
    }

    fn timeout(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let Socket { stream, data } = socket;
        let mut wakes = false;
        let status = match &mut data.0 {
            // A request that waits for room in the output may have a complete head: it is not late.
            RequestPhase::Head { flags, .. } => {
                let late = flags.timer() == Timer::Own && !stream.is_writable_pending();
                flags.retire_timer();
                late.then_some(Status::REQUEST_TIMEOUT)
            }
            RequestPhase::Exchanging(busy) => match busy.flags.timer() {
                Timer::Limit if busy.incoming.has_ended() => Some(Status::SERVICE_UNAVAILABLE),
                // The body is late because the peer does not send, and not because received bytes are not consumed.
                Timer::Limit
                    if (stream.bytes().is_empty() || busy.waits_with_input())
                        && !stream.is_writable_pending() =>
                {
                    Some(Status::REQUEST_TIMEOUT)
                }
                // The wake-up of an exchange, or a limit that starts over: the later of the two times becomes the
                // deadline, and the exchange is called below.
                timer @ (Timer::None | Timer::Own | Timer::Limit | Timer::Stale) => {
                    let mut times = busy.times(None, stream.now());
                    if timer == Timer::Limit {
                        times.limit = None; // the delay was not the peer's: the full time is granted again
                    }
                    let deadline = busy.set_times(times, stream.now());
                    stream.set_deadline(deadline);
                    wakes = timer == Timer::Own && busy.outgoing == PackedBody::Upgraded;
                    None
                }
            },
        };
        match status {
            Some(status) => self.refuse_now(socket, cx, status),
            None if wakes => self.serve(socket, cx, Cause::Wake),
            None => self.receive(socket, cx),
        }
    }

    /// Closes the connection if no request has begun and none is likely to be on its way. Otherwise it ends with the
    /// response.
    fn shutdown(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let is_news = socket.data.0.flags().set_shutdown();
        let Socket { stream, data } = socket;
        if let RequestPhase::Head { progress, flags, .. } = &mut data.0
            && !progress.begun()
            && stream.bytes().is_empty()
        {
            let moment = self.parts.limits.newcomer_time;
            if moment.is_zero() || !stream.is_silent() && stream.quiet_for() >= moment {
                stream.linger();
            } else {
                // Not `Own`, since no head is late when this passes: `receive` then finds no input and lingers.
                flags.set_timer(Timer::Stale);
                let end = stream.now() + moment;
                stream.set_deadline(Some(end));
            }
        } else if is_news {
            self.go_on_in_shutdown(socket, cx);
        } else {
            self.receive(socket, cx);
        }
    }

    fn message(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        message: Self::Message,
        cx: &mut Context<'_, Self::Message>,
    ) {
        if let RequestPhase::Exchanging(Exchanging { exchange: Some(_), number, .. }) = &socket.data.0
            && let Some(message) = message.open(RequestId::new(socket.stream.token(), *number))
        {
            self.serve(socket, cx, Cause::Message(message));
        }
    }

    /// Reports a request that is still in progress as aborted: its response cannot be completed any more.
    fn close(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        reason: CloseReason,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let phase = &mut socket.data.0;
        if let RequestPhase::Exchanging(Exchanging {
            outgoing: PackedBody::Upgraded,
            exchange: Some(_),
            ..
        }) = phase
        {
            let mut turn = ServeTurn::new(&socket.stream, cx);
            let (mut input, mut output) = socket.stream.split();
            self.busy(phase, &mut input, &mut output, &mut turn, Cause::Disconnected);
            self.count(&turn.tally, 0);
        }
        let RequestPhase::Exchanging(busy) = phase else { return };
        if reason == CloseReason::HandlerPanic {
            return self.report_panic(busy, &socket.stream, cx);
        }
        if let Some(mut exchange) = busy.exchange.take() {
            let news = if busy.outgoing.is_open() { Report::Both } else { Report::Ended };
            let mut turn = ServeTurn::new(&socket.stream, cx);
            self.report(Some(&mut exchange), news, Answer::ABORTED, &mut turn);
            self.count(&turn.tally, 0);
            if busy.outgoing == PackedBody::UntilClose {
                socket.stream.abort(); // otherwise the response would look complete
            }
        }
    }
}

impl<S: State, R: Routes<S>> Http<S, R> {
    /// Serves a connection for the first time since the shutdown began, and notifies its exchange.
    #[cold]
    #[inline(never)]
    fn go_on_in_shutdown(
        &mut self,
        socket: &mut Socket<'_, HttpConnection<R::Body>>,
        cx: &mut Context<'_, RequestMessage<S::Message>>,
    ) {
        let in_progress = matches!(socket.data.0, RequestPhase::Exchanging(_));
        self.serve(socket, cx, if in_progress { Cause::Shutdown } else { Cause::Progress });
    }

    /// Runs the request loop until it has to wait, then sets the deadline or ends the connection.
    #[inline(always)]
    fn serve(
        &mut self,
        socket: &mut Socket<'_, HttpConnection<R::Body>>,
        cx: &mut Context<'_, RequestMessage<S::Message>>,
        cause: Cause<S::Message>,
    ) {
        self.parts.scratch.template.refresh(cx.unix_time());
        let Socket { stream, data } = socket;
        let phase = &mut data.0;
        let turn = ServeTurn::new(stream, cx);
        let mut scope = ServeScope { http: self, phase, stream, turn, ended: false };
        let step = scope.run(cause);
        scope.ended = true;
        let ServeScope { phase, stream, .. } = &mut scope;
        if (step != ServeStep::Wait || stream.peer_closed()) && rests(step, phase, stream) {
            return;
        }
        // The common case is inline: between requests there is no deadline, and none was set.
        if let RequestPhase::Head { progress, flags, .. } = phase
            && !progress.pending()
            && flags.timer() == Timer::None
        {
            return;
        }
        scope.http.parts.update_deadline(scope.phase, scope.stream, &scope.turn);
    }

    /// Serves the complete requests at the front of the input, up to the first that is not answered at once.
    #[expect(
        clippy::excessive_nesting,
        reason = "rare cases are not moved out of line, so that `rest` stays in registers"
    )]
    #[inline(always)]
    fn heads(
        &mut self,
        phase: &mut RequestPhase<R::Body>,
        input: &mut Input<'_>,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
    ) -> ServeStep {
        let bytes = input.bytes();
        let mut rest = bytes;
        let step = loop {
            let RequestPhase::Head { progress, flags, .. } = phase else { break ServeStep::Again };
            if rest.is_empty() {
                // During a shutdown, a request may already be on its way: a plain close could become a reset, and the
                // peer would lose the last response (RFC 9112, 9.6).
                break if flags.shutdown() { ServeStep::Linger } else { ServeStep::Wait };
            }
            // A request is not started before its response has room. `enough` spares most requests the exact check.
            turn.queued = output.queued();
            if turn.queued >= turn.enough && !turn.has_room(output) {
                break ServeStep::Room;
            }
            if turn.tally.requests >= self.parts.limits.pipelined.into() {
                output.request_writable(); // `writable` comes after other connections have had their turn
                break ServeStep::Room;
            }
            let ServerState { limits, last_host, .. } = &self.parts;
            // A head with progress is left to `parse_slow`, which resets the progress and retires the head's deadline.
            let plain =
                if progress.pending() { Err(Start::default()) } else { scan::plain(rest, limits, last_host) };
            let (head, after, mut mode, found, incoming);
            match plain {
                Ok(Plain { path, target_end, bytes, after: others }) => {
                    (head, after) = (Head::plain(path, target_end, bytes), others);
                    (mode, incoming) = (ResponseMode::PLAIN, RequestBody::Ended);
                    let exact = self.routes.find_exact(&Lookup::new(Method::Get, path));
                    found = if exact.is_miss() { search(&self.routes, Method::Get, path) } else { exact };
                }
                Err(start) => {
                    head = match self.parts.parse_slow(start, progress, flags, rest, turn.connected.capacity)
                    {
                        Ok(found) => found,
                        Err(Stop::Blank) => {
                            rest = rest.get(2..).unwrap_or(&[]);
                            continue;
                        }
                        Err(Stop::Wait) => break ServeStep::Wait,
                        Err(Stop::Refuse(status)) => break self.refuse(rest, output, turn, status),
                    };
                    after = rest.get(head.size()..).unwrap_or(&[]);
                    // Before the route, so that no handler runs for a request whose body is refused.
                    incoming = match self.parts.incoming(head.framing.body) {
                        Ok(incoming) => incoming,
                        Err(status) => break self.refuse_body(&head, output, turn, status),
                    };
                    if !can_hold(incoming, output) {
                        break ServeStep::Room; // parsed again then
                    }
                    self.parts.scratch.holds = incoming != RequestBody::Ended;
                    mode = head.framing.mode;
                    found = find(&self.routes, &head);
                }
            }
            if flags.shutdown() && after.is_empty() {
                mode = closing(mode); // the last request that has arrived: its response announces the close
            }
            rest = after;
            turn.tally.requests += 1;
            let reply = self.answer(&head, found, mode, output, turn);
            if reply.is_usual() && incoming == RequestBody::Ended {
                continue; // the common case: the response is written, and there is nothing to keep
            }
            self.begin_exchange(phase, reply, RequestFacts { incoming, mode }, output, turn);
        };
        let used = bytes.len() - rest.len();
        turn.tally.bytes_in += used;
        input.consume(used);
        step
    }

    /// Calls what was found for a request: the handler of its route, or what takes its place.
    #[inline(always)]
    fn answer(
        &mut self,
        head: &Head<'_>,
        found: RouteMatch,
        mode: ResponseMode,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
    ) -> Reply<R::Body> {
        turn.mode = mode;
        let ServerState { state, scratch, .. } = &mut self.parts;
        scratch.extra.clear();
        let (connected, outlet) = (&turn.connected, Outlet::new(turn.cx.outbox()));
        let call = Call { head, connected, state, outlet, output, scratch, hooks: None, mode };
        self.routes.call(found, call)
    }

    /// Completes the start of a request that is not the common case: counts it, replaces a response that failed, and
    /// enters [`RequestPhase::Exchanging`] unless the request is over.
    #[inline(never)]
    fn begin_exchange(
        &mut self,
        phase: &mut RequestPhase<R::Body>,
        reply: Reply<R::Body>,
        asked: RequestFacts,
        output: &Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
    ) {
        let RequestFacts { incoming, mut mode } = asked;
        let Unusual { exchange, status, outgoing, failed, closes } = reply.unusual.unwrap_or(Unusual::NONE);
        if status.code() >= 400 {
            // A head that is held back may still be replaced: its status is counted when it leaves.
            turn.tally.failures += usize::from(!output.is_holding());
            if failed {
                self.parts.note_fault(self.parts.scratch.fault);
            }
        }
        if outgoing == ResponseBody::Complete && incoming == RequestBody::Ended && !closes {
            return;
        }
        turn.begins = true;
        // A head that was held back has a block of its own, however short it is: the next request needs the exact
        // check.
        turn.enough = 0;
        if closes {
            mode.close();
        }
        let keeps_trailers = self.parts.scratch.extra.keeps_trailers;
        let mut flags = *phase.flags();
        flags.set_mode(mode.with(ResponseMode::EXPECT_CONTINUE, false));
        flags.set(ConnectionFlags::GATHERS, keeps_trailers && matches!(incoming, RequestBody::Chunked(_)));
        self.parts.scratch.holds = false;
        let number = phase.number().wrapping_add(1);
        let incoming = if outgoing == ResponseBody::Upgraded { RequestBody::Upgraded } else { incoming };
        let (later, outgoing) = (Later::NONE, PackedBody::new(outgoing, output.is_holding()));
        *phase = RequestPhase::Exchanging(Exchanging { incoming, outgoing, exchange, flags, later, number });
    }

    /// Starts a request that is not answered at once. Its exchange also receives the events that came before it began
    /// and are not repeated: a shutdown, and the end of the peer's stream.
    #[inline(never)]
    fn begin(
        &mut self,
        phase: &mut RequestPhase<R::Body>,
        input: &mut Input<'_>,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
    ) -> ServeStep {
        turn.begins = false;
        let missed = [
            phase.flags().shutdown().then_some(Cause::Shutdown),
            turn.peer_closed.then_some(Cause::PeerClosed),
        ];
        let mut step = self.busy(phase, input, output, turn, Cause::Progress);
        for cause in missed.into_iter().flatten() {
            let goes_on = matches!(phase, RequestPhase::Exchanging(Exchanging { exchange: Some(_), .. }));
            if goes_on && matches!(step, ServeStep::Wait | ServeStep::Room) {
                step = self.busy(phase, input, output, turn, cause);
            }
        }
        step
    }

    /// Continues a request whose head was read: calls its exchange, drops what is left of its body when the exchange is
    /// done, and reports the outcome.
    #[inline(never)]
    fn busy(
        &mut self,
        phase: &mut RequestPhase<R::Body>,
        input: &mut Input<'_>,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
        cause: Cause<S::Message>,
    ) -> ServeStep {
        let RequestPhase::Exchanging(busy) = phase else { unreachable!("no request is in progress") };
        // A deferred response is not attempted without room for it. Only `Progress` can be put off: other causes occur
        // once and would be lost.
        let waits = busy.outgoing == PackedBody::Deferred && matches!(cause, Cause::Progress);
        if waits && !(turn.has_room(output) && can_hold(busy.incoming, output)) {
            return ServeStep::Room;
        }
        (turn.queued, turn.mode) = (output.queued(), busy.flags.mode());
        let (mut at, mut found, mut mode) = (0, TransferState::default(), busy.flags.mode());
        // During a shutdown the last response announces the close. It is not the last if the body has ended and more
        // input has arrived: the requests in it are still served.
        if busy.flags.shutdown() && busy.is_last(input.bytes()) {
            mode.close();
        }
        let (starved, whole, mut done, flow);
        let (before, step) = (busy.incoming.steps(self.parts.limits.body_step), self.parts.limits.body_step);
        let (ended_before, keeps_trailers) = (busy.incoming.has_ended(), busy.keeps_trailers());
        {
            let ServerState { state, limits, scratch, .. } = &mut self.parts;
            let (bytes, raw) = busy.incoming.views(input.bytes_mut());
            let mut kept = OutgoingScope::new(&mut busy.outgoing);
            let link = ConnectionContext {
                bytes,
                raw,
                at: &mut at,
                incoming: &mut busy.incoming,
                outgoing: &mut kept.outgoing,
                held: &mut kept.held,
                mode: &mut mode,
                found: &mut found,
                number: busy.number,
                keeps_trailers,
            };
            let tools = ServerContext { limits, scratch, connected: &turn.connected, hooks: None };
            let (outlet, output) = (Outlet::new(turn.cx.outbox()), output.reborrow());
            let mut io = Transfer { state, outlet, output, link, tools };
            // Input that arrived since the last call may start with chunk framing: `body` returns data only after it.
            io.decode();
            let advance = |exchange| self.routes.advance(exchange, cause, &mut io);
            flow = busy.exchange.as_mut().map_or(Flow::More, advance);
            // The exchange is out of the connection but not dropped: the reports below go to its route.
            done = busy.exchange.take_if(|_| flow == Flow::Done);
            whole = settle(&self.routes, done.as_ref(), &mut io, busy.exchange.is_none());
            starved = io.is_starved();
        }
        turn.wake = found.wake;
        turn.tally.bytes_in += at;
        input.consume(at);
        busy.flags.keep(mode, found.gathers || keeps_trailers);
        turn.keep_subscriptions(&mut busy.flags, found.subscribed, flow != Flow::More);
        turn.renews = busy.incoming.has_ended() && !ended_before || busy.incoming.steps(step) < before;
        let complete = whole && !found.unanswerable;
        // The status is reported before the end: a log takes the status from the first report.
        if let Some((status, length)) = found.answered {
            let exchange = done.as_mut().or(busy.exchange.as_mut());
            if let Some(fault) = found.replaced {
                self.parts.note_fault(fault);
            }
            let answer = Answer { status, length, complete, fault: found.replaced };
            self.report(exchange, if found.begun { Report::Begun } else { Report::Answered }, answer, turn);
        }
        if let Some(exchange) = &mut done {
            let answer = Answer { complete, fault: found.replaced, ..Answer::ABORTED };
            self.report(Some(exchange), Report::Ended, answer, turn);
        }
        match found.fault {
            _ if flow == Flow::Abort => self.cut(busy, output, turn),
            Some(status) => self.fail_body(busy, mode, output, turn, status),
            None if !complete => self.cut(busy, output, turn),
            None if busy.exchange.is_none() && busy.outgoing == PackedBody::Complete => {
                finished(phase, turn.peer_closed)
            }
            // The body is incomplete, and the peer has ended its stream.
            None if starved && turn.peer_closed => {
                self.fail_body(busy, mode, output, turn, Status::BAD_REQUEST)
            }
            None => ServeStep::Wait,
        }
    }

    /// Handles a body that cannot be read any further: refuses the request, or ends the connection if the response has
    /// begun.
    #[cold]
    #[inline(never)]
    fn fail_body(
        &mut self,
        busy: &mut Exchanging<R::Body>,
        mode: ResponseMode,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
        status: Status,
    ) -> ServeStep {
        turn.tally.refusal = Some(status);
        if !busy.outgoing.is_open() {
            return self.cut(busy, output, turn); // no other status can be sent any more
        }
        turn.keep_subscriptions(&mut busy.flags, false, true);
        // If the head is still held back, the refusal replaces it.
        output.discard();
        let answer = self.write_refusal(busy.exchange.as_ref(), mode, output, status);
        if let Some(mut exchange) = busy.exchange.take() {
            self.report(Some(&mut exchange), Report::Both, answer, turn);
        }
        ServeStep::Linger
    }

    /// Ends the connection and reports the request as aborted, if it is still in progress.
    #[cold]
    #[inline(never)]
    fn cut(
        &mut self,
        busy: &mut Exchanging<R::Body>,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
    ) -> ServeStep {
        turn.keep_subscriptions(&mut busy.flags, false, true);
        // A head that is held back must not leave: without a body, it may be all of a response.
        if busy.outgoing.is_held() {
            output.discard();
        }
        if let Some(mut exchange) = busy.exchange.take() {
            let news = if busy.outgoing.is_open() { Report::Both } else { Report::Ended };
            self.report(Some(&mut exchange), news, Answer::ABORTED, turn);
        }
        // A response looks complete without a reset if the end of the connection delimits it, as may what follows an
        // upgrade, or if all of its length was written before its request turned out to be malformed.
        let looks_whole = [PackedBody::UntilClose, PackedBody::Upgraded, PackedBody::Length(Count::new(0))]
            .contains(&busy.outgoing);
        if looks_whole { ServeStep::Abort } else { ServeStep::Linger }
    }

    /// Refuses a request because of its body, before its handler is called. The middleware around the handler is.
    #[cold]
    #[inline(never)]
    fn refuse_body(
        &mut self,
        head: &Head<'_>,
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
        status: Status,
    ) -> ServeStep {
        turn.tally.refusal = Some(status);
        let found = find(&self.routes, head).refusing(status);
        let mode = closing(head.framing.mode);
        let reply = self.answer(head, found, mode, output, turn);
        // Nothing of the request goes on: middleware that defers the response will not make one.
        if reply.outgoing() == ResponseBody::Deferred {
            self.write_refusal(None, mode, output, status);
        }
        ServeStep::Linger
    }

    /// Writes the refusal of a request, with the fields of the middleware around `exchange` or, without one, around the
    /// whole server.
    #[cold]
    fn write_refusal(
        &mut self,
        exchange: Option<&R::Body>,
        mode: ResponseMode,
        output: &mut Output<'_>,
        status: Status,
    ) -> Answer {
        let Self { routes, parts, .. } = self;
        let mut answer = Answer::ABORTED;
        routes.hooked(exchange, None, &mut |hooks| answer = parts.refuse(mode, output, status, hooks));
        answer
    }

    /// Refuses the input `bytes`, which does not start with an acceptable request.
    #[cold]
    #[inline(never)]
    fn refuse(
        &mut self,
        bytes: &[u8],
        output: &mut Output<'_>,
        turn: &mut ServeTurn<'_, '_, S>,
        status: Status,
    ) -> ServeStep {
        turn.tally.refusal = Some(status);
        let answer = self.write_refusal(None, refusal(bytes), output, status);
        if R::WATCHED {
            // The head may be invalid or incomplete: the log gets what can be recognised of it.
            let word = |bytes: &[u8], most: usize| {
                bytes.iter().take(most).take_while(|byte| byte.is_ascii_graphic()).count()
            };
            let (method, rest) = bytes.split_at(word(bytes, Method::LENGTH_MAX));
            let target = rest.strip_prefix(b" ").unwrap_or(&[]);
            let (target, _) = target.split_at(word(target, self.parts.limits.target));
            let outcome = &mut turn.outcome(answer, Method::from_bytes(method), target);
            let scene = &mut ReportContext { state: &mut self.parts.state, now: turn.connected.now };
            self.routes.report(None, Report::Both, outcome, scene);
        }
        ServeStep::Linger
    }

    /// Counts and reports the outcome of a request that was not answered at once. Every such request ends here.
    #[inline(never)]
    fn report(
        &mut self,
        exchange: Option<&mut R::Body>,
        news: Report,
        answer: Answer,
        turn: &mut ServeTurn<'_, '_, S>,
    ) {
        let status = answer.status;
        if news != Report::Ended && status.code() >= 400 && status != Status::CLIENT_CLOSED_REQUEST {
            turn.tally.failures += 1;
        }
        if let Some(stats) = self.parts.stats
            && news.ends()
            && !answer.complete
        {
            stats.aborted.add(1);
        }
        if !R::WATCHED {
            return;
        }
        let Some(exchange) = exchange else { return };
        let mut pattern = Prefix::EMPTY;
        self.routes.pattern(exchange, &mut pattern);
        let outcome = &mut turn.outcome(answer, None, pattern.as_str().as_bytes());
        let scene = &mut ReportContext { state: &mut self.parts.state, now: turn.connected.now };
        self.routes.report(Some(exchange), news, outcome, scene);
    }

    /// Adds the work of one callback, which wrote `bytes_out` bytes, to the program's counters.
    #[inline(always)]
    fn count(&self, tally: &StatsDelta, bytes_out: usize) {
        if let Some(stats) = self.parts.stats {
            stats.add(tally, bytes_out);
        }
    }

    /// Refuses a request outside of the request loop, after a timeout.
    #[cold]
    fn refuse_now(
        &mut self,
        socket: &mut Socket<'_, HttpConnection<R::Body>>,
        cx: &mut Context<'_, RequestMessage<S::Message>>,
        status: Status,
    ) {
        self.parts.scratch.template.refresh(cx.unix_time());
        let Socket { stream, data } = socket;
        let mut turn = ServeTurn::new(stream, cx);
        let (input, mut output) = stream.split();
        let queued = output.queued();
        let step = match &mut data.0 {
            RequestPhase::Head { .. } => self.refuse(input.bytes(), &mut output, &mut turn, status),
            RequestPhase::Exchanging(busy) => {
                let mode = busy.flags.mode();
                self.fail_body(busy, mode, &mut output, &mut turn, status)
            }
        };
        self.count(&turn.tally, output.queued() - queued);
        ends(step, &data.0, stream);
    }
}

/// [Settles](Transfer::settle) a call of an exchange, which is `done` if it is over. A request that is `over` without a
/// response, also if there was no exchange that could make one, gets a 500.
fn settle<S: State, R: Routes<S>>(
    routes: &R,
    done: Option<&R::Body>,
    io: &mut Transfer<'_, S>,
    over: bool,
) -> bool {
    if over && *io.link.outgoing == ResponseBody::Deferred {
        routes.hooked(done, None, &mut |hooks| io.apologise(hooks));
    }
    io.settle(over)
}

/// Returns the mode of a refusal. A client that has sent `HEAD` would take a body for the next response, so it gets
/// none, regardless of what is wrong with the request.
#[cold]
fn refusal(bytes: &[u8]) -> ResponseMode {
    ResponseMode::default().with(ResponseMode::HEAD_ONLY, bytes.starts_with(b"HEAD "))
}

/// Returns a mode in which the response announces the end of the connection.
#[cold]
fn closing(mut mode: ResponseMode) -> ResponseMode {
    mode.close();
    mode
}

/// Ends the connection if it is over. Returns whether no deadline has to be set: because the connection has ended, or
/// because a request whose head has not been scanned waits for room.
#[inline(never)]
fn rests<B>(step: ServeStep, phase: &mut RequestPhase<B>, stream: &mut Stream<'_>) -> bool {
    if let (ServeStep::Room, RequestPhase::Head { flags, .. }) = (step, &mut *phase)
        && flags.timer() != Timer::Own
    {
        flags.set_timer(Timer::Stale);
        stream.set_active(true); // the wait for room is the server's, so the idle timeout must not run
        return true;
    }
    ends(step, phase, stream)
}

/// Ends the connection if it is over; returns whether it is.
#[cold]
fn ends<B>(step: ServeStep, phase: &RequestPhase<B>, stream: &mut Stream<'_>) -> bool {
    match step {
        ServeStep::Linger => stream.linger(),
        ServeStep::Abort => stream.abort(),
        ServeStep::Close => stream.close(),
        ServeStep::Wait if stream.peer_closed() && matches!(phase, RequestPhase::Head { .. }) => {
            stream.close();
        }
        ServeStep::Wait | ServeStep::Again | ServeStep::Room => return false,
    }
    true
}

/// Returns the next step when a response is complete; returns to [`RequestPhase::Head`] if the next request may begin.
fn finished<B>(phase: &mut RequestPhase<B>, peer_closed: bool) -> ServeStep {
    let RequestPhase::Exchanging(busy) = phase else { unreachable!("no request is in progress") };
    let mut flags = busy.flags;
    let ended = busy.incoming == RequestBody::Ended;
    if !flags.mode().has(ResponseMode::KEEP_ALIVE) {
        // In stages even if the client announced the close: some send an empty line after a body all the same, or the
        // next request, and a plain close would answer that with a reset, which destroys the response (RFC 9112, 9.6).
        return ServeStep::Linger;
    }
    if !ended {
        return if peer_closed { ServeStep::Close } else { ServeStep::Wait };
    }
    flags.retire_timer();
    *phase = RequestPhase::Head { progress: Progress::default(), flags, number: busy.number };
    ServeStep::Again
}
