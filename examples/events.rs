//! Sends streams of server-sent events: the time of the engine, every second, and the numbers that other clients post,
//! until the client leaves or the server stops.
//!
//! ```sh
//! cargo run --example events
//! curl --no-buffer http://127.0.0.1:8080/time
//! curl --data "" http://127.0.0.1:8080/numbers/7      # in another terminal
//! ```

use core::time::Duration;

use lightcone::http::{EventFeed, EventWriter, Flow, Http, ServerEvent, State};
use lightcone::{Builder, Error, Handler, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// The routes share nothing, but the requests in progress get numbers as messages.
struct Numbers;

impl State for Numbers {
    type Message = u32;
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

    /// Sends a number that a client has posted. A client that reads too slowly misses it.
    fn message(&mut self, number: u32, events: &mut EventWriter<'_, '_, Numbers>) -> Flow {
        let _ = events.send(&ServerEvent::new(number).name("number"));
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
        .post("/numbers/{number}", |mut request, response| match request.parse_param("number") {
            // to the streams of all pollers
            Ok(number) => match request.broadcast(number) {
                Ok(()) => response.status(204).empty(),
                Err(_) => response.refuse(503), // a mailbox is full
            },
            Err(error) => response.bad_parameter(&error),
        })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
