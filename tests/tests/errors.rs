//! Errors print as readable sentences if `main` returns them.
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use core::convert::Infallible;
use core::fmt::{Debug, Display};

use lightcone::Builder;
use lightcone_core::{Address, Handler, Origin};

struct Nothing;

impl Handler for Nothing {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        None
    }
}

/// Checks that the `Debug` form, which `main` prints, is the same sentence as the `Display` form.
fn is_a_sentence(error: &(impl Debug + Display)) {
    let printed = format!("{error:?}");
    assert_eq!(printed, error.to_string());
    assert!(printed.contains(' ') && !printed.contains(['{', '}']), "{printed}");
}

#[test]
fn errors_are_printed_as_sentences() {
    is_a_sentence(&Builder::new().pollers(0).start(|_poller| Nothing).unwrap_err());
    is_a_sentence(&Builder::new().block_size(3).start(|_poller| Nothing).unwrap_err());
    let engine = Builder::new().pollers(1).start(|_poller| Nothing).unwrap();
    is_a_sentence(&engine.listen("nonsense").unwrap_err());
    let listener = engine.listen("127.0.0.1:0").unwrap();
    is_a_sentence(&engine.listen(&listener.endpoint().to_string()[..]).unwrap_err());
}
