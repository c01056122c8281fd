//! Responds with JSON, formatted in place.
//!
//! ```sh
//! cargo run --example json
//! curl http://127.0.0.1:8080/words/light
//! ```

use lightcone::http::{Http, JsonString, percent_decode};
use lightcone::{Builder, Error, Handler};

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new().get("/words/{word}", |request, response| {
        // Parameters are as they were sent, so `%20` is still encoded.
        let mut buffer = [0; 64];
        let Ok(word) = percent_decode(request.param("word").as_bytes(), &mut buffer) else {
            return response.refuse(400);
        };
        // `JsonString` adds the quotes and escapes what needs it.
        response.display_json(format_args!(
            r#"{{"word":{},"letters":{}}}"#,
            JsonString(word),
            word.chars().count()
        ))
    })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}
