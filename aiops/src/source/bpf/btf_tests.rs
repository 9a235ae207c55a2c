//! A small hand-built file, damaged copies of it, and the kernels at hand.

use super::*;

/// Builds BTF: types in order, names in a table.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn text(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).expect("a small table");
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn head(&mut self, name: &str, kind: u32, vlen: u32, value: u32) {
        let name = self.text(name);
        self.words(&[name, kind << 24 | vlen, value]);
    }

    fn entry(&mut self, name: &str, rest: &[u32]) {
        let name = self.text(name);
        self.words(&[name]);
        self.words(rest);
    }

    fn bytes(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len()).expect("a small file");
        let strings = u32::try_from(self.strings.len()).expect("a small file");
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}

/// `struct outer { int first; union { long number; struct inner pair; }; int flags:3; struct inner *at; }`
fn sample() -> Vec<u8> {
    let mut b = Builder::default();
    b.head("int", kind::INT, 0, 4); // 1
    b.words(&[32]);
    b.head("long", kind::INT, 0, 8); // 2
    b.words(&[64]);
    b.head("inner", kind::STRUCT, 2, 8); // 3
    b.entry("a", &[1, 0]);
    b.entry("b", &[1, 32]);
    b.head("", kind::UNION, 2, 8); // 4
    b.entry("number", &[2, 0]);
    b.entry("pair", &[7, 0]);
    b.head("outer", kind::STRUCT | 0x80, 5, 32); // 5, with bit-field sizes
    b.entry("first", &[1, 0]);
    b.entry("", &[4, 64]);
    b.entry("flags", &[1, 3 << 24 | 128]);
    b.entry("at", &[6, 192]);
    b.entry("list", &[8, 256]);
    b.head("", kind::PTR, 0, 3); // 6
    b.head("inner_t", kind::TYPEDEF, 0, 3); // 7
    b.head("", kind::ARRAY, 0, 0); // 8
    b.words(&[2, 1, 4]);
    b.head("ids", kind::ENUM, 2, 4); // 9
    b.entry("FIRST", &[0]);
    b.entry("SECOND", &[7]);
    b.head("wide", kind::ENUM64, 1, 8); // 10
    b.entry("WIDE", &[1, 1]);
    b.head("", kind::PTR, 0, 0); // 11: void *
    b.head("", kind::FUNC_PROTO, 3, 0); // 12
    b.entry("__data", &[11]);
    b.entry("sig", &[1]);
    b.entry("who", &[6]);
    b.head("", kind::PTR, 0, 12); // 13
    b.head("btf_trace_thing", kind::TYPEDEF, 0, 13); // 14
    b.bytes()
}

/// Every kind of question; the answers do not matter.
fn interrogate(btf: &Btf) {
    for path in ["first", "number", "pair.b", "flags", "at", "list", "no"] {
        let field = btf.field("outer", path);
        let _ = field.map(|field| (btf.element(field.type_id), btf.is_pointer(field.type_id)));
    }
    let _ = (
        btf.size_of("outer"),
        btf.enum_value("SECOND"),
        btf.enum_value("WIDE"),
    );
    let _ = btf.tracepoint("thing");
    for type_id in 0..20 {
        let _ = (btf.type_name(type_id), btf.size(type_id));
    }
}

#[test]
fn members_are_found_through_unions_typedefs_and_paths() {
    let btf = Btf::parse(sample()).expect("hand-built");
    assert_eq!(btf.len(), 14);
    let place = |path| {
        btf.field("outer", path)
            .map(|field| (field.offset, field.size))
    };
    assert_eq!(place("first"), Some((0, 4)));
    assert_eq!(place("number"), Some((8, 8)));
    assert_eq!(place("pair.b"), Some((12, 4)));
    assert_eq!(place("at"), Some((24, 8)));
    assert_eq!(place("list"), Some((32, 32)));
    assert_eq!(place("flags"), None);
    assert_eq!(place("pair.c"), None);
    let list = btf.field("outer", "list").expect("asked above");
    assert_eq!(btf.element(list.type_id), Some((2, 4)));
    assert!(btf.is_pointer(btf.field("outer", "at").expect("asked above").type_id));
}

#[test]
fn sizes_constants_and_tracepoints_are_found() {
    let btf = Btf::parse(sample()).expect("hand-built");
    assert_eq!(
        (btf.size_of("outer"), btf.size_of("absent")),
        (Some(32), None)
    );
    assert_eq!(btf.enum_value("SECOND"), Some(7));
    assert_eq!(btf.enum_value("WIDE"), Some(1 << 32 | 1));
    let args = btf.tracepoint("thing").expect("it has one");
    assert_eq!(args, ["int", "struct inner *"]);
    assert_eq!(btf.tracepoint("other"), None);
}

#[test]
fn a_cut_file_is_an_error() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(Btf::parse(whole[..len].to_vec()).is_err(), "cut at {len}");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = sample();
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff, 0x18] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            if let Ok(btf) = Btf::parse(bytes) {
                interrogate(&btf);
            }
        }
    }
}

#[test]
fn a_struct_inside_itself_ends() {
    let mut b = Builder::default();
    b.head("loop", kind::STRUCT, 3, 8);
    for _ in 0..3 {
        b.entry("", &[1, 0]);
    }
    b.head("turn", kind::TYPEDEF, 0, 2);
    let btf = Btf::parse(b.bytes()).expect("well-formed");
    assert_eq!(btf.field("loop", "x"), None);
    assert_eq!(
        (btf.size(2), btf.type_name(2)),
        (None, Some("turn".to_owned()))
    );
}

#[test]
fn kernels_at_hand_are_understood() {
    let mut files: Vec<PathBuf> = std::env::var("AIOPS_BTF_FILES")
        .map(|list| list.split(':').map(PathBuf::from).collect())
        .unwrap_or_default();
    if Path::new(VMLINUX).exists() {
        files.push(VMLINUX.into());
    } else {
        super::super::offsets::skip_or_fail("the running kernel has no BTF");
    }
    for file in files {
        let started = std::time::Instant::now();
        let btf = Btf::open(&file).expect("a kernel's BTF");
        eprintln!(
            "{}: {} types in {:?}",
            file.display(),
            btf.len(),
            started.elapsed()
        );
        assert_eq!(
            btf.field("task_struct", "comm").map(|field| field.size),
            Some(16)
        );
        assert!(btf.enum_value("memory_cgrp_id").is_some_and(|id| id < 64));
        let args = btf
            .tracepoint("signal_generate")
            .expect("every kernel has it");
        assert_eq!(args[2], "struct task_struct *");
    }
}

#[test]
fn a_damaged_kernel_file_never_panics() {
    let Ok(whole) = std::fs::read(VMLINUX) else {
        return super::super::offsets::skip_or_fail("the running kernel has no BTF");
    };
    let step = whole.len() / 23 + 1;
    for at in (0..whole.len()).step_by(step) {
        assert!(Btf::parse(whole[..at].to_vec()).is_err(), "cut at {at}");
        let mut bytes = whole.clone();
        for nearby in bytes.iter_mut().skip(at).step_by(97).take(500) {
            *nearby ^= 0x41;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            let _ = btf.field("mm_struct", "rss_stat.count");
            let _ = btf.field("task_struct", "start_boottime");
            let _ = btf.tracepoint("signal_generate");
        }
    }
}
