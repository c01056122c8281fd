//! Reads and responds with JSON: as values through serde, and formatted in place.
//!
//! ```sh
//! cargo run --example json
//! curl http://127.0.0.1:8080/words/light
//! curl -H 'Content-Type: application/json' -d '{"words":["light","cone"]}' http://127.0.0.1:8080/words
//! curl -H 'Content-Type: application/json' -d '{"words":["light",7]}' http://127.0.0.1:8080/words
//! ```

use lightcone::http::{Http, JsonString, percent_decode};
use lightcone::{Builder, Error, Handler};
use serde::{Deserialize, Serialize};

/// The maximum size of a request's body in bytes.
const BODY_MAX: usize = 16 << 10;

/// The body of a request.
#[derive(Deserialize)]
struct Question {
    words: Vec<String>,
}

/// The body of the response.
#[derive(Serialize)]
struct Answer<'q> {
    longest: Option<&'q str>,
    letters: usize,
}

pub(crate) fn server() -> impl Handler<Message: Send> {
    Http::new()
        .post("/words", |request, response| {
            // A body that is no `Question` gets a 400 with the place of the mistake, and no handler runs.
            request.parse_json(BODY_MAX, response, |_state, Question { words }, response| {
                let longest = words.iter().map(String::as_str).max_by_key(|word| word.chars().count());
                let letters = words.iter().map(|word| word.chars().count()).sum();
                response.serialize_json(&Answer { longest, letters })
            })
        })
        .get("/words/{word}", |request, response| {
            // Parameters are as they were sent, so `%20` is still encoded.
            let mut buffer = [0; 64];
            let Ok(word) = percent_decode(request.param("word").as_bytes(), &mut buffer) else {
                return response.refuse(400);
            };
            // Without a heap: `JsonString` adds the quotes and escapes what needs it.
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
