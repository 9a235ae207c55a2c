use super::*;

#[test]
fn bars_have_one_length() {
    let makeup = |anon, file, shmem, swap| Makeup {
        source: Some(MakeupSource::Status),
        anon_kb: anon,
        file_kb: file,
        shmem_kb: shmem,
        swap_kb: swap,
    };
    let even = makeup(Some(4), Some(4), Some(4), Some(4));
    assert_eq!(bar(&even, true), "██▓▓▒▒░░");
    assert_eq!(bar(&even, false), "AAFFSS..");
    assert_eq!(bar(&makeup(Some(1), None, None, None), false), "AAAAAAAA");
    assert_eq!(bar(&makeup(Some(0), None, None, None), false), "");
    let huge = makeup(Some(u64::MAX), Some(u64::MAX), Some(1), None);
    assert_eq!(bar(&huge, false).len(), 8);
}

#[test]
fn the_order_is_seen_on_the_narrowest_terminal() {
    for (sort, title) in [("pss", "PSS"), ("uss", "USS"), ("shmem", "Shared")] {
        let mut row = crate::report::processes::ProcessRow::default();
        for figure in [
            &mut row.metrics.rss_kb,
            &mut row.metrics.pss_kb,
            &mut row.metrics.uss_kb,
        ] {
            *figure = Some(1 << 20);
        }
        row.makeup = makeup_of_all();
        row.rss_share = Some(0.5);
        let data = ProcessesData {
            by: "process",
            sort,
            processes: vec![row],
            ..ProcessesData::default()
        };
        let style = super::super::Style {
            lang: super::super::Lang::En,
            color: false,
            width: 44,
            unicode: true,
        };
        let mut out = Out::bare(&style);
        processes(&data, &mut out);
        let text = out.finish();
        assert!(text.contains(title), "{text}");
        assert!(!text.contains("Make-up"), "{text}");
    }
}

fn makeup_of_all() -> Makeup {
    Makeup {
        source: Some(MakeupSource::Status),
        anon_kb: Some(1 << 20),
        file_kb: Some(1 << 20),
        shmem_kb: Some(1 << 20),
        swap_kb: Some(1 << 20),
    }
}

#[test]
fn ids_are_shown_short() {
    let id = "3f2a".repeat(16);
    assert_eq!(short(&format!("docker:{id}")), "docker:3f2a3f2a3f2a");
    assert_eq!(
        short("lxc:web-server-production"),
        "lxc:web-server-production"
    );
    assert_eq!(short("/a"), "/a");
}
