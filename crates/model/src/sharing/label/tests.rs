use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::gpu::{Pci, VgpuHost};
use crate::sharing::fixture::{driver, h100, offer, t4, with_mig};

fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
}

fn labelled(text: &str, gpus: &[Gpu], mig_strategy: MigStrategy) -> Labels {
    let around = Surroundings { mig_strategy, machine: Some("ProLiant DL380a (Gen11)"), timestamp: None };
    labels(&offer(text, gpus), gpus, &driver(), around)
}

/// Without what every node has.
fn of_sharing(text: &str, gpus: &[Gpu], mig_strategy: MigStrategy) -> String {
    let mut labels = labelled(text, gpus, mig_strategy);
    labels.retain(|key, _| !key.contains("/cuda.") && !key.contains("/vgpu.") && !key.ends_with("machine"));
    shown(&labels)
}

#[test]
fn a_node_of_whole_gpus_has_nvidias_labels() {
    let gpus = [h100(0), h100(1)];
    let around = Surroundings { mig_strategy: MigStrategy::None, machine: None, timestamp: Some(1_763_000_000) };
    insta::assert_snapshot!(shown(&labels(&offer("", &gpus), &gpus, &driver(), around)), @r"
    cotenant.dev/gpus.exclusive=2
    cotenant.dev/product.NVIDIA-H100-80GB-HBM3=2
    nvidia.com/cuda.driver-version.full=580.159.04
    nvidia.com/cuda.driver-version.major=580
    nvidia.com/cuda.driver-version.minor=159
    nvidia.com/cuda.driver-version.revision=04
    nvidia.com/cuda.driver.major=580
    nvidia.com/cuda.driver.minor=159
    nvidia.com/cuda.driver.rev=04
    nvidia.com/cuda.runtime-version.full=13.0
    nvidia.com/cuda.runtime-version.major=13
    nvidia.com/cuda.runtime-version.minor=0
    nvidia.com/cuda.runtime.major=13
    nvidia.com/cuda.runtime.minor=0
    nvidia.com/gfd.timestamp=1763000000
    nvidia.com/gpu.compute.major=9
    nvidia.com/gpu.compute.minor=0
    nvidia.com/gpu.count=2
    nvidia.com/gpu.family=hopper
    nvidia.com/gpu.machine=unknown
    nvidia.com/gpu.memory=81559
    nvidia.com/gpu.mode=compute
    nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3
    nvidia.com/gpu.replicas=1
    nvidia.com/gpu.sharing-strategy=none
    nvidia.com/mig.capable=true
    nvidia.com/mps.capable=false
    nvidia.com/vgpu.present=false
    ");
}

#[test]
fn shares_are_told_with_a_suffix_unless_their_name_tells_them() {
    let text = |kind: &str, rename: bool| {
        format!(
            "sharing: {{{kind}: {{renameByDefault: {rename}, resources: [{{name: nvidia.com/gpu, replicas: 4}}]}}}}"
        )
    };
    insta::assert_snapshot!(of_sharing(&text("timeSlicing", false), &[t4(0)], MigStrategy::None), @r"
    cotenant.dev/gpus.time-slicing=1
    cotenant.dev/product.Tesla-T4=1
    cotenant.dev/share.gpu.count=4
    cotenant.dev/share.gpu.strategy=time-slicing
    nvidia.com/gpu.compute.major=7
    nvidia.com/gpu.compute.minor=5
    nvidia.com/gpu.count=1
    nvidia.com/gpu.family=turing
    nvidia.com/gpu.memory=15360
    nvidia.com/gpu.mode=unknown
    nvidia.com/gpu.product=Tesla-T4-SHARED
    nvidia.com/gpu.replicas=4
    nvidia.com/gpu.sharing-strategy=time-slicing
    nvidia.com/mig.capable=false
    nvidia.com/mps.capable=false
    ");
    insta::assert_snapshot!(of_sharing(&text("mps", true), &[h100(0)], MigStrategy::None), @r"
    cotenant.dev/gpus.mps=1
    cotenant.dev/product.NVIDIA-H100-80GB-HBM3=1
    cotenant.dev/share.gpu.shared.count=4
    cotenant.dev/share.gpu.shared.memory=20205
    cotenant.dev/share.gpu.shared.percent=25
    cotenant.dev/share.gpu.shared.strategy=mps
    nvidia.com/gpu.compute.major=9
    nvidia.com/gpu.compute.minor=0
    nvidia.com/gpu.count=1
    nvidia.com/gpu.family=hopper
    nvidia.com/gpu.memory=81559
    nvidia.com/gpu.mode=compute
    nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3
    nvidia.com/gpu.replicas=4
    nvidia.com/gpu.sharing-strategy=mps
    nvidia.com/mig.capable=true
    nvidia.com/mps.capable=true
    ");
}

#[test]
fn a_node_with_several_kinds_tells_the_rest_in_labels_of_our_own() {
    let text = "
cotenant:
  classes: {small: {memory: 8GiB, percent: 10}, large: {memory: 30GiB, percent: 40}}
  gpus:
  - {devices: [0], strategy: mps, classes: {small: 2, large: 2}}
  - {devices: [1], strategy: time-slicing, replicas: 3}
  - {devices: [3], strategy: mig, replicas: 2}
";
    let gpus = [h100(0), t4(1), h100(2), with_mig(h100(3), &["1g.10gb+me", "2g.20gb", "2g.20gb"])];
    let labels = labelled(text, &gpus, MigStrategy::None);
    let ours = labels.into_iter().filter(|(key, _)| key.starts_with("cotenant.dev/") || key.contains("/mig-2g.20gb."));
    insta::assert_snapshot!(shown(&ours.collect()), @r"
    cotenant.dev/gpus.exclusive=1
    cotenant.dev/gpus.mig=1
    cotenant.dev/gpus.mps=1
    cotenant.dev/gpus.time-slicing=1
    cotenant.dev/product.NVIDIA-H100-80GB-HBM3=3
    cotenant.dev/product.Tesla-T4=1
    cotenant.dev/share.gpu.large.count=2
    cotenant.dev/share.gpu.large.memory=30720
    cotenant.dev/share.gpu.large.percent=40
    cotenant.dev/share.gpu.large.strategy=mps
    cotenant.dev/share.gpu.shared.count=3
    cotenant.dev/share.gpu.shared.strategy=time-slicing
    cotenant.dev/share.gpu.small.count=2
    cotenant.dev/share.gpu.small.memory=8192
    cotenant.dev/share.gpu.small.percent=10
    cotenant.dev/share.gpu.small.strategy=mps
    cotenant.dev/share.mig-1g.10gb.me.count=2
    cotenant.dev/share.mig-1g.10gb.me.strategy=time-slicing
    cotenant.dev/share.mig-2g.20gb.count=4
    cotenant.dev/share.mig-2g.20gb.strategy=time-slicing
    nvidia.com/mig-2g.20gb.count=2
    nvidia.com/mig-2g.20gb.engines.copy=1
    nvidia.com/mig-2g.20gb.engines.decoder=0
    nvidia.com/mig-2g.20gb.engines.encoder=0
    nvidia.com/mig-2g.20gb.engines.jpeg=0
    nvidia.com/mig-2g.20gb.engines.ofa=0
    nvidia.com/mig-2g.20gb.memory=20096
    nvidia.com/mig-2g.20gb.multiprocessors=32
    nvidia.com/mig-2g.20gb.product=NVIDIA-H100-80GB-HBM3-MIG-2g.20gb-SHARED
    nvidia.com/mig-2g.20gb.replicas=2
    nvidia.com/mig-2g.20gb.sharing-strategy=time-slicing
    nvidia.com/mig-2g.20gb.slices.ci=2
    nvidia.com/mig-2g.20gb.slices.gi=2
    ");
}

fn sliced(strategy: &str, name: &str) -> String {
    format!(
        "flags: {{migStrategy: {strategy}}}\nsharing: {{timeSlicing: {{resources: [{{name: {name}, replicas: 2}}]}}}}"
    )
}

fn cut() -> Gpu {
    with_mig(h100(0), &["2g.20gb", "2g.20gb", "2g.20gb"])
}

#[test]
fn mig_devices_are_told_by_profile_under_mixed() {
    let mixed = sliced("mixed", "nvidia.com/mig-2g.20gb");
    insta::assert_snapshot!(of_sharing(&mixed, &[cut(), h100(1)], MigStrategy::Mixed), @r"
    cotenant.dev/gpus.exclusive=1
    cotenant.dev/gpus.mig=1
    cotenant.dev/product.NVIDIA-H100-80GB-HBM3=2
    cotenant.dev/share.mig-2g.20gb.count=6
    cotenant.dev/share.mig-2g.20gb.strategy=time-slicing
    nvidia.com/gpu.compute.major=9
    nvidia.com/gpu.compute.minor=0
    nvidia.com/gpu.count=2
    nvidia.com/gpu.family=hopper
    nvidia.com/gpu.memory=81559
    nvidia.com/gpu.mode=compute
    nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3
    nvidia.com/gpu.replicas=1
    nvidia.com/gpu.sharing-strategy=none
    nvidia.com/mig-2g.20gb.count=3
    nvidia.com/mig-2g.20gb.engines.copy=1
    nvidia.com/mig-2g.20gb.engines.decoder=0
    nvidia.com/mig-2g.20gb.engines.encoder=0
    nvidia.com/mig-2g.20gb.engines.jpeg=0
    nvidia.com/mig-2g.20gb.engines.ofa=0
    nvidia.com/mig-2g.20gb.memory=20096
    nvidia.com/mig-2g.20gb.multiprocessors=32
    nvidia.com/mig-2g.20gb.product=NVIDIA-H100-80GB-HBM3-MIG-2g.20gb-SHARED
    nvidia.com/mig-2g.20gb.replicas=2
    nvidia.com/mig-2g.20gb.sharing-strategy=time-slicing
    nvidia.com/mig-2g.20gb.slices.ci=2
    nvidia.com/mig-2g.20gb.slices.gi=2
    nvidia.com/mig.capable=true
    nvidia.com/mig.strategy=mixed
    nvidia.com/mps.capable=false
    ");
}

#[test]
fn mig_devices_are_told_as_gpus_under_single() {
    insta::assert_snapshot!(of_sharing(&sliced("single", GPU), &[cut()], MigStrategy::Single), @r"
    cotenant.dev/gpus.mig=1
    cotenant.dev/product.NVIDIA-H100-80GB-HBM3=1
    cotenant.dev/share.gpu.count=6
    cotenant.dev/share.gpu.strategy=time-slicing
    nvidia.com/gpu.compute.major=9
    nvidia.com/gpu.compute.minor=0
    nvidia.com/gpu.count=3
    nvidia.com/gpu.engines.copy=1
    nvidia.com/gpu.engines.decoder=0
    nvidia.com/gpu.engines.encoder=0
    nvidia.com/gpu.engines.jpeg=0
    nvidia.com/gpu.engines.ofa=0
    nvidia.com/gpu.family=hopper
    nvidia.com/gpu.memory=20096
    nvidia.com/gpu.mode=compute
    nvidia.com/gpu.multiprocessors=32
    nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3-MIG-2g.20gb-SHARED
    nvidia.com/gpu.replicas=2
    nvidia.com/gpu.sharing-strategy=time-slicing
    nvidia.com/gpu.slices.ci=2
    nvidia.com/gpu.slices.gi=2
    nvidia.com/mig.capable=true
    nvidia.com/mig.strategy=single
    nvidia.com/mps.capable=false
    ");
}

#[test]
fn a_single_strategy_that_does_not_fit_is_told_as_invalid() {
    let around = Surroundings { mig_strategy: MigStrategy::Single, ..Surroundings::default() };
    // The configuration is refused, and nothing is offered.
    let refused = labels(&Offer::default(), &[cut(), h100(1)], &driver(), around);
    assert_eq!(refused["nvidia.com/gpu.product"], "NVIDIA-H100-80GB-HBM3-MIG-INVALID");
    assert_eq!(refused["nvidia.com/gpu.count"], "0");
    assert_eq!(refused["nvidia.com/gpu.sharing-strategy"], "");
    let none = labels(&Offer::default(), &[h100(0)], &driver(), around);
    assert_eq!(none["nvidia.com/gpu.product"], "NVIDIA-H100-80GB-HBM3");
}

#[test]
fn gpus_in_mig_mode_that_are_offered_whole_have_no_replicas() {
    let labels = labelled("", &[with_mig(h100(0), &["1g.10gb"])], MigStrategy::None);
    assert_eq!(labels["nvidia.com/gpu.replicas"], "0");
    assert!(!labels.contains_key("nvidia.com/mig.strategy"));
}

#[test]
fn a_node_without_gpus_says_so() {
    assert_eq!(shown(&labelled("", &[], MigStrategy::None)), "nvidia.com/vgpu.present=false");
}

#[test]
fn what_the_gpus_are_on_the_bus_and_in_the_fabric_is_told_where_they_agree() {
    let class = |class| Some(Pci { bus_id: String::new(), device_id: 0, subsystem_id: None, class });
    let gpu = |number, class, clique: &str| Gpu { pci: class, fabric_clique: Some(clique.to_owned()), ..h100(number) };
    let told = |one: Gpu, other: Gpu| {
        let labels = labelled("", &[one, other], MigStrategy::None);
        (labels["nvidia.com/gpu.mode"].clone(), labels.get("nvidia.com/gpu.clique").cloned())
    };
    let same = told(gpu(0, class(Some(0x0300)), "u.1"), gpu(1, class(Some(0x0300)), "u.1"));
    assert_eq!(same, ("graphics".to_owned(), Some("u.1".to_owned())));
    let other = told(gpu(0, class(Some(0x0300)), "u.1"), gpu(1, class(Some(0x0302)), "u.2"));
    assert_eq!(other, ("unknown".to_owned(), None));
    assert_eq!(told(gpu(0, None, "u.1"), gpu(1, None, "u.1")).0, "unknown");
}

#[test]
fn a_virtual_gpu_tells_its_host() {
    let host = VgpuHost { version: "535.129.03".to_owned(), branch: "r535_125".to_owned() };
    let labels = labelled("", &[Gpu { vgpu_host: Some(host), ..t4(0) }], MigStrategy::None);
    assert_eq!(labels["nvidia.com/vgpu.present"], "true");
    assert_eq!(labels["nvidia.com/vgpu.host-driver-branch"], "r535_125");
}

#[test]
fn names_are_written_as_gpu_feature_discovery_writes_them() {
    for (text, wanted) in [
        ("a space separated string", "a-space-separated-string"),
        ("some(thing)else", "somethingelse"),
        ("some ( thing )else", "some-thing-else"),
        (" input  with multiple   spaces   ", "input-with-multiple-spaces"),
        ("some / thing /else", "some-thing-else"),
        ("some-thing.else_new", "some-thing.else_new"),
    ] {
        assert_eq!(sanitized(text), wanted);
    }
}

#[test]
fn labels_of_others_are_not_ours_to_remove() {
    for key in [
        "nvidia.com/device-plugin.config",
        "nvidia.com/mig.config",
        "nvidia.com/mig.config.state",
        "nvidia.com/gpu.present",
        "nvidia.com/gpu.deploy.device-plugin",
        "nvidia.com/mig-manager.version",
        "cotenant.dev/config",
        "kubernetes.io/hostname",
        "example.com/gpu.count",
    ] {
        assert!(!is_written(key), "{key}");
    }
}

fn is_valid(part: &str, may_be_empty: bool) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    (may_be_empty && part.is_empty())
        || (part.len() <= 63
            && part.starts_with(ends)
            && part.ends_with(ends)
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
}

fn some_gpus() -> impl Generator<Value = Vec<Gpu>> {
    let gpu = (0..3_u8, "[ -~é]{0,90}", proptest::option::of("[ -~]{0,70}"));
    proptest::collection::vec(gpu, 0..5).prop_map(|kinds| {
        let named = |(index, (kind, name, clique)): (usize, (u8, String, Option<String>))| {
            let index = u32::try_from(index).expect("few");
            let gpu = match kind {
                0 => t4(index),
                1 => with_mig(h100(index), &["1g.10gb+me", "2g.20gb"]),
                _ => h100(index),
            };
            Gpu { name, fabric_clique: clique, ..gpu }
        };
        kinds.into_iter().enumerate().map(named).collect()
    })
}

proptest! {
    #[test]
    fn every_label_is_valid_and_known_as_ours(
        gpus in some_gpus(),
        version in "[0-9.a-z]{0,12}",
        machine in "[ -~é]{0,90}",
        text in prop_oneof![
            Just(""),
            Just("flags: {migStrategy: mixed}"),
            Just("cotenant: {classes: {small: {memory: 1GiB, percent: 5, resource: gpu.a-very-long-name-of-a-class-that-goes-on-and-on}}, gpus: [{devices: 1, strategy: mps, classes: {small: 4}}, {devices: all, strategy: exclusive}]}"),
        ],
    ) {
        let sharing = crate::sharing::Sharing::parse("config.yaml", text).expect("valid");
        let offer = Offer::compute(&sharing, &gpus, &driver()).unwrap_or_default();
        let around = Surroundings { mig_strategy: sharing.flags.mig_strategy, machine: Some(&machine), timestamp: Some(1) };
        let labels = labels(&offer, &gpus, &Driver { version, cuda: Some((13, 0)) }, around);
        for (key, value) in &labels {
            prop_assert!(is_valid(value, true), "{} = {:?}", key, value);
            let (_, name) = key.split_once('/').expect("a prefix");
            prop_assert!(is_valid(name, false), "{}", key);
            prop_assert!(is_written(key), "{}", key);
        }
    }
}
