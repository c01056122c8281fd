//! Limits of accepting in simulated engines: they hold with every seed, and peers that try again are served in the end.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::sync::{PeerLimits, PeerPlace};
use lightcone_core::{Address, CloseReason, Config, Context, Handler, LimitPeers, Origin, Rate, Socket};
use lightcone_sim::{Engine, Script, Sim, check};

const MOST: u16 = 2;

/// Sends everything back, and counts the open sockets of all pollers.
struct Echo {
    open: Rc<Cell<u16>>,
    most: u16,
}

impl Handler for Echo {
    type Data = ();
    type Message = core::convert::Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        self.open.set(self.open.get() + 1);
        assert!(self.open.get() <= self.most, "limit: {} connections", self.open.get());
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
        self.receive(socket, cx);
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, _: CloseReason, _: &mut Context<'_, Self::Message>) {
        self.open.set(self.open.get() - 1);
    }
}

fn peers(sim: &mut Sim<'_>, address: core::net::SocketAddr) {
    for _ in 0..8 {
        let script = Script::to(address).send("hello").receive("hello").half_close().until_end();
        sim.peer(script.retry(u32::MAX, Duration::from_millis(100)));
    }
}

#[test]
fn a_prefix_never_has_more_connections_than_its_limit() {
    let refused = Cell::new(0);
    check(0..100, |sim| {
        let places: Box<[PeerPlace]> = (0..64).map(|_| PeerPlace::new()).collect();
        // one prefix for all peers
        let limits = Rc::new(PeerLimits::new(places, MOST, 3).prefixes(0, 0));
        let (open, shared) = (Rc::<Cell<u16>>::default(), Rc::clone(&limits));
        let engine = Engine { pollers: 2, ..Engine::default() };
        let server = sim.engine(engine, move |_| {
            LimitPeers::new(Echo { open: Rc::clone(&open), most: MOST }, Some(Rc::clone(&shared)))
        });
        let address = ([10, 0, 0, 1], 7).into();
        sim.listen(server, address);
        peers(sim, address);
        sim.finish();
        let rejected: u64 = sim.stats(server).iter().map(|stats| stats.rejected).sum();
        assert!(rejected >= limits.refused() as u64, "counts: {rejected} rejected");
        refused.set(refused.get() + limits.refused());
    });
    assert!(refused.get() > 0, "no connection was one too many");
}

#[test]
fn peers_beyond_the_rate_are_served_when_they_come_again() {
    let over = Cell::new(0);
    check(0..100, |sim| {
        let open = Rc::<Cell<u16>>::default();
        let rate = Rate::new(5, Duration::from_secs(1)).burst(MOST.into());
        let config = Config { accept_rate: Some(rate), ..Engine::default().config };
        let server = sim.engine(Engine { config, ..Engine::default() }, move |_| Echo {
            open: Rc::clone(&open),
            most: u16::MAX,
        });
        let address = ([10, 0, 0, 1], 7).into();
        sim.listen(server, address);
        peers(sim, address);
        // a burst of two, and five a second for half a second; without a limit, all eight are accepted at once
        sim.run_until(Duration::from_millis(500), |_| false);
        let accepted: u64 = sim.stats(server).iter().map(|stats| stats.accepted).sum();
        assert!(accepted <= 2 + 3, "rate: {accepted} connections");
        sim.finish();
        over.set(over.get() + sim.stats(server).iter().map(|stats| stats.over_rate).sum::<u64>());
    });
    assert!(over.get() > 0, "no connection was beyond the rate");
}
