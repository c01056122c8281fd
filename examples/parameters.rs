//! Reads parameters of the path and of the query.
//!
//! ```sh
//! cargo run --example parameters
//! curl 'http://127.0.0.1:8080/rooms/7/lights?on=yes'
//! ```

use lightcone::http::Http;
use lightcone::{Builder, Error, Handler};

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new().get("/rooms/{room}/lights", |request, response| {
        let room: Result<u8, _> = request.param("room").parse();
        match (room, request.query("on")) {
            (Ok(room), Some("yes")) => response.display(format_args!("room {room} is lit\n")),
            (Ok(room), _) => response.display(format_args!("room {room} is dark\n")),
            (Err(error), _) => response.status(400).display(error),
        }
    })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
