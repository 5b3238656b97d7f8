//! MIG devices.

use super::*;

#[test]
fn mig_devices_follow_the_strategy() {
    let gpus = [with_mig(h100(0), &["1g.10gb", "1g.10gb", "1g.10gb+me"]), h100(1)];
    let text = |strategy: &str| {
        format!(
            "flags: {{migStrategy: {strategy}}}\nsharing: {{timeSlicing: {{renameByDefault: true, resources: [{{name: nvidia.com/mig-1g.10gb, replicas: 2}}]}}}}"
        )
    };
    assert_eq!(ids(&offer(&text("none"), &gpus)), [("nvidia.com/gpu".to_owned(), vec![uuid(0).0, uuid(1).0])]);
    let mixed = offer(&text("mixed"), &gpus);
    assert_eq!(mixed.resources[2].devices[2].index, "0:1");
    assert_eq!(mixed.gpus[0].strategy, Strategy::Mig);
    insta::assert_snapshot!(Explanation::of(&mixed), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): mig
      1 × nvidia.com/mig-1g.10gb.me
      4 × nvidia.com/mig-1g.10gb.shared
      - Under `migStrategy: mixed` its MIG devices are offered by profile.
      - `sharing.timeSlicing.resources[0]` shares `nvidia.com/mig-1g.10gb` 2 times, offered as `nvidia.com/mig-1g.10gb.shared`.
      - Its shares take turns; nothing limits their memory.
      - `sharing` does not share it: one container has each MIG device whole.

    GPU 1: NVIDIA H100 80GB HBM3 (GPU-00000001-1111-2222-3333-444444444444): exclusive
      1 × nvidia.com/gpu
      - `sharing` does not share it: one container has it whole.
    ");
}

#[test]
fn a_single_strategy_needs_gpus_that_are_cut_alike() {
    let single = "flags: {migStrategy: single}";
    let cut = |index| with_mig(h100(index), &["2g.20gb", "2g.20gb"]);
    assert_eq!(offer(single, &[cut(0), cut(1)]).resources[0].devices.len(), 4);
    assert_eq!(offer(single, &[h100(0), t4(1)]).resources[0].devices.len(), 2);
    let texts = [
        explained(single, &[cut(0), h100(1)]),
        explained(single, &[cut(0), with_mig(h100(1), &[])]),
        explained(single, &[cut(0), with_mig(h100(1), &["1g.10gb"])]),
        explained("flags: {migStrategy: mixed}", &[with_mig(h100(0), &["1c.2g.20gb"]), with_mig(h100(1), &[])]),
        explained(
            "flags: {migStrategy: single}\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}",
            &[cut(0)],
        ),
        explained("sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}", &[cut(0)]),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    flags.migStrategy: all devices on the node must be configured with the same migEnabled value
      fix: cut every GPU into MIG devices of one profile, write `migStrategy: mixed`, or give single GPUs rules in `cotenant.gpus`
    flags.migStrategy: device 1 has no MIG devices configured
      fix: cut every GPU into MIG devices of one profile, write `migStrategy: mixed`, or give single GPUs rules in `cotenant.gpus`
    flags.migStrategy: more than one MIG device type present on node
      fix: cut every GPU into MIG devices of one profile, write `migStrategy: mixed`, or give single GPUs rules in `cotenant.gpus`
    flags.migStrategy: MIG profile '1c.2g.20gb' does not match any resource patterns (GPU 0, `MIG-00000000-0000-2222-3333-444444444444`)
      fix: make one compute instance of all slices in each GPU instance
    sharing.mps.resources[0]: sharing using MPS is not supported for MIG devices (GPU 0)
      fix: share MIG devices under `sharing.timeSlicing`
    sharing.mps.resources[0]: sharing using MPS is not supported for MIG devices (GPU 0)
      fix: share MIG devices under `sharing.timeSlicing`
    sharing.mps.resources[0].replicas: sharing using MPS is not supported for MIG devices, and GPU 0 is in MIG mode
      fix: switch MIG mode off (`nvidia-smi -i 0 -mig 0`), or use time slicing
    ");
}

#[test]
fn a_rule_offers_mig_devices_that_its_layout_keeps() {
    let gpus = || [with_mig(h100(0), &["3g.40gb", "1g.10gb"]), h100(1), with_mig(h100(2), &[]), h100(3)];
    let text = "
cotenant:
  gpus:
  - {devices: [0, 1], strategy: mig, layout: {3g.40gb: 2}, replicas: 2}
  - {devices: [2, 3], strategy: mig}
";
    let mut gpus = gpus();
    for (number, device) in gpus[0].mig_devices.iter().enumerate() {
        let (start, profile) = if number == 0 { (0, 9) } else { (4, 19) };
        let placement = crate::gpu::MigPlacement { start, size: if number == 0 { 4 } else { 1 } };
        let id = device.gpu_instance.expect("known");
        gpus[0].mig_instances.push(crate::gpu::MigInstance { id, profile, placement, compute_instances: vec![0] });
    }
    insta::assert_snapshot!(explained(text, &gpus), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): mig
      2 × nvidia.com/mig-3g.40gb
      - `cotenant.gpus[0]` selects it (0, 1).
      - Of its `layout` 1 MIG devices are there; 1 more are made when what is in their way is idle.
      - Each MIG device has 2 shares that take turns; nothing limits their memory within it.

    GPU 1: NVIDIA H100 80GB HBM3 (GPU-00000001-1111-2222-3333-444444444444): mig
      offers nothing
      - `cotenant.gpus[0]` selects it (0, 1).
      - Of its `layout` 0 MIG devices are there; 2 more are made when what is in their way is idle.

    GPU 2: NVIDIA H100 80GB HBM3 (GPU-00000002-1111-2222-3333-444444444444): mig
      offers nothing
      - `cotenant.gpus[1]` selects it (2, 3).

    GPU 3: NVIDIA H100 80GB HBM3 (GPU-00000003-1111-2222-3333-444444444444): mig
      offers nothing
      - `cotenant.gpus[1]` selects it (2, 3).

    note: GPU 2 offers nothing: no MIG devices are configured on it; a `layout` in `cotenant.gpus[1]` makes some.
    note: GPU 3 offers nothing: MIG mode is off; a `layout` in `cotenant.gpus[1]` makes some.
    ");
}

#[test]
fn a_layout_over_instances_that_cannot_be_read_is_refused_with_another_fix() {
    let text = "cotenant: {gpus: [{devices: all, strategy: mig, layout: {3g.40gb: 2}}]}";
    let refused = explained(text, &[with_mig(h100(0), &["3g.40gb"])]);
    assert!(refused.contains("GPU 0 does not say which MIG instances it has"), "{refused}");
    assert!(refused.contains("fix: run as root"), "{refused}");
    assert!(explained(text, &[with_mig(h100(0), &["3g.40gb", "3g.40gb"])]).contains("2 × nvidia.com/mig-3g.40gb"));
}
