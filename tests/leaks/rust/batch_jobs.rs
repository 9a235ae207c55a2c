//! A job every 4 to 6 s takes 12 to 20 MiB for a second and a half and gives all of it back.

#[path = "pace.rs"]
mod pace;

use pace::{KIB, MIB, Pace, filled};

fn main() {
    let mut pace = Pace::new();
    let _base = std::hint::black_box(filled((8.0 * MIB) as usize));
    let mut job = Vec::new();
    let (mut next, mut end) = (2.0, 0.0);
    loop {
        let t = pace.tick();
        if t >= end {
            job = Vec::new();
        }
        if t >= next {
            let rows = (12.0 + 8.0 * pace.chance()) * MIB / (32.0 * KIB);
            job.extend((0..rows as usize).map(|_| filled((32.0 * KIB) as usize)));
            end = t + 1.5;
            next = t + 4.0 + 2.0 * pace.chance();
        }
        std::hint::black_box(&job);
    }
}
