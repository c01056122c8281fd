//! Sends streams of server-sent events, until the client leaves or the server stops: the time of the engine, every
//! second; and the numbers that other clients post, each of which is encoded once for all clients.
//!
//! ```sh
//! cargo run --example events
//! curl --no-buffer http://127.0.0.1:8080/time
//! curl --no-buffer http://127.0.0.1:8080/numbers
//! curl --data "" http://127.0.0.1:8080/numbers/7      # in another terminal
//! ```

use core::time::Duration;

use lightcone::http::{
    EncodedEvent, EventFeed, EventWriter, Flow, Http, LagPolicy, ServerEvent, State, Topic, TopicFeed,
};
use lightcone::{Builder, Error, Handler, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// What the streams of `/numbers` are subscribed to.
const NUMBERS: Topic = Topic(1);
/// The maximum number of events that wait for a client that reads slowly. It misses the oldest of more.
const WAITING_MAX: usize = 16;

/// The routes share nothing, but the requests in progress get events as messages.
struct Numbers;

impl State for Numbers {
    type Message = EncodedEvent;
}

/// The state of one event stream.
struct Clock {
    /// When the next event is due.
    next: Instant,
}

impl EventFeed<Numbers> for Clock {
    fn advance(&mut self, events: &mut EventWriter<'_, '_, Numbers>) -> Flow {
        let now = events.now();
        if now >= self.next {
            let time = format_args!("{} ms", now.as_millis());
            if events.send(&ServerEvent::new(time)).is_err() {
                return Flow::More; // the client reads slowly; `advance` is called again when there is room
            }
            self.next = now + INTERVAL;
        }
        events.wake_at(self.next);
        Flow::More
    }

    /// Ends the stream when the server stops, with a last event that shows that it is complete.
    fn shutdown(&mut self, events: &mut EventWriter<'_, '_, Numbers>) -> Flow {
        let _ = events.send(&ServerEvent::new("the server is stopping").name("end")); // if there is room for it
        Flow::Done
    }
}

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::with(Numbers)
        .get("/time", |request, response| request.events(response, Clock { next: request.now() }))
        .get("/numbers", |request, response| {
            let feed = TopicFeed::<_, WAITING_MAX>::new(NUMBERS, LagPolicy::DropOldest);
            request.events(response, feed).boxed()
        })
        .post("/numbers/{number}", |mut request, response| match request.parse_param::<u32>("number") {
            Ok(number) => {
                let event = EncodedEvent::new(&ServerEvent::new(number).name("number"));
                match event.map(|event| request.publish(NUMBERS, event)) {
                    Ok(Ok(())) => response.status(204).empty(),
                    // a mailbox is full: the pollers before that one have the event, and those after it do not
                    _ => response.refuse(503),
                }
            }
            Err(error) => response.bad_parameter(&error),
        })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
