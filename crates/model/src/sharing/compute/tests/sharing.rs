//! NVIDIA's keys, and which rule holds.

use super::*;

#[test]
fn without_a_configuration_every_gpu_is_offered_whole() {
    let offer = offer("", &[h100(0), t4(1)]);
    assert_eq!(ids(&offer), [("nvidia.com/gpu".to_owned(), vec![uuid(0).0, uuid(1).0])]);
    insta::assert_snapshot!(Explanation::of(&offer), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): exclusive
      1 × nvidia.com/gpu
      - `sharing` does not share it: one container has it whole.

    GPU 1: Tesla T4 (GPU-00000001-1111-2222-3333-444444444444): exclusive
      1 × nvidia.com/gpu
      - `sharing` does not share it: one container has it whole.
    ");
    assert_eq!(explained("", &[]), "This node has no GPU, and offers nothing.");
}

#[test]
fn time_slicing_offers_replicas_under_nvidias_names() {
    let text = |rename| {
        format!(
            "version: v1\nsharing:\n  timeSlicing:\n    renameByDefault: {rename}\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 2\n"
        )
    };
    let both = |one: u32| (0..2).map(|number| format!("{}::{number}", uuid(one))).collect::<Vec<_>>();
    let plain = offer(&text(false), &[h100(0), h100(1)]);
    assert_eq!(ids(&plain), [("nvidia.com/gpu".to_owned(), [both(0), both(1)].concat())]);
    assert!(
        plain.resources[0]
            .devices
            .iter()
            .all(|device| device.share.is_none() && device.strategy == Strategy::TimeSlicing)
    );
    assert!(!plain.resources[0].one_per_container);
    let renamed = offer(&text(true), &[h100(0), h100(1)]);
    assert_eq!(ids(&renamed), [("nvidia.com/gpu.shared".to_owned(), [both(0), both(1)].concat())]);
    insta::assert_snapshot!(Explanation::of(&renamed), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): time-slicing
      2 × nvidia.com/gpu.shared
      - `sharing.timeSlicing.resources[0]` shares it 2 times, offered as `nvidia.com/gpu.shared`.
      - Its shares take turns; nothing limits their memory.

    GPU 1: NVIDIA H100 80GB HBM3 (GPU-00000001-1111-2222-3333-444444444444): time-slicing
      2 × nvidia.com/gpu.shared
      - `sharing.timeSlicing.resources[0]` shares it 2 times, offered as `nvidia.com/gpu.shared`.
      - Its shares take turns; nothing limits their memory.
    ");
}

#[test]
fn devices_that_sharing_names_are_shared_and_the_others_left_whole() {
    let shared = |devices: &str| {
        format!(
            "sharing: {{timeSlicing: {{renameByDefault: true, resources: [{{name: nvidia.com/gpu, replicas: 2, devices: {devices}}}]}}}}"
        )
    };
    let gpus = [h100(0), h100(1), h100(2)];
    let shape = |devices: &str| {
        let offer = offer(&shared(devices), &gpus);
        offer.resources.iter().map(|resource| (resource.name.0.clone(), resource.devices.len())).collect::<Vec<_>>()
    };
    let (whole, turns) = ("nvidia.com/gpu".to_owned(), "nvidia.com/gpu.shared".to_owned());
    assert_eq!(shape("1"), [(whole.clone(), 2), (turns.clone(), 2)]);
    assert_eq!(shape("[2, 0]"), [(whole.clone(), 1), (turns.clone(), 4)]);
    assert_eq!(shape(&format!("[{}]", uuid(1))), [(whole, 2), (turns.clone(), 2)]);
    assert_eq!(shape("all"), [(turns, 6)]);
    let texts: Vec<String> = ["4", "[3]", "['0:1']", &format!("[{}, 1]", uuid(7))]
        .iter()
        .map(|devices| explained(&shared(devices), &gpus))
        .collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    sharing.timeSlicing.resources[0].devices: requested 4 devices to be replicated, but only 3 devices available
      fix: write 3 or less, or `all`
    sharing.timeSlicing.resources[0].devices: no matching device at index: 3
      fix: name devices of `nvidia.com/gpu`: 0, 1, 2
    sharing.timeSlicing.resources[0].devices: no matching device at index: 0:1
      fix: name devices of `nvidia.com/gpu`: 0, 1, 2
    sharing.timeSlicing.resources[0].devices: no matching device with UUID: GPU-00000007-1111-2222-3333-444444444444
      fix: name devices of `nvidia.com/gpu`: 0, 1, 2
    ");
}

#[test]
fn a_name_may_be_given_and_replicas_may_differ_by_gpu() {
    let text = "
sharing:
  timeSlicing:
    resources:
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu.two, replicas: 2, devices: [0]}
    - {name: nvidia.com/gpu, replicas: 3, devices: [1, 0]}
    - {name: nvidia.com/mig-1g.10gb, replicas: 3}
";
    insta::assert_snapshot!(explained(text, &[h100(0), h100(1), h100(2)]), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): time-slicing
      2 × nvidia.com/gpu.two
      - `sharing.timeSlicing.resources[0]` shares it 2 times, offered as `nvidia.com/gpu.two`.
      - Its shares take turns; nothing limits their memory.

    GPU 1: NVIDIA H100 80GB HBM3 (GPU-00000001-1111-2222-3333-444444444444): time-slicing
      3 × nvidia.com/gpu
      - `sharing.timeSlicing.resources[1]` shares it 3 times.
      - Its shares take turns; nothing limits their memory.

    GPU 2: NVIDIA H100 80GB HBM3 (GPU-00000002-1111-2222-3333-444444444444): exclusive
      1 × nvidia.com/gpu
      - `sharing` does not share it: one container has it whole.

    note: `sharing.timeSlicing.resources[1]` selects `GPU-00000000-1111-2222-3333-444444444444` too and does not count: the first entry holds.
    note: `sharing.timeSlicing.resources[2]` shares nothing: no device that it could share is a `nvidia.com/mig-1g.10gb`.
    note: `nvidia.com/gpu` stands for devices under different strategies (exclusive, time-slicing), and a pod that asks for it may get either: give one of them another name.
    ");
}

#[test]
fn a_rule_and_sharing_cannot_both_name_a_gpu() {
    let text = "
sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2, devices: [0, 1]}]}}
cotenant: {gpus: [{devices: [1], strategy: mps, replicas: 2}]}
";
    insta::assert_snapshot!(explained(text, &[h100(0), h100(1)]), @r"
    sharing.timeSlicing.resources[0].devices: GPU 1 has a rule in `cotenant.gpus` already
      fix: take it out of one of them
    ");
}

#[test]
fn the_first_rule_holds_and_rules_for_other_nodes_are_noted() {
    let text = format!(
        "cotenant: {{gpus: [{{devices: [{}, 5], strategy: exclusive}}, {{devices: [0, A100], strategy: time-slicing, replicas: 2}}, {{devices: 3, strategy: time-slicing, replicas: 4}}]}}",
        uuid(0)
    );
    insta::assert_snapshot!(explained(&text, &[h100(0), t4(1)]), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): exclusive
      1 × nvidia.com/gpu
      - `cotenant.gpus[0]` selects it (GPU-00000000-1111-2222-3333-444444444444, 5).
      - `cotenant.gpus[1]` selects it too and does not count: the first rule holds.
      - `cotenant.gpus[2]` selects it too and does not count: the first rule holds.
      - One container has it whole.

    GPU 1: Tesla T4 (GPU-00000001-1111-2222-3333-444444444444): time-slicing
      4 × nvidia.com/gpu.shared
      - `cotenant.gpus[2]` selects it (the first 3 GPUs).
      - Its 4 shares take turns; nothing limits their memory.

    note: No GPU of this node is `5`, which `cotenant.gpus[0]` names.
    note: No GPU of this node is `A100`, which `cotenant.gpus[1]` names.
    note: GPU 0 is named by `cotenant.gpus[0]` and `cotenant.gpus[1]`; the first holds.
    note: `cotenant.gpus[2]` is for 3 GPUs, and this node has 2.
    ");
}
