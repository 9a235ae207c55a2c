//! Paths of real hosts; `{I}` stands for a container's id, `{U}` for a pod's uid, `{V}` for it with underscores.

use super::from_cgroup;

const ID: &str = "0f3a9c1be7d24586b1c07a9fe8d3c2516f4e0b8a97d1c3e5f60718293a4b5c6d";
const UID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

const PATHS: &[(&str, &str, &str, bool)] = &[
    ("/docker/{I}", "docker", "{I}", false),
    ("/docker/{I}/init.scope", "docker", "{I}", false),
    ("/system.slice/docker-{I}.scope", "docker", "{I}", false),
    (
        "/system.slice/docker-{I}.scope/system.slice/cron.service",
        "docker",
        "{I}",
        false,
    ),
    ("/actions_job/docker-{I}.scope", "docker", "{I}", false),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{I}.scope",
        "docker",
        "{I}",
        false,
    ),
    (
        "/ecs/9781c248-0edd-4cdb-9a93-f63cb662a5d3/{I}",
        "docker",
        "{I}",
        false,
    ),
    (
        "/system.slice/docker-{I}.scope (deleted)",
        "docker",
        "{I}",
        false,
    ),
    ("/moby/{I}", "docker", "{I}", false),
    ("/default/{I}", "containerd", "{I}", false),
    ("/k8s.io/{I}", "containerd", "{I}", false),
    (
        "/system.slice/nerdctl-{I}.scope",
        "containerd",
        "{I}",
        false,
    ),
    (
        "/system.slice/cri-containerd-{I}.scope",
        "containerd",
        "{I}",
        false,
    ),
    ("/kubepods/pod{U}/{I}", "kubernetes", "{I}", true),
    ("/kubepods/besteffort/pod{U}/{I}", "kubernetes", "{I}", true),
    ("/kubepods/burstable/pod{U}/{I}", "kubernetes", "{I}", true),
    (
        "/kubepods/burstable/pod{U}/{I}/sub/group",
        "kubernetes",
        "{I}",
        true,
    ),
    ("/kubepods/burstable/pod{U}/crio-{I}", "cri-o", "{I}", true),
    (
        "/kubepods.slice/kubepods-pod{V}.slice/cri-containerd-{I}.scope",
        "containerd",
        "{I}",
        true,
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{V}.slice/cri-containerd-{I}.scope",
        "containerd",
        "{I}",
        true,
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{V}.slice/crio-{I}.scope",
        "cri-o",
        "{I}",
        true,
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{V}.slice/crio-{I}.scope/container",
        "cri-o",
        "{I}",
        true,
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{V}.slice/docker-{I}.scope",
        "docker",
        "{I}",
        true,
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{V}.slice/{I}",
        "kubernetes",
        "{I}",
        true,
    ),
    (
        "/system.slice/containerd.service/kubepods-burstable-pod{V}.slice:cri-containerd:{I}",
        "containerd",
        "{I}",
        true,
    ),
    (
        "/kubepods-besteffort-pod{V}.slice:crio:{I}",
        "cri-o",
        "{I}",
        true,
    ),
    (
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{V}.slice/cri-containerd-{I}.scope",
        "containerd",
        "{I}",
        true,
    ),
    (
        "/docker/ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff/kubelet/kubepods/besteffort/pod{U}/{I}",
        "kubernetes",
        "{I}",
        true,
    ),
    ("/machine.slice/libpod-{I}.scope", "podman", "{I}", false),
    (
        "/machine.slice/libpod-{I}.scope/container",
        "podman",
        "{I}",
        false,
    ),
    (
        "/machine.slice/machine-libpod_pod_{I}.slice/libpod-{I}.scope",
        "podman",
        "{I}",
        false,
    ),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{I}.scope/container",
        "podman",
        "{I}",
        false,
    ),
    ("/libpod_parent/libpod-{I}", "podman", "{I}", false),
    ("/libpod_parent/{I}", "podman", "{I}", false),
    ("/lxc/web1", "lxc", "web1", false),
    ("/lxc/101/ns/system.slice/ssh.service", "lxc", "101", false),
    ("/lxc.payload.web1/init.scope", "lxc", "web1", false),
    ("/lxc.payload/web1", "lxc", "web1", false),
    ("/lxc.payload.ci/docker/{I}", "docker", "{I}", false),
    (
        r"/machine.slice/machine-lxc\x2d4242\x2dweb\x2d1.scope",
        "lxc",
        "web-1",
        false,
    ),
    (
        r"/machine.slice/machine-debian\x2d12.scope/payload",
        "nspawn",
        "debian-12",
        false,
    ),
    (
        "/machine.slice/systemd-nspawn@build.service/payload/system.slice",
        "nspawn",
        "build",
        false,
    ),
    (
        r"/machine.slice/systemd-nspawn@my\x2dbox.service",
        "nspawn",
        "my-box",
        false,
    ),
];

const NEGATIVE: &[&str] = &[
    "",
    "/",
    "/init.scope",
    "/system.slice/docker.service",
    "/system.slice/docker-proxy.service",
    "/system.slice/containerd.service",
    "/system.slice/docker-0f3a9c1be7d2.scope",
    "/system.slice/var-lib-docker-containers-{I}-mounts-shm.mount",
    "/machine.slice/libpod-conmon-{I}.scope",
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{V}.slice/crio-conmon-{I}.scope",
    "/kubepods/burstable/pod{U}",
    "/kubepods.slice/kubepods-burstable.slice",
    "/kubepods/burstable/podcast/{I}",
    "/batch/{I}",
    "/{I}",
    "/docker/buildx",
    "/lxc.monitor.web1",
    "/lxc",
    "/lxc.payload.",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
    "/machine.slice",
    "/user.slice/user-1000.slice/session-3.scope",
    "/../{I}",
];

fn expand(text: &str) -> String {
    let text = text.replace("{I}", ID).replace("{U}", UID);
    text.replace("{V}", &UID.replace('-', "_"))
}

#[test]
fn real_paths_name_their_container() {
    for (path, runtime, id, pod) in PATHS {
        let found = from_cgroup(expand(path).as_bytes());
        let found = found.unwrap_or_else(|| panic!("nothing found in {path}"));
        assert_eq!(found.runtime, *runtime, "{path}");
        assert_eq!(found.id, expand(id), "{path}");
        assert_eq!(found.pod.as_deref(), pod.then_some(UID), "{path}");
    }
    let hash = "f0e1d2c3b4a5968778695a4b3c2d1e0f";
    let found = from_cgroup(format!("/kubepods/burstable/pod{hash}/{ID}").as_bytes());
    assert_eq!(found.unwrap().pod.as_deref(), Some(hash));
}

#[test]
fn other_paths_name_none() {
    for path in NEGATIVE {
        assert_eq!(from_cgroup(expand(path).as_bytes()), None, "{path}");
    }
    assert_eq!(from_cgroup(b"/lxc/\xff\xfe"), None);
}
