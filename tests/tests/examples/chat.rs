use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;

use crate::program::Program;

const LINE_MAX: usize = 1_024;

struct Person {
    lines: BufReader<TcpStream>,
}

impl Person {
    fn join(chat: &Program, name: &str) -> Self {
        let mut this = Self { lines: BufReader::new(chat.connect()) };
        assert!(this.hear().starts_with("* welcome"));
        this.say(name);
        this
    }

    fn say(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line.pop(), Some('\n'), "the chat has closed");
        line
    }

    /// Reads `line 0`, `line 1` and so on from each of `p0`, `p1` and so on; the senders may be interleaved in any way.
    fn hear_all(&mut self, people: usize, lines: usize) {
        let mut next = vec![0; people];
        for _ in 0..people * lines {
            let heard = self.hear();
            let (name, line) = heard.split_once(": line ").unwrap_or_else(|| panic!("{heard}"));
            let sayer: usize = name.strip_prefix('p').unwrap().parse().unwrap();
            assert_eq!(line.parse(), Ok(next[sayer]), "{heard}");
            next[sayer] += 1;
        }
        assert_eq!(next, vec![lines; people]);
    }
}

#[test]
fn each_client_gets_every_line_in_its_senders_order() {
    const PEOPLE: usize = 20;
    const LINES: usize = 25;
    let chat = Program::start("chat", &["--pollers", "2"]);
    let mut people: Vec<_> = (0..PEOPLE).map(|index| Person::join(&chat, &format!("p{index}"))).collect();
    for line in 0..LINES {
        for person in &mut people {
            person.say(&format!("line {line}"));
        }
    }
    people.iter_mut().for_each(|person| person.hear_all(PEOPLE, LINES));
    chat.signal("TERM");
    let (code, out, _) = chat.end();
    assert_eq!(code, Some(0));
    assert!(out.ends_with("chat: 500 lines said, 0 dropped for slow readers"), "{out}");
}

#[test]
fn lines_in_a_burst_outrun_the_mailboxes_and_none_is_lost_or_doubled() {
    const LINES: usize = 20_000; // mailboxes hold 4,096
    let chat = Program::start("chat", &["--pollers", "2", "--balancer", "round-robin"]);
    let mut people: Vec<_> = (0..4).map(|index| Person::join(&chat, &format!("p{index}"))).collect();
    thread::scope(|scope| {
        for person in &mut people {
            let mut sayer = person.lines.get_ref().try_clone().unwrap();
            scope.spawn(move || {
                let all: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
                sayer.write_all(all.as_bytes()).unwrap();
            });
            scope.spawn(|| person.hear_all(4, LINES));
        }
    });
}

#[test]
fn an_empty_first_line_leaves_the_name_at_the_address() {
    let chat = Program::start("chat", &["--pollers", "1"]);
    let mut person = Person::join(&chat, "");
    let address = person.lines.get_ref().local_addr().unwrap();
    person.say("hello\x1b[2J");
    assert_eq!(person.hear(), format!("{address}: hello?[2J"));
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_is_accepted() {
    let chat = Program::start("chat", &["--pollers", "1"]);
    let mut person = Person::join(&chat, "me");
    let longest = "x".repeat(LINE_MAX);
    person.say(&longest);
    assert_eq!(person.hear(), format!("me: {longest}"));
    for length in [LINE_MAX + 1, 1 << 20] {
        person.say(&"x".repeat(length));
        assert_eq!(person.hear(), "* refused: a line has 1024 bytes at most");
        person.say("still here");
        assert_eq!(person.hear(), "me: still here");
    }
}

#[test]
fn a_slow_reader_misses_lines_and_learns_how_many() {
    const LINES: u64 = 24_000; // 24 MB: more than the kernel buffers
    let chat = Program::start("chat", &["--pollers", "2"]);
    let (mut slow, mut sayer) = (Person::join(&chat, "slow"), Person::join(&chat, "sayer"));
    let text = "x".repeat(1_000);
    thread::scope(|scope| {
        let mut to = sayer.lines.get_ref().try_clone().unwrap();
        let line = format!("{text}\n");
        // At most 50 lines ahead of those read, so that the quick reader stays quick on a busy machine.
        let (say, heard) = mpsc::sync_channel(50);
        scope.spawn(move || {
            for _ in 0..LINES {
                say.send(()).unwrap();
                to.write_all(line.as_bytes()).unwrap();
            }
        });
        for _ in 0..LINES {
            assert!(sayer.hear().starts_with("sayer: "), "the quick reader gets every line");
            heard.recv().unwrap();
        }
    });
    let (mut heard, mut missed) = (0, 0);
    while heard + missed < LINES {
        let line = slow.hear();
        match line.strip_prefix("* you missed ").and_then(|rest| rest.strip_suffix(" lines")) {
            Some(count) => missed += count.parse::<u64>().unwrap(),
            None => heard += 1,
        }
    }
    assert!(missed > 0);
    assert_eq!(heard + missed, LINES);
    chat.signal("INT");
    let (_, out, _) = chat.end();
    assert!(out.ends_with(&format!("{LINES} lines said, {missed} dropped for slow readers")), "{out}");
}
