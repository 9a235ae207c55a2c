//! Process 1 of the virtual machines that test aiops (`cargo xtask vm`, tests/vm/README.md).
//!
//! It only provokes and collects: it starts `aiops trace oom`, makes one OOM kill of the wanted kind,
//! replays the recording, and sends what everybody said (aiops live, aiops replayed, the kernel's log)
//! over the second serial port. The judgement is made outside, by `xtask/src/vm/check.rs`, so that a
//! failure shows both sides whole. The same file, under other names, is the processes that eat memory.
#![allow(
    clippy::print_stderr,
    reason = "process 1 has no other way to speak than the console"
)]

mod capture;
mod child;
mod frames;
mod plane;
mod risk;
mod scenario;
mod setup;
mod subject;
mod tracer;

use std::process::ExitCode;

use frames::Frames;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init();
    } else if let Err(error) = child::run() {
        eprintln!("child: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Never leaves the machine without a verdict if it can be helped: what goes wrong is a frame, too.
fn init() {
    let result = setup::basics()
        .and_then(|()| Frames::open())
        .map(|mut frames| {
            if let Err(error) = scenario::run(&mut frames) {
                let _ = frames.send("error", format!("{error:#}").as_bytes());
            }
            let _ = frames.send("kmsg", setup::kernel_log().as_bytes());
            let _ = frames.send("end", b"");
            frames.drain();
        });
    if let Err(error) = result {
        eprintln!("init: {error:#}");
    }
    setup::leave();
}
