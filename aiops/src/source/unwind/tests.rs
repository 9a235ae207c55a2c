//! Real programs that fault inside of the C library, built by whatever compiler is here.

use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use super::*;
use crate::model::RawText;
use crate::model::SymbolSpace;
use crate::source::buildid;
use crate::source::mapped;
use crate::source::maps;
use crate::source::procdir::ProcDir;
use crate::source::symbols;

const DUMP: &str = include_str!("programs/dump.c");
const CACHE: &str = include_str!("programs/cache.c");
const STORE_CPP: &str = include_str!("programs/store.cpp");
const STORE_RS: &str = include_str!("programs/store.rs");

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiops-unwind-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs a compiler here; `None` when there is none.
    fn compile(&self, program: &str, arguments: &[&str]) -> Option<()> {
        let mut command = Command::new(program);
        let done = command.args(arguments).current_dir(&self.0).output();
        let Ok(done) = done else {
            println!("SKIPPED: no {program}");
            return None;
        };
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {arguments:?}: {said}");
        Some(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that has faulted and waits.
struct Fault {
    child: Child,
    registers: Registers,
    bytes: Vec<u8>,
    mappings: Vec<Mapping>,
}

impl Drop for Fault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fault {
    fn of(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut head = [0; 32];
        out.read_exact(&mut head).unwrap();
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        let mut bytes = vec![0; usize::try_from(word(24)).unwrap()];
        out.read_exact(&mut bytes).unwrap();
        let registers = Registers {
            ip: word(0),
            sp: word(8),
            fp: word(16),
            lr: 0,
        };
        let mut fault = Self {
            child,
            registers,
            bytes,
            mappings: Vec::new(),
        };
        fault.mappings = fault.read_mappings();
        fault
    }

    fn dir(&self) -> ProcDir {
        ProcDir::open(Path::new("/"), self.child.id()).unwrap()
    }

    fn read_mappings(&self) -> Vec<Mapping> {
        let dir = self.dir();
        let regions = maps::parse(&dir.read("maps", 1 << 20).unwrap());
        let with_id = |region: maps::Region| {
            let name = format!(
                "map_files/{:x}-{:x}",
                region.mapping.start, region.mapping.end
            );
            let file = dir.file(name.as_bytes()).ok();
            Mapping {
                build_id: file.and_then(|file| buildid::read(&file)),
                ..region.mapping
            }
        };
        regions.into_iter().map(with_id).collect()
    }

    fn space(&self) -> Space {
        Space {
            pid: self.child.id(),
            generation: 1,
        }
    }

    fn unwind(&self, unwinder: &mut Unwinder) -> Stack {
        let dir = self.dir();
        unwinder.learn(self.space(), &self.mappings, &|mapping| {
            mapped::open(Some(&dir), mapping)
        });
        self.frames(unwinder, &self.bytes, &[])
    }

    fn frames(&self, unwinder: &mut Unwinder, bytes: &[u8], chain: &[u64]) -> Stack {
        let copied = Copied {
            registers: self.registers,
            bytes,
            chain,
        };
        unwinder.unwind(self.space(), &copied)
    }

    /// Names of functions, outermost last, inlined ones too.
    fn names(&self, ips: &[u64]) -> Vec<String> {
        let start_ticks = Some(self.dir().stat().unwrap().start_ticks);
        let request = symbols::Request {
            space: SymbolSpace::Process {
                pid: self.child.id(),
                start_ticks,
            },
            mappings: self.mappings.clone(),
            ips: ips.to_vec(),
        };
        let frames = symbols::resolve(&request).symbols.into_iter();
        let name = |text: &RawText| text.lossy().into_owned();
        frames
            .flat_map(|one| one.frames)
            .map(|frame| frame.function.as_ref().map_or_else(|| "?".to_owned(), name))
            .collect()
    }
}

/// Whether `wanted` stand in this order, with anything between.
fn in_order(names: &[String], wanted: &[&str]) -> bool {
    let mut rest = names.iter();
    wanted
        .iter()
        .all(|want| rest.any(|name| name.contains(want)))
}

const C_WAY: [&str; 4] = ["cache_insert", "parse_request", "serve", "main"];

fn c_program(folder: &Folder, name: &str, flags: &[&str]) -> Option<PathBuf> {
    folder.write("dump.c", DUMP);
    folder.write("cache.c", CACHE);
    let fixed = ["dump.c", "cache.c", "-pthread", "-o", name];
    folder.compile("gcc", &[flags, &fixed].concat())?;
    Some(folder.0.join(name))
}

#[test]
fn c_with_and_without_frame_pointers() {
    let folder = Folder::new("c");
    let builds: [(&str, &[&str]); 5] = [
        ("plain", &["-O0", "-g"]),
        ("fp", &["-O2", "-fno-omit-frame-pointer"]),
        ("nofp", &["-O2", "-fomit-frame-pointer"]),
        ("fixed", &["-O2", "-no-pie", "-fomit-frame-pointer"]),
        ("static", &["-O2", "-static", "-fomit-frame-pointer"]),
    ];
    let mut unwinder = Unwinder::default();
    for (name, flags) in builds {
        let Some(program) = c_program(&folder, name, flags) else {
            return;
        };
        let fault = Fault::of(&program, &[]);
        let stack = fault.unwind(&mut unwinder);
        let names = fault.names(&stack.ips);
        assert_eq!(stack.end, End::Root, "{name}: {names:?}");
        assert!(in_order(&names, &C_WAY), "{name}: {names:?}");
        assert!(in_order(&names, &["main", "_start"]), "{name}: {names:?}");
        // The fault itself is in the C library.
        assert!(!names[0].contains("cache_insert"), "{name}: {names:?}");
        assert_eq!(stack.by_frame_pointer, 0);
    }
    assert!(unwinder.table_bytes() > 0);
}

#[test]
fn threads_end_at_their_root() {
    let folder = Folder::new("thread");
    let Some(program) = c_program(&folder, "threads", &["-O2", "-fomit-frame-pointer"]) else {
        return;
    };
    let fault = Fault::of(&program, &["t"]);
    let stack = fault.unwind(&mut Unwinder::default());
    let names = fault.names(&stack.ips);
    assert_eq!(stack.end, End::Root, "{names:?}");
    assert!(in_order(&names, &C_WAY[..3]), "{names:?}");
    assert!(names.iter().all(|name| name != "main"), "{names:?}");
}

#[test]
fn a_stripped_program_has_the_same_frames_without_names() {
    let folder = Folder::new("strip");
    let Some(program) = c_program(
        &folder,
        "whole",
        &["-O2", "-fomit-frame-pointer", "-no-pie"],
    ) else {
        return;
    };
    if folder.compile("strip", &["-o", "bare", "whole"]).is_none() {
        return;
    }
    let mut unwinder = Unwinder::default();
    let whole = Fault::of(&program, &[]);
    let bare = Fault::of(&folder.0.join("bare"), &[]);
    let (left, right) = (whole.unwind(&mut unwinder), bare.unwind(&mut unwinder));
    assert_eq!((right.end, right.ips.len()), (End::Root, left.ips.len()));
    // Both stand at fixed addresses.
    let own = |stack: &Stack| -> Vec<u64> {
        let low = stack.ips.iter().copied();
        low.filter(|ip| *ip < 0x100_0000).collect()
    };
    assert_eq!(own(&left), own(&right));
    assert!(own(&left).len() >= 5, "{left:?}");
    let names = bare.names(&right.ips);
    assert!(names.iter().all(|name| !name.contains("cache_insert")));
}

#[test]
fn a_removed_program_and_a_dead_one() {
    let folder = Folder::new("gone");
    let Some(program) = c_program(&folder, "gone", &["-O2", "-fomit-frame-pointer"]) else {
        return;
    };
    let copy = folder.0.join("copy");
    std::fs::copy(&program, &copy).unwrap();
    let mut removed = Fault::of(&copy, &[]);
    std::fs::remove_file(&copy).unwrap();
    removed.mappings = removed.read_mappings();
    let is_gone = |one: &Mapping| one.path.as_bytes().ends_with(b"copy (deleted)");
    assert!(removed.mappings.iter().any(is_gone));
    let stack = removed.unwind(&mut Unwinder::default());
    let names = removed.names(&stack.ips);
    assert!(in_order(&names, &C_WAY), "{names:?}");

    // Dead: nothing but its recorded mappings and the files of the host.
    let mut dead = Fault::of(&program, &[]);
    let alive = dead.unwind(&mut Unwinder::default());
    dead.child.kill().unwrap();
    dead.child.wait().unwrap();
    let mut unwinder = Unwinder::default();
    unwinder.learn(dead.space(), &dead.mappings, &|mapping| {
        mapped::open(None, mapping)
    });
    assert_eq!(dead.frames(&mut unwinder, &dead.bytes, &[]), alive);
}

#[test]
fn a_short_copy_goes_on_with_the_kernels_walk() {
    let folder = Folder::new("deep");
    let Some(program) = c_program(&folder, "deep", &["-O1", "-fno-omit-frame-pointer"]) else {
        return;
    };
    let fault = Fault::of(&program, &["m", "20"]);
    let mut unwinder = Unwinder::default();
    let whole = fault.unwind(&mut unwinder);
    assert_eq!(whole.end, End::Root);
    assert!(whole.ips.len() > 23, "{whole:?}");
    let short = fault.frames(&mut unwinder, &fault.bytes[..1024], &[]);
    assert_eq!(short.end, End::Copy);
    assert!(short.ips.len() > 2 && short.ips.len() < whole.ips.len());
    assert_eq!(whole.ips[..short.ips.len()], short.ips);
    // The kernel walks frame pointers: return addresses, and it misses the C library's frame.
    let chain: Vec<u64> = whole.ips[2..].iter().map(|ip| ip + 1).collect();
    let joined = fault.frames(&mut unwinder, &fault.bytes[..1024], &chain);
    assert_eq!(joined.ips, whole.ips);
    assert_eq!(joined.by_frame_pointer, whole.ips.len() - short.ips.len());
    // No copy at all: the place itself.
    let bare = fault.frames(&mut unwinder, &[], &[]);
    assert_eq!((bare.ips.len(), bare.end), (1, End::Copy));
    let walked = fault.frames(&mut unwinder, &[], &[fault.registers.ip, chain[0]]);
    assert_eq!(walked.ips, [whole.ips[0], whole.ips[2]]);
}

#[test]
fn cpp_with_templates_and_inlined_calls() {
    let folder = Folder::new("cpp");
    folder.write("dump.c", DUMP);
    folder.write("store.cpp", STORE_CPP);
    let built = folder
        .compile("gcc", &["-O2", "-c", "dump.c", "-o", "dump.o"])
        .and_then(|()| folder.compile("g++", &["-O2", "-g", "store.cpp", "dump.o", "-o", "store"]));
    if built.is_none() {
        return;
    }
    let fault = Fault::of(&folder.0.join("store"), &[]);
    let stack = fault.unwind(&mut Unwinder::default());
    let names = fault.names(&stack.ips);
    assert_eq!(stack.end, End::Root, "{names:?}");
    let way = [
        "shop::Cart<int>::fill",
        "shop::Cart<int>::add",
        "main",
        "_start",
    ];
    assert!(in_order(&names, &way), "{names:?}");
}

#[test]
fn rust_with_generics() {
    let folder = Folder::new("rust");
    folder.write("dump.c", DUMP);
    folder.write("store.rs", STORE_RS);
    let built = folder
        .compile("gcc", &["-O2", "-c", "dump.c", "-o", "dump.o"])
        .and_then(|()| {
            let arguments = ["-O", "--edition", "2024", "-Clink-arg=dump.o", "store.rs"];
            folder.compile("rustc", &arguments)
        });
    if built.is_none() {
        return;
    }
    let fault = Fault::of(&folder.0.join("store"), &[]);
    let stack = fault.unwind(&mut Unwinder::default());
    let names = fault.names(&stack.ips);
    assert_eq!(stack.end, End::Root, "{names:?}");
    assert!(
        in_order(&names, &["store::Store<", "main", "_start"]),
        "{names:?}"
    );
}

#[test]
fn memory_of_tables_is_bounded_and_processes_give_way() {
    let folder = Folder::new("bound");
    let Some(program) = c_program(&folder, "bound", &["-O2"]) else {
        return;
    };
    let fault = Fault::of(&program, &[]);
    // Room for the program alone: the C library's table is pushed out, and read again when it is needed.
    let mut unwinder = Unwinder::with_limit(20_000);
    for generation in 0..600 {
        let space = Space {
            generation,
            ..fault.space()
        };
        unwinder.learn(space, &fault.mappings, &|mapping| {
            mapped::open(Some(&fault.dir()), mapping)
        });
    }
    assert!(unwinder.table_bytes() < 200_000, "{unwinder:?}");
    assert_eq!(unwinder.processes.len(), MAX_PROCESSES);
    let space = Space {
        generation: 599,
        ..fault.space()
    };
    assert!(unwinder.knows(space) && unwinder.covers(space, fault.registers.ip));
    assert!(!unwinder.covers(space, 16) && !unwinder.knows(fault.space()));
}

proptest::proptest! {
    #[test]
    fn any_registers_and_stacks_end(
        ip in proptest::prelude::any::<u64>(),
        near in 0_u64..64,
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
    ) {
        let mut unwinder = Unwinder::default();
        let space = Space { pid: 1, generation: 1 };
        let text = std::fs::read("/proc/self/maps").unwrap();
        let mappings: Vec<Mapping> = maps::parse(&text).into_iter().map(|one| one.mapping).collect();
        unwinder.learn(space, &mappings, &|_| None);
        for ip in [ip, mappings[0].start + near * 16] {
            let sp = 0x7fff_0000;
            let registers = Registers { ip, sp, fp: sp + near * 8, lr: ip };
            let copied = Copied { registers, bytes: &bytes, chain: &[ip, 7] };
            let stack = unwinder.unwind(space, &copied);
            proptest::prop_assert!(!stack.ips.is_empty() && stack.ips.len() <= MAX_FRAMES);
        }
    }
}
