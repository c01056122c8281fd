//! Event streams (`text/event-stream`): the server-sent events of the HTML standard.

use core::fmt::{self, Display, Write};
use core::time::Duration;

use lightcone_core::{Address, Full, Instant, Lag, LagCounter, SubscribeError, Topic};

use crate::exchange::{Exchange, Flow};
use crate::message::RequestId;
use crate::request::{Request, State};
use crate::respond::response::{Reply, Response};
use crate::transfer::Transfer;

/// One event of a stream. [`EventWriter::send`] sends it.
///
/// ```
/// use lightcone_http::ServerEvent;
///
/// let event = ServerEvent::new("two\nlines").name("note").id(7);
/// assert_eq!(event.to_string(), "event: note\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "an event does nothing until it is sent"]
pub struct ServerEvent<'a, D> {
    data: Option<D>,
    name: Option<&'a str>,
    id: Option<EventId<'a>>,
    retry: Option<Duration>,
}

/// The identity of an event, which a client that connects again sends as its [`Request::last_event_id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventId<'a> {
    /// A number.
    Number(u64),
    /// A text without line ends and NUL.
    Text(&'a str),
}

impl From<u64> for EventId<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for EventId<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a, D: Display> ServerEvent<'a, D> {
    /// Creates an event with data, which is formatted from anything that implements [`Display`] and may have several
    /// lines. Clients ignore an event whose data is empty, except for its identity.
    pub const fn new(data: D) -> Self {
        Self { data: Some(data), name: None, id: None, retry: None }
    }

    /// Sets the name of the event: the type for which scripts listen. Without it, that is `message`.
    pub fn name(self, name: &'a str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Sets the identity of the event.
    pub fn id(self, id: impl Into<EventId<'a>>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Sets how long the client waits before it connects again when the connection has ended.
    pub fn retry(self, time: Duration) -> Self {
        Self { retry: Some(time), ..self }
    }
}

impl ServerEvent<'_, &'static str> {
    /// Creates an event without data, which scripts do not see: to set the identity or the time of
    /// [`retry`](Self::retry).
    pub const fn silent() -> Self {
        Self { data: None, name: None, id: None, retry: None }
    }
}

/// Formats the event as it is sent. An error if the name has a line end, or the identity a line end or NUL: the rest
/// would be taken for another line.
impl<D: Display> Display for ServerEvent<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, name, id, retry } = self;
        if let Some(name) = name {
            check(name, &['\r', '\n'])?;
            writeln!(f, "event: {name}")?;
        }
        match id {
            Some(EventId::Number(number)) => writeln!(f, "id: {number}")?,
            Some(EventId::Text(text)) => {
                check(text, &['\r', '\n', '\0'])?;
                writeln!(f, "id: {text}")?;
            }
            None => {}
        }
        if let Some(retry) = retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        if let Some(data) = data {
            f.write_str("data: ")?;
            write!(DataLines { to: f, after_return: false }, "{data}")?;
            f.write_str("\n")?;
        }
        f.write_str("\n")
    }
}

fn check(text: &str, excluded: &[char]) -> fmt::Result {
    if text.contains(excluded) { Err(fmt::Error) } else { Ok(()) }
}

/// Writes data, each line of which begins with the name of the field.
struct DataLines<'f, 't> {
    to: &'f mut fmt::Formatter<'t>,
    /// Whether the last character was a carriage return: a line feed after it is part of the same line end.
    after_return: bool,
}

impl Write for DataLines<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(['\r', '\n']) {
            let line = piece.trim_end_matches(['\r', '\n']);
            let second = self.after_return && piece == "\n";
            self.to.write_str(line)?;
            self.to.write_str(if line.len() == piece.len() || second { "" } else { "\ndata: " })?;
            self.after_return = piece.ends_with('\r');
        }
        Ok(())
    }
}

/// The source of the events of a stream. [`Request::events`] runs it as an [`Exchange`].
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::Instant;
/// use lightcone_http::{EventFeed, EventWriter, Flow, Http, ServerEvent, State};
///
/// /// Sends the time of the server every second.
/// struct Clock {
///     next: Instant,
/// }
///
/// impl<S: State> EventFeed<S> for Clock {
///     fn advance(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow {
///         while self.next <= events.now() {
///             let millis = self.next.as_millis();
///             if events.send(&ServerEvent::new(millis).id(millis)).is_err() {
///                 return Flow::More; // it is called again when there is room
///             }
///             self.next = self.next + Duration::from_secs(1);
///         }
///         events.wake_at(self.next);
///         Flow::More
///     }
/// }
///
/// let server = Http::new().get("/clock", |request, response| {
///     let next = request.now();
///     request.events(response, Clock { next })
/// });
/// # drop(server);
/// ```
pub trait EventFeed<S: State> {
    /// How long a stream may be without an event before a comment is sent, which clients ignore. So neither a proxy nor
    /// the engine's timeouts end a quiet stream, and a client that has left is noticed.
    const HEARTBEAT: Duration = Duration::from_secs(15);

    /// Sends the events that are due. Called as [`Exchange::advance`] is.
    fn advance(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow;

    /// Handles a [message](Exchange::message) that was posted to the request.
    fn message(&mut self, message: S::Message, events: &mut EventWriter<'_, '_, S>) -> Flow {
        let _ = (message, events);
        Flow::More
    }

    /// Handles the start of the server's shutdown. The default ends the stream; clients connect again, to a successor
    /// of the server if there is one.
    fn shutdown(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow {
        let _ = events;
        Flow::Done
    }
}

/// The stream to which an [`EventFeed`] sends its events.
#[derive(Debug)]
pub struct EventWriter<'w, 't, S: State> {
    io: &'w mut Transfer<'t, S>,
    wake: Option<Instant>,
    sent: bool,
    /// Whether an event found no room: then the feed is called again when there is, and not earlier.
    full: bool,
}

impl<S: State> EventWriter<'_, '_, S> {
    /// Sends an event, all of it or nothing.
    ///
    /// # Errors
    /// [`Full`] if there is no room, because the client reads slowly. The feed is called again when there is; it has to
    /// keep the event, replace it by a later one, or drop it. An event that can never be sent, as it is larger than the
    /// [output limit](lightcone_core::Output::limit) or not valid, ends the connection.
    pub fn send<D: Display>(&mut self, event: &ServerEvent<'_, D>) -> Result<(), Full> {
        let result = write!(self.io, "{event}");
        self.sent |= result.is_ok();
        self.full |= result.is_err();
        result
    }

    /// Sends an event that was encoded before, all of it or nothing: one that many clients get, see [`TopicFeed`].
    ///
    /// # Errors
    /// The same as of [`send`](Self::send).
    #[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
    pub fn send_encoded(&mut self, event: &EncodedEvent) -> Result<(), Full> {
        let result = write!(self.io, "{}", event.as_str());
        self.sent |= result.is_ok();
        self.full |= result.is_err();
        result
    }

    /// Returns the maximum number of bytes of an event, as it is sent; 0 if the connection is ending.
    #[must_use]
    pub fn event_limit(&self) -> usize {
        self.io.piece_limit()
    }

    /// Subscribes the stream to a topic, as [`Transfer::subscribe`] does: [`EventFeed::message`] gets what is published
    /// to it.
    ///
    /// # Errors
    /// See [`Context::subscribe`](lightcone_core::Context::subscribe).
    pub fn subscribe(&mut self, topic: Topic) -> Result<(), SubscribeError> {
        self.io.subscribe(topic)
    }

    /// Ends the subscription of the stream to a topic. Returns whether there was one.
    pub fn unsubscribe(&mut self, topic: Topic) -> bool {
        self.io.unsubscribe(topic)
    }

    /// Schedules a call of [`EventFeed::advance`], as [`Transfer::wake_at`] does, but only until the feed is called
    /// again for another reason, such as a heartbeat: each `advance` must set the time again.
    pub const fn wake_at(&mut self, at: Instant) {
        self.wake = Some(at);
    }

    /// Returns the state that the routes of this poller share.
    pub const fn state(&mut self) -> &mut S {
        self.io.state
    }

    /// Returns when this callback began.
    pub fn now(&self) -> Instant {
        self.io.now()
    }

    /// Returns the identity of the request, for [messages](crate::RequestMessage) to the feed.
    pub fn id(&self) -> RequestId {
        self.io.id()
    }

    /// Returns the client's address.
    pub fn peer(&self) -> Address {
        self.io.peer()
    }
}

impl<S: State> LagCounter for EventWriter<'_, '_, S> {
    fn count_lag(&mut self, lag: Lag) {
        self.io.count_lag(lag);
    }
}

/// An event stream that is being sent: see [`Request::events`].
#[derive(Clone, Copy, Debug)]
pub struct EventStream<E> {
    feed: E,
    /// When the next heartbeat is due: the low half of its milliseconds.
    heartbeat: [u8; 4],
}

impl<E> EventStream<E> {
    /// Calls the feed, and sends a heartbeat if one is due.
    fn drive<S: State>(
        &mut self,
        io: &mut Transfer<'_, S>,
        call: impl FnOnce(&mut E, &mut EventWriter<'_, '_, S>) -> Flow,
    ) -> Flow
    where
        E: EventFeed<S>,
    {
        // a time that `message` has set outlasts the `advance` that follows it
        let wake = io.link.found.wake;
        let mut writer = EventWriter { io, wake, sent: false, full: false };
        let flow = call(&mut self.feed, &mut writer);
        let EventWriter { wake, sent, full, .. } = writer;
        if flow != Flow::More || full {
            return flow;
        }
        let now = io.now();
        let left = u32::from_le_bytes(self.heartbeat).wrapping_sub(low_half(now));
        // More than half of the range ahead: the time has passed.
        let due = left == 0 || left > u32::MAX / 2;
        let mut next = now + Duration::from_millis(left.into());
        if sent || due {
            if !sent && io.write_fmt(format_args!(":\n\n")).is_err() {
                return flow; // called again when there is room
            }
            next = now + E::HEARTBEAT.clamp(Duration::from_millis(1), HEARTBEAT_MAX);
            self.heartbeat = low_half(next).to_le_bytes();
        }
        io.wake_at(wake.map_or(next, |wake| wake.min(next)));
        flow
    }
}

/// The longest time between two heartbeats: a day.
const HEARTBEAT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the low half of a time's milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "the truncation is the purpose")]
const fn low_half(time: Instant) -> u32 {
    time.as_millis() as u32
}

impl<S: State, E: EventFeed<S>> Exchange<S> for EventStream<E> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.drive(io, |feed, events| feed.advance(events))
    }

    fn message(&mut self, message: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        self.drive(io, |feed, events| feed.message(message, events))
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.drive(io, |feed, events| feed.shutdown(events))
    }

    fn peer_closed(&mut self, _: &mut Transfer<'_, S>) -> Flow {
        Flow::Abort
    }
}

impl<'a, S: State> Request<'a, S> {
    /// Sends an event stream whose events `feed` makes, until the feed ends it, the client leaves, or the server shuts
    /// down. A quiet stream has [heartbeats](EventFeed::HEARTBEAT).
    ///
    /// The response has the fields `Content-Type: text/event-stream`, `Cache-Control: no-store`, and
    /// `X-Accel-Buffering: no`, so that nginx passes each event on at once. The stream adds four bytes to the size of
    /// the feed in each connection.
    pub fn events<E: EventFeed<S>>(&self, response: Response<'_>, feed: E) -> Reply<EventStream<E>> {
        let first = self.now() + E::HEARTBEAT.clamp(Duration::from_millis(1), HEARTBEAT_MAX);
        let heartbeat = low_half(first).to_le_bytes();
        response
            .header("Content-Type", "text/event-stream")
            .header("Cache-Control", "no-store")
            .header("X-Accel-Buffering", "no")
            .stream(None, EventStream { feed, heartbeat })
    }

    /// Returns the identity of the last event that the client has received: from its `Last-Event-ID` field, which it
    /// sends when it connects again. `None` if it has received none, or if the identity is not UTF-8.
    pub fn last_event_id(&self) -> Option<&'a str> {
        self.header("last-event-id").filter(|id| !id.is_empty())
    }
}

#[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
mod shared;
#[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
pub use shared::{EncodedEvent, TopicFeed};

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn events_as_they_are_sent() {
        assert_eq!(ServerEvent::new("a").to_string(), "data: a\n\n");
        assert_eq!(ServerEvent::new("").to_string(), "data: \n\n");
        assert_eq!(ServerEvent::new(" a:b").id("x y").to_string(), "id: x y\ndata:  a:b\n\n");
        assert_eq!(ServerEvent::silent().retry(Duration::from_secs(2)).to_string(), "retry: 2000\n\n");
        assert_eq!(ServerEvent::silent().id("").to_string(), "id: \n\n");
    }

    #[test]
    fn each_line_of_data_is_a_field() {
        let expected = "data: a\ndata: b\ndata: \ndata: c\ndata: \n\n";
        for text in ["a\nb\n\nc\n", "a\rb\r\rc\r", "a\r\nb\r\n\r\nc\r\n", "a\nb\r\n\rc\n"] {
            assert_eq!(ServerEvent::new(text).to_string(), expected, "{text:?}");
            // The same in two writes.
            for (at, _) in text.char_indices() {
                let (first, second) = text.split_at(at);
                assert_eq!(
                    ServerEvent::new(format_args!("{first}{second}")).to_string(),
                    expected,
                    "{text:?} {at}"
                );
            }
        }
    }

    #[test]
    fn what_would_be_another_line_is_refused() {
        let formatted = |event: ServerEvent<'_, &str>| {
            let mut text = std::string::String::new();
            write!(text, "{event}").is_ok()
        };
        for text in ["a\nb", "a\r", "\n"] {
            assert!(!formatted(ServerEvent::new("").name(text)));
            assert!(!formatted(ServerEvent::new("").id(text)));
        }
        assert!(!formatted(ServerEvent::new("").id("\0")));
        assert!(formatted(ServerEvent::new("\0").name("a b").id("\u{e4}")));
        assert_eq!(format!("{}", ServerEvent::new(1).id(2)), "id: 2\ndata: 1\n\n");
    }
}
