//! The clock of a program under test: see `../c/pace.h`.
#![allow(dead_code, reason = "no program needs all of it")]

use std::time::{Duration, Instant};

pub const KIB: f64 = 1024.0;
pub const MIB: f64 = 1024.0 * KIB;

pub struct Pace {
    begun: Instant,
    scale: f64,
    state: u64,
}

impl Pace {
    pub fn new() -> Self {
        let scale = std::env::var("LEAKS_SCALE").ok();
        let scale = scale.map_or(1.0, |text| text.parse().expect("LEAKS_SCALE is a number"));
        Self {
            begun: Instant::now(),
            scale,
            state: 88_172_645_463_325_252,
        }
    }

    /// Sleeps a tick, and gives seconds of the program's time since the start.
    pub fn tick(&self) -> f64 {
        std::thread::sleep(Duration::from_secs_f64((0.04 * self.scale).min(0.5)));
        self.begun.elapsed().as_secs_f64() / self.scale
    }

    /// 0 to 1, always the same row of numbers.
    pub fn chance(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as f64 / 9_007_199_254_740_992.0
    }
}

/// Memory that is really there: not zeroes, which need no page.
pub fn filled(bytes: usize) -> Vec<u8> {
    vec![0x5a; bytes]
}
