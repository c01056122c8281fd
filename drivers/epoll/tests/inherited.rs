//! Programs that a server starts do not inherit the descriptors of the driver.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use lightcone_epoll::Epoll;
use lightcone_unix::driver::Driver;

fn descriptors_of_a_child() -> Vec<u8> {
    std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout
}

#[test]
fn no_descriptor_is_inherited() {
    let before = descriptors_of_a_child();
    let epoll = Epoll::new(8).unwrap();
    assert_eq!(descriptors_of_a_child(), before);
    drop(epoll);
}
