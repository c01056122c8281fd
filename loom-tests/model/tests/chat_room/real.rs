//! The same handler on real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync;

use core::time::Duration;

use lightcone::Builder;
use sync::Arc;

#[path = "chat.rs"]
mod chat;
#[path = "names.rs"]
mod names;

#[test]
fn the_same_handler_serves_sockets() {
    let names = Arc::new(names::Names::default());
    let engine = Builder::new()
        .pollers(2)
        .sockets(16)
        .start(move |_poller| chat::Chat(Arc::clone(&names)))
        .expect("an engine");
    let at = engine.listen("127.0.0.1:0").expect("a listener").endpoint().to_string();
    let talk = |says: &str, hears: &str| {
        let mut peer = TcpStream::connect(&at).expect("a connection");
        peer.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        peer.write_all(says.as_bytes()).expect("it is read");
        let mut heard = vec![0; hears.len()];
        peer.read_exact(&mut heard).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&heard), hears);
        peer
    };
    let mut bob = talk("bob\n", "welcome\n");
    talk("bob\n", "taken\n");
    let _ann = talk("ann\nbob hello\n", "welcome\n");
    let mut heard = [0; 11];
    bob.read_exact(&mut heard).expect("what ann said");
    assert_eq!(&heard, b"ann: hello\n");
}
