//! What is left of a store after repair, and who may read it.

use std::os::unix::fs::PermissionsExt as _;

use super::super::super::Broken;
use super::super::super::Repaired;
use super::super::super::table::Table;
use super::*;

/// Two segments, of two hours.
fn made(folder: &Folder) -> Vec<Segment> {
    let mut recorder = recorder(folder);
    fill(&mut recorder, 300..2 * HOUR_S);
    recorder.close().unwrap();
    store(folder).compact_at(0).unwrap();
    store(folder).segments().unwrap()
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let place = at(bytes.len());
    bytes[place] ^= 2;
    fs::write(path, bytes).unwrap();
}

fn repair(folder: &Folder) -> Vec<Repaired> {
    let repaired = store(folder).repair(&Host::default()).unwrap();
    assert_eq!(store(folder).verify().unwrap().broken, []);
    assert_eq!(store(folder).repair(&Host::default()).unwrap(), []);
    repaired
}

fn aside(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(store(folder).folder().join("damaged")).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Titles of all events.
fn told(folder: &Folder) -> Vec<String> {
    let segments = store(folder).segments().unwrap();
    let titles = segments.iter().map(|segment| {
        let table = segment.table("event").unwrap();
        let groups = (0..table.groups()).map(|group| table.texts(group, "title").unwrap());
        groups.flatten().flatten().collect::<Vec<_>>()
    });
    titles.flatten().collect()
}

#[test]
fn a_flipped_bit_in_the_sums_of_hours_costs_nothing() {
    let folder = Folder::new("rollup");
    let segments = made(&folder);
    let before = everything(&folder);
    let path = segments[0].file("rollup");
    let rows = Table::open(&path).unwrap().group(0).unwrap();
    flip(&path, |len| len / 2);
    let repaired = repair(&folder);
    assert_eq!(repaired.len(), 1);
    let name = segments[0].path.file_name().unwrap().to_str().unwrap();
    assert_eq!(aside(&folder), [format!("{name}-rollup.parquet")]);
    assert_eq!(everything(&folder), before);
    assert_eq!(Table::open(&path).unwrap().group(0).unwrap(), rows);
    let titles = told(&folder);
    assert!(
        titles.len() == 1 && titles[0].contains("made again"),
        "{titles:?}"
    );
    // It is one of its day like any other.
    store(&folder).compact_at(DAY_MS).unwrap();
    assert_eq!(store(&folder).segments().unwrap().len(), 1);
    assert_eq!((everything(&folder), told(&folder)), (before, titles));
    assert_eq!(store(&folder).verify().unwrap().broken, []);
}

#[test]
fn tables_whose_checksums_match_are_saved() {
    for (name, n) in [
        ("process", 24),
        ("cgroup", 46),
        ("event", 46),
        ("system", 24),
    ] {
        let folder = Folder::new(name);
        let segments = made(&folder);
        assert_eq!(everything(&folder).0, 46);
        let path = segments[0].file(name);
        flip(&path, |len| len / 2);
        let repaired = repair(&folder);
        assert_eq!(repaired.len(), 1, "{name}");
        // Hours that were summed up stay, where the samples themselves are lost.
        let always = Range {
            start_ms: 0,
            end_ms: i64::MAX,
        };
        let exact = samples(&store(&folder), always, false);
        assert_eq!((exact.0, exact.2), (n, Vec::new()), "{name}");
        // Without the times of its ticks nothing of a segment can be told.
        assert_eq!(segments[0].path.exists(), name != "system");
        let titles = told(&folder);
        assert!(titles.len() == 1 && titles[0].contains(name), "{titles:?}");
        assert_eq!(aside(&folder).len(), 1, "{name}");
    }
}

#[test]
fn what_is_missing_of_a_segment_is_damage() {
    let folder = Folder::new("missing");
    let segments = made(&folder);
    let before = everything(&folder);
    fs::remove_file(segments[0].path.join("_sums")).unwrap();
    fs::remove_file(segments[1].file("rollup")).unwrap();
    let summary = store(&folder).summary().unwrap();
    assert_eq!(summary.unsummed, [segments[0].path.clone()]);
    assert_eq!(summary.unread.len(), 1);
    let broken = store(&folder).verify().unwrap().broken;
    assert!(matches!(&broken[0].part, Broken::Sums(one) if *one == segments[0]));
    assert_eq!(broken[1].path, segments[1].file("rollup"));
    assert_eq!(repair(&folder).len(), 2);
    assert!(segments[0].path.join("_sums").exists());
    assert_eq!(everything(&folder), before);
}

#[test]
fn a_flipped_bit_in_the_checksums_costs_nothing() {
    let folder = Folder::new("sums");
    let segments = made(&folder);
    let before = everything(&folder);
    flip(&segments[0].path.join("_sums"), |_| 3);
    assert_eq!(store(&folder).verify().unwrap().broken.len(), 1);
    assert_eq!(repair(&folder).len(), 1);
    let sums = segments[0].path.join("_sums");
    let whole = fs::read(&sums).unwrap();
    let lines = whole.split_inclusive(|byte| *byte == b'\n');
    let ends: Vec<usize> = lines
        .scan(0, |at, line| {
            *at += line.len();
            Some(*at - 1)
        })
        .collect();
    assert_eq!(ends.len(), 6);
    let newlines = ends.iter().map(|end| {
        let mut bytes = whole.clone();
        bytes[*end] ^= 2;
        bytes
    });
    let others = [Vec::new(), whole[..100].to_vec(), vec![0; whole.len()]];
    for bytes in newlines.chain(others) {
        fs::write(&sums, bytes).unwrap();
        let broken = store(&folder).verify().unwrap().broken;
        assert!(
            matches!(&broken[..], [one] if matches!(one.part, Broken::Sums(_))),
            "{broken:?}"
        );
        assert_eq!(repair(&folder).len(), 1);
        assert_eq!(fs::read(&sums).unwrap().len(), whole.len());
    }
    assert_eq!((everything(&folder), told(&folder)), (before, Vec::new()));
}

#[test]
fn checksums_of_an_older_version_are_believed() {
    let folder = Folder::new("old-sums");
    let segments = made(&folder);
    let sums = segments[0].path.join("_sums");
    let text = fs::read_to_string(&sums).unwrap();
    let lines = text.trim_end().rfind('\n').unwrap();
    fs::write(&sums, &text[..=lines]).unwrap();
    assert_eq!(store(&folder).verify().unwrap().broken, []);
    flip(&segments[0].file("rollup"), |len| len / 2);
    let broken = store(&folder).verify().unwrap().broken;
    assert!(matches!(&broken[..], [one] if matches!(one.part, Broken::Segment(_))));
}

#[test]
fn a_log_of_a_later_version_stays_where_it_is() {
    let folder = Folder::new("later");
    made(&folder);
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 2 * HOUR_S..2 * HOUR_S + 900);
    recorder.close().unwrap();
    let store = store(&folder);
    let log = store.logs().unwrap().remove(0);
    let mut bytes = fs::read(&log).unwrap();
    bytes[8] = 0xff;
    fs::write(&log, &bytes).unwrap();
    let verified = store.verify().map(drop);
    for refused in [verified, store.repair(&Host::default()).map(drop)] {
        assert!(
            matches!(refused, Err(StoreError::TooNew { .. })),
            "{refused:?}"
        );
    }
    let damages = store.compact_at(0).unwrap();
    let said = damages[0].error.as_deref().unwrap();
    assert!(said.contains("a later one"), "{said}");
    assert_eq!(fs::read(&log).unwrap(), bytes);
    assert!(!store.folder().join("damaged").exists());
}

#[test]
fn a_log_stays_while_another_thing_has_the_name_of_its_segment() {
    let folder = Folder::new("taken");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..HOUR_S);
    recorder.close().unwrap();
    let store = store(&folder);
    let log = store.logs().unwrap().remove(0);
    let bytes = fs::read(&log).unwrap();
    assert_eq!(store.compact_at(0).unwrap(), []);
    let segment = store.segments().unwrap().remove(0);
    fs::write(&log, &bytes).unwrap();
    flip(&segment.file("system"), |len| len - 6);
    let damages = store.compact_at(0).unwrap();
    assert_eq!(damages.len(), 1);
    assert!(damages[0].path.starts_with(&segment.path));
    assert_eq!(fs::read(&log).unwrap(), bytes);
}

#[test]
fn events_that_are_saved_are_not_told_as_lost() {
    let folder = Folder::new("saved-events");
    let segments = made(&folder);
    flip(&segments[0].file("system"), |len| len / 2);
    repair(&folder);
    let titles = told(&folder);
    assert!(
        titles[0].contains("system") && !titles[0].contains("event"),
        "{titles:?}"
    );
}

#[test]
fn a_store_that_does_not_say_whose_it_is_is_written_by_its_host_alone() {
    let folder = Folder::new("whose");
    let host = |name: &str, boot: &str| Host {
        hostname: name.into(),
        boot_id: Some(boot.to_owned()),
        ..Host::default()
    };
    let ours = host("web-1", "0123456789abcdef");
    let mut recorder = Recorder::open(store(&folder), ours.clone()).unwrap();
    fill(&mut recorder, 300..900);
    recorder.close().unwrap();
    let store = store(&folder);
    let meta = store.folder().join("store.json");
    let renamed = host("web-2", "0123456789abcdef");
    // In a log, and then in a segment.
    for _ in 0..2 {
        fs::remove_file(&meta).unwrap();
        let theirs = host("web-2", "fedcba9876543210");
        let error = Recorder::open(store.clone(), theirs.clone()).unwrap_err();
        assert!(matches!(error, StoreError::OtherHost { .. }), "{error}");
        assert!(store.repair(&theirs).is_err() && !meta.exists());
        drop(Recorder::open(store.clone(), renamed.clone()).unwrap());
        fs::write(&meta, b"{").unwrap();
        assert!(store.repair(&theirs).is_err());
        assert_eq!(store.repair(&renamed).unwrap().len(), 1);
        store.compact_at(0).unwrap();
    }
}

#[test]
fn a_store_without_its_file_is_damaged_and_an_empty_folder_is_none() {
    let folder = Folder::new("no-meta");
    let mut recorder = Recorder::open(
        store(&folder),
        Host {
            hostname: "web-1".into(),
            ..Host::default()
        },
    )
    .unwrap();
    fill(&mut recorder, 300..2 * HOUR_S);
    recorder.close().unwrap();
    let store = store(&folder);
    store.compact_at(0).unwrap();
    let before = everything(&folder);
    fs::remove_file(store.folder().join("store.json")).unwrap();
    let broken = store.verify().unwrap().broken;
    assert!(matches!(broken[..], [ref one] if one.part == Broken::Meta));
    let theirs = store.repair(&Host::default());
    assert!(
        matches!(&theirs, Err(StoreError::OtherHost { hostname, .. }) if hostname == "web-1"),
        "{theirs:?}"
    );
    let ours = Host {
        hostname: "web-1".into(),
        ..Host::default()
    };
    assert_eq!(store.repair(&ours).unwrap().len(), 1);
    assert_eq!(store.verify().unwrap().broken, []);
    assert_eq!(everything(&folder), before);
    let empty = folder.0.join("empty");
    fs::create_dir(&empty).unwrap();
    let none = Store::at(&empty);
    assert!(matches!(none.verify(), Err(StoreError::NoStore { .. })));
    let none = none.own(&Host::default());
    assert!(matches!(none, Err(StoreError::NoStore { .. })));
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_copy_has_no_part_in_the_tails_of_its_original() {
    let folder = Folder::new("copied");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..900);
    let original = Store::at(&folder.0.join("store"));
    assert_eq!(original.tails(), Some(folder.0.join("tails")));
    let copy = folder.0.join("copy");
    for part in ["", "wal"] {
        let (from, to) = (original.folder().join(part), copy.join(part));
        place::own_folder(&to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    let tails = || fs::read_dir(folder.0.join("tails")).unwrap().count();
    let before = tails();
    assert_eq!(Store::at(&copy).tails(), None);
    let own = Store::at(&copy).with_tails(&folder.0.join("own"));
    Recorder::open(own, Host::default()).unwrap();
    assert_eq!((tails(), before), (1, 1), "nothing was moved away");
    drop(recorder);
}

#[test]
fn a_damaged_log_stands_aside_before_its_segment_is_there() {
    let folder = Folder::new("ordered");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..HOUR_S);
    drop(recorder);
    let store = store(&folder);
    let log = store.logs().unwrap().remove(0);
    let mut bytes = fs::read(&log).unwrap();
    bytes[4096 + 20] ^= 1;
    fs::write(&log, &bytes).unwrap();
    // Killed behind the segment.
    store.save(&log, store.tails().as_deref()).unwrap();
    assert!(log.exists());
    store.compact_at(0).unwrap();
    assert!(!log.exists());
    let name = log.file_name().unwrap().to_str().unwrap();
    let kept = store.folder().join("damaged").join(name);
    assert_eq!(fs::read(kept).unwrap(), bytes);
    assert_eq!(told(&folder).len(), 1);
}

#[test]
fn a_pipe_in_place_of_a_file_is_damage_and_nobody_waits_for_it() {
    let folder = Folder::new("pipe");
    let segments = made(&folder);
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 2 * HOUR_S..2 * HOUR_S + 900);
    recorder.close().unwrap();
    let store = store(&folder);
    let log = store.logs().unwrap().remove(0);
    let files = [
        segments[0].path.join("_sums"),
        segments[0].file("process"),
        segments[1].file("system"),
        store.folder().join("store.json"),
        log,
    ];
    for file in &files {
        fs::remove_file(file).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    let broken = store.verify().unwrap().broken;
    assert_eq!(broken.len(), 4, "{broken:?}");
    assert!(
        broken
            .iter()
            .all(|one| one.reason.contains("not a regular file")),
        "{broken:?}"
    );
    assert_eq!(repair(&folder).len(), 4);
    let lock = store.folder().join("lock");
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
    let error = Recorder::open(store, Host::default()).unwrap_err();
    assert!(error.remedy().unwrap().contains("rm "), "{error:?}");
}

#[test]
fn what_others_could_have_written_is_read_by_nobody() {
    let folder = Folder::new("trust");
    made(&folder);
    let store = store(&folder);
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [
        store.folder().to_path_buf(),
        store.wals(),
        store.segments_folder(),
    ] {
        mode(&path, 0o770);
        for refused in [
            store.meta().err(),
            store.verify().err(),
            store.own(&Host::default()).err(),
        ] {
            let error = refused.unwrap();
            let remedy = format!("chmod 0700 {}", path.display());
            assert!(matches!(error, StoreError::Unsafe { .. }), "{error}");
            assert!(error.remedy().unwrap().ends_with(&remedy), "{error:?}");
        }
        mode(&path, 0o700);
    }
    assert_eq!(store.exposed(), None);
    mode(store.folder(), 0o755);
    assert!(store.meta().is_ok() && store.exposed().unwrap().contains("chmod 0700"));
    // The writer makes it private.
    recorder(&folder);
    assert_eq!(store.exposed(), None);
}
