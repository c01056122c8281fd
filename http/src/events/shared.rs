//! Event streams that many clients share: each event is encoded once.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Display, Write};

use lightcone_core::{Backlog, Lag, LagCounter, LagPolicy, Topic};

use crate::exchange::Flow;
use crate::request::State;

use super::{EventFeed, EventWriter, ServerEvent};

/// An event as it is sent, for any number of streams: a pointer to shared memory, which is cheap to copy. Requires the
/// feature `alloc`.
///
/// ```
/// use lightcone_http::{EncodedEvent, ServerEvent};
///
/// let event = EncodedEvent::new(&ServerEvent::new("two\nlines").id(7))?;
/// assert_eq!(event.as_str(), "id: 7\ndata: two\ndata: lines\n\n");
/// # Ok::<(), core::fmt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EncodedEvent(Arc<str>);

impl EncodedEvent {
    /// Encodes an event.
    ///
    /// # Errors
    /// If the event is not valid: its name has a line end, or its identity a line end or NUL.
    pub fn new<D: Display>(event: &ServerEvent<'_, D>) -> Result<Self, fmt::Error> {
        let mut text = String::new();
        write!(text, "{event}")?;
        Ok(Self(text.into()))
    }

    /// Returns the lines of the event.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the event itself, for a message that is nothing else.
impl AsRef<Self> for EncodedEvent {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Formats as it is sent.
impl Display for EncodedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A source of events that passes on what is published to a topic. Requires the feature `alloc`.
///
/// Up to `N` events wait for a client that reads slowly, in addition to those in its output; what happens to further
/// ones is determined by the [policy](LagPolicy). They take 16 bytes each in every connection of the server, unless the
/// reply is [boxed](crate::Reply::boxed). A client whose stream cannot be subscribed, because the poller has as many
/// [subscriptions](lightcone_core::Config::subscriptions) as it can keep, is disconnected. An event that is longer than
/// a connection [can send](EventWriter::event_limit) is dropped there, and counted as such.
///
/// ```
/// use lightcone_http::{EncodedEvent, Http, LagPolicy, ServerEvent, State, Topic, TopicFeed};
///
/// const NEWS: Topic = Topic(1);
///
/// struct App;
///
/// impl State for App {
///     type Message = EncodedEvent;
/// }
///
/// let server = Http::with(App)
///     .get("/news", |request, response| {
///         request.events(response, TopicFeed::<_, 16>::new(NEWS, LagPolicy::DropOldest)).boxed()
///     })
///     .post("/news/{number}", |mut request, response| {
///         let Ok(event) = EncodedEvent::new(&ServerEvent::new(request.param("number"))) else {
///             return response.refuse(400);
///         };
///         match request.publish(NEWS, event) {
///             Ok(()) => response.status(204).empty(),
///             Err(_) => response.refuse(503), // a mailbox is full; an exchange could publish the rest
///         }
///     });
/// # drop(server);
/// ```
#[derive(Debug)]
pub struct TopicFeed<M, const N: usize> {
    topic: Topic,
    backlog: Backlog<M, N>,
}

impl<M, const N: usize> TopicFeed<M, N> {
    /// Creates the source of one stream. `N` is at least 1.
    #[must_use]
    pub const fn new(topic: Topic, policy: LagPolicy) -> Self {
        Self { topic, backlog: Backlog::new(policy) }
    }
}

impl<S, const N: usize> EventFeed<S> for TopicFeed<S::Message, N>
where
    S: State<Message: AsRef<EncodedEvent>>,
{
    fn advance(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow {
        // the first call subscribes; later ones change nothing
        if events.subscribe(self.topic).is_err() {
            return Flow::Abort;
        }
        self.backlog.drain(|event| events.send_encoded(event.as_ref()));
        Flow::More
    }

    fn message(&mut self, event: S::Message, events: &mut EventWriter<'_, '_, S>) -> Flow {
        // One publisher must not end the streams of all clients. While the connection is ending, nothing is sent
        // anyway.
        if event.as_ref().as_str().len() > events.event_limit() && events.event_limit() > 0 {
            events.count_lag(Lag::Dropped);
            return Flow::More;
        }
        if self.backlog.push(event, events).is_err() {
            return Flow::Abort;
        }
        self.backlog.drain(|event| events.send_encoded(event.as_ref()));
        Flow::More
    }
}
