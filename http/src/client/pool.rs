//! A pool of connections for each origin, as a handler.

use core::fmt;
use core::time::Duration;

use lightcone_core::{
    Address, CloseReason, ConnectError, Context, ErrorKind, Handler, Instant, Origin, Socket, TimerId, Token,
};

use super::connection::{ClientConnection, Outcome};
use super::fetch::{Fetch, FetchCause, FetchError, FetchPhase};
use super::limits::ClientLimits;
use super::request::RequestBody;
use super::response::InvalidResponse;

/// How much earlier than the server a pool closes an idle connection, so that no request crosses the server's close.
const IDLE_MARGIN: Duration = Duration::from_secs(1);
/// The tag of the pool's timer. A handler around a pool must not use it.
const TIMER_TAG: u64 = u64::MAX;
/// How long a pool waits before it tries again what its poller could not do in this turn.
const RETRY: Duration = Duration::from_millis(5);

const OVERLOADED: FetchError = FetchError::new(FetchPhase::Wait, FetchCause::Overloaded);
const UNWANTED: FetchError = FetchError::new(FetchPhase::Wait, FetchCause::Aborted);
const STOPPING: FetchError = FetchError::new(FetchPhase::Wait, FetchCause::Stopping);

/// Limits of a [`Pool`], apart from the numbers of its connections and of the requests that wait, which are parameters
/// of its type.
///
/// ```
/// use core::time::Duration;
/// use lightcone_http::client::PoolLimits;
///
/// let limits = PoolLimits { per_origin: 2, ..PoolLimits::DEFAULT };
/// assert_eq!(limits.idle_time, Duration::from_secs(4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PoolLimits {
    /// The maximum number of connections to one origin. Default: 8.
    pub per_origin: usize,
    /// How long a connection may be idle before the pool closes it. If the server announces how long it waits
    /// (`Keep-Alive: timeout`), a connection is closed a second before that at the latest. Set it to less than the time
    /// for which the servers that do not announce it wait: 5 seconds for common ones. Default: 4 seconds.
    pub idle_time: Duration,
    /// How long a request may wait for a connection. Default: 10 seconds.
    pub wait_time: Duration,
    /// Whether the pool sends a request once more by itself, as the [`Pool`] describes. Otherwise the program decides
    /// when the fetch has failed. Default: `true`.
    pub retry: bool,
    /// The limits of each exchange.
    pub client: ClientLimits,
}

impl PoolLimits {
    /// The default limits.
    pub const DEFAULT: Self = Self {
        per_origin: 8,
        idle_time: Duration::from_secs(4),
        wait_time: Duration::from_secs(10),
        retry: true,
        client: ClientLimits::DEFAULT,
    };
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A message to a socket of a [`Pool`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PoolMessage<M>(Content<M>);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Content<M> {
    /// The pool has a request for the socket.
    Start,
    /// The pool needs the place of an idle connection.
    Leave,
    /// For the fetch with this number.
    Fetch(u32, M),
}

impl<M> PoolMessage<M> {
    /// Creates a message for the fetch that has [begun](Fetch::begun) with this number. It is posted to the socket that
    /// was passed with the number. If it arrives after the fetch has ended, it is dropped.
    pub const fn new(number: u32, message: M) -> Self {
        Self(Content::Fetch(number, message))
    }
}

/// A request that waits.
#[derive(Debug)]
struct Waiter<F> {
    fetch: F,
    origin: Address,
    deadline: Instant,
    /// Whether it was sent before, over a connection that had ended. It gets a new connection, and no second retry.
    retried: bool,
}

/// The state of a connection, or of an attempt to connect.
#[derive(Debug)]
enum Use<F> {
    /// This request is sent when the connection is established.
    Connecting(Waiter<F>),
    /// This request is sent when the socket gets the message; over another connection if the socket ends before.
    Called(Waiter<F>),
    /// A request is in progress. If it has to wait for a connection again, it fails after `deadline`.
    Busy { retried: bool, deadline: Instant },
    /// Free since then.
    Idle(Instant),
    /// The connection ends; because its place is needed, if it was asked to leave.
    Leaving { asked: bool },
}

impl<F> Use<F> {
    /// Returns since when the connection has been free; `None` if it is not.
    const fn idle_since(&self) -> Option<Instant> {
        if let Self::Idle(since) = self { Some(*since) } else { None }
    }
}

/// The place of one connection.
#[derive(Debug)]
struct Place<F> {
    token: Token,
    origin: Address,
    /// Whether the connect has begun: otherwise nothing reports its end if the poller stops.
    admitted: bool,
    /// Whether the connection has served a request before.
    reused: bool,
    usage: Use<F>,
}

/// Counts of what a [`Pool`] has done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct PoolStats {
    /// Connects that were started.
    pub connects: u64,
    /// Requests that were sent over a connection that had served another one.
    pub reuses: u64,
    /// Requests that were sent a second time.
    pub retries: u64,
    /// Requests that waited too long for a connection.
    pub expired: u64,
    /// Requests that failed because too many were waiting.
    pub overloads: u64,
}

/// A handler that sends requests over connections which it opens, keeps and shares: at most `CONNECTIONS` in total and
/// [`PoolLimits::per_origin`] to one origin, with at most `WAITING` requests that wait for one. All of it is in the
/// value of the pool; nothing is allocated.
///
/// [`submit`](Self::submit) passes a request to the pool, from any callback of a handler around it. Requests for one
/// origin are sent in the order in which they were submitted, over the idle connection that was used last, or else over
/// a new one. If all places are taken, the connection that has been idle longest makes room. A request that waits
/// longer than [`PoolLimits::wait_time`] fails, in [`FetchPhase::Wait`]; so does one that is not
/// [wanted](Fetch::is_wanted) any more, before a request is sent in its place.
///
/// A server may close an idle connection at the moment at which a request is sent over it. So a request is sent once
/// more, over a new connection, if all of this holds: its connection has served another request before and has ended,
/// no byte of the response has arrived, the request is
/// [idempotent](super::ClientRequest::is_idempotent), it was not sent twice already, and it has no body or
/// [`Fetch::restart`] agrees. Any other request is sent at most once.
///
/// A request that was accepted can fail as [`Overloaded`](FetchCause::Overloaded) in one case: its connection ends
/// before it could be sent, or it is to be sent once more, and at that moment `WAITING` others wait and the poller has
/// no socket for another connect.
///
/// The pool needs one timer of its poller ([`Config::timers`](lightcone_core::Config::timers)), with the tag
/// `u64::MAX`. Its connects have the tags from 0 to `CONNECTIONS - 1`: a handler around it that connects as well uses
/// others, and keeps their events to itself. It turns away connections that a listener accepts; a handler that wants
/// both forwards to the pool what it does not accept itself.
///
/// When its poller stops, the pool closes its idle connections and fails the requests that wait. A handler that still
/// needs them, as a proxy does for its clients, calls [`drain`](Self::drain) instead, and forwards
/// [`PollerEvent::Stopping`](lightcone_core::PollerEvent) and the `shutdown` of sockets only later.
pub struct Pool<F, const CONNECTIONS: usize, const WAITING: usize> {
    places: [Option<Place<F>>; CONNECTIONS],
    /// The requests that wait, the first in front; no gaps.
    waiting: [Option<Waiter<F>>; WAITING],
    limits: PoolLimits,
    /// The timer and the time for which it is set.
    timer: Option<(TimerId, Instant)>,
    /// Whether no connect begins any more.
    draining: bool,
    stopping: bool,
    stats: PoolStats,
}

impl<F, const CONNECTIONS: usize, const WAITING: usize> fmt::Debug for Pool<F, CONNECTIONS, WAITING> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("connections", &self.places.iter().flatten().count())
            .field("waiting", &self.waiting.iter().flatten().count())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// The state of one socket of a [`Pool`].
pub struct PoolSocket<F> {
    place: usize,
    /// How many requests have begun on it.
    number: u32,
    connection: ClientConnection<F>,
}

impl<F> fmt::Debug for PoolSocket<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSocket").field("place", &self.place).finish_non_exhaustive()
    }
}

type PoolContext<'a, F> = Context<'a, PoolMessage<<F as Fetch>::Message>>;
type PoolView<'a, F> = Socket<'a, PoolSocket<F>>;

impl<F: Fetch, const CONNECTIONS: usize, const WAITING: usize> Pool<F, CONNECTIONS, WAITING> {
    /// Creates a pool without connections.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            places: [const { None }; CONNECTIONS],
            waiting: [const { None }; WAITING],
            limits,
            timer: None,
            draining: false,
            stopping: false,
            stats: PoolStats::default(),
        }
    }

    /// Returns the counts.
    pub const fn stats(&self) -> PoolStats {
        self.stats
    }

    /// Returns the number of connections, including those that are being established.
    pub fn connections(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// Returns the number of connections to one origin, including those that are being established.
    pub fn connections_to(&self, origin: &Address) -> usize {
        self.places.iter().flatten().filter(|place| place.origin == *origin).count()
    }

    /// Returns the number of requests that wait for a connection.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().flatten().count()
    }

    /// Sends a request to an origin, over an idle connection or a new one, as soon as there is one.
    ///
    /// What becomes of it is reported to the fetch. If it cannot even wait, because `WAITING` others do or the poller
    /// stops, it fails at once.
    pub fn submit(&mut self, origin: Address, fetch: F, cx: &mut PoolContext<'_, F>) {
        self.accept(origin, fetch, false, cx);
    }

    /// Sends a request over a new connection, as a retry of the program: the pool does not repeat it.
    pub fn submit_fresh(&mut self, origin: Address, fetch: F, cx: &mut PoolContext<'_, F>) {
        self.accept(origin, fetch, true, cx);
    }

    /// Goes on with the connections that there are, as none can be opened any more: for a handler that keeps
    /// [`PollerEvent::Stopping`](lightcone_core::PollerEvent) from the pool for a while. A request fails as
    /// [`Stopping`](FetchCause::Stopping) if there is no connection to its origin, also one whose connect has not begun.
    pub fn drain(&mut self, cx: &mut PoolContext<'_, F>) {
        self.draining = true;
        for at in 0..CONNECTIONS {
            let unbegun = self.places.get_mut(at).and_then(|place| place.take_if(|place| !place.admitted));
            let Some(Place { usage: Use::Connecting(waiter), .. }) = unbegun else { continue };
            if self.waiting.last().is_some_and(Option::is_none) {
                self.waiting.rotate_right(1);
                self.put(0, waiter);
            } else {
                self.refuse(waiter);
            }
        }
        self.dispatch(cx);
    }

    fn accept(&mut self, origin: Address, fetch: F, retried: bool, cx: &mut PoolContext<'_, F>) {
        if self.stopping {
            return fetch.failed(STOPPING);
        }
        if self.waiting.last().is_some_and(Option::is_some) {
            self.drop_unwanted();
        }
        let waiter = Waiter { fetch, origin, deadline: cx.now() + self.limits.wait_time, retried };
        match self.waiting.iter().position(Option::is_none) {
            Some(free) => self.put(free, waiter),
            None => return self.refuse(waiter),
        }
        self.dispatch(cx);
    }

    fn refuse(&mut self, waiter: Waiter<F>) {
        self.stats.overloads += 1;
        waiter.fetch.failed(OVERLOADED);
    }

    fn put(&mut self, at: usize, waiter: Waiter<F>) {
        if let Some(slot) = self.waiting.get_mut(at) {
            *slot = Some(waiter);
        }
    }

    /// Removes a waiter, and closes the gap.
    fn take(&mut self, at: usize) -> Option<Waiter<F>> {
        let rest = self.waiting.get_mut(at..)?;
        let used = rest.iter().position(Option::is_none).unwrap_or(rest.len());
        let rest = rest.get_mut(..used)?; // those that are free need not move
        let waiter = rest.first_mut()?.take();
        rest.rotate_left(1);
        waiter
    }

    /// Fails the waiters whose responses are not wanted any more.
    fn drop_unwanted(&mut self) {
        let is_unwanted = |waiter: &Waiter<F>| !waiter.fetch.is_wanted();
        while let Some(at) = self.waiting.iter().position(|waiter| waiter.as_ref().is_some_and(is_unwanted)) {
            if let Some(waiter) = self.take(at) {
                waiter.fetch.failed(UNWANTED);
            }
        }
    }

    /// Assigns connections to waiters, in their order. A waiter whose origin has no connection to spare does not keep
    /// those of other origins waiting.
    fn dispatch(&mut self, cx: &mut PoolContext<'_, F>) {
        self.drop_unwanted();
        let (mut at, mut again) = (0, false);
        while let Some(Some(waiter)) = self.waiting.get(at) {
            let (origin, retried) = (waiter.origin, waiter.retried);
            if self.waiting.iter().take(at).flatten().any(|earlier| earlier.origin == origin) {
                at += 1; // after the others of its origin
                continue;
            }
            let given = match self.idle(&origin).filter(|_| !retried || self.draining) {
                Some(place) => self.call(place, at, cx),
                None => self.connect(at, &origin, cx),
            };
            match given {
                Given::Yes => {}
                Given::Later => (at, again) = (at + 1, true),
                Given::No => at += 1,
            }
        }
        self.set_timer(again, cx);
    }

    /// Returns the idle connection of an origin that was used last.
    fn idle(&self, origin: &Address) -> Option<usize> {
        let places = self.places.iter().enumerate();
        let idle = places.filter_map(|(at, place)| {
            let place = place.as_ref().filter(|place| place.origin == *origin)?;
            Some((place.usage.idle_since()?, at))
        });
        idle.max().map(|(_, at)| at)
    }

    /// Reserves an idle connection for a waiter, and lets its socket begin.
    fn call(&mut self, at: usize, waiter: usize, cx: &mut PoolContext<'_, F>) -> Given {
        let Some(Some(place)) = self.places.get(at) else { return Given::No };
        if cx.post(place.token, PoolMessage(Content::Start)).is_err() {
            return Given::Later;
        }
        if let (Some(waiter), Some(Some(place))) = (self.take(waiter), self.places.get_mut(at)) {
            place.usage = Use::Called(waiter);
        }
        Given::Yes
    }

    /// Opens a connection for a waiter, if the limits allow it. Otherwise the connection that has been idle longest is
    /// asked to leave.
    fn connect(&mut self, waiter: usize, origin: &Address, cx: &mut PoolContext<'_, F>) -> Given {
        if self.draining && self.connections_to(origin) == 0 {
            if let Some(waiter) = self.take(waiter) {
                waiter.fetch.failed(STOPPING);
            }
            return Given::Yes; // there is nothing to wait for
        }
        if self.draining {
            return Given::No;
        }
        if self.connections_to(origin) >= self.limits.per_origin {
            return self.make_room(|place| place.origin == *origin, cx);
        }
        let Some(free) = self.places.iter().position(Option::is_none) else {
            return self.make_room(|_| true, cx);
        };
        let token = cx.connect(*origin, free as u64);
        if token == Err(ConnectError::Full) {
            return Given::Later;
        }
        if let Some(waiter) = self.take(waiter) {
            self.occupy(free, waiter, token);
        }
        Given::Yes
    }

    /// Lets a waiter have a free place, if its connect could be started.
    fn occupy(&mut self, at: usize, waiter: Waiter<F>, token: Result<Token, ConnectError>) {
        let token = match token {
            Ok(token) => token,
            Err(error) => {
                let error = FetchError::new(FetchPhase::Connect, FetchCause::Unconnected(error));
                return waiter.fetch.failed(error);
            }
        };
        self.stats.connects += 1;
        if let Some(place) = self.places.get_mut(at) {
            let (origin, usage) = (waiter.origin, Use::Connecting(waiter));
            *place = Some(Place { token, origin, admitted: false, reused: false, usage });
        }
    }

    /// Asks the connection that has been idle longest to leave, among those that may. Its end dispatches again.
    fn make_room(&mut self, may: impl Fn(&Place<F>) -> bool, cx: &mut PoolContext<'_, F>) -> Given {
        // A connection that ends for another reason may take long, if its server does not let go of it.
        let asked = |place: &Place<F>| matches!(place.usage, Use::Leaving { asked: true });
        if self.places.iter().flatten().any(|place| may(place) && asked(place)) {
            return Given::No; // one is on its way
        }
        let places = self.places.iter_mut().flatten().filter(|place| may(place));
        let idle = places.filter_map(|place| Some((place.usage.idle_since()?, place)));
        let Some((_, place)) = idle.min_by_key(|(since, _)| *since) else { return Given::No };
        if cx.post(place.token, PoolMessage(Content::Leave)).is_err() {
            return Given::Later;
        }
        place.usage = Use::Leaving { asked: true };
        Given::No
    }

    /// Sets the timer for the first deadline of a waiter, or for the next attempt.
    fn set_timer(&mut self, again: bool, cx: &mut PoolContext<'_, F>) {
        let waiters = self.waiting.iter().map_while(Option::as_ref);
        let deadline = waiters.map(|waiter| waiter.deadline).min();
        let retry = again.then(|| cx.now() + RETRY);
        let at = deadline.into_iter().chain(retry).min();
        if self.timer.map(|(_, at)| at) == at {
            return;
        }
        if let Some((timer, _)) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        self.timer = at.and_then(|at| cx.set_timer(at, TIMER_TAG).ok().map(|timer| (timer, at)));
    }

    /// Fails the waiters whose deadline has passed.
    fn expire(&mut self, now: Instant) {
        while let Some(at) = self
            .waiting
            .iter()
            .position(|waiter| waiter.as_ref().is_some_and(|waiter| waiter.deadline <= now))
        {
            if let Some(waiter) = self.take(at) {
                self.stats.expired += 1;
                waiter.fetch.failed(FetchError::new(FetchPhase::Wait, FetchCause::TimedOut));
            }
        }
    }

    /// Begins the request that the place of a socket has.
    fn begin(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        let Some(Some(place)) = self.places.get_mut(socket.data.place) else { return socket.close() };
        let usage = core::mem::replace(&mut place.usage, Use::Leaving { asked: false });
        let (Use::Connecting(mut waiter) | Use::Called(mut waiter)) = usage else {
            return place.usage = usage;
        };
        if !socket.data.connection.is_reusable() || socket.is_closing() || socket.peer_closed() {
            // It has ended while the message was on its way: nothing was sent. `close` follows.
            place.usage = Use::Called(waiter);
            return socket.abort();
        }
        self.stats.retries += u64::from(waiter.retried);
        self.stats.reuses += u64::from(place.reused);
        place.usage = Use::Busy { retried: waiter.retried, deadline: waiter.deadline };
        socket.data.number = socket.data.number.wrapping_add(1);
        waiter.fetch.begun(socket.token(), socket.data.number);
        let outcome = socket.data.connection.start(waiter.fetch, &mut socket.stream, &self.limits.client);
        self.settle(socket, outcome, cx);
    }

    /// Continues after a step of a connection.
    fn settle(&mut self, socket: &mut PoolView<'_, F>, outcome: Outcome<F>, cx: &mut PoolContext<'_, F>) {
        match outcome {
            Outcome::Pending => {
                if !socket.data.connection.is_busy() && !socket.data.connection.is_reusable() {
                    self.leave(socket);
                }
            }
            Outcome::Done { fetch, sent } => {
                fetch.end();
                self.release(socket);
                if !sent {
                    // A server that does not take the rest must not keep the place; nor take a part for the whole.
                    socket.abort();
                }
                self.dispatch(cx);
            }
            Outcome::Failed { fetch, error, answered } => {
                let failed = self.retry(socket.data.place, fetch, error, answered);
                self.leave(socket);
                socket.abort();
                if let Some(fetch) = failed {
                    fetch.failed(error);
                }
                self.dispatch(cx);
            }
        }
    }

    /// Closes a socket, and marks its place as ending. A place whose request was not sent keeps the request, which is
    /// dispatched again when the socket has closed.
    fn leave(&mut self, socket: &mut PoolView<'_, F>) {
        let mut called = false;
        if let Some(Some(place)) = self.places.get_mut(socket.data.place) {
            called = matches!(place.usage, Use::Called(_));
            if matches!(place.usage, Use::Idle(_) | Use::Busy { .. }) {
                place.usage = Use::Leaving { asked: false };
            }
        }
        // A close would wait until the server has taken the rest, or has ended its stream: as long as it likes.
        if called || socket.queued() > 0 { socket.abort() } else { socket.close() }
    }

    /// Makes a connection idle, or closes it if it cannot be used again.
    fn release(&mut self, socket: &mut PoolView<'_, F>) {
        let server = socket.data.connection.idle_time();
        let idle = server.map_or(self.limits.idle_time, |time| {
            time.saturating_sub(IDLE_MARGIN).min(self.limits.idle_time)
        });
        let usable = socket.data.connection.is_reusable() && !self.stopping && !idle.is_zero();
        if !usable {
            return self.leave(socket);
        }
        let now = socket.now();
        socket.set_deadline(Some(now + idle));
        if let Some(Some(place)) = self.places.get_mut(socket.data.place) {
            (place.usage, place.reused) = (Use::Idle(now), true);
        }
    }

    /// Keeps a request that has failed until its connection has closed if it may be sent again, over a new connection,
    /// and returns it otherwise. The caller reports the failure when the pool is in order, since the fetch may panic.
    fn retry(&mut self, place: usize, mut fetch: F, error: FetchError, answered: bool) -> Option<F> {
        let lost = matches!(
            error.cause,
            FetchCause::Closed(CloseReason::Peer | CloseReason::Reset | CloseReason::Error(_))
                | FetchCause::Response(InvalidResponse::Truncated)
        );
        let before = self.places.get(place).and_then(Option::as_ref);
        let Some(Place { origin, reused: true, usage: Use::Busy { retried: false, deadline }, .. }) = before
        else {
            return Some(fetch);
        };
        let (origin, deadline) = (*origin, *deadline);
        let request = fetch.request();
        let repeatable = self.limits.retry && lost && !answered && !self.stopping && request.is_idempotent();
        let bodiless = matches!(request.body, RequestBody::None | RequestBody::Length(0));
        if !repeatable || !(bodiless || fetch.restart()) {
            return Some(fetch);
        }
        if let Some(Some(place)) = self.places.get_mut(place) {
            place.usage = Use::Called(Waiter { fetch, origin, deadline, retried: true });
        }
        None
    }

    /// Frees the place of a socket that has ended. A request that is still to be sent goes back to the front of those
    /// that wait or, if others have taken all their places meanwhile, has this one at once.
    fn free(&mut self, at: usize, cx: &mut PoolContext<'_, F>) {
        let place = self.places.get_mut(at).and_then(Option::take);
        if let Some(Place { usage: Use::Called(waiter) | Use::Connecting(waiter), .. }) = place {
            if self.stopping {
                waiter.fetch.failed(STOPPING);
            } else if self.waiting.last().is_some_and(Option::is_none) {
                self.waiting.rotate_right(1);
                self.put(0, waiter);
            } else {
                match cx.connect(waiter.origin, at as u64) {
                    Err(ConnectError::Full) => self.refuse(waiter),
                    token => self.occupy(at, waiter, token),
                }
            }
        }
        self.dispatch(cx);
    }
}

/// Whether a waiter has got a connection.
enum Given {
    Yes,
    /// It waits for the end of an exchange or of a connection.
    No,
    /// The poller could not do it in this turn.
    Later,
}

impl<F: Fetch, const CONNECTIONS: usize, const WAITING: usize> Handler for Pool<F, CONNECTIONS, WAITING> {
    type Data = PoolSocket<F>;
    type Message = PoolMessage<F::Message>;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<PoolSocket<F>> {
        let Origin::Connecting { tag } = origin else { return None };
        let at = usize::try_from(tag).ok()?;
        // A connect of another part of the program may have the same tag.
        let place =
            self.places.get_mut(at)?.as_mut().filter(|place| !place.admitted && place.origin == *peer)?;
        place.admitted = true;
        Some(PoolSocket { place: at, number: 0, connection: ClientConnection::new() })
    }

    /// Requests that wait fail, also for a connect that has not begun. Those in progress may be completed during the
    /// grace time.
    fn stopping(&mut self, cx: &mut PoolContext<'_, F>) {
        self.stopping = true;
        while let Some(waiter) = self.take(0) {
            waiter.fetch.failed(STOPPING);
        }
        for place in &mut self.places {
            if let Some(Place { usage: Use::Connecting(waiter), .. }) = place.take_if(|place| !place.admitted)
            {
                waiter.fetch.failed(STOPPING);
            }
        }
        // Those of a handler that has kept the end from the pool so far do not get `shutdown` any more.
        for place in self.places.iter_mut().flatten().filter(|place| place.usage.idle_since().is_some()) {
            if cx.post(place.token, PoolMessage(Content::Leave)).is_ok() {
                place.usage = Use::Leaving { asked: true };
            }
        }
        self.set_timer(false, cx);
    }

    fn timer(&mut self, timer: TimerId, _: u64, cx: &mut PoolContext<'_, F>) {
        if self.timer.is_some_and(|(own, _)| own == timer) {
            self.timer = None;
            // Before a fetch is called: the others need a timer also if that panics.
            self.set_timer(true, cx);
            self.expire(cx.now());
            self.dispatch(cx);
        }
    }

    fn open(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        self.begin(socket, cx);
    }

    fn receive(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        let outcome = socket.data.connection.receive(&mut socket.stream, &self.limits.client);
        self.settle(socket, outcome, cx);
    }

    fn writable(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        self.sent(socket, cx);
    }

    fn sent(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        let outcome = socket.data.connection.sent(&mut socket.stream, &self.limits.client);
        self.settle(socket, outcome, cx);
    }

    fn peer_closed(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        let outcome = socket.data.connection.peer_closed(&mut socket.stream, &self.limits.client);
        self.settle(socket, outcome, cx);
    }

    fn timeout(&mut self, socket: &mut PoolView<'_, F>, cx: &mut PoolContext<'_, F>) {
        if !socket.data.connection.is_busy() {
            return self.leave(socket); // idle for too long
        }
        let outcome = socket.data.connection.timeout(&mut socket.stream, &self.limits.client);
        self.settle(socket, outcome, cx);
    }

    fn shutdown(&mut self, socket: &mut PoolView<'_, F>, _: &mut PoolContext<'_, F>) {
        if !socket.data.connection.is_busy() {
            self.leave(socket);
        }
    }

    fn message(
        &mut self,
        socket: &mut PoolView<'_, F>,
        message: PoolMessage<F::Message>,
        cx: &mut PoolContext<'_, F>,
    ) {
        match message.0 {
            Content::Start => self.begin(socket, cx),
            Content::Leave => self.leave(socket),
            Content::Fetch(number, _) if number != socket.data.number => {} // for one that has ended
            Content::Fetch(_, message) => {
                let outcome =
                    socket.data.connection.message(message, &mut socket.stream, &self.limits.client);
                self.settle(socket, outcome, cx);
            }
        }
    }

    fn refused(&mut self, socket: &mut PoolView<'_, F>, error: ErrorKind, cx: &mut PoolContext<'_, F>) {
        let place = self.places.get_mut(socket.data.place).and_then(Option::take);
        self.dispatch(cx);
        if let Some(Place { usage: Use::Connecting(waiter), .. }) = place {
            waiter.fetch.failed(FetchError::new(FetchPhase::Connect, FetchCause::Refused(error)));
        }
    }

    fn close(&mut self, socket: &mut PoolView<'_, F>, reason: CloseReason, cx: &mut PoolContext<'_, F>) {
        let mut failed = None;
        if let Outcome::Failed { fetch, error, answered } = socket.data.connection.closed(reason) {
            failed = self.retry(socket.data.place, fetch, error, answered).map(|fetch| (fetch, error));
        }
        self.free(socket.data.place, cx);
        // Last: after a panic here no event follows that could free the place.
        if let Some((fetch, error)) = failed {
            fetch.failed(error);
        }
    }
}

// As for the tests of the client.
#[cfg(test)]
#[cfg(not(target_os = "none"))]
mod tests;
