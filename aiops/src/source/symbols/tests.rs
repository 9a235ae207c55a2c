//! Resolution of real addresses, and what remains when it fails.

use std::path::Path;

use super::*;
use crate::model::RawText;
use crate::source::buildid;
use crate::source::maps;
use crate::source::procdir::ProcDir;

#[inline(never)]
fn a_function_to_be_found() -> u64 {
    std::hint::black_box(41) + 1
}

fn own() -> Request {
    let dir = ProcDir::open(Path::new("/"), std::process::id()).unwrap();
    let exe = std::fs::File::open("/proc/self/exe").unwrap();
    let build_id = buildid::read(&exe);
    let path = std::env::current_exe().unwrap();
    let path = RawText::new(path.as_os_str().as_encoded_bytes());
    let regions = maps::parse(&dir.read("maps", 1 << 20).unwrap());
    let mapped = regions
        .into_iter()
        .map(|one| one.mapping)
        .filter(|one| one.path == path);
    let start_ticks = Some(dir.stat().unwrap().start_ticks);
    let ip = (a_function_to_be_found as *const ()).addr();
    Request {
        space: SymbolSpace::Process {
            pid: std::process::id(),
            start_ticks,
        },
        mappings: mapped
            .map(|one| Mapping {
                build_id: build_id.clone(),
                ..one
            })
            .collect(),
        ips: vec![u64::try_from(ip).unwrap(), 16],
    }
}

fn name(symbol: &Symbolized) -> Option<String> {
    let function = symbol.frames.last()?.function.as_ref()?;
    Some(function.lossy().into_owned())
}

#[test]
fn an_own_function_is_found_and_a_wild_address_stays() {
    assert_eq!(a_function_to_be_found(), 42);
    let request = own();
    let reply = resolve(&request);
    assert!(fits(&reply, &request));
    assert!(
        name(&reply.symbols[0])
            .unwrap()
            .ends_with("a_function_to_be_found")
    );
    let frame = reply.symbols[0].frames.last().unwrap();
    assert_eq!(
        (frame.offset, &frame.build_id),
        (Some(0), &request.mappings[0].build_id)
    );
    assert_eq!(reply.symbols[1].frames, [Frame::default()]);
}

#[test]
fn a_dead_process_is_resolved_by_its_recorded_mappings_only() {
    let mut request = own();
    // No process has this start, as if the pid were used again.
    request.space = SymbolSpace::Process {
        pid: std::process::id(),
        start_ticks: Some(1),
    };
    if request.mappings[0].build_id.is_some() {
        assert!(name(&resolve(&request).symbols[0]).is_some());
    }
    request.mappings[0].build_id = Some("00".to_owned());
    assert_eq!(resolve(&request).symbols, fallback(&request));
    assert!(fallback(&request)[0].frames[0].module_offset.is_some());
}

#[test]
fn a_cut_file_gives_module_and_offset() {
    let whole = std::fs::read("/proc/self/exe").unwrap();
    let path = std::env::temp_dir().join(format!("aiops-cut-{}", std::process::id()));
    for len in [0, 63, 64, 4096, whole.len() / 2] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let build_id = buildid::read(&std::fs::File::open(&path).unwrap());
        let mut request = own();
        request.space = SymbolSpace::Process {
            pid: 0,
            start_ticks: None,
        };
        for mapping in &mut request.mappings {
            mapping.path = RawText::new(path.as_os_str().as_encoded_bytes());
            mapping.build_id.clone_from(&build_id);
        }
        let reply = resolve(&request);
        assert_eq!(name(&reply.symbols[0]), None, "{len}");
        assert!(fits(&reply, &request));
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_kernel_symbol_is_found() {
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let line = text.lines().find(|line| line.ends_with(" T schedule"));
    let ip = line.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
    let Some(ip) = ip.filter(|ip| *ip > 0) else {
        println!("SKIPPED: /proc/kallsyms hides its addresses");
        return;
    };
    let request = Request {
        space: SymbolSpace::Kernel,
        mappings: Vec::new(),
        ips: vec![ip + 1],
    };
    let symbols = resolve(&request).symbols;
    assert_eq!(name(&symbols[0]).as_deref(), Some("schedule"));
    assert_eq!(symbols[0].frames[0].offset, Some(1));
}

#[test]
fn requests_and_replies_are_lines() {
    let request = own();
    let mut line = serde_json::to_vec(&request).unwrap();
    line.push(b'\n');
    let mut out = Vec::new();
    serve(&line.repeat(2)[..], &mut out).unwrap();
    let replies: Vec<Reply> = out
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(replies, [resolve(&request), resolve(&request)]);
    assert!(serve(&b"nonsense\n"[..], &mut out).is_err());
}

#[test]
fn a_child_that_fails_leaves_module_and_offset() {
    for program in ["/bin/true", "/nonexistent"] {
        let (sink, mut items) = tokio::sync::mpsc::unbounded_channel();
        let resolver = Resolver::spawn_with(sink, move || Command::new(program));
        let request = own();
        let SymbolSpace::Process { pid, start_ticks } = request.space else {
            panic!()
        };
        resolver.process(
            pid,
            start_ticks,
            request.mappings.clone(),
            request.ips.clone(),
        );
        resolver.kernel(vec![1]);
        resolver.stop();
        let Some(Item::Symbols(set)) = items.blocking_recv() else {
            panic!()
        };
        assert_eq!(set.symbols, fallback(&request), "{program}");
        let Some(Item::Symbols(set)) = items.blocking_recv() else {
            panic!()
        };
        assert_eq!(set.symbols[0].frames, [kallsyms::unknown()]);
    }
}

#[test]
fn the_kernels_own_code_in_a_process_has_names() {
    let bytes = crate::source::elf::vdso().unwrap();
    let dir = ProcDir::open(Path::new("/"), std::process::id()).unwrap();
    let regions = maps::parse(&dir.read("maps", 1 << 20).unwrap());
    let all = regions.into_iter().map(|one| one.mapping);
    let vdso: Vec<Mapping> = all.filter(|one| one.path.as_bytes() == b"[vdso]").collect();
    let len = u64::try_from(bytes.len()).unwrap();
    // Somewhere in there stands the function that tells the time.
    let ips: Vec<u64> = (0..len / 16).map(|at| vdso[0].start + at * 16).collect();
    let request = Request {
        mappings: vdso,
        ips,
        ..own()
    };
    let reply = resolve(&request);
    assert!(fits(&reply, &request));
    let mut names = reply.symbols.iter().filter_map(name);
    assert!(names.any(|name| name.contains("clock_gettime")));
}

#[test]
fn code_that_a_runtime_made_is_named_by_its_map() {
    let path = format!("/tmp/perf-{}.map", std::process::id());
    std::fs::write(&path, "7000 100 made();\n").unwrap();
    let made = Mapping {
        start: 0x7000,
        end: 0x9000,
        offset: 0,
        path: RawText::from(""),
        build_id: None,
    };
    let mut request = own();
    request.mappings = vec![made];
    request.ips = vec![0x7010, 0x7200];
    let reply = resolve(&request);
    std::fs::remove_file(path).unwrap();
    assert_eq!(name(&reply.symbols[0]).as_deref(), Some("made();"));
    assert_eq!(reply.symbols[0].frames[0].offset, Some(0x10));
    assert_eq!(name(&reply.symbols[1]), None);
    assert_eq!(reply.symbols[1].frames[0].module_offset, Some(0x200));
}
