//! Reads parameters of the path and of the query.
//!
//! ```sh
//! cargo run --example parameters
//! curl 'http://127.0.0.1:8080/rooms/7/lights?on=true'
//! ```

use lightcone::http::{Http, ParameterError};
use lightcone::{Builder, Error, Handler};

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new().get("/rooms/{room}/lights", |request, response| {
        // Both are decoded and parsed; a 400 names the one that is missing or invalid.
        let room = request.parse_param::<u8>("room");
        let on = request.parse_query::<bool>("on").and_then(|on| on.ok_or(ParameterError::missing("on")));
        match (room, on) {
            (Ok(room), Ok(true)) => response.display(format_args!("room {room} is lit\n")),
            (Ok(room), Ok(false)) => response.display(format_args!("room {room} is dark\n")),
            (Err(error), _) => response.bad_parameter(&error),
            (_, Err(error)) => response.bad_parameter(&error),
        }
    })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
