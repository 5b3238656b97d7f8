use std::collections::BTreeMap;

use cotenant_model::{Bytes, Percent};

use super::*;

fn given(name: &str, files: &[&str]) -> Given {
    Given { name: name.to_owned(), files: files.iter().map(|&file| file.to_owned()).collect() }
}

fn two() -> [Given; 3] {
    let first = given("GPU-a", &["/dev/nvidia0"]);
    [first.clone(), given("GPU-b", &["/dev/nvidia1"]), first]
}

fn delivery(strategies: &[DeviceListStrategy]) -> Delivery {
    Delivery { strategies: strategies.to_vec(), cdi_annotation_prefix: "cdi.k8s.io/".to_owned(), ..Delivery::default() }
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn null(container: &str) -> Mount {
    Mount { container: container.to_owned(), host: "/dev/null".to_owned(), read_only: false }
}

#[test]
fn by_environment_every_device_is_named_once() {
    let allocation = delivery(&[DeviceListStrategy::Envvar]).allocation(&two());
    let expected = environment(&[("NVIDIA_VISIBLE_DEVICES", "GPU-a,GPU-b")]);
    assert_eq!(allocation, Allocation { environment: expected, ..Allocation::default() });
}

#[test]
fn by_volume_mounts_the_variable_names_the_folder() {
    let both = delivery(&[DeviceListStrategy::Envvar, DeviceListStrategy::VolumeMounts]);
    let allocation = Delivery { imex_channels: vec![0], ..both }.allocation(&two());
    let folder = "/var/run/nvidia-container-devices";
    let expected = environment(&[("NVIDIA_VISIBLE_DEVICES", folder), ("NVIDIA_IMEX_CHANNELS", "0")]);
    assert_eq!(allocation.environment, expected);
    let names = ["GPU-a", "GPU-b", "imex/0"].map(|name| null(&format!("{folder}/{name}")));
    assert_eq!(allocation.mounts, names);
}

#[test]
fn by_annotation_the_key_follows_from_the_devices() {
    let annotations =
        |devices: &[Given]| delivery(&[DeviceListStrategy::CdiAnnotations]).allocation(devices).annotations;
    let two = annotations(&two());
    let (key, value) = two.first_key_value().expect("annotation");
    assert_eq!(value, "k8s.device-plugin.nvidia.com/gpu=GPU-a,k8s.device-plugin.nvidia.com/gpu=GPU-b");
    let id = key.strip_prefix("cdi.k8s.io/nvidia-device-plugin_").expect("prefix");
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert!(id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{id}");
    assert!(key.len() - "cdi.k8s.io/".len() <= 63);
    assert_ne!(annotations(&[given("GPU-a", &[])]).first_key_value().expect("annotation").0, key);
}

#[test]
fn by_the_kubelets_field_only_cdi_names_and_the_extras_are_told() {
    let extras = Extras { gdrcopy: true, gds: false, mofed: true };
    let cdi = delivery(&[DeviceListStrategy::CdiCri]);
    let more = vec![cdi::qualified("gdrcopy", "all")];
    let files = Some(DeviceFiles { dev_root: "/".to_owned(), control: vec!["/dev/nvidiactl".to_owned()] });
    let allocation =
        Delivery { extras, cdi_extras: more, imex_channels: vec![0], device_files: files, ..cdi }.allocation(&two());
    assert_eq!(
        allocation.cdi_devices,
        [
            "k8s.device-plugin.nvidia.com/gpu=GPU-a",
            "k8s.device-plugin.nvidia.com/gpu=GPU-b",
            "k8s.device-plugin.nvidia.com/gdrcopy=all"
        ]
    );
    assert_eq!(allocation.environment, environment(&[("NVIDIA_GDRCOPY", "enabled"), ("NVIDIA_MOFED", "enabled")]));
    assert!(allocation.mounts.is_empty() && allocation.device_nodes.is_empty() && allocation.annotations.is_empty());
}

#[test]
fn device_files_come_from_the_hosts_root_and_once() {
    let files = DeviceFiles { dev_root: "/run/nvidia/driver".to_owned(), control: vec!["/dev/nvidiactl".to_owned()] };
    let delivery = Delivery {
        device_files: Some(files),
        imex_channels: vec![0],
        ..delivery(&[DeviceListStrategy::Envvar, DeviceListStrategy::CdiCri])
    };
    let mig = ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap3"];
    let nodes = delivery.allocation(&[given("MIG-a", &mig), given("MIG-b", &mig[..1])]).device_nodes;
    let paths: Vec<&str> = nodes.iter().map(|node| node.container.as_str()).collect();
    let channel = "/dev/nvidia-caps-imex-channels/channel0";
    assert_eq!(paths, ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap3", channel]);
    assert_eq!(nodes[1].host, "/run/nvidia/driver/dev/nvidia0");
    assert_eq!(nodes[1].permissions, "rw");
}

#[test]
fn an_mps_client_gets_pipe_shared_memory_and_limits() {
    let mut allocation = delivery(&[DeviceListStrategy::CdiCri]).allocation(&[given("GPU-a", &[])]);
    let share = Share { memory: Bytes((10 << 30) + 5), percent: Percent::try_from(25).expect("percent") };
    let resource = ResourceName("nvidia.com/gpu.small".to_owned());
    allocation.add_mps(
        &resource,
        Path::new("/run/nvidia/mps/GPU-a/pipe"),
        Some(Path::new("/run/nvidia/mps/shm")),
        share,
    );
    assert_eq!(
        allocation.environment,
        environment(&[
            ("CUDA_MPS_PIPE_DIRECTORY", "/mps/nvidia.com/gpu.small/pipe"),
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "25"),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=10240M"),
        ])
    );
    let mounts: Vec<_> =
        allocation.mounts.iter().map(|m| (m.container.as_str(), m.host.as_str(), m.read_only)).collect();
    let pipe = ("/mps/nvidia.com/gpu.small/pipe", "/run/nvidia/mps/GPU-a/pipe", true);
    assert_eq!(mounts, [pipe, ("/dev/shm", "/run/nvidia/mps/shm", false)]);
}

#[test]
fn a_share_below_a_mebibyte_is_still_a_limit() {
    let mut allocation = Allocation::default();
    let share = Share { memory: Bytes(1), percent: Percent::ALL };
    allocation.add_mps(&ResourceName("a.b/c".to_owned()), Path::new("/p"), None, share);
    assert_eq!(allocation.environment["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"], "0=1M");
    assert_eq!(allocation.mounts.len(), 1);
}
