//! A buffer of 64 KiB and a file for each connection, and as many connections as the load asks for: it swings with a
//! period of 18 s and some noise. Memory follows it, up and down.

#[path = "pace.rs"]
mod pace;

use std::fs::File;

use pace::{KIB, Pace, filled};

fn main() {
    let mut pace = Pace::new();
    // Room for all of them at once: what moved later would stand in the way of what is given back.
    let mut connections = Vec::with_capacity(512);
    loop {
        let t = pace.tick();
        let swing = (t * std::f64::consts::TAU / 18.0).sin();
        let wanted = 200.0 * (1.0 + 0.6 * swing) + 20.0 * pace.chance();
        while (connections.len() as f64) < wanted {
            let socket = File::open("/dev/null").expect("/dev/null");
            connections.push((filled((64.0 * KIB) as usize), socket));
        }
        connections.truncate(wanted as usize);
        std::hint::black_box(&connections);
    }
}
