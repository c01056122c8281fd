//! Topics in simulated engines, with subscribers of every speed: whatever the seed, every subscriber is called for each
//! message in the order of its publisher and in time, however slow others are, and what each policy takes away is
//! counted exactly.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::{
    Address, Backlog, CloseReason, Config, Context, Handler, Instant, LagPolicy, Origin, PollerId, Rejected,
    Socket, Stats, SubscribeError, Timeouts, TimerId, Topic, TopicStats, Unpublished,
};
use lightcone_sim::{Engine, Reading, Script, Sim, check};

const NEWS: Topic = Topic(7);
/// How many messages each poller publishes.
const COUNT: u32 = 60;
/// The time between two of them.
const EVERY: Duration = Duration::from_millis(20);
/// The time within which a message reaches every subscriber, whatever the others do.
const IN_TIME: Duration = Duration::from_secs(2);
/// How many messages wait for a slow subscriber.
const WAITING_MAX: usize = 3;
const POLICIES: [LagPolicy; 3] = [LagPolicy::DropOldest, LagPolicy::KeepNewest, LagPolicy::Disconnect];

/// A message: its publisher, its number there, and when it was published.
#[derive(Clone, Copy, Debug)]
struct News {
    from: PollerId,
    number: u32,
    at: Instant,
}

/// What the handlers of all pollers have seen.
#[derive(Default)]
struct Ledger {
    admitted: Cell<usize>,
    published: Cell<u64>,
    /// The sum over all subscribers.
    heard: Cell<u64>,
    /// The number of messages lost by each policy; of the last, that of subscribers that were too slow.
    lost: [Cell<u64>; 3],
    /// The wrong things that were seen.
    wrong: RefCell<Vec<String>>,
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

struct Publisher {
    me: PollerId,
    ledger: Rc<Ledger>,
    next: u32,
    waiting: Option<Unpublished<News>>,
}

struct Subscriber {
    policy: usize,
    backlog: Backlog<News, WAITING_MAX>,
    /// The number of the last message of each publisher.
    last: [Option<u32>; 4],
    heard: u64,
    sent: u64,
    too_slow: bool,
}

impl Publisher {
    fn send(socket: &mut Socket<'_, Subscriber>) {
        let (_, mut output, subscriber) = socket.split();
        let sent = &mut subscriber.sent;
        subscriber.backlog.drain(|news| {
            writeln!(output, "{} {:08}", news.from, news.number)?;
            *sent += 1;
            Ok(())
        });
    }
}

impl Handler for Publisher {
    type Data = Subscriber;
    type Message = News;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Subscriber> {
        let policy = self.ledger.admitted.replace(self.ledger.admitted.get() + 1) % POLICIES.len();
        let backlog = Backlog::new(POLICIES[policy]);
        Some(Subscriber { policy, backlog, last: [None; 4], heard: 0, sent: 0, too_slow: false })
    }

    fn started(&mut self, cx: &mut Context<'_, News>) {
        cx.set_timer(cx.now() + EVERY, 0).expect("one timer at a time");
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, News>) {
        if self.waiting.is_none() && self.next < COUNT {
            let news = News { from: self.me, number: self.next, at: cx.now() };
            self.next += 1;
            self.waiting = Some(Unpublished::new(NEWS, news, News::clone));
        }
        let Some(news) = self.waiting.take() else { return };
        let again = match cx.publish_rest(news) {
            Err(Rejected::Full(rest)) => {
                self.waiting = Some(rest);
                Duration::from_millis(1)
            }
            Ok(()) => {
                add(&self.ledger.published, 1);
                EVERY
            }
            Err(_gone) => return,
        };
        cx.set_timer(cx.now() + again, 0).expect("one timer at a time");
    }

    fn open(&mut self, socket: &mut Socket<'_, Subscriber>, cx: &mut Context<'_, News>) {
        match cx.subscribe(NEWS, socket.token()) {
            Ok(()) => {}
            Err(SubscribeError::Gone) => socket.close(), // it could not be watched
            Err(error) => panic!("there is room for each socket: {error}"),
        }
    }

    fn message(&mut self, socket: &mut Socket<'_, Subscriber>, news: News, cx: &mut Context<'_, News>) {
        let subscriber = &mut *socket.data;
        let last = &mut subscriber.last[usize::from(news.from.0)];
        let is_next = last.is_none_or(|last| last + 1 == news.number);
        *last = Some(news.number);
        if !is_next || cx.now() > news.at + IN_TIME {
            self.ledger
                .wrong
                .borrow_mut()
                .push(format!("{news:?} after {last:?} at {}", cx.now().as_millis()));
        }
        subscriber.heard += 1;
        add(&self.ledger.heard, 1);
        if subscriber.backlog.push(news, cx).is_err() {
            if !subscriber.too_slow {
                add(&self.ledger.lost[2], 1);
            }
            subscriber.too_slow = true;
            return socket.abort();
        }
        Self::send(socket);
    }

    fn writable(&mut self, socket: &mut Socket<'_, Subscriber>, _: &mut Context<'_, News>) {
        Self::send(socket);
    }

    fn close(&mut self, socket: &mut Socket<'_, Subscriber>, _: CloseReason, _: &mut Context<'_, News>) {
        let subscriber = &*socket.data;
        let (lost, waiting) = (subscriber.backlog.lost(), subscriber.backlog.len() as u64);
        let accounted = subscriber.sent + lost + waiting;
        if accounted != subscriber.heard && !subscriber.too_slow {
            self.ledger.wrong.borrow_mut().push(format!("{accounted} of {}", subscriber.heard));
        }
        add(&self.ledger.lost[subscriber.policy], lost);
    }
}

/// Checks the lines that a client receives: those of each publisher in order.
fn listen(script: Script) -> Script {
    let (mut connection, mut line, mut last) = (0, Vec::new(), [None; 4]);
    script.checked(move |now, bytes| {
        if now != connection {
            (connection, line, last) = (now, Vec::new(), [None; 4]);
        }
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            let parts = text
                .split_once(' ')
                .and_then(|(from, number)| Some((from.parse::<usize>().ok()?, number.parse::<u32>().ok()?)));
            let Some((from, number)) = parts else { panic!("streams: {text:?}") };
            assert!(last[from].is_none_or(|last| last < number), "streams: {number} after {:?}", last[from]);
            last[from] = Some(number);
        }
    })
}

/// Runs a scenario, and returns what the handlers have seen, with the sum of the counts of the pollers.
fn run(sim: &mut Sim<'_>) -> (Rc<Ledger>, TopicStats) {
    let ledger: Rc<Ledger> = Rc::default();
    let drawn = sim.drawn_engine();
    let timeouts = Timeouts { first_byte: None, ..Timeouts::DEFAULT };
    let config = Config { block_size: drawn.config.block_size.max(64), timeouts, ..drawn.config };
    let engine = Engine { config, ..drawn };
    let shared = Rc::clone(&ledger);
    let id =
        sim.engine(engine, move |me| Publisher { me, ledger: Rc::clone(&shared), next: 0, waiting: None });
    let address = ([192, 0, 2, 1], 80).into();
    sim.listen(id, address);
    for _ in 0..12 {
        let after = Duration::from_millis(sim.draw(500).into());
        let script = listen(Script::to(address).after(after));
        let stay = Duration::from_millis(sim.draw(2_000).into());
        let script = match sim.draw(5) {
            1 => script.reading(Reading::Slowly { bytes: 4, every: Duration::from_millis(40) }).pause(stay),
            2 => script.reading(Reading::Never).pause(Duration::from_secs(40)),
            3 => script.pause(stay).reset(),
            _ => script.pause(stay).half_close().until_end(),
        };
        sim.peer(script);
    }
    let (all, pollers) = (Rc::clone(&ledger), engine.pollers as u64);
    sim.must("everything is published", move || all.published.get() == pollers * u64::from(COUNT));
    sim.finish();
    let mut sum = TopicStats::default();
    for Stats { topics, .. } in sim.stats(id) {
        sum.subscribed += topics.subscribed;
        sum.unsubscribed += topics.unsubscribed;
        sum.published += topics.published;
        sum.delivered += topics.delivered;
        sum.dropped += topics.dropped;
        sum.replaced += topics.replaced;
        sum.disconnected += topics.disconnected;
    }
    assert_eq!(
        sum.published,
        pollers * pollers * u64::from(COUNT),
        "each poller has taken each message once"
    );
    (ledger, sum)
}

#[test]
fn slow_subscribers_delay_no_one_and_every_loss_is_counted() {
    let totals = RefCell::new(TopicStats::default());
    check(0..150, |sim| {
        let (ledger, stats) = run(sim);
        let wrong = ledger.wrong.borrow();
        assert!(wrong.is_empty(), "messages: {wrong:?}");
        let seen = ledger.lost.each_ref().map(Cell::get);
        assert_eq!([stats.dropped, stats.replaced, stats.disconnected], seen, "counts: of what was lost");
        assert_eq!(stats.delivered, ledger.heard.get(), "counts: of deliveries");
        assert_eq!(stats.subscribed, stats.unsubscribed, "counts: of subscriptions");
        let mut totals = totals.borrow_mut();
        totals.dropped += stats.dropped;
        totals.replaced += stats.replaced;
        totals.disconnected += stats.disconnected;
        totals.delivered += stats.delivered;
    });
    let totals = totals.into_inner();
    let least = totals.dropped.min(totals.replaced).min(totals.disconnected).min(totals.delivered);
    assert!(least > 20, "the runs have not shown each policy: {totals:?}");
}
