//! The board of the firmware: ARM's MPS2 with a Cortex-M3 (AN385), as the emulator QEMU has it.
//!
//! [`Board::take`] returns the devices. All unsafe code is in this crate: register access (`registers.rs`), the memory
//! of the stack (`stack.rs`) and the interrupt controller (`sleep.rs`).
#![no_std]

mod clock;
mod lan9118;
mod registers;
mod sleep;
mod stack;

pub use clock::Clock;
pub use lan9118::{Frames, Lan9118};
pub use sleep::sleep;
pub use stack::{StackUse, stack_use};

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};
use registers::Registers;
use smoltcp::iface::{Config, Interface};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

/// The frequency of the processor in Hz.
const FREQUENCY: u32 = 25_000_000;

/// The devices of the board.
pub struct Board<'f> {
    /// The Ethernet controller.
    pub ethernet: Lan9118<'f>,
    /// The time since the start.
    pub clock: Clock,
    /// The user LEDs.
    pub leds: Leds,
    /// The first serial port.
    pub uart: Uart,
    /// Restarts the board when it is not fed.
    pub watchdog: Watchdog,
}

impl<'f> Board<'f> {
    /// Starts the clock, the serial port and the Ethernet controller, and returns the devices. `None` if they were
    /// taken before, or if there is no Ethernet controller.
    #[must_use]
    pub fn take<const FRAME: usize>(frames: &'f mut Frames<FRAME>) -> Option<Self> {
        let processor = cortex_m::Peripherals::take()?;
        // SAFETY: the address is that of the Ethernet controller. `Peripherals::take` has succeeded, which it does
        // once, so nothing else accesses the device.
        let ethernet = unsafe { Registers::at(0x4020_0000) };
        // SAFETY: the same for the inputs and outputs of the board.
        let leds = unsafe { Registers::at(0x4002_8000) };
        // SAFETY: the same for the first serial port.
        let uart = unsafe { Registers::at(0x4000_4000) };
        // SAFETY: the same for the watchdog.
        let watchdog = unsafe { Registers::at(0x4000_8000) };
        Some(Self {
            ethernet: Lan9118::start(ethernet, frames)?,
            clock: Clock::start(processor.SYST),
            leds: Leds(leds),
            uart: Uart::start(uart),
            watchdog: Watchdog::start(watchdog),
        })
    }
}

/// The user LEDs: the two lowest bits of a register.
pub struct Leds(Registers<0x1000>);

impl Leds {
    /// Returns which LEDs are on.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.read(0) & 3
    }

    /// Turns LEDs on and off.
    pub fn set(&mut self, leds: u32) {
        self.0.write(0, leds & 3);
    }
}

/// A serial port.
pub struct Uart(Registers<0x1000>);

impl Uart {
    const DATA: usize = 0x00;
    const STATE: usize = 0x04;
    const CONTROL: usize = 0x08;
    const INTERRUPTS: usize = 0x0c;
    const DIVIDER: usize = 0x10;

    fn start(registers: Registers<0x1000>) -> Self {
        registers.write(Self::DIVIDER, FREQUENCY / 115_200);
        registers.write(Self::CONTROL, 0b11); // transmit and receive
        Self(registers)
    }

    /// Sends text. Waits while the port is busy.
    pub fn print(&mut self, text: &str) {
        self.write(text.as_bytes());
    }

    /// Sends bytes. Waits while the port is busy.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            while self.0.read(Self::STATE) & 1 != 0 {}
            self.0.write(Self::DATA, u32::from(*byte));
        }
    }

    /// Lets received bytes wake the processor.
    pub fn receive_interrupts(&mut self) {
        self.0.write(Self::CONTROL, 0b1011);
    }

    /// Acknowledges interrupts, and returns whether a byte was received.
    #[must_use]
    pub fn has_work(&self) -> bool {
        // In this order: a byte that comes after the look raises the interrupt again.
        self.0.write(Self::INTERRUPTS, 0b10);
        self.0.read(Self::STATE) & 0b10 != 0
    }
}

/// The bytes that were received and not read.
impl Iterator for Uart {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let [byte, ..] = self.has_work().then(|| self.0.read(Self::DATA))?.to_le_bytes();
        Some(byte)
    }
}

/// A watchdog, which restarts the board when it is not fed for some seconds.
pub struct Watchdog(Registers<0x1000>);

impl Watchdog {
    const LOAD: usize = 0x000;
    const CONTROL: usize = 0x008;
    const CLEAR: usize = 0x00c;
    const LOCK: usize = 0xc00;
    /// Half of the time after which the board restarts.
    const SECONDS: u32 = 4;

    fn start(registers: Registers<0x1000>) -> Self {
        registers.write(Self::LOCK, 0x1acc_e551);
        registers.write(Self::LOAD, Self::SECONDS * FREQUENCY);
        registers.write(Self::CONTROL, 0b11); // the first timeout is an interrupt, the second restarts
        Self(registers)
    }

    /// Starts the time again.
    pub fn feed(&mut self) {
        self.0.write(Self::CLEAR, 1);
    }
}

/// Returns the interface for the network of the emulator, in which the board has the address 10.0.2.15.
pub fn interface(ethernet: &mut Lan9118<'_>) -> Interface {
    let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(ethernet.address())));
    config.random_seed = ethernet.seed();
    let mut interface = Interface::new(config, ethernet, Instant::ZERO);
    // There is room for more than one address.
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(10, 0, 2, 15), 24)).unwrap_or(())
    });
    interface
}

/// Restarts the board.
pub fn restart() -> ! {
    SCB::sys_reset()
}

/// Restarts the board after a panic. The message is not read, so that none is in the program.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    restart()
}

/// Restarts the board after a fault, which is also how a panic ends that aborts at once.
#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    restart()
}
