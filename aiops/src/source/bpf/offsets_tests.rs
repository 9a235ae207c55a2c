//! Discovery on the running kernel, and on the BTF of others.

use super::super::tracefs::with_tracefs;
use super::*;

fn fields(layout: &Layout) -> String {
    format!("{layout:?}")
}

#[test]
fn the_running_kernel_says_everything() {
    let found = match with_tracefs(|tracefs| discover(tracefs, true)) {
        Ok(found) if found.btf => found,
        Ok(_) => return skip_or_fail("the kernel has no BTF"),
        Err(error) => return skip_or_fail(&format!("no tracefs: {error}")),
    };
    assert_eq!(found.notes, Vec::<String>::new());
    assert!(found.signal_generate);
    assert!(
        !fields(&found.layout).contains(&ABSENT.to_string()),
        "{:?}",
        found.layout
    );
    assert_eq!(found.layout.page_size as usize, rustix::param::page_size());
    assert_eq!(found.layout.css_set_memory % 8, 0);
}

#[test]
fn without_btf_only_tracepoints_are_known() {
    let found = match with_tracefs(|tracefs| discover(tracefs, false)) {
        Ok(found) => found,
        Err(error) => return skip_or_fail(&format!("no tracefs: {error}")),
    };
    assert!(!found.btf && !found.signal_generate);
    assert_eq!(
        (found.layout.task_pid, found.layout.mm_rss),
        (ABSENT, ABSENT)
    );
    assert_ne!(found.layout.tp_mark_pid, ABSENT);
}

#[test]
fn other_kernels_say_everything_too() {
    let Ok(files) = std::env::var("AIOPS_BTF_FILES") else {
        eprintln!("SKIPPED: AIOPS_BTF_FILES names no BTF files of other kernels");
        return;
    };
    for file in files.split(':').filter(|file| !file.is_empty()) {
        let btf = Btf::open(file.as_ref()).expect("the file holds BTF");
        let mut found = Discovered {
            layout: Layout::UNKNOWN,
            btf: true,
            signal_generate: false,
            css_parent: ABSENT,
            mm_owner: ABSENT,
            notes: Vec::new(),
        };
        from_btf(&mut found, &btf);
        assert_eq!(found.notes, Vec::<String>::new(), "{file}");
        let stride = if found.layout.mm_rss_kind == RSS_LONGS {
            8
        } else {
            40
        };
        assert_eq!(found.layout.mm_rss_stride, stride, "{file}");
    }
}

/// A tree that looks like tracefs, with a record whose field has another size than the programs read.
#[test]
fn a_field_of_another_size_is_absent() {
    let root = std::env::temp_dir().join(format!("aiops-offsets-{}", std::process::id()));
    let event = root.join("events/oom/mark_victim");
    std::fs::create_dir_all(&event).expect("a folder for the test");
    let text = "\tfield:int pid;\toffset:8;\tsize:4;\tsigned:1;\n\
                \tfield:unsigned int total_vm;\toffset:12;\tsize:4;\tsigned:0;\n";
    std::fs::write(event.join("format"), text).expect("a file for the test");
    let tracefs = Tracefs::at(&root).expect("it has events");
    let found = discover(&tracefs, false);
    std::fs::remove_dir_all(&root).expect("the folder is ours");
    assert_eq!(
        (found.layout.tp_mark_pid, found.layout.tp_mark_total_vm),
        (8, ABSENT)
    );
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("total_vm: 4 bytes"))
    );
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("vmscan/mm_vmscan_direct_reclaim_begin"))
    );
}
