//! Which pod and container a process belongs to, from its `/proc/PID/cgroup`: the one thing about it that the process itself
//! cannot write.

use serde::Serialize;

/// A container of a pod, as a cgroup path names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerReference {
    /// The pod's uid with dashes; for a static pod its hash. `None` where the path names the container only, as for a
    /// neighbour in the reader's own pod.
    pub pod_uid: Option<String>,
    /// The container's id in the runtime: 64 hexadecimal digits.
    pub container_id: Option<String>,
}

/// Runtimes put their name before the container's id.
const PREFIXES: [&str; 4] = ["cri-containerd-", "crio-", "docker-", "cri-o-"];

/// Reads the text of `/proc/PID/cgroup`; `None` for a process that is in no pod.
///
/// Both hierarchies and both cgroup drivers of the kubelet are read, with a prefix of any depth (nested kubelets, cgroup
/// namespaces that show `/../..`) and anything below the container.
#[must_use]
pub fn parse(text: &str) -> Option<ContainerReference> {
    let mut best: Option<ContainerReference> = None;
    for path in text.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        let Some(found) = parse_path(path) else { continue };
        let complete = found.pod_uid.is_some() && found.container_id.is_some();
        if complete {
            return Some(found);
        }
        best = best.or(Some(found));
    }
    best
}

fn parse_path(path: &str) -> Option<ContainerReference> {
    // containerd without the systemd driver writes `…-podUID.slice:cri-containerd:ID` where it was told a systemd path.
    let mut segments = path.split(['/', ':']).filter(|segment| !segment.is_empty()).peekable();
    let mut found = ContainerReference { pod_uid: None, container_id: None };
    while let Some(segment) = segments.next() {
        if let Some(uid) = pod_uid(segment) {
            found.pod_uid = Some(uid);
            found.container_id = segments.find_map(container_id);
            return Some(found);
        }
        found.container_id = found.container_id.or_else(|| container_id_with_runtime(segment));
    }
    found.container_id.is_some().then_some(found)
}

/// `podUID` under the cgroupfs driver, `kubepods-QOS-podUID.slice` under systemd's, where dashes of the uid are underscores.
fn pod_uid(segment: &str) -> Option<String> {
    let uid = match segment.strip_suffix(".slice") {
        Some(unit) => {
            unit.rsplit_once("-pod").map(|(head, uid)| (head.ends_with("kubepods") || head.contains("kubepods-"), uid))
        }
        None => segment.strip_prefix("pod").map(|uid| (true, uid)),
    };
    let (_of_the_kubelet, uid) = uid.filter(|(of_the_kubelet, _uid)| *of_the_kubelet)?;
    let uid = uid.replace('_', "-");
    is_uid(&uid).then_some(uid)
}

/// A UUID, or the 32 digits of a static pod.
fn is_uid(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn container_id(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let id = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    is_container_id(id).then(|| id.to_owned())
}

/// A container's id where no pod was named before it: only with a runtime's name, which other cgroups do not have.
fn container_id_with_runtime(segment: &str) -> Option<String> {
    PREFIXES.iter().any(|prefix| segment.starts_with(prefix)).then(|| container_id(segment)).flatten()
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "3f5c9d0e-7f52-4f4a-9e5b-0c8a54d1b2e7";
    const ID: &str = "8d4c1e2f00112233445566778899aabbccddeeff00112233445566778899aabb";

    fn pod(text: &str) -> Option<(Option<String>, Option<String>)> {
        parse(text).map(|found| (found.pod_uid, found.container_id))
    }

    fn both() -> (Option<String>, Option<String>) {
        (Some(UID.to_owned()), Some(ID.to_owned()))
    }

    #[test]
    fn systemd_driver_of_the_second_hierarchy_is_read() {
        let uid = UID.replace('-', "_");
        for text in [
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{ID}.scope\n"
            ),
            format!("0::/kubepods.slice/kubepods-pod{uid}.slice/crio-{ID}.scope\n"),
            format!(
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice/docker-{ID}.scope/init.scope\n"
            ),
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{uid}.slice/cri-containerd-{ID}.scope\n"
            ),
        ] {
            assert_eq!(pod(&text), Some(both()), "{text}");
        }
    }

    #[test]
    fn cgroupfs_driver_and_a_nested_cgroup_are_read() {
        for text in [
            format!("0::/kubepods/burstable/pod{UID}/{ID}\n"),
            format!("0::/kubepods/pod{UID}/{ID}/system.slice/sshd.service\n"),
            format!(
                "0::/system.slice/containerd.service/kubepods-burstable-pod{}.slice:cri-containerd:{ID}\n",
                UID.replace('-', "_")
            ),
        ] {
            assert_eq!(pod(&text), Some(both()), "{text}");
        }
    }

    #[test]
    fn the_first_hierarchy_is_read_past_controllers_that_name_no_pod() {
        let text = format!(
            "13:misc:/\n12:rdma:/\n11:memory:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(pod(&text), Some(both()));
    }

    #[test]
    fn a_path_seen_from_inside_another_cgroup_namespace_is_read() {
        let uid = UID.replace('-', "_");
        let sibling = format!("0::/../../kubepods-besteffort-pod{uid}.slice/cri-containerd-{ID}.scope\n");
        assert_eq!(pod(&sibling), Some(both()));
        assert_eq!(pod(&format!("0::/../cri-containerd-{ID}.scope\n")), Some((None, Some(ID.to_owned()))));
    }

    #[test]
    fn a_static_pod_has_a_hash_for_a_uid() {
        let hash = "0123456789abcdef0123456789abcdef";
        let text =
            format!("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{hash}.slice/crio-{ID}.scope\n");
        assert_eq!(pod(&text), Some((Some(hash.to_owned()), Some(ID.to_owned()))));
    }

    #[test]
    fn a_process_outside_pods_has_none_whatever_its_cgroup_is_called() {
        for text in [
            "0::/\n",
            "0::/user.slice/user-1000.slice/session-3.scope\n",
            "0::/system.slice/podman.service\n",
            "0::/machine.slice/libpod-abc.scope\n",
            "0::/kubepods.slice/kubepods-burstable.slice\n",
            "0::/evil-podzzzz.slice\n",
            "",
            "garbage",
            "a:b",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
