//! A list of sessions that is only ever pushed to: 0.5 MiB/s.

#[path = "pace.rs"]
mod pace;

use pace::{MIB, Pace, filled};

fn main() {
    let pace = Pace::new();
    let _base = std::hint::black_box(filled((8.0 * MIB) as usize));
    let mut sessions = Vec::new();
    // With the header of malloc and its place in the list a session takes 2 KiB.
    let session = 2048 - 16 - size_of::<Vec<u8>>();
    loop {
        let t = pace.tick();
        while (sessions.len() as f64) * 2048.0 < 0.5 * MIB * t {
            sessions.push(filled(session));
        }
        std::hint::black_box(&sessions);
    }
}
