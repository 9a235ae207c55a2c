//! What leaves the machine: named byte strings on the second serial port.
//!
//! A frame is `@frame NAME LENGTH\n`, LENGTH bytes and `\n`. The port is the program's alone and raw, so
//! the kernel's own console output cannot come in between. The last frame is `end`: without it the
//! machine died before its verdict.

use std::fs::File;
use std::io::Write as _;

use anyhow::Context as _;

/// The port.
#[derive(Debug)]
pub(crate) struct Frames {
    port: File,
}

impl Frames {
    /// Opens the second serial port.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let port = File::options()
            .read(true)
            .write(true)
            .open("/dev/ttyS1")
            .context("cannot open /dev/ttyS1")?;
        let mut settings = rustix::termios::tcgetattr(&port).context("ttyS1 is no terminal")?;
        settings.make_raw();
        rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &settings)
            .context("ttyS1 cannot be made raw")?;
        Ok(Self { port })
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let header = format!("@frame {name} {}\n", bytes.len());
        self.port
            .write_all(header.as_bytes())
            .and_then(|()| self.port.write_all(bytes))
            .and_then(|()| self.port.write_all(b"\n"))
            .with_context(|| format!("cannot send {name}"))
    }

    /// Waits until all of it has left the machine.
    pub(crate) fn drain(&self) {
        let _ = rustix::termios::tcdrain(&self.port);
    }
}
