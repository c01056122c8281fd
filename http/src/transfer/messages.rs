//! Messages of an exchange to other requests, and topics.

use lightcone_core::{Lag, LagCounter, Rejected, SubscribeError, Topic, Unpublished};

use super::Transfer;
use crate::message::{Outlet, RequestId};
use crate::request::State;

impl<S: State> LagCounter for Transfer<'_, S> {
    fn count_lag(&mut self, lag: Lag) {
        self.outlet.count_lag(lag);
    }
}

impl<S: State> Transfer<'_, S> {
    /// Posts a message to another request in progress, like [`Request::post`](crate::Request::post).
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of the request's poller is full or the engine has stopped.
    pub fn post(&mut self, to: RequestId, message: S::Message) -> Result<(), Rejected<S::Message>> {
        self.outlet.post(to, message)
    }

    /// Posts a message to every request in progress, also to this one, like
    /// [`Request::broadcast`](crate::Request::broadcast).
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller was full or the engine has stopped.
    pub fn broadcast(&mut self, message: S::Message) -> Result<(), Rejected<S::Message>>
    where
        S::Message: Clone,
    {
        self.outlet.broadcast(message)
    }

    /// Publishes a message to the subscribers of a topic, like [`Request::publish`](crate::Request::publish).
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller is full or the engine has stopped.
    pub fn publish(
        &mut self,
        topic: Topic,
        message: S::Message,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.publish_rest(Unpublished::new(topic, message, S::Message::clone))
    }

    /// Publishes a message to the pollers that do not have it, after a [`publish`](Self::publish) that found a mailbox
    /// full. The exchange can keep it and [wake up](Self::wake_at) a millisecond later.
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller is still full or the engine has stopped.
    pub fn publish_rest(
        &mut self,
        message: Unpublished<S::Message>,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.outlet.publish(message)
    }

    /// Subscribes this request to a topic: from now on, [`Exchange::message`](crate::Exchange::message) gets what is
    /// published to it. The subscription ends by [`unsubscribe`](Self::unsubscribe) or with the exchange.
    ///
    /// ```
    /// use lightcone_http::{Backlog, Exchange, Flow, Http, LagPolicy, State, Topic, Transfer};
    ///
    /// const PRICES: Topic = Topic(1);
    ///
    /// struct App;
    ///
    /// impl State for App {
    ///     type Message = u32;
    /// }
    ///
    /// /// Sends prices, one in each line. A client that reads slowly skips some.
    /// struct Prices {
    ///     backlog: Backlog<u32, 1>,
    /// }
    ///
    /// impl Exchange<App> for Prices {
    ///     fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
    ///         if io.subscribe(PRICES).is_err() {
    ///             return Flow::Abort;
    ///         }
    ///         self.backlog.drain(|price| writeln!(io, "{price}"));
    ///         Flow::More
    ///     }
    ///
    ///     fn message(&mut self, price: u32, io: &mut Transfer<'_, App>) -> Flow {
    ///         let _ = self.backlog.push(price, io); // not too slow: the newest replaces the others
    ///         self.advance(io)
    ///     }
    /// }
    ///
    /// let server = Http::with(App)
    ///     .get("/prices", |_request, response| {
    ///         let backlog = Backlog::new(LagPolicy::KeepNewest);
    ///         response.stream(None, Prices { backlog })
    ///     })
    ///     .post("/prices/{price}", |mut request, response| match request.parse_param("price") {
    ///         Ok(price) if request.publish(PRICES, price).is_ok() => response.status(204).empty(),
    ///         Ok(_) => response.refuse(503),
    ///         Err(error) => response.bad_parameter(&error),
    ///     });
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Context::subscribe`](lightcone_core::Context::subscribe).
    pub fn subscribe(&mut self, topic: Topic) -> Result<(), SubscribeError> {
        self.link.found.subscribed = true;
        self.outlet.subscribe(topic, self.tools.connected.token)
    }

    /// Ends the subscription of this request to a topic. Returns whether there was one.
    pub fn unsubscribe(&mut self, topic: Topic) -> bool {
        self.outlet.unsubscribe(topic, self.tools.connected.token)
    }

    /// Returns the number of requests on this poller that are subscribed to a topic.
    pub fn subscribers(&self, topic: Topic) -> usize {
        self.outlet.subscribers(topic)
    }

    /// Returns the way of messages to other connections, for a layer that has connections of another kind as well.
    pub fn outlet(&mut self) -> Outlet<'_, S> {
        self.link.found.subscribed = true; // perhaps: what it subscribes ends with the exchange
        self.outlet.reborrow()
    }
}
