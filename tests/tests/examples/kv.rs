use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::program::{Program, assert_same};
use lightcone_tests::streams::{pattern, read, read_to_end};

const MEBIBYTE: usize = 1 << 20;
/// The drivers, and threads of its own for the commands.
const WAYS: &[&[&str]] = if cfg!(target_os = "linux") {
    &[&["--driver", "epoll"], &["--driver", "select"], &["--workers", "2"]]
} else {
    &[&["--driver", "native"], &["--workers", "2"]]
};

fn start(arguments: &[&str]) -> Program {
    Program::start("kv", &[&["--pollers", "2", "--max-connections", "100"], arguments].concat())
}

/// Sends commands and expects these replies.
fn talk(client: &mut TcpStream, commands: &str, replies: &str) {
    client.write_all(commands.as_bytes()).unwrap();
    let got = read(&*client, replies.len());
    assert_eq!(String::from_utf8_lossy(&got), replies, "{commands:?}");
}

/// Returns a command that stores a value.
fn set(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// Returns a count of the server.
fn stat(client: &TcpStream, name: &str) -> usize {
    (&mut &*client).write_all(b"stats\r\n").unwrap();
    let mut found = None;
    for line in BufReader::new(client).lines().map(Result::unwrap).take_while(|line| line != "END") {
        if let Some(value) = line.strip_prefix(&format!("STAT {name} ")) {
            found = Some(value.parse().unwrap());
        }
    }
    found.unwrap()
}

#[test]
fn every_command_works_by_every_driver_and_on_workers() {
    for way in WAYS {
        let kv = start(way);
        let mut one = kv.connect();
        talk(&mut one, "set a 5 0 3\r\nabc\r\nget a b\r\n", "STORED\r\nVALUE a 5 3\r\nabc\r\nEND\r\n");
        talk(&mut one, "add a 0 0 1\r\nx\r\nreplace b 0 0 1\r\nx\r\n", "NOT_STORED\r\nNOT_STORED\r\n");
        talk(&mut one, "append a 0 0 1\r\nd\r\nprepend a 0 0 1\r\n0\r\n", "STORED\r\nSTORED\r\n");
        // Another connection, which another poller serves, has the same table.
        let mut two = kv.connect();
        talk(&mut two, "get a\r\n", "VALUE a 5 5\r\n0abcd\r\nEND\r\n");
        talk(&mut two, "set n 0 0 1 noreply\r\n9\r\nincr n 1\r\ndecr n 11\r\n", "10\r\n0\r\n");
        talk(
            &mut two,
            "touch a 100\r\ntouch none 1\r\ngat 0 n\r\n",
            "TOUCHED\r\nNOT_FOUND\r\nVALUE n 0 1\r\n0\r\nEND\r\n",
        );
        talk(
            &mut two,
            "incr a 1\r\nincr none 1\r\n",
            "CLIENT_ERROR cannot increment or decrement non-numeric value\r\nNOT_FOUND\r\n",
        );
        talk(
            &mut two,
            "delete a\r\ndelete a\r\nflush_all\r\nget n\r\n",
            "DELETED\r\nNOT_FOUND\r\nOK\r\nEND\r\n",
        );
        talk(&mut two, "verbosity 1\r\nversion\r\nnonsense\r\n", "OK\r\nVERSION 0.1.0\r\nERROR\r\n");
        two.write_all(b"quit\r\n").unwrap();
        assert_eq!(read_to_end(&two), b"");
    }
}

/// A client that wants no reply would take an error for the reply to its next command.
#[test]
fn a_refused_upload_without_a_reply_has_none() {
    let kv = start(&[]);
    let mut client = kv.connect();
    let long = "x".repeat((1 << 20) + 1);
    let refused = format!("set a 0 0 {} noreply\r\n{long}\r\nget a\r\n", long.len());
    talk(&mut client, &refused, "END\r\n");
    talk(&mut client, "set a 0 0 1 noreply\r\nxy\r\nget a\r\n", "END\r\n");
    talk(&mut client, "set a 0 0 1\r\nxy\r\nget a\r\n", "CLIENT_ERROR bad data chunk\r\nEND\r\n");
}

/// One callback runs a limited number of commands; the others follow.
#[test]
fn thousands_of_commands_may_come_at_once() {
    for way in WAYS {
        let kv = start(way);
        let mut client = kv.connect();
        talk(&mut client, "set n 0 0 1\r\n0\r\n", "STORED\r\n");
        let all = format!("{}get n\r\n", "incr n 1 noreply\r\n".repeat(6_000));
        talk(&mut client, &all, "VALUE n 0 4\r\n6000\r\nEND\r\n");
    }
}

#[test]
fn a_version_is_stored_over_once() {
    let kv = start(&[]);
    let mut client = kv.connect();
    client.write_all(b"set a 0 0 1\r\n1\r\ngets a\r\n").unwrap();
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "STORED");
    let heading = lines.next().unwrap();
    let unique = heading.strip_prefix("VALUE a 0 1 ").unwrap_or_else(|| panic!("{heading}"));
    assert_eq!([lines.next().unwrap(), lines.next().unwrap()], ["1", "END"]);
    let cas = format!("cas a 0 0 1 {unique}\r\n2\r\n");
    talk(&mut client, &cas.repeat(2), "STORED\r\nEXISTS\r\n");
    talk(&mut client, "cas b 0 0 1 1\r\n2\r\nget a\r\n", "NOT_FOUND\r\nVALUE a 0 1\r\n2\r\nEND\r\n");
}

#[test]
fn items_expire() {
    let kv = start(&[]);
    let mut client = kv.connect();
    talk(&mut client, "set a 0 -1 1\r\nx\r\nset b 0 1 1\r\nx\r\n", "STORED\r\nSTORED\r\n");
    talk(&mut client, "get a\r\n", "END\r\n");
    // At once for a point in time that has passed, later for a span of a second.
    talk(&mut client, "set c 0 1000000000 1\r\nx\r\nget c\r\n", "STORED\r\nEND\r\n");
    talk(&mut client, "set d 0 4000000000 1\r\nx\r\nget d\r\n", "STORED\r\nVALUE d 0 1\r\nx\r\nEND\r\n");
    for _ in 0..1_000 {
        client.write_all(b"get b\r\n").unwrap();
        let mut reply = read(&client, 5);
        if reply == b"END\r\n" {
            return;
        }
        reply.extend(read(&client, 16));
        assert_eq!(reply, b"VALUE b 0 1\r\nx\r\nEND\r\n");
        std::thread::sleep(core::time::Duration::from_millis(10));
    }
    panic!("the item does not expire");
}

#[test]
fn commands_arrive_in_any_pieces() {
    let kv = start(&[]);
    let commands = b"set a 1 0 4\r\na\r\nb\r\nget a\r\nset b 0 0 2\r\nlong\r\nget b\r\n";
    let replies = b"STORED\r\nVALUE a 1 4\r\na\r\nb\r\nEND\r\nCLIENT_ERROR bad data chunk\r\nEND\r\n";
    for cut in 0..commands.len() {
        let (first, second) = commands.split_at(cut);
        let mut client = kv.connect();
        client.set_nodelay(true).unwrap();
        client.write_all(first).unwrap();
        client.write_all(second).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client), replies, "cut at {cut}");
    }
}

#[test]
fn values_of_a_mebibyte_come_back_and_larger_ones_are_refused() {
    for way in WAYS {
        let kv = start(way);
        let mut client = kv.connect();
        let value = pattern(1, MEBIBYTE);
        client.write_all(&set("a", &value)).unwrap();
        assert_eq!(read(&client, 8), b"STORED\r\n");
        client.write_all(b"get a\r\n").unwrap();
        let reply = read(&client, 19 + MEBIBYTE + 7);
        assert_same(&reply[19..], &[&value[..], b"\r\nEND\r\n"].concat());
        client.write_all(&set("a", &pattern(2, MEBIBYTE + 1))).unwrap();
        // The value is skipped, and a stale one is not kept.
        talk(&mut client, "get a\r\n", "SERVER_ERROR object too large for cache\r\nEND\r\n");
    }
}

#[test]
fn requests_in_a_pipeline_wait_for_a_reader_that_is_slow() {
    const VALUES: usize = 64;
    let kv = start(&["--memory", "16"]);
    let mut client = kv.connect();
    let value = pattern(3, MEBIBYTE);
    client.write_all(&set("a", &value)).unwrap();
    assert_eq!(read(&client, 8), b"STORED\r\n");
    client.write_all("get a\r\n".repeat(VALUES).as_bytes()).unwrap();
    // 64 MiB wait for this client, none of which is in the server's buffers; others are served meanwhile.
    let mut other = kv.connect();
    talk(&mut other, "set b 0 0 1\r\nx\r\nget b\r\n", "STORED\r\nVALUE b 0 1\r\nx\r\nEND\r\n");
    #[cfg(target_os = "linux")]
    assert!(kv.resident_bytes() < 48 * MEBIBYTE, "{}", kv.resident_bytes());
    client.shutdown(Shutdown::Write).unwrap();
    let each = 19 + MEBIBYTE + 7;
    let mut reply = vec![0; each];
    for _ in 0..VALUES {
        client.read_exact(&mut reply).unwrap();
        assert_same(&reply[19..each - 7], &value);
    }
    assert_eq!(read_to_end(&client), b"");
}

#[test]
fn memory_stays_within_its_limit_and_new_items_replace_old_ones() {
    const LIMIT: usize = 16 * MEBIBYTE;
    let kv = start(&["--memory", "16"]);
    let client = kv.connect();
    let mut writer = client.try_clone().unwrap();
    // 64 MiB in items of 4 KiB, then 400,000 small ones.
    let fill = std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..16_384 {
                writer.write_all(&set(&format!("large{number}"), &[b'x'; 4_096])).unwrap();
            }
            for number in 0..400_000 {
                writer.write_all(&set(&format!("small{number}"), b"x")).unwrap();
            }
        });
        read(&client, 8 * (16_384 + 400_000))
    });
    assert!(fill.chunks(8).all(|reply| reply == b"STORED\r\n"));
    let (bytes, items) = (stat(&client, "bytes"), stat(&client, "curr_items"));
    assert!(bytes <= LIMIT && bytes > LIMIT * 9 / 10, "{bytes} bytes");
    assert!(items > 50_000 && items < 200_000, "{items} items");
    assert!(stat(&client, "evictions") > 200_000);
    // The limit counts what the items occupy: the rest is the program itself with its buffers.
    #[cfg(target_os = "linux")]
    assert!(kv.resident_bytes() < LIMIT + 24 * MEBIBYTE, "{}", kv.resident_bytes());
    let mut client = client;
    talk(&mut client, "get small399999\r\n", "VALUE small399999 0 1\r\nx\r\nEND\r\n");
    talk(&mut client, "get large0\r\n", "END\r\n");
}

#[test]
fn a_signal_lets_what_was_asked_for_be_sent() {
    let kv = start(&[]);
    let mut client = kv.connect();
    let value = pattern(4, MEBIBYTE);
    client.write_all(&set("a", &value)).unwrap();
    assert_eq!(read(&client, 8), b"STORED\r\n");
    client.write_all("get a\r\n".repeat(8).as_bytes()).unwrap();
    let begun = read(&client, 19); // the server has received the commands
    assert_eq!(begun, b"VALUE a 0 1048576\r\n");
    kv.signal("TERM");
    let rest = read_to_end(&client);
    assert_same(&rest[..MEBIBYTE], &value);
    assert_eq!(rest.len(), 8 * (19 + MEBIBYTE + 7) - 19);
    drop(client);
    let (code, out, err) = kv.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("stopped: 1 opened, 1 drained, 0 aborted, 0 bytes lost"), "{out}");
}
