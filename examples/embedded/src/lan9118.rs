//! A driver for the Ethernet controller LAN9118, which moves frames through two queues of words.

use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::registers::Registers;

// The registers, by their offsets.
const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const IRQ_CONFIG: usize = 0x54;
const INTERRUPTS: usize = 0x58;
const INTERRUPT_ENABLE: usize = 0x5c;
const BYTE_ORDER: usize = 0x64;
const QUEUE_LEVELS: usize = 0x68;
const TX_CONFIG: usize = 0x70;
const HARDWARE_CONFIG: usize = 0x74;
const RX_CONTROL: usize = 0x78;
const RX_QUEUE: usize = 0x7c;
const TX_QUEUE: usize = 0x80;
const COUNTER: usize = 0x9c;
const MAC_COMMAND: usize = 0xa4;
const MAC_DATA: usize = 0xa8;

// The registers of the MAC, which are accessed through commands.
const MAC_CONTROL: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;

/// The interrupt for frames in the receive queue.
const RECEIVED: u32 = 1 << 3;

/// The bytes of checksum that the controller appends to a received frame.
const CHECKSUM: usize = 4;

/// The number of times that a register is read while an operation of the controller is in progress.
const PATIENCE: u32 = 100_000;

/// Memory for one frame in each direction. `FRAME` is the maximum size of a frame, headers included; longer ones are
/// dropped. 1514 is Ethernet's maximum. TCP negotiates segments that fit.
pub struct Frames<const FRAME: usize> {
    received: [u8; FRAME],
    sending: [u8; FRAME],
}

impl<const FRAME: usize> Frames<FRAME> {
    /// Creates the memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { received: [0; FRAME], sending: [0; FRAME] }
    }
}

impl<const FRAME: usize> Default for Frames<FRAME> {
    fn default() -> Self {
        Self::new()
    }
}

/// The Ethernet controller.
pub struct Lan9118<'f> {
    registers: Registers<0x100>,
    received: &'f mut [u8],
    sending: &'f mut [u8],
    address: [u8; 6],
}

impl<'f> Lan9118<'f> {
    /// Resets the controller and turns it on. `None` if it does not respond.
    pub(crate) fn start<const FRAME: usize>(
        registers: Registers<0x100>,
        frames: &'f mut Frames<FRAME>,
    ) -> Option<Self> {
        if registers.read(BYTE_ORDER) != 0x8765_4321 {
            return None;
        }
        registers.write(HARDWARE_CONFIG, 1); // reset
        wait(|| registers.read(HARDWARE_CONFIG) & 1 == 0)?;
        registers.write(HARDWARE_CONFIG, 1 << 20 | 5 << 16); // 5 KiB to send
        registers.write(TX_CONFIG, 0b110); // on, without waiting for the program to read each status
        registers.write(QUEUE_LEVELS, 0); // an interrupt from the first frame on
        registers.write(INTERRUPTS, u32::MAX);
        registers.write(INTERRUPT_ENABLE, RECEIVED);
        registers.write(IRQ_CONFIG, 1 << 8 | 1 << 4 | 1); // on, active high, push-pull
        write_mac(&registers, MAC_CONTROL, 1 << 20 | 1 << 3 | 1 << 2)?; // full duplex, send and receive
        let [a, b, c, d] = read_mac(&registers, MAC_ADDRESS_LOW)?.to_le_bytes();
        let [e, f, ..] = read_mac(&registers, MAC_ADDRESS_HIGH)?.to_le_bytes();
        let address = [a, b, c, d, e, f];
        Some(Self { registers, received: &mut frames.received, sending: &mut frames.sending, address })
    }

    /// Returns the address of the controller.
    #[must_use]
    pub const fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Returns a number that depends on the time in units of 40 ns, as a seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.registers.read(COUNTER).into()
    }

    /// Acknowledges interrupts, and returns whether frames wait.
    #[must_use]
    pub fn has_work(&self) -> bool {
        // In this order: a frame that comes after the look raises the interrupt again.
        self.registers.write(INTERRUPTS, RECEIVED);
        self.waiting() > 0
    }

    /// Returns how many frames are in the receive queue.
    fn waiting(&self) -> u32 {
        self.registers.read(RX_QUEUE) >> 16 & 0xff
    }

    /// Takes the next frame that is intact and fits from the queue, and returns its length.
    fn take(&mut self) -> Option<usize> {
        while self.waiting() > 0 {
            let status = self.registers.read(RX_STATUS);
            let length = (status >> 16 & 0x3fff) as usize;
            let words = length.div_ceil(4);
            let frame = length.saturating_sub(CHECKSUM);
            let damaged = status & 1 << 15 != 0;
            if damaged || frame == 0 || frame > self.received.len() {
                self.skip(words);
            } else {
                self.read(frame, words);
                return Some(frame);
            }
        }
        None
    }

    /// Reads the words of a frame, and keeps its bytes without the checksum.
    fn read(&mut self, frame: usize, words: usize) {
        let mut bytes = self.received.iter_mut().take(frame);
        for _ in 0..words {
            let word = self.registers.read(RX_DATA).to_le_bytes();
            for (to, from) in bytes.by_ref().take(4).zip(word) {
                *to = from;
            }
        }
    }

    /// Drops a frame of a number of words.
    fn skip(&mut self, words: usize) {
        if words < 4 {
            // The controller can skip four words or more.
            for _ in 0..words {
                self.registers.read(RX_DATA);
            }
            return;
        }
        self.registers.write(RX_CONTROL, 1 << 31);
        // If the controller does not finish, the next frame is damaged, and its checksum in TCP will show that.
        let _ = wait(|| self.registers.read(RX_CONTROL) >> 31 == 0);
    }

    /// Returns a token to send a frame, if there is room for the longest.
    fn room<'a>(registers: &'a Registers<0x100>, sending: &'a mut [u8]) -> Option<TxToken<'a>> {
        let free = (registers.read(TX_QUEUE) & 0xffff) as usize;
        (free >= sending.len() + 16).then_some(TxToken { registers, frame: sending })
    }
}

/// Waits until a condition holds, for a limited time.
fn wait(condition: impl Fn() -> bool) -> Option<()> {
    (0..PATIENCE).any(|_| condition()).then_some(())
}

fn write_mac(registers: &Registers<0x100>, register: u32, value: u32) -> Option<()> {
    registers.write(MAC_DATA, value);
    registers.write(MAC_COMMAND, 1 << 31 | register);
    wait(|| registers.read(MAC_COMMAND) >> 31 == 0)
}

fn read_mac(registers: &Registers<0x100>, register: u32) -> Option<u32> {
    registers.write(MAC_COMMAND, 1 << 31 | 1 << 30 | register);
    wait(|| registers.read(MAC_COMMAND) >> 31 == 0)?;
    Some(registers.read(MAC_DATA))
}

impl Device for Lan9118<'_> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        // Without room for a response, the frame waits in the queue.
        Self::room(&self.registers, self.sending)?;
        let length = self.take()?;
        let frame = self.received.get(..length)?;
        Some((RxToken { frame }, Self::room(&self.registers, self.sending)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        Self::room(&self.registers, self.sending)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.sending.len();
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// A received frame.
pub struct RxToken<'a> {
    frame: &'a [u8],
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }
}

/// The right to send a frame.
pub struct TxToken<'a> {
    registers: &'a Registers<0x100>,
    frame: &'a mut [u8],
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let length = length.min(self.frame.len()); // the stack keeps to the size in the capabilities
        let (frame, _) = self.frame.split_at_mut(length);
        let result = f(frame);
        let size = length as u32;
        self.registers.write(TX_DATA, 1 << 13 | 1 << 12 | size); // first and last piece of the frame
        self.registers.write(TX_DATA, size);
        for four in frame.chunks(4) {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(four) {
                *to = *from;
            }
            self.registers.write(TX_DATA, u32::from_le_bytes(word));
        }
        result
    }
}
