//! A chat with names: the first line of a socket is its name, which must be free; then `bob hello` sends the text to
//! bob.

use lightcone_core::{Address, CloseReason, Context, Handler, Origin, Socket};

use super::names::Names;
use super::sync::Arc;

pub(crate) struct Chat(pub(crate) Arc<Names>);

impl Handler for Chat {
    type Data = Option<Vec<u8>>; // the name
    type Message = Vec<u8>;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Option<Vec<u8>>> {
        Some(None)
    }

    fn receive(&mut self, socket: &mut Socket<'_, Option<Vec<u8>>>, cx: &mut Context<'_, Vec<u8>>) {
        let token = socket.token();
        let (mut input, mut output, name) = socket.split();
        while let Some(end) = input.bytes().iter().position(|byte| *byte == b'\n') {
            let line = input.bytes()[..end].to_vec();
            input.consume(end + 1);
            let answer: &[u8] = match name {
                None if self.0.join(&line, token) => {
                    *name = Some(line);
                    b"welcome\n"
                }
                None => b"taken\n",
                Some(name) => {
                    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
                    let (to, text) = line.split_at(space);
                    let said = [name, ":".as_bytes(), text, b"\n"].concat();
                    match self.0.of(to).map(|to| cx.post(to, said)) {
                        Some(Ok(())) => b"",
                        Some(Err(_)) | None => b"nobody\n",
                    }
                }
            };
            let _ = output.send(answer); // a peer that does not read misses responses
        }
    }

    fn message(
        &mut self,
        socket: &mut Socket<'_, Option<Vec<u8>>>,
        said: Vec<u8>,
        _: &mut Context<'_, Vec<u8>>,
    ) {
        let _ = socket.send(&said);
    }

    fn close(
        &mut self,
        socket: &mut Socket<'_, Option<Vec<u8>>>,
        _: CloseReason,
        _: &mut Context<'_, Vec<u8>>,
    ) {
        if let Some(name) = socket.data.take() {
            self.0.leave(&name);
        }
    }
}
