//! NUMA: what each node holds, how often memory had to come from another one, and how far from home a
//! process' memory lies.

use crate::model::Detail;
use crate::model::Node;
use crate::report::processes::NodeRow;

use super::readings::Readings;

/// Every node with its newest figures; rates when there were two readings. Empty where the kernel has no NUMA
/// support or it could not be read.
#[must_use]
pub fn nodes(readings: &Readings) -> Vec<NodeRow> {
    let newest = readings.detail().and_then(|detail| detail.nodes.as_deref());
    newest
        .unwrap_or_default()
        .iter()
        .map(|node| row(node, before(readings, node.id)))
        .collect()
}

/// The node's first reading, and the seconds from it to the last.
fn before(readings: &Readings, id: u32) -> Option<(&Node, f64)> {
    let (first, last) = (
        readings.first_detail.as_deref()?,
        readings.last_detail.as_deref()?,
    );
    let seconds = last.ts_ns.checked_sub(first.ts_ns)? as f64 / 1e9;
    let node = node(first, id)?;
    (seconds > 0.0).then_some((node, seconds))
}

fn node(detail: &Detail, id: u32) -> Option<&Node> {
    detail.nodes.as_ref()?.iter().find(|node| node.id == id)
}

fn row(node: &Node, before: Option<(&Node, f64)>) -> NodeRow {
    let rate = |key: &str| {
        let (first, seconds) = before?;
        Some(node.count(key)?.checked_sub(first.count(key)?)? as f64 / seconds)
    };
    let total = node.kb("MemTotal");
    let free = node.kb("MemFree");
    NodeRow {
        id: node.id,
        mem_total_kb: total,
        mem_free_kb: free,
        mem_used_kb: total.and_then(|total| total.checked_sub(free?)),
        file_kb: node.kb("FilePages"),
        anon_kb: node.kb("AnonPages"),
        shmem_kb: node.kb("Shmem"),
        slab_kb: node.kb("Slab"),
        kernel_stack_kb: node.kb("KernelStack"),
        page_tables_kb: node.kb("PageTables"),
        huge_pages_total: node.kb("HugePages_Total"),
        numa_hit: node.count("numa_hit"),
        numa_miss: node.count("numa_miss"),
        numa_foreign: node.count("numa_foreign"),
        local_node: node.count("local_node"),
        other_node: node.count("other_node"),
        numa_hit_per_s: rate("numa_hit"),
        numa_miss_per_s: rate("numa_miss"),
        numa_foreign_per_s: rate("numa_foreign"),
        other_node_per_s: rate("other_node"),
        cpus: node.cpus.clone().map(|cpus| cpus.trim().to_owned()),
        distances: node.distances.clone(),
    }
}

/// Home of a process and how much of it lies elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Home {
    /// Nodes that are near.
    pub nodes: Vec<u32>,
    /// `cpus` or `majority`.
    pub source: &'static str,
    /// Share of its memory on other nodes, 0 to 1.
    pub remote_share: f64,
}

/// Finds the home of a process. One that is bound to CPUs of some nodes is at home on these; for one that may run
/// on every node that has CPUs, home is the node that holds most of it. `None` without memory.
#[must_use]
pub fn home(node_kb: &[u64], cpus: Option<&str>, nodes: &[NodeRow]) -> Option<Home> {
    let all: u64 = node_kb.iter().fold(0, |sum, kb| sum.saturating_add(*kb));
    if all == 0 {
        return None;
    }
    let allowed = cpus.map(ranges).unwrap_or_default();
    let able = |node: &&NodeRow| {
        let own = node.cpus.as_deref().map(ranges).unwrap_or_default();
        own.iter().any(|(from, to)| {
            let meets = |(first, last): &(u32, u32)| first <= to && from <= last;
            allowed.iter().any(meets)
        })
    };
    let with_cpus = nodes
        .iter()
        .filter(|node| node.cpus.as_deref().is_some_and(|cpus| !cpus.is_empty()))
        .count();
    let near: Vec<u32> = nodes.iter().filter(able).map(|node| node.id).collect();
    let (home, source) = if near.is_empty() || near.len() == with_cpus {
        let most = (0u32..)
            .zip(node_kb)
            .max_by_key(|(id, kb)| (**kb, std::cmp::Reverse(*id)));
        (vec![most?.0], "majority")
    } else {
        (near, "cpus")
    };
    let at_home = (0u32..)
        .zip(node_kb)
        .filter(|(id, _)| home.contains(id))
        .fold(0u64, |sum, (_, kb)| sum.saturating_add(*kb));
    Some(Home {
        nodes: home,
        source,
        remote_share: all.saturating_sub(at_home) as f64 / all as f64,
    })
}

/// `0-3,8` as (first, last) pairs.
fn ranges(list: &str) -> Vec<(u32, u32)> {
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    list.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Item;

    fn detail(seconds: u64, miss: u64) -> Item {
        let node = |id, cpus: &str| Node {
            id,
            meminfo: vec![("MemTotal".into(), 1000), ("MemFree".into(), 400)],
            numastat: vec![("numa_hit".into(), 50), ("numa_miss".into(), miss)],
            cpus: Some(cpus.to_owned()),
            distances: vec![10, 20],
        };
        Item::Detail(Box::new(Detail {
            ts_ns: seconds * 1_000_000_000,
            nodes: Some(vec![node(0, "0-1\n"), node(1, "2-3")]),
            ..Detail::default()
        }))
    }

    #[test]
    fn nodes_have_rates_when_read_twice() {
        let mut readings = Readings::default();
        assert!(nodes(&readings).is_empty());
        readings.push(detail(1, 10));
        let one = nodes(&readings);
        assert_eq!((one.len(), one[0].numa_miss), (2, Some(10)));
        assert_eq!(
            (one[0].mem_used_kb, one[0].numa_miss_per_s),
            (Some(600), None)
        );
        assert_eq!((one[0].anon_kb, one[0].other_node), (None, None));
        readings.push(detail(3, 30));
        let two = nodes(&readings);
        assert_eq!(two[1].numa_miss_per_s, Some(10.0));
        assert_eq!(two[0].cpus.as_deref(), Some("0-1"));
    }

    #[test]
    fn home_is_where_it_may_run_or_where_most_of_it_is() {
        let mut readings = Readings::default();
        readings.push(detail(1, 10));
        let nodes = nodes(&readings);
        let bound = home(&[300, 100], Some("2"), &nodes).unwrap();
        assert_eq!((&bound.nodes[..], bound.source), (&[1][..], "cpus"));
        assert!((bound.remote_share - 0.75).abs() < 1e-9);
        let free = home(&[300, 100], Some("0-3"), &nodes).unwrap();
        assert_eq!((&free.nodes[..], free.source), (&[0][..], "majority"));
        assert!((free.remote_share - 0.25).abs() < 1e-9);
        assert_eq!(home(&[0, 0], Some("0"), &nodes), None);
        assert_eq!(home(&[], None, &nodes), None);
        assert_eq!(
            home(&[5], Some("x,1-y"), &nodes).unwrap().source,
            "majority"
        );
    }
}
