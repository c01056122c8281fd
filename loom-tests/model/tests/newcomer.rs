//! A handler and its model.
use lightcone_model::engine_core::{Address, Context, Handler, Origin, Socket};
use lightcone_model::{Model, Peer, check, loom::sync::Arc, loom::sync::atomic};

struct Greeter(Arc<atomic::AtomicUsize>);

impl Handler for Greeter {
    type Data = ();
    type Message = core::convert::Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
        let number = self.0.fetch_add(1, atomic::Ordering::Relaxed);
        socket.send(format!("{number}\n").as_bytes()).expect("the output is empty");
    }
}

#[test]
fn each_peer_gets_its_own_number() {
    check("greeter", &[], |_| {
        let count = Arc::new(atomic::AtomicUsize::new(0));
        let model = Model::new(2).peer(Peer::new().hears_bytes(2)).peer(Peer::new().hears_bytes(2));
        let outcome = model.run(move |_| Greeter(Arc::clone(&count)));
        assert_ne!(outcome.heard(0), outcome.heard(1));
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    lightcone_model::unordered_hand_over();
}
