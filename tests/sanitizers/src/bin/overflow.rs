//! Reads one byte after the end of a buffer: AddressSanitizer must report it.

fn main() {
    let buffer = vec![7_u8; std::env::args().count() * 16];
    // SAFETY: none, and that is the point: the buffer ends one byte before.
    println!("{}", unsafe { *buffer.as_ptr().add(buffer.len()) });
}
