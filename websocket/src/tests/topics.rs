//! Topics: a chat room whose participants are connections.

use std::sync::Arc;

use lightcone_http::{Backlog, LagPolicy, Topic};

use super::*;

const ROOM: Topic = Topic(1);

/// What the participants note.
struct Hall(Told);

impl State for Hall {
    type Message = Arc<str>;
}

/// Publishes what it receives. `abort` ends the connection, and `leave` the subscription.
struct Participant(Backlog<Arc<str>, 3>);

impl WebSocket<Hall> for Participant {
    fn open(&mut self, channel: &mut Channel<'_, Hall>) {
        if channel.subscribe(ROOM).is_err() {
            channel.abort();
        }
    }

    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, Hall>) -> Result<(), Full> {
        match message.bytes() {
            b"abort" => channel.abort(),
            b"leave" => assert!(channel.unsubscribe(ROOM) && !channel.unsubscribe(ROOM)),
            _ => assert!(channel.publish(ROOM, message.to_string().into()).is_ok()),
        }
        Ok(())
    }

    fn message(&mut self, text: Arc<str>, channel: &mut Channel<'_, Hall>) {
        match self.0.push(text, channel) {
            Ok(()) => self.writable(channel),
            Err(_too_slow) => channel.abort(),
        }
    }

    fn writable(&mut self, channel: &mut Channel<'_, Hall>) {
        self.0.drain(|text| channel.send_text(text));
    }

    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, Hall>) {
        channel.abort(); // too late to have an effect
        assert_eq!(channel.send_text("too late"), Err(Full));
        channel.state().0.borrow_mut().push(format!("{ending:?}"));
    }
}

fn hall(config: &Config) -> (TestServer<impl Handler<Message = RequestMessage<Arc<str>>> + use<>>, Told) {
    let told = Told::default();
    let http = Http::with(Hall(Rc::clone(&told)))
        .get("/", |request, response| {
            upgrade(&request, response, Participant(Backlog::new(LagPolicy::Disconnect)))
        })
        .get("/count", |request, response| response.display(request.subscribers(ROOM)));
    (TestServer::with_config(http, config), told)
}

fn join(server: &mut TestServer<impl Handler>) -> usize {
    let connection = server.start(handshake_with("/"));
    server.receive(connection);
    connection
}

fn heard(server: &mut TestServer<impl Handler>, connection: usize) -> Vec<String> {
    let texts = frames(&server.receive(connection)).into_iter().filter(|(opcode, _)| *opcode == Opcode::Text);
    texts.map(|(_, text)| String::from_utf8(text).unwrap().chars().take(2).collect()).collect()
}

fn count(server: &mut TestServer<impl Handler>) -> String {
    server.get("/count").text().to_string()
}

#[test]
fn participants_hear_each_other_until_they_leave() {
    let (mut server, told) = hall(&CONFIG);
    let people = [join(&mut server), join(&mut server), join(&mut server)];
    assert_eq!(count(&mut server), "3");
    server.send(people[0], &text("a1"));
    server.send(people[1], &[text("b1"), text("leave")].concat());
    server.send(people[0], &text("a2"));
    // what was published before is on its way, and does not reach the one that has left
    assert_eq!(
        people.map(|one| heard(&mut server, one)),
        [vec!["a1", "b1", "a2"], vec!["a1"], vec!["a1", "b1", "a2"]]
    );
    assert_eq!(count(&mut server), "2");
    server.send(people[0], &close(1000));
    server.reset(people[2]);
    assert_eq!(count(&mut server), "0");
    assert_eq!(told.borrow().len(), 2);
}

#[test]
fn a_participant_that_does_not_read_is_disconnected_and_delays_no_one() {
    let (mut server, told) = hall(&Config { block_size: 512, output_limit: 2, ..CONFIG });
    let (slow, quick) = (join(&mut server), join(&mut server));
    server.set_window(slow, 0);
    for number in 0..9 {
        server.send(quick, &text(&format!("{number}{}", "x".repeat(300))));
        assert_eq!(heard(&mut server, quick), [format!("{number}x")]);
    }
    let stats = server.stats().topics;
    assert_eq!((stats.disconnected, stats.dropped, stats.replaced), (1, 0, 0));
    assert_eq!((*told.borrow()).as_slice(), ["Lost"]);
    server.set_window(slow, 1 << 20);
    let before = heard(&mut server, slow);
    let all: Vec<_> = (0..9).map(|number| format!("{number}x")).collect();
    assert!(before.len() < 9 && all.starts_with(&before), "without a gap: {before:?}");
    assert!(server.is_ended(slow) && !server.is_ended(quick));
}

#[test]
fn a_handler_aborts_its_connection() {
    let (mut server, told) = hall(&CONFIG);
    let (one, other) = (join(&mut server), join(&mut server));
    server.send(one, &[text("a1"), text("abort"), text("a2")].concat());
    assert!(server.is_reset(one));
    assert_eq!((*told.borrow()).as_slice(), ["Lost"]);
    assert_eq!(heard(&mut server, other), ["a1"], "nothing that follows is received");
    assert_eq!(frames(&server.receive(one)), vec![], "without a close frame");
}

#[test]
fn one_participant_more_than_there_are_subscriptions_is_disconnected() {
    let (mut server, told) = hall(&Config { subscriptions: 1, ..CONFIG });
    let (one, other) = (join(&mut server), join(&mut server));
    assert!(!server.is_ended(one) && server.is_ended(other));
    assert_eq!((*told.borrow()).as_slice(), ["Lost"]);
}
