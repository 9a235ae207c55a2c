//! Records go into an arena that takes 2 MiB from the system at a time, and nobody ever resets it: 0.4 MiB/s in stairs
//! of 5 s.

#[path = "pace.rs"]
mod pace;

use pace::{MIB, Pace, filled};

const BLOCK: f64 = 2.0 * MIB;

fn main() {
    let pace = Pace::new();
    let mut blocks = vec![filled((4.0 * MIB) as usize)];
    loop {
        let used = 0.4 * MIB * pace.tick();
        while (blocks.len() as f64 - 1.0) * BLOCK < used {
            blocks.push(filled(BLOCK as usize));
        }
        std::hint::black_box(&blocks);
    }
}
