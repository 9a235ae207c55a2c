//! Which container a cgroup belongs to, as its path tells.
//!
//! Nothing is asked of a runtime: names of cgroups are a convention of runtimes and of systemd, the
//! same on cgroup v1 and v2. The deepest segment that names a container wins, for containers nest
//! (docker in LXC, kind). An id that no convention explains gives no container: unknown beats wrong.

use crate::model::Container;

/// Prefixes of systemd scopes and of cgroupfs folders, `PREFIX-ID[.scope]` or `…:PREFIX:ID`.
const PREFIXES: &[(&str, &str)] = &[
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("libpod", "podman"),
];

/// Parents whose direct children are named by nothing but the container's id.
const PARENTS: &[(&str, &str)] = &[
    ("docker", "docker"),
    ("ecs", "docker"),
    ("default", "containerd"),
    ("k8s.io", "containerd"),
    ("moby", "docker"),
    ("libpod_parent", "podman"),
];

/// The container of a cgroup path as /proc/PID/cgroup prints it.
#[must_use]
pub fn from_cgroup(path: &[u8]) -> Option<Container> {
    let text = std::str::from_utf8(path).ok()?;
    let text = text.strip_suffix(" (deleted)").unwrap_or(text);
    let segments: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    (0..segments.len()).rev().find_map(|at| {
        let above = &segments[..at];
        let (runtime, id) = prefixed(segments[at])
            .or_else(|| bare(above, segments[at]))
            .or_else(|| machine(above, segments[at]))?;
        // The pod's folder is right above; a systemd driver without slices joins both with colons.
        let pod = pod_uid(segments[at].split(':').next()?)
            .or_else(|| above.last().and_then(|parent| pod_uid(parent)));
        Some(Container {
            runtime: runtime.to_owned(),
            id,
            pod,
        })
    })
}

/// `docker-ID.scope`, `crio-ID`, `kubepods-….slice:cri-containerd:ID`.
fn prefixed(segment: &str) -> Option<(&'static str, String)> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let (head, id) = name.rsplit_once(['-', ':']).filter(|(_, id)| is_id(id))?;
    let prefix = head.rsplit(':').next()?;
    let (_, runtime) = PREFIXES.iter().find(|(known, _)| *known == prefix)?;
    Some((runtime, id.to_owned()))
}

/// An id alone: the folder above tells whose.
fn bare(above: &[&str], segment: &str) -> Option<(&'static str, String)> {
    let parent = above.last()?;
    if !is_id(segment) {
        return None;
    }
    let id = segment.to_owned();
    if pod_uid(parent).is_some() {
        return Some(("kubernetes", id));
    }
    // Amazon's agent puts the task's id in between: /ecs/TASK/ID.
    if above.len() >= 2 && above[above.len() - 2] == "ecs" {
        return Some(("docker", id));
    }
    let (_, runtime) = PARENTS.iter().find(|(known, _)| known == parent)?;
    Some((runtime, id))
}

/// LXC and systemd-nspawn, whose ids are names.
fn machine(above: &[&str], segment: &str) -> Option<(&'static str, String)> {
    let named = |runtime, name: &str| (!name.is_empty()).then(|| (runtime, unescape(name)));
    if let Some(name) = segment.strip_prefix("lxc.payload.") {
        return named("lxc", name);
    }
    let parent = above.last().copied().unwrap_or("");
    if parent == "lxc.payload" || (parent == "lxc" && above.len() == 1) {
        return named("lxc", segment);
    }
    let service = segment.strip_prefix("systemd-nspawn@");
    if let Some(name) = service.and_then(|rest| rest.strip_suffix(".service")) {
        return named("nspawn", name);
    }
    let scope = segment.strip_prefix("machine-")?.strip_suffix(".scope")?;
    if parent != "machine.slice" {
        return None;
    }
    // libvirt registers its machines as machine-DRIVER\x2dNUMBER\x2dNAME.scope.
    match unescape(scope) {
        name if name.starts_with("qemu-") => None,
        name if name.starts_with("lxc-") => {
            let name = name.strip_prefix("lxc-").unwrap_or(&name);
            let plain = name.split_once('-').filter(|(number, _)| is_number(number));
            named("lxc", plain.map_or(name, |(_, rest)| rest))
        }
        name => named("nspawn", &name),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// 64 lower-case hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `pod1b4e28ba-2fa1-…`, `kubepods-burstable-pod1b4e28ba_2fa1_….slice`, or 32 digits (static pods).
fn pod_uid(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".slice").unwrap_or(segment);
    let at = name.rfind("pod")?;
    let head = &name[..at];
    if !(head.is_empty() || (head.contains("kubepods") && head.ends_with('-'))) {
        return None;
    }
    let uid = name[at + 3..].replace('_', "-");
    let uuid = uid.len() == 36
        && uid.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    (uuid || (uid.len() == 32 && is_hex(&uid))).then_some(uid)
}

/// systemd's `\xNN` in unit names (systemd.unit(5)).
fn unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = rest.strip_prefix(b"\\x").and_then(|hex| hex.get(..2));
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[4..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
