//! Writes a response that was deferred, and decides when there is room for one.

use lightcone_core::{Full, Output};

use super::{ServerContext, Transfer};
use crate::connection::RequestBody;
use crate::exchange::{Done, Flow};
use crate::middleware::Hook;
use crate::request::State;
use crate::respond::response::{Reply, Response, fail, reply_with};
use crate::respond::writer::{BodyLength, ResponseBody, ResponseWriter};
use crate::status::Status;

/// The minimum room in the output, in bytes, with which a request is started.
pub(crate) const ROOM_MIN: usize = 256;

/// Returns the room in the output if at least as much is free as is occupied: then a response of half of the limit
/// fits. Otherwise requests `writable`.
#[inline(always)]
pub(crate) fn room_for_answer(output: &mut Output<'_>) -> Option<usize> {
    let room = output.room();
    // not what is queued: a head that was held back has a block of its own, however short it is
    let least = output.occupied().max(ROOM_MIN);
    if room < least {
        output.request_writable_for(least);
        return None;
    }
    Some(room)
}

/// Returns whether the head of a response can be held back if it has to be: as long as the body of the request may turn
/// out to be malformed. Otherwise requests `writable`: the request waits for earlier responses to leave.
#[inline(always)]
pub(crate) fn can_hold(incoming: RequestBody, output: &mut Output<'_>) -> bool {
    incoming.has_ended() || output.queued() == 0 || has_room_to_hold(output)
}

/// Returns whether a response of half of the limit can be held back, which needs blocks of its own.
#[cold]
fn has_room_to_hold(output: &mut Output<'_>) -> bool {
    let before = output.mark();
    let _ = output.seal();
    let fits = output.room() >= output.occupied().max(ROOM_MIN);
    output.rewind(before);
    if !fits {
        // more than there is room for, so that `writable` does not come before something has left
        output.request_writable_for(output.limit());
    }
    fits
}

impl<S: State> Transfer<'_, S> {
    /// Returns whether there is room now for a [deferred](Response::defer) response of half the socket's output limit.
    /// If not, the exchange is called again when there is. [`Exchange::advance`](crate::Exchange::advance) is called
    /// only when there is room; a [message](crate::Exchange::message) is delivered regardless.
    pub fn is_ready(&mut self) -> bool {
        *self.link.outgoing == ResponseBody::Deferred
            && room_for_answer(&mut self.output).is_some()
            && can_hold(*self.link.incoming, &mut self.output)
    }

    /// Sends the response that was [deferred](Response::defer). Returns [`Flow::Done`], which the exchange should
    /// return. If there is no room for the response, it is replaced by a 500; if there is no room for that either,
    /// the connection ends. See [`is_ready`](Self::is_ready).
    ///
    /// # Panics
    /// If there is a response already, or if the response is an [upgrade](Response::upgrade).
    pub fn respond(&mut self, answer: impl FnOnce(&mut S, Response<'_>) -> Reply<Done>) -> Flow {
        self.respond_with(answer);
        self.flush();
        *self.link.outgoing = ResponseBody::Complete; // `Done` writes no body
        Flow::Done
    }

    /// Sends the response that was [deferred](Response::defer), which may be a [stream](Response::stream). Returns the
    /// exchange that writes its body, which the calling exchange has to drive from now on, or `None` if there is none.
    ///
    /// # Panics
    /// If there is a response already, or if the response is an [upgrade](Response::upgrade).
    pub fn respond_with<B>(&mut self, answer: impl FnOnce(&mut S, Response<'_>) -> Reply<B>) -> Option<B> {
        assert!(*self.link.outgoing == ResponseBody::Deferred, "there is a response already");
        let ServerContext { ref mut scratch, hooks, .. } = self.tools;
        scratch.extra.clear();
        // For `Response::stream`. Reset below, as the connections of a poller share it.
        scratch.holds = !self.link.incoming.has_ended();
        let (output, mode) = (&mut self.output, *self.link.mode);
        let writer = ResponseWriter { output, scratch, hooks, mode, status: Status::OK };
        let reply = answer(self.state, Response { writer });
        // the rest of the input has been parsed as HTTP by now
        assert!(reply.outgoing() != ResponseBody::Upgraded, "a deferred response cannot upgrade");
        self.tools.scratch.holds = false;
        self.note(&reply);
        reply.unusual.and_then(|unusual| unusual.exchange)
    }

    /// Begins the response that was [deferred](Response::defer), with the status and fields that `head` sets and a
    /// body that is [written](Self::write) piece by piece: for bodies that may be larger than half of the output's
    /// limit. Without a length the body is chunked. The head is [held back](Response::stream) while the request's
    /// body is being read.
    ///
    /// Returns [`Flow::Done`], which the exchange should return, if no body is to be written: for `HEAD`, for a status
    /// that has no body, or after a head that cannot be sent was replaced by a 500.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Counts the bytes of the body, then responds with the same number of bytes.
    /// struct Mirror { bytes: u64, answers: bool }
    ///
    /// impl<S: State> Exchange<S> for Mirror {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while !io.body().is_empty() {
    ///             self.bytes += io.body().len() as u64;
    ///             io.consume(io.body().len());
    ///         }
    ///         if !io.is_ended() {
    ///             return Flow::More;
    ///         }
    ///         if !self.answers {
    ///             self.answers = true;
    ///             if io.stream(Some(self.bytes), |_, response| response.status(201)) == Flow::Done {
    ///                 return Flow::Done;
    ///             }
    ///         }
    ///         while self.bytes > 0 {
    ///             match io.fill(|piece| { piece.fill(b'x'); piece.len() }) {
    ///                 0 => return Flow::More,
    ///                 n => self.bytes -= n as u64,
    ///             }
    ///         }
    ///         Flow::Done
    ///     }
    /// }
    ///
    /// let server = Http::new()
    ///     .post("/mirror", |_request, response| response.defer(Mirror { bytes: 0, answers: false }));
    /// # drop(server);
    /// ```
    ///
    /// # Panics
    /// If there is a response already.
    pub fn stream(
        &mut self,
        length: Option<u64>,
        head: impl for<'r> FnOnce(&mut S, Response<'r>) -> Response<'r>,
    ) -> Flow {
        assert!(*self.link.outgoing == ResponseBody::Deferred, "there is a response already");
        let ServerContext { ref mut scratch, hooks, .. } = self.tools;
        scratch.extra.clear();
        let (output, mode) = (&mut self.output, *self.link.mode);
        let writer = ResponseWriter { output, scratch, hooks, mode, status: Status::OK };
        let Response { mut writer } = head(self.state, Response { writer });
        let hold = !self.link.incoming.has_ended();
        let reply: Reply<Done> =
            match writer.start(length.map_or(BodyLength::Unknown, BodyLength::Length), hold) {
                Ok(outgoing) => reply_with(&writer, length, outgoing, None),
                Err(Full) => fail(&mut writer),
            };
        self.note(&reply);
        if *self.link.outgoing == ResponseBody::Complete { Flow::Done } else { Flow::More }
    }

    /// Notes what was sent or begun.
    fn note<B>(&mut self, reply: &Reply<B>) {
        if reply.closes() {
            self.link.mode.close();
        }
        if reply.has_failed() {
            self.link.found.replaced = Some(self.tools.scratch.fault);
        }
        let unanswerable = reply.outgoing() == ResponseBody::Failed;
        self.link.found.unanswerable |= unanswerable;
        *self.link.outgoing = if unanswerable { ResponseBody::Complete } else { reply.outgoing() };
        // The status of a head that is held back is not final: it is reported when the head leaves.
        *self.link.held = self.output.is_holding();
        if !*self.link.held {
            self.link.found.answered = Some((reply.status(), reply.length));
            self.link.found.begun = *self.link.outgoing != ResponseBody::Complete;
        }
    }

    /// Responds with a 500 in place of an exchange that is over and has not responded.
    #[cold]
    pub(crate) fn apologise(&mut self, hooks: Option<&Hook<'_>>) {
        let _ = match hooks {
            Some(hook) => {
                self.within(hook).respond(|_, response| response.refuse(Status::INTERNAL_SERVER_ERROR))
            }
            None => self.respond(|_, response| response.refuse(Status::INTERNAL_SERVER_ERROR)),
        };
    }
}
