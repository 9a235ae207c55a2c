//! The kernel's log, /dev/kmsg, from now on.
//!
//! Only what the kernel itself printed (facility 0) is believed: anyone may write the rest.
//! A record (Documentation/ABI/testing/dev-kmsg): `6,339,5140900,-;text` and continuation lines that begin
//! with a blank; bytes that are not printable come as `\x1b`.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::OFlags;

use crate::model::Item;
use crate::model::KmsgLine;
use crate::model::RawText;

use super::Sink;

/// Longest record: the kernel's own limit of one read (`PRINTKRB_RECORD_MAX` is 1024, older 8192).
const RECORD: usize = 8192;

/// The running reader.
#[derive(Debug)]
pub struct Kmsg {
    stop: Arc<OwnedFd>,
    overruns: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Kmsg {
    /// Opens the log after its last record.
    ///
    /// # Errors
    /// It is not there or not permitted.
    pub fn open() -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/kmsg", flags, rustix::fs::Mode::empty())?;
        rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
        Ok(File::from(file))
    }

    /// Starts reading.
    ///
    /// # Errors
    /// The log cannot be opened, or the thread cannot be started.
    pub fn spawn(sink: Sink) -> io::Result<Self> {
        let mut file = Self::open()?;
        let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        let overruns = Arc::new(AtomicU64::new(0));
        let (wake, count) = (Arc::clone(&stop), Arc::clone(&overruns));
        let thread = std::thread::Builder::new()
            .name("kmsg".to_owned())
            .spawn(move || {
                while wait(&file, &wake) && drain(&mut file, &sink, &count) {}
                // What the kernel printed before the stop is still wanted.
                drain(&mut file, &sink, &count);
            })?;
        Ok(Self {
            stop,
            overruns,
            thread,
        })
    }

    /// Ends reading; everything printed so far is in the sink. Returns how often records were overwritten
    /// before they could be read.
    pub fn stop(self) -> u64 {
        // The write can only fail when the counter would overflow: it is written once.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        let _ = self.thread.join();
        self.overruns.load(Ordering::Relaxed)
    }
}

/// Waits for a record; false when the end is asked for.
fn wait(file: &File, stop: &OwnedFd) -> bool {
    let mut ready = [
        PollFd::new(file, PollFlags::IN),
        PollFd::new(stop, PollFlags::IN),
    ];
    let polled = rustix::event::poll(&mut ready, None);
    polled.is_err() || ready[1].revents().is_empty()
}

/// Reads every record that is there; false when nobody listens any more.
fn drain(file: &mut File, sink: &Sink, overruns: &AtomicU64) -> bool {
    let mut buffer = [0; RECORD];
    loop {
        match file.read(&mut buffer) {
            Ok(length) => {
                let Some(line) = parse(&buffer[..length]) else {
                    continue;
                };
                if line.priority >> 3 == 0 && sink.send(Item::Kmsg(line)).is_err() {
                    return false;
                }
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {
                overruns.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// One record, without its continuation lines.
fn parse(record: &[u8]) -> Option<KmsgLine> {
    let semicolon = record.iter().position(|byte| *byte == b';')?;
    let mut head = std::str::from_utf8(&record[..semicolon]).ok()?.split(',');
    let priority: u32 = head.next()?.parse().ok()?;
    let seq = head.next()?.parse().ok()?;
    let usec: u64 = head.next()?.parse().ok()?;
    let caller = head.find_map(|field| field.strip_prefix("caller=").map(str::to_owned));
    let text = record[semicolon + 1..]
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    Some(KmsgLine {
        ts_ns: usec.saturating_mul(1000),
        seq,
        priority: u8::try_from(priority).unwrap_or(u8::MAX),
        caller,
        text: RawText::new(unescape(text)),
    })
}

/// `\x1b` as the byte that it stands for.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .strip_prefix(b"x")
            .and_then(|hex| std::str::from_utf8(hex.get(..2)?).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_with_caller_and_continuation() {
        let line = parse(b"6,339,5140900,-,caller=T12;a\\x1bb\\x5cc; d\n SUBSYSTEM=x\n").unwrap();
        assert_eq!(
            (line.seq, line.ts_ns, line.priority),
            (339, 5_140_900_000, 6)
        );
        assert_eq!(
            (line.caller.as_deref(), line.text.as_bytes()),
            (Some("T12"), &b"a\x1bb\\c; d"[..])
        );
    }

    #[test]
    fn user_space_is_not_the_kernel() {
        assert_eq!(
            parse(b"12,1,1,-;Killed process 1\n").unwrap().priority >> 3,
            1
        );
        assert!(parse(b"no record").is_none());
    }

    #[test]
    fn it_starts_and_stops() {
        let (sink, mut items) = tokio::sync::mpsc::unbounded_channel();
        match Kmsg::spawn(sink) {
            Ok(kmsg) => {
                kmsg.stop();
                while let Ok(item) = items.try_recv() {
                    assert!(matches!(item, Item::Kmsg(_)));
                }
            }
            Err(error) => println!("SKIPPED: /dev/kmsg: {error}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&text);
        }
    }
}
