//! Sends back whatever comes.
use lightcone_core::{Address, Context, Handler, Origin, Socket};
struct Echo;
impl Handler for Echo {
    type Data = ();
    type Message = core::convert::Infallible;
    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> { Some(()) }
    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
        let (mut input, mut output) = socket.stream.split();
        let n = output.send_some(input.bytes());
        input.consume(n);
    }
    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
        self.receive(socket, cx);
    }
}
fn main() -> Result<(), Box<dyn core::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or("0".into());
    let engine = lightcone_unix::Builder::<lightcone_native::Native>::new().pollers(1).start(|_| Echo)?;
    let listener = engine.listen(format!("127.0.0.1:{port}"))?;
    println!("listening on {}", listener.endpoint());
    engine.join();
    Ok(())
}
