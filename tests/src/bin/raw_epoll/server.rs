//! The server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::thread;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const BODY: &[u8] = b"Hello, World!";
const EVENTS: usize = 256;
const BUFFER: usize = 64 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Serves forever.
pub(super) fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let alone = arguments.next_if(|name| name == "--alone").is_some();
    let mut listen = "127.0.0.1:0".to_owned();
    let mut response = RESPONSE.to_vec();
    while let Some(name) = arguments.next() {
        match (name.as_str(), arguments.next()) {
            ("--listen", Some(value)) => listen = value,
            ("--answer", Some(value)) => response = padded(value.parse().map_err(io::Error::other)?)?,
            // Accepted so that it can be started like the other servers, but ignored: one thread serves.
            ("--driver", Some(_)) | ("--pollers", Some(_)) => {}
            _ => return Err(io::Error::new(ErrorKind::InvalidInput, format!("{name}: not understood"))),
        }
    }
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    println!("listening on http://{}", listener.local_addr()?);
    let server = Server {
        listener,
        epoll: Epoll::new()?,
        connections: Vec::new(),
        buffer: vec![0; BUFFER],
        responses: response.repeat(BUFFER / HEAD_END.len()),
        length: response.len(),
    };
    if alone {
        return server.serve();
    }
    thread::scope(|scope| {
        scope.spawn(|| server.serve()).join().map_err(|_| io::Error::other("the thread has panicked"))?
    })
}

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    /// The connections, indexed by their descriptors.
    connections: Vec<Option<TcpStream>>,
    buffer: Vec<u8>,
    responses: Vec<u8>,
    /// The length of one response.
    length: usize,
}

/// Returns the response padded to `length` bytes by an additional field, if it is not as long already.
fn padded(length: usize) -> io::Result<Vec<u8>> {
    const FIELD: &str = "X-Padding: \r\n";
    if length == RESPONSE.len() {
        return Ok(RESPONSE.to_vec());
    }
    let Some(padding) = length.checked_sub(RESPONSE.len() + FIELD.len()) else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too short for a padded answer"));
    };
    let (head, body) = RESPONSE.split_at(RESPONSE.len() - BODY.len() - b"\r\n".len());
    let field = format!("X-Padding: {}\r\n", "x".repeat(padding));
    Ok([head, field.as_bytes(), body].concat())
}

impl Server {
    fn serve(mut self) -> io::Result<()> {
        self.epoll.add(self.listener.as_raw_fd())?;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        loop {
            for event in self.epoll.wait(&mut events)? {
                self.event(usize::try_from(event.u64).map_err(io::Error::other)?)?;
            }
        }
    }

    fn event(&mut self, index: usize) -> io::Result<()> {
        let Some(slot @ Some(_)) = self.connections.get_mut(index) else {
            return self.accept();
        };
        let Some(stream) = slot else { return Ok(()) };
        if answer(stream, &mut self.buffer, &self.responses, self.length).is_err() {
            // Closing the descriptor also removes it from the epoll set.
            *slot = None;
        }
        Ok(())
    }

    /// Accepts all waiting connections.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.epoll.add(stream.as_raw_fd())?;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            if let Some(slot) = self.connections.get_mut(index) {
                *slot = Some(stream);
            }
        }
    }
}

fn answer(stream: &mut TcpStream, buffer: &mut [u8], responses: &[u8], length: usize) -> io::Result<()> {
    let n = match stream.read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(n) => n,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let requests = buffer.get(..n).map_or(0, head_ends);
    responses.get(..requests * length).map_or(Ok(()), |bytes| stream.write_all(bytes))
}

/// Counts the ends of heads in `bytes`. Checks every fourth byte, and the bytes around it only where an end is
/// possible.
fn head_ends(bytes: &[u8]) -> usize {
    let (mut found, mut last) = (0, HEAD_END.len() - 1);
    while let Some(byte) = bytes.get(last) {
        last += match byte {
            b'\n' if bytes.get(last - 3..=last) == Some(HEAD_END) => {
                found += 1;
                4
            }
            b'\n' => 2,
            b'\r' => 1,
            _ => 4,
        };
    }
    found
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointer.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `checked` passes only a valid descriptor, which nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers for input. Returns the descriptor as the number that is reported with its events.
    fn add(&self, fd: RawFd) -> io::Result<usize> {
        let key = fd.unsigned_abs();
        let mut event = libc::epoll_event { events: libc::EPOLLIN.unsigned_abs(), u64: key.into() };
        // SAFETY: `event` is a live epoll_event, which the call only reads.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        usize::try_from(key).map_err(io::Error::other)
    }

    fn wait<'a>(&self, events: &'a mut [libc::epoll_event; EVENTS]) -> io::Result<&'a [libc::epoll_event]> {
        let room = i32::try_from(EVENTS).map_err(io::Error::other)?;
        // SAFETY: `events` has room for the `room` events that the call may write.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, -1) };
        match checked(n) {
            Ok(n) => Ok(usize::try_from(n).ok().and_then(|n| events.get(..n)).unwrap_or(&[])),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
