//! Tests of a stop, from the call to `is_over`.

use crate::bench::{Bench, Lone, Mate, Note, SMALL, group, load, loads, mate, messages, ms, usual};
use crate::net::{Fate, Listener, Loose, Peer};
use core::cell::Cell;
use core::time::Duration;
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{
    AcceptedSocket, Alone, AssignedSocket, Command, Envelope, Membership, Placement,
};
use lightcone_core::{
    Address, CloseReason, Config, Event, ListenerId, PollerId, Rejected, Timeouts, Token, UnixId,
};
use std::rc::Rc;

const TO: Address = Address::Unix(UnixId(9));

/// Creates a poller whose sockets stay open on `shutdown`.
fn stubborn() -> Lone {
    let mut bench = Lone::new(&SMALL);
    bench.react(|socket, event, _| {
        if !matches!(event, Event::Shutdown) {
            usual(socket, &event);
        }
    });
    bench
}

fn order(bench: &mut Lone, grace: u64) {
    bench.begin();
    bench.poller.stop(ms(grace));
    bench.rest();
}

#[test]
fn a_poller_without_sockets_is_over_in_the_turn_of_its_stop() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    bench.turn();
    assert!(!bench.poller.is_over());
    order(&mut bench, 1_000);
    assert!(bench.poller.is_over() && door.borrow().closed);
    assert_eq!((bench.due(), bench.poller.aborted()), (None, 0));
    bench.turn();
    bench.check_end();
}

#[test]
fn sockets_that_close_in_order_are_not_waited_for() {
    let mut bench = Lone::new(&SMALL);
    let wires: Vec<_> = (0..3).map(|_| bench.attach()).collect();
    order(&mut bench, 1_000);
    let trace = bench.trace();
    assert_eq!(trace[3..5], ["0 shutdown", "0 close Shutdown"]);
    assert_eq!(trace.len(), 9);
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Closed));
    assert!(bench.poller.is_over());
    assert_eq!((bench.poller.aborted(), bench.poller.stats().closed_for(CloseReason::Shutdown)), (0, 3));
    bench.check_end();
}

#[test]
fn sockets_may_go_on_until_the_grace_time_is_over() {
    let mut bench = stubborn();
    let (stays, leaves) = (bench.attach(), bench.attach());
    bench.now = 5;
    order(&mut bench, 100);
    assert_eq!(bench.trace(), ["0 open", "1 open", "0 shutdown", "1 shutdown"]);
    assert_eq!(bench.due(), Some(105));
    stays.says(b"still here");
    bench.turn_at(50);
    assert_eq!(stays.heard(), b"still here");
    leaves.ends();
    bench.turn_at(104);
    assert_eq!((stays.fate(), leaves.fate(), bench.due()), (Fate::Watched, Fate::Closed, Some(105)));
    bench.trace();
    bench.turn_at(105);
    assert_eq!(bench.trace(), ["0 close Shutdown"]);
    assert_eq!((stays.fate(), bench.poller.aborted()), (Fate::Closed, 1));
    assert!(bench.poller.is_over());
    bench.check_end();
}

#[test]
fn sockets_get_shutdown_once() {
    let mut bench = stubborn();
    bench.attach();
    order(&mut bench, 100);
    order(&mut bench, 100);
    bench.turn_at(50);
    let shutdowns = bench.trace().into_iter().filter(|line| line.ends_with("shutdown")).count();
    assert_eq!(shutdowns, 1);
    bench.end();
}

#[test]
fn without_a_grace_time_sockets_get_shutdown_and_are_aborted_in_one_turn() {
    let mut bench = stubborn();
    let wire = bench.attach();
    order(&mut bench, 0);
    assert_eq!(bench.trace(), ["0 open", "0 shutdown", "0 close Shutdown"]);
    assert!(bench.poller.is_over());
    assert_eq!((bench.poller.aborted(), wire.fate()), (1, Fate::Closed));
    bench.check_end();
}

#[test]
fn only_what_the_grace_time_has_aborted_is_counted() {
    let mut bench = Lone::new(&SMALL);
    bench.react(|socket, event, _| match event {
        Event::Shutdown if socket.data.id == 0 => {}
        Event::Message(_) => socket.send(&[b'x'; 100]).unwrap(),
        other => usual(socket, &other),
    });
    let wires: Vec<_> = (0..4).map(|_| bench.attach()).collect();
    // The second closes cleanly, the third cannot send all of its output, the fourth was aborted before.
    wires[2].set(|wire| wire.window = 60);
    bench.poller.post(wires[2].token(), Note::new(0)).unwrap();
    bench.turn();
    bench.poller.close_socket(wires[3].token(), true);
    order(&mut bench, 100);
    assert_eq!(bench.poller.aborted(), 0);
    bench.turn_at(100);
    assert!(bench.poller.is_over());
    assert_eq!(bench.poller.aborted(), 2);
    assert_eq!(bench.poller.stats().bytes_lost, 40);
    assert_eq!((wires[0].fate(), wires[2].fate()), (Fate::Closed, Fate::Reset));
    bench.check_end();
}

/// A socket that has sent everything and only waits for the peer's end of stream closes cleanly when the grace time
/// ends.
#[test]
fn a_staged_close_that_has_sent_everything_is_not_aborted() {
    let timeouts = Timeouts { linger: Some(ms(100)), ..Timeouts::NONE };
    let mut bench = Lone::new(&Config { timeouts, ..SMALL });
    bench.react(|socket, event, _| match event {
        Event::Shutdown => {
            socket.send(&[b'x'; 20]).unwrap();
            socket.linger();
        }
        other => usual(socket, &other),
    });
    let [whole, cut] = [bench.attach(), bench.attach()];
    cut.set(|wire| wire.window = 10);
    cut.set(|wire| wire.undelivered = Some(7));
    bench.turn();
    order(&mut bench, 100);
    assert!(whole.borrow().shut && !cut.borrow().shut);
    bench.turn_at(100);
    assert!(bench.poller.is_over());
    assert_eq!((whole.fate(), cut.fate()), (Fate::Closed, Fate::Reset));
    assert_eq!(bench.poller.aborted(), 1);
    let stats = bench.poller.stats();
    assert_eq!(stats.closed_for(CloseReason::Shutdown), 2);
    assert_eq!((stats.bytes_lost, stats.bytes_undelivered), (10, 7));
    bench.check_end();
}

#[test]
fn a_shorter_grace_time_replaces_an_earlier_one() {
    for (second, end) in [(20, 30), (90, 100), (91, 100), (500, 100)] {
        let mut bench = stubborn();
        bench.attach();
        order(&mut bench, 100);
        bench.now = 10;
        order(&mut bench, second);
        assert_eq!(bench.due(), Some(end));
        bench.turn_at(end - 1);
        assert_eq!(bench.alive(), 1);
        bench.turn_at(end);
        assert!(bench.poller.is_over());
        order(&mut bench, 100);
        assert!(bench.poller.is_over(), "stopping a poller that is over changes nothing");
        bench.check_end();
    }
}

#[test]
fn a_stop_between_turns_makes_the_next_one_due() {
    let mut bench = stubborn();
    bench.attach();
    bench.turn();
    bench.poller.stop(ms(100));
    assert_eq!(bench.due(), Some(0), "the `shutdown` events are still due");
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 shutdown"]);
    assert_eq!(bench.due(), Some(100));
    bench.end();

    let mut bench = Lone::new(&SMALL);
    bench.turn();
    bench.poller.stop(ms(100));
    assert_eq!(bench.due(), Some(0), "the poller waits for nothing");
    bench.turn();
    assert!(bench.poller.is_over());
}

#[test]
fn the_last_socket_that_ends_between_turns_makes_the_next_one_due() {
    let mut bench = stubborn();
    let wire = bench.attach();
    order(&mut bench, 100);
    bench.poller.close_socket(wire.token(), true);
    assert_eq!(bench.due(), Some(0));
    bench.turn();
    assert!(bench.poller.is_over());
    bench.check_end();
}

#[test]
fn timeouts_go_on_within_the_grace_time() {
    let timeouts = Timeouts { idle: Some(Duration::from_millis(30)), ..Timeouts::NONE };
    let mut bench = Lone::new(&Config { timeouts, ..SMALL });
    bench.react(|_, _, _| {});
    bench.attach();
    order(&mut bench, 100);
    let due = bench.due().unwrap();
    assert!((30..=32).contains(&due), "{due}");
    bench.turn_at(due);
    assert_eq!(bench.trace().last().unwrap(), "0 close TimedOut(Idle)");
    assert!(bench.poller.is_over());
    assert_eq!(bench.poller.aborted(), 0);
}

#[test]
fn a_socket_that_was_put_off_sends_its_rest_within_the_grace_time() {
    let mut bench = Lone::new(&Config { output_blocks: 200, output_limit: 160, ..SMALL });
    bench.react(|socket, event, _| match event {
        Event::Message(_) => socket.send(&[b'x'; 80 * 64]).unwrap(),
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    order(&mut bench, 100);
    while !bench.poller.is_over() {
        assert_eq!(bench.due(), Some(0));
        bench.turn();
    }
    assert_eq!((wire.heard().len(), wire.fate(), bench.poller.aborted()), (80 * 64, Fate::Closed, 0));
}

// --- in a group ------------------------------------------------------------------------------------------------------

fn alone(commands: usize) -> (crate::bench::Team, Mate) {
    let group = group(1, 4, commands, 8);
    (group, mate(group, 0, &SMALL, Some(Balancer::new(Policy::RoundRobin, 1).unwrap())))
}

#[test]
fn a_stop_by_command_is_executed_in_its_turn() {
    let (group, mut bench) = alone(8);
    bench.attach();
    group.stop(ms(100));
    bench.turn();
    assert!(bench.poller.is_over());
    assert_eq!(bench.trace(), ["0 open", "0 shutdown", "0 close Shutdown"]);
    assert_eq!(load(group, 0), 0);
    assert!(group.pollers()[0].is_closed());
    bench.check_end();
}

#[test]
fn a_stop_for_which_there_is_no_room_is_not_lost() {
    let (group, mut bench) = alone(2);
    bench.react(|socket, event, _| {
        if !matches!(event, Event::Shutdown) {
            usual(socket, &event);
        }
    });
    let wire = bench.attach();
    let token = wire.token();
    let handle = &group.pollers()[0];
    for _ in 0..2 {
        let id = ListenerId(9);
        assert!(handle.send_command(Command::CloseListener { id }).is_ok());
    }
    handle.stop(ms(300));
    handle.stop(ms(50));
    handle.stop(ms(100));
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 shutdown"]);
    assert_eq!(bench.due(), Some(50), "the shortest grace time");
    assert!(handle.send_command(Command::CloseSocket { token, abort: true }).is_ok());
    bench.turn();
    assert!(bench.poller.is_over());
    bench.check_end();
}

#[test]
fn a_stop_for_which_there_is_no_room_loses_no_command() {
    let (group, mut bench) = alone(2);
    let wire = bench.attach();
    let token = wire.token();
    let handle = &group.pollers()[0];
    assert!(handle.send_command(Command::CloseSocket { token, abort: true }).is_ok());
    let id = ListenerId(9);
    assert!(handle.send_command(Command::CloseListener { id }).is_ok());
    handle.stop(ms(50));
    bench.turn();
    assert_eq!(
        bench.trace(),
        ["0 open", "0 close Aborted"],
        "the command is executed although it comes after the stop"
    );
    assert!(bench.poller.is_over());
    bench.check_end();
}

#[test]
fn connections_that_come_after_a_stop_are_served_and_all_else_is_rejected() {
    let pair = group(2, 4, 16, 16);
    let balancer = || Balancer::new(Policy::Pinned(1), 2).ok();
    let mut here = mate(pair, 0, &SMALL, balancer());
    let mut there = mate(pair, 1, &SMALL, balancer());
    let door = here.listen(0);
    let stays = here.knock(&door);
    here.turn();
    there.turn();
    assert_eq!(stays.fate(), Fate::Watched);
    there.react(|socket, event, _| {
        if !matches!(event, Event::Shutdown) {
            usual(socket, &event);
        }
    });
    let handle = pair.poller(PollerId(1)).unwrap();
    handle.stop(ms(100));
    let wire = here.knock(&door);
    here.turn();
    pair.connect(TO, 1, &mut Balancer::new(Policy::Pinned(1), 2).unwrap()).unwrap();
    let late = there.door();
    assert!(
        handle
            .send_command(Command::Listen { listener: Listener(Rc::clone(&late)), id: ListenerId(0) })
            .is_ok()
    );
    assert_eq!(loads(pair), [0, 3]);
    there.turn();
    // The connect and the listener are refused, the connection is served.
    assert_eq!((wire.fate(), loads(pair)), (Fate::Watched, vec![0, 2]));
    assert!(late.borrow().closed);
    assert!(!there.poller.is_over());
    let wire = here.knock(&door);
    here.turn();
    there.turn_at(50);
    assert_eq!((wire.fate(), loads(pair)), (Fate::Watched, vec![0, 3]));
    assert_eq!(there.trace().iter().filter(|line| line.ends_with("shutdown")).count(), 3);
    // A connection that arrives when the grace time ends gets `shutdown`, and is closed with the others.
    let late = here.knock(&door);
    here.turn();
    there.turn_at(100);
    assert_eq!((late.fate(), wire.fate(), there.poller.aborted()), (Fate::Closed, Fate::Closed, 4));
    assert!(there.poller.is_over());
    assert_eq!(loads(pair), [0, 0]);
    there.check_end();
    handle.stop(ms(0));
    here.begin();
    here.poller.stop(ms(0));
    here.rest();
    here.end();
    there.check_connections();
}

#[test]
fn what_is_left_in_mailboxes_of_a_poller_that_has_failed_is_refused() {
    let pair = group(2, 4, 16, 16);
    let balancer = || Balancer::new(Policy::Pinned(1), 2).ok();
    let mut here = mate(pair, 0, &SMALL, balancer());
    let mut there = mate(pair, 1, &SMALL, balancer());
    let door = here.listen(0);
    let wires: Vec<_> = (0..2).map(|_| here.knock(&door)).collect();
    here.turn();
    pair.connect(TO, 1, &mut Balancer::new(Policy::Pinned(1), 2).unwrap()).unwrap();
    let handle = pair.poller(PollerId(1)).unwrap();
    let late = there.door();
    assert!(
        handle
            .send_command(Command::Listen { listener: Listener(Rc::clone(&late)), id: ListenerId(0) })
            .is_ok()
    );
    pair.broadcast(Note::new(1), Note::clone, None).unwrap();
    assert_eq!((loads(pair), messages()), (vec![0, 3], 2));
    assert!(there.poller.close_mailboxes());
    assert_eq!((loads(pair), messages()), (vec![0, 0], 1));
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Rejected));
    assert!(late.borrow().closed);
    assert!(handle.is_closed());
    assert!(there.poller.close_mailboxes(), "closing twice is allowed");
    // The other poller skips it when placing connections.
    let wire = here.knock(&door);
    here.turn();
    assert_eq!(wire.fate(), Fate::Loose);
    here.begin();
    here.poller.stop(ms(0));
    here.rest();
    here.wind_up();
    assert_eq!((wire.fate(), messages()), (Fate::Rejected, 0));
    there.begin();
    there.poller.stop(ms(0));
    there.rest();
    there.wind_up();
}

#[test]
fn a_poller_of_a_group_is_over_only_when_its_mailboxes_are_empty() {
    let (group, mut bench) = alone(1024);
    let wire = bench.attach();
    group.post(wire.token(), Note::new(1), None).unwrap();
    bench.turn();
    for _ in 0..600 {
        assert!(group.pollers()[0].send_command(Command::CloseListener { id: ListenerId(1) }).is_ok());
    }
    bench.begin();
    bench.poller.stop(ms(50));
    bench.rest();
    for _ in 0..2 {
        assert!(!bench.poller.is_over(), "waiting commands are executed first");
        assert_eq!(bench.due(), Some(0));
        bench.turn();
    }
    assert!(bench.poller.is_over());
    bench.check_end();
    let wire = bench.wire();
    let loose = Loose(Rc::clone(&wire));
    let back = bench.poller.attach(loose, TO, ListenerId(0)).unwrap_err();
    wire.set(|wire| wire.fate = Fate::Closed);
    drop(back);
}

#[test]
fn a_handler_may_stop_the_whole_group() {
    let pair = group(2, 4, 16, 16);
    let mut mates = [mate(pair, 0, &SMALL, None), mate(pair, 1, &SMALL, None)];
    let wire = mates[0].attach();
    mates[1].attach();
    mates[0].react(move |socket, event, _| {
        if matches!(event, Event::Message(_)) {
            pair.stop(ms(40));
        }
        usual(socket, &event);
    });
    pair.post(wire.token(), Note::new(1), None).unwrap();
    for mate in &mut mates {
        mate.turn();
    }
    for mate in &mut mates {
        mate.turn();
        assert!(mate.poller.is_over());
        mate.check_end();
    }
    assert_eq!(loads(pair), [0, 0]);
}

// --- the last accept and the final receive ---------------------------------------------------------------------------

/// Sends back what comes, plus "bye" during a stop. Closes on `shutdown`.
fn polite(bench: &mut Lone) {
    bench.react(|socket, event, _| match event {
        Event::Receive => {
            let n = socket.bytes().len();
            let goodbye: &[u8] = if socket.is_stopping() { b"bye" } else { b"" };
            socket.send(&b"answer"[..n.min(6)]).unwrap();
            socket.send(goodbye).unwrap();
            socket.consume(n);
        }
        other => usual(socket, &other),
    });
}

#[test]
fn what_has_come_is_answered_before_shutdown_is_announced() {
    let mut bench = Lone::new(&SMALL);
    polite(&mut bench);
    let (asks, idle) = (bench.attach(), bench.attach());
    bench.turn();
    bench.trace();
    // The bytes are in the transport, but no event has reported them.
    asks.says(b"ask");
    order(&mut bench, 100);
    assert_eq!(bench.trace()[..5], ["0 receive", "0 sent", "0 shutdown", "0 close Shutdown", "1 shutdown"]);
    assert_eq!((asks.heard(), idle.heard()), (b"ansbye".to_vec(), Vec::new()));
    assert_eq!(
        (asks.count("receive"), idle.count("receive")),
        (1, 1),
        "one receive each; the second one finds nothing"
    );
    assert!(bench.poller.is_over());
    bench.check_end();
}

#[test]
fn connections_that_wait_at_a_listener_are_accepted_and_served_in_a_stop() {
    let mut bench = Lone::new(&SMALL);
    polite(&mut bench);
    let doors = [bench.listen(0), bench.listen(1)];
    let wires = [bench.knock(&doors[0]), bench.knock(&doors[1]), bench.knock(&doors[1])];
    wires.iter().for_each(|wire| wire.says(b"ask"));
    order(&mut bench, 100);
    assert!(wires.iter().all(|wire| wire.heard() == b"ansbye"));
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Closed));
    assert!(doors.iter().all(|door| door.borrow().closed && door.borrow().backlog.is_empty()));
    let trace = bench.trace();
    let shape = |line: &&String| line.starts_with("2 ");
    let last: Vec<_> = trace.iter().filter(shape).map(String::as_str).collect();
    assert_eq!(last, ["2 open", "2 receive", "2 sent", "2 shutdown", "2 close Shutdown"]);
    assert!(bench.poller.is_over());
    bench.check_end();
}

#[test]
fn without_a_grace_time_nothing_is_accepted_in_a_stop() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let wire = bench.knock(&door);
    order(&mut bench, 0);
    assert_eq!((wire.fate(), door.borrow().closed), (Fate::Loose, true));
    assert!(bench.poller.is_over());
}

#[test]
fn the_last_accept_has_an_end() {
    let mut bench = Lone::new(&SMALL);
    bench.admits(|_, _| false);
    let door = bench.listen(0);
    (0..5_000).for_each(|_| drop(bench.knock(&door)));
    order(&mut bench, 1_000);
    let mut turns = 1;
    while !bench.poller.is_over() {
        assert_eq!((bench.due(), door.borrow().closed), (Some(0), false));
        bench.idle_turn();
        turns += 1;
        assert!(turns < 100);
    }
    assert_eq!((turns, bench.poller.stats().rejected), (64, 64 * 64));
    assert!(door.borrow().closed);
}

#[test]
fn a_last_accept_that_finds_no_room_closes_the_listener() {
    let mut bench = Lone::new(&Config { sockets: 2, ..SMALL });
    polite(&mut bench);
    let door = bench.listen(0);
    let wires: Vec<_> = (0..4).map(|_| bench.knock(&door)).collect();
    order(&mut bench, 100);
    let served = wires.iter().filter(|wire| wire.fate() == Fate::Closed).count();
    assert!(served >= 1 && door.borrow().closed, "{served}");
    assert!(bench.poller.is_over());
}

#[test]
fn a_last_look_goes_on_while_there_may_be_more_and_no_longer_than_that() {
    for (bytes, looks) in [(1, 1), (63, 1), (10_000, 16)] {
        let mut bench = stubborn();
        bench.react(|socket, event, _| match event {
            Event::Shutdown => {}
            Event::Receive => {
                let n = socket.bytes().len();
                socket.consume(n);
            }
            other => usual(socket, &other),
        });
        let wire = bench.attach();
        bench.turn();
        wire.says(&vec![b'x'; bytes]);
        order(&mut bench, 100);
        assert_eq!(wire.count("receive"), looks, "{bytes} bytes");
        bench.end();
    }
}

#[test]
fn a_socket_that_is_not_read_from_is_not_looked_at() {
    let mut bench = stubborn();
    bench.react(|socket, event, _| match event {
        Event::Shutdown => {}
        Event::Message(_) => socket.pause(),
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.turn();
    wire.says(b"later");
    order(&mut bench, 100);
    assert_eq!(wire.count("receive"), 0);
    bench.end();
}

#[test]
fn the_peer_that_has_ended_is_found_by_the_last_look() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    bench.turn();
    bench.trace();
    wire.ends();
    order(&mut bench, 100);
    assert_eq!(bench.trace(), ["0 peer_closed", "0 close Peer"]);
    assert!(bench.poller.is_over());
}

#[test]
fn a_staged_close_in_a_stop_is_short() {
    for linger in [None, Some(60_000), Some(100)] {
        let timeouts = Timeouts { linger: linger.map(ms), ..Timeouts::NONE };
        let mut bench = Lone::new(&Config { timeouts, ..SMALL });
        bench.react(|socket, event, _| match event {
            Event::Shutdown => socket.linger(),
            other => usual(socket, &other),
        });
        let wire = bench.attach();
        order(&mut bench, 10_000);
        assert!(wire.borrow().shut);
        let expected = linger.unwrap_or(500).min(500);
        let due = bench.due().unwrap();
        assert!((expected..=expected + 2).contains(&due), "{due}");
        bench.turn_at(due);
        assert!(bench.poller.is_over());
        assert_eq!(bench.poller.aborted(), 0);
    }
}

/// A lone poller to which another one assigns a connection: the push began before the mailboxes closed, and completes
/// when `arrives` is set.
struct AssignedLate {
    assigned: Option<AssignedSocket<Loose, ()>>,
    arrives: Rc<Cell<bool>>,
    closed: bool,
}

impl Membership<Loose, Listener, Note> for AssignedLate {
    type Permit = ();

    fn post(&mut self, _: Token, note: Note) -> Result<(), Rejected<Note>> {
        Err(Rejected::Gone(note))
    }

    fn broadcast(&mut self, note: Note, _: fn(&Note) -> Note) -> Result<(), Rejected<Note>> {
        Err(Rejected::Gone(note))
    }

    fn acquire(&mut self) -> Option<()> {
        Some(())
    }

    fn merge(&mut self, (): ()) {}

    fn release(&mut self) {}

    fn has_room(&self, here: bool) -> bool {
        here
    }

    fn place(&mut self, accepted: AcceptedSocket<Loose>) -> Placement<Loose, ()> {
        Membership::<Loose, Listener, Note>::place(&mut Alone, accepted)
    }

    fn next_command(&mut self) -> Option<Command<Loose, Listener, ()>> {
        self.assigned.take_if(|_| self.closed && self.arrives.get()).map(Command::Assign)
    }

    fn next_envelope(&mut self) -> Option<Envelope<Note>> {
        None
    }

    fn has_command(&self) -> bool {
        false
    }

    fn has_envelope(&self) -> bool {
        false
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn is_finished(&self) -> bool {
        self.assigned.is_none()
    }
}

/// A connection that was assigned before the mailboxes closed is admitted, gets `shutdown`, and closes.
#[test]
fn what_is_assigned_last_is_admitted_and_closes() {
    for arrival in [0, 9, 50] {
        let wire = crate::net::WireRef::default();
        let connection = Loose(Rc::clone(&wire));
        let assigned = AssignedSocket { connection, peer: TO, listener: ListenerId(0), permit: () };
        let arrives = Rc::new(Cell::new(arrival == 0));
        let membership =
            AssignedLate { assigned: Some(assigned), arrives: Rc::clone(&arrives), closed: false };
        let mut bench: Bench<AssignedLate> = Bench::place(&SMALL, membership);
        bench.wires.push(Rc::clone(&wire));
        bench.begin();
        bench.poller.stop(ms(10));
        bench.rest();
        assert!(!bench.poller.is_over(), "it waits for a push in progress, or for the socket");
        bench.now = arrival;
        arrives.set(true);
        bench.end();
        assert_eq!((bench.script().admitted, wire.fate()), (1, Fate::Closed), "after {arrival} of 10 ms");
    }
}
