//! Each medium, with each version of IP: the frames that wait differ.

use lightcone_core::poller::Alone;
use lightcone_core::{Config, Instant, ListenerId};
use lightcone_smoltcp::smoltcp::phy::Medium;
use lightcone_smoltcp::smoltcp::wire::IpAddress;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

use crate::wire::{Answers, Clients, Echo, SERVER, interface, run, wire};

const CONFIG: Config = Config {
    sockets: 4,
    block_size: 512,
    input_blocks: 4,
    output_blocks: 8,
    receive_blocks: 0,
    ..Config::DEVICE
};
type Memory<'s, T> = StackMemory<'s, T, { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>;

#[test]
fn connections_wait_over_each_medium() {
    for medium in [Medium::Ethernet, Medium::Ip] {
        for to in [IpAddress::v4(10, 0, 0, 1), IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1)] {
            let (mut device, mut there) = wire();
            (device.medium, there.medium) = (medium, medium);
            let mut memory = Memory::new();
            let uplink = Uplink { interface: interface(&mut device, SERVER), device };
            let start = Instant::from_millis(0);
            let mut stack: Stack<'_, _, _> =
                Stack::new(&mut memory, &CONFIG, uplink, Echo::default(), Alone, start).unwrap();
            assert!(stack.listen(7, ListenerId(0)));
            let mut clients = Clients::new(there, 12);
            let mut answers = Answers::ask_at(&mut clients, 12, to, 7, b"hello");
            let now = run(&mut stack, &mut clients, start, |clients, now| {
                answers.look(clients, now);
                answers.count() == 12
            });
            assert_eq!(answers.count(), 12, "{medium:?} {to}");
            assert!(now < Instant::from_millis(500), "{medium:?} {to}: {now:?}");
        }
    }
}
