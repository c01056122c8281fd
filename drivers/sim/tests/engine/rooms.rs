//! Requests for room in simulated engines: whatever the seed, everything is posted in the end, and the trace of a
//! failure names the posts that were refused.

use core::cell::Cell;
use std::rc::Rc;

use lightcone_core::{Address, Context, Handler, Origin, PollerId, Rejected, Socket, Token};
use lightcone_sim::{Engine, Limits, Runner, Sim, check};

const MESSAGES: u32 = 500;

/// What the pollers of one run share.
#[derive(Default)]
struct Counts {
    posted: Cell<u32>,
    refused: Cell<u32>,
    told: Cell<u32>,
}

/// Every poller but the first posts to that one, as fast as its mailbox permits.
struct Flood {
    counts: Rc<Counts>,
    left: u32,
}

impl Flood {
    fn post(&mut self, cx: &mut Context<'_, u32>) {
        while self.left > 0 {
            match cx.post(Token::from_bits(0), self.left) {
                Ok(()) => {
                    self.left -= 1;
                    self.counts.posted.set(self.counts.posted.get() + 1);
                }
                Err(Rejected::Full(_)) => {
                    self.counts.refused.set(self.counts.refused.get() + 1);
                    return cx.request_room(PollerId(0), None).expect("one request at a time");
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }
}

impl Handler for Flood {
    type Data = ();
    type Message = u32;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn started(&mut self, cx: &mut Context<'_, u32>) {
        self.post(cx);
    }

    fn poller_room(&mut self, at: PollerId, cx: &mut Context<'_, u32>) {
        assert_eq!(at, PollerId(0));
        self.counts.told.set(self.counts.told.get() + 1);
        self.post(cx);
    }

    fn message(&mut self, _: &mut Socket<'_, ()>, _: u32, _: &mut Context<'_, u32>) {
        unreachable!("the engine has no socket");
    }
}

fn flood(sim: &mut Sim<'_>) -> Rc<Counts> {
    let counts: Rc<Counts> = Rc::default();
    let engine = Engine { pollers: 3, mailbox: 4, ..Engine::default() };
    let shared = Rc::clone(&counts);
    sim.engine(engine, move |id| Flood {
        counts: Rc::clone(&shared),
        left: if id.0 == 0 { 0 } else { MESSAGES },
    });
    counts
}

#[test]
fn everything_is_posted() {
    let told = Cell::new(0);
    check(0..100, |sim| {
        let counts = flood(sim);
        let all = Rc::clone(&counts);
        sim.must("everything is posted", move || all.posted.get() == 2 * MESSAGES);
        sim.finish();
        told.set(told.get() + counts.told.get());
    });
    assert!(told.get() > 0, "no mailbox was ever full");
}

#[test]
fn the_trace_names_a_refused_post() {
    let scenario = |sim: &mut Sim<'_>| {
        let counts = flood(sim);
        let is_so = move || counts.posted.get() == 2 * MESSAGES && counts.refused.get() == 0;
        sim.must("everything is posted without a refusal", is_so);
        sim.finish();
    };
    let limits = Limits { events: 5_000, ..Limits::default() };
    let runner = Runner::new("the_trace_names_a_refused_post").shrinks(0).limits(limits).show(100_000);
    let failure = runner.run(1, &scenario).expect_err("the mailbox is full at the start").to_string();
    assert!(failure.contains("post refused, the mailbox of its poller is full"), "{failure}");
    assert!(failure.contains("poller 1: poller_room"), "{failure}");
}
