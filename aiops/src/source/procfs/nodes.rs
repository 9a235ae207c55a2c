//! NUMA nodes: /sys/devices/system/node/nodeN/{meminfo,numastat,cpulist,distance} (drivers/base/node.c).

use crate::model::Node;
use crate::model::UnreadReason;

use super::detail::Look;

const FOLDER: &str = "sys/devices/system/node";

/// Every node, in order; `None` where the kernel has no NUMA support or /sys is not there.
pub(super) fn read(look: &mut Look<'_>) -> Option<Vec<Node>> {
    let Ok(entries) = std::fs::read_dir(look.root.join(FOLDER)) else {
        look.note(FOLDER, UnreadReason::Absent);
        return None;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<u32> = names
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect();
    ids.sort_unstable();
    Some(ids.into_iter().map(|id| node(look, id)).collect())
}

fn node(look: &Look<'_>, id: u32) -> Node {
    let file = |name: &str| {
        look.maybe(&format!("{FOLDER}/node{id}/{name}"))
            .unwrap_or_default()
    };
    let distances = file("distance");
    Node {
        id,
        meminfo: meminfo(&file("meminfo")),
        numastat: numastat(&file("numastat")),
        cpus: Some(file("cpulist")).filter(|list| !list.is_empty()),
        distances: distances
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect(),
    }
}

/// `Node 0 MemTotal:       16330000 kB`.
fn meminfo(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (_, rest) = line.strip_prefix("Node ")?.split_once(' ')?;
        let (key, value) = rest.split_once(':')?;
        let value = value.split_whitespace().next()?.parse().ok()?;
        Some((key.trim().to_owned(), value))
    };
    text.lines().filter_map(line).collect()
}

/// `numa_hit 123`.
fn numastat(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_their_keys() {
        let node = Node {
            meminfo: meminfo(
                "Node 0 MemTotal:       16330000 kB\nNode 0 Active(anon):   7 kB\nNode 0 HugePages_Total:     0\n",
            ),
            numastat: numastat("numa_hit 5\nother_node 2\n"),
            ..Node::default()
        };
        assert_eq!(node.kb("MemTotal"), Some(16_330_000));
        assert_eq!(node.kb("Active(anon)"), Some(7));
        assert_eq!((node.count("other_node"), node.count("x")), (Some(2), None));
    }
}
