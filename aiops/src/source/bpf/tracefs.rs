//! The kernel's tracing file system: ids and record formats of its classic tracepoints.
//!
//! A host need not have it mounted. [`with_tracefs`] then mounts it for one thread alone, in a
//! mount namespace of that thread's own, so that nothing changes for anybody else.

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Where the file system is mounted by convention, newest first.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A mounted tracing file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracefs {
    root: PathBuf,
}

impl Tracefs {
    /// The mounted one, if this process can see it and may read it.
    #[must_use]
    pub fn open() -> Option<Self> {
        PLACES.iter().find_map(|place| Self::at(Path::new(place)))
    }

    /// The one mounted at `root`.
    #[must_use]
    pub fn at(root: &Path) -> Option<Self> {
        let root = root.to_owned();
        root.join("events").is_dir().then_some(Self { root })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Number of a tracepoint, as `perf_event_open` takes it; `None` when the kernel lacks it.
    #[must_use]
    pub fn event_id(&self, category: &str, name: &str) -> Option<u64> {
        self.read(category, name, "id")?.trim().parse().ok()
    }

    /// Record format of a tracepoint; `None` when the kernel lacks it.
    #[must_use]
    pub fn format(&self, category: &str, name: &str) -> Option<Format> {
        Some(Format::parse(&self.read(category, name, "format")?))
    }

    fn read(&self, category: &str, name: &str, file: &str) -> Option<String> {
        let path = self
            .root
            .join("events")
            .join(category)
            .join(name)
            .join(file);
        std::fs::read_to_string(path).ok()
    }
}

/// Fields of a tracepoint's record, from its `format` file (kernel: `kernel/trace/trace_events.c`,
/// `f_show`):
///
/// ```text
/// name: mark_victim
/// ID: 512
/// format:
///         field:unsigned short common_type;       offset:0;       size:2; signed:0;
///         field:int common_pid;   offset:4;       size:4; signed:1;
///
///         field:int pid;  offset:8;       size:4; signed:1;
///         field:__data_loc char[] comm;   offset:12;      size:4; signed:0;
///         field:unsigned long total_vm;   offset:16;      size:8; signed:0;
///
/// print fmt: "pid=%d comm=%s total-vm=%lukB …", REC->pid, …
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// In the order of the file, the common ones first.
    pub fields: Vec<Field>,
}

/// One line `field:` of a [`Format`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, without its type and without `[16]`.
    pub name: String,
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Whether the kernel calls it signed.
    pub signed: bool,
}

impl Format {
    /// Reads the text of a `format` file; lines that are no fields are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self {
            fields: text.lines().filter_map(parse_field).collect(),
        }
    }

    /// The field with this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

fn parse_field(line: &str) -> Option<Field> {
    let mut parts = line
        .trim()
        .strip_prefix("field:")?
        .split(';')
        .map(str::trim);
    let declared = parts.next()?;
    let name = declared.rsplit([' ', '*']).next()?.split('[').next()?;
    let (mut offset, mut size, mut signed) = (None, None, false);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", value)) => offset = value.parse().ok(),
            Some(("size", value)) => size = value.parse().ok(),
            Some(("signed", value)) => signed = value == "1",
            _ => {}
        }
    }
    Some(Field {
        name: name.to_owned(),
        offset: offset?,
        size: size?,
        signed,
    })
}

/// Runs `f` where tracefs can be read: here when it is mounted, else on a thread that mounts it for
/// itself alone. A tracepoint attached inside `f` stays attached afterwards.
///
/// # Errors
/// It is not mounted and this process may not mount it (needs `CAP_SYS_ADMIN`), or the kernel has no
/// tracefs.
pub fn with_tracefs<T: Send>(f: impl FnOnce(&Tracefs) -> T + Send) -> io::Result<T> {
    if let Some(tracefs) = Tracefs::open() {
        return Ok(f(&tracefs));
    }
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("tracefs".to_owned())
            .spawn_scoped(scope, || Ok(f(&mount_for_this_thread()?)))?;
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Gives the calling thread a mount namespace of its own with tracefs in it.
fn mount_for_this_thread() -> io::Result<Tracefs> {
    let place = Path::new(PLACES[0]);
    // SAFETY: only the file-system context and the mount namespace of this thread are separated;
    // descriptors and memory stay shared, so nothing that Rust relies on changes.
    unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount("tracefs", place, "tracefs", MountFlags::empty(), None)?;
    Tracefs::at(place).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "name: sched_process_fork\nID: 310\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:char parent_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:pid_t parent_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
        \tfield:const char * what;\toffset:32;\tsize:8;\tsigned:0;\n\
        \tfield:broken;\toffset:x;\tsize:8;\n\n\
        print fmt: \"comm=%s\", REC->parent_comm\n";

    #[test]
    fn reads_names_offsets_sizes_and_signs() {
        let format = Format::parse(SAMPLE);
        let names: Vec<_> = format
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "common_type",
                "common_pid",
                "parent_comm",
                "parent_pid",
                "what"
            ]
        );
        let pid = format.field("parent_pid").expect("named above");
        assert_eq!((pid.offset, pid.size, pid.signed), (24, 4, true));
        assert_eq!(format.field("parent_comm").expect("named above").size, 16);
    }

    #[test]
    fn a_thread_sees_tracefs_and_the_host_is_unchanged() {
        let mounts = || std::fs::read_to_string("/proc/self/mounts").expect("procfs is mounted");
        let before = mounts();
        let seen = with_tracefs(|tracefs| {
            let format = tracefs.format("oom", "mark_victim");
            (
                tracefs.event_id("oom", "mark_victim"),
                format,
                tracefs.event_id("oom", "no_such"),
            )
        });
        match seen {
            Ok((id, format, missing)) => {
                assert!(id.is_some_and(|id| id > 0));
                let format = format.expect("every kernel with tracefs has oom/mark_victim");
                assert_eq!(format.field("pid").map(|field| field.size), Some(4));
                assert_eq!(missing, None);
            }
            Err(error) => super::super::offsets::skip_or_fail(&format!("no tracefs: {error}")),
        }
        assert_eq!(mounts(), before);
    }
}
