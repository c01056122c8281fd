//! Serves the page and the routes of the firmware in `examples/embedded` on this computer, from the same source file.
//! The LEDs are a number in memory.
//!
//! ```sh
//! cargo run --example device
//! curl http://127.0.0.1:8080/api/leds --data 2
//! ```

#[path = "embedded/src/routes.rs"]
mod routes;

use lightcone::{Builder, Error, Handler, Instant, http};
use routes::{Memory, Panel};

/// The LEDs.
struct Leds(u32);

impl Panel for Leds {
    fn leds(&self) -> u32 {
        self.0
    }

    fn set_leds(&mut self, leds: u32) {
        self.0 = leds;
    }

    fn memory(&self) -> Memory {
        Memory::default() // unknown here
    }
}

pub(crate) fn server() -> impl Handler<Message: Send> {
    routes::server(Leds(0))
}

fn main() -> Result<(), Error> {
    // One poller, as on the device: the state belongs to it.
    let engine = Builder::new().pollers(1).start(|_poller| server())?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    engine.listen(address.as_str())?;
    engine.join();
    Ok(())
}
