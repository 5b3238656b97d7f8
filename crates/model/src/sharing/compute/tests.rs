use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::sharing::explain::Explanation;
use crate::sharing::fixture::{driver, h100, t4, uuid, with_mig};
use crate::sharing::{Share, Strategy};
use crate::{Bytes, Percent};

fn sharing(text: &str) -> Sharing {
    Sharing::parse("config.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn compute(text: &str, gpus: &[Gpu]) -> Result<Offer, OfferProblems> {
    Offer::compute(&sharing(text), gpus, &driver())
}

fn offer(text: &str, gpus: &[Gpu]) -> Offer {
    compute(text, gpus).unwrap_or_else(|problems| panic!("{problems}"))
}

fn explained(text: &str, gpus: &[Gpu]) -> String {
    compute(text, gpus).map_or_else(|problems| problems.to_string(), |offer| Explanation::of(&offer).to_string())
}

/// Resources with the ids of their devices.
fn ids(offer: &Offer) -> Vec<(String, Vec<String>)> {
    let ids = |devices: &[Device]| devices.iter().map(|device| device.id.0.clone()).collect();
    offer.resources.iter().map(|resource| (resource.name.0.clone(), ids(&resource.devices))).collect()
}

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
fn shares_of_mps_are_equal_and_leave_the_reserve() {
    let text = "sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}";
    let offer = offer(text, &[h100(0)]);
    let share = Share { memory: Bytes::mebibytes(20_205), percent: Percent::try_from(25).expect("percent") };
    assert!(offer.resources[0].one_per_container);
    assert_eq!(offer.resources[0].devices.len(), 4);
    assert!(offer.resources[0].devices.iter().all(|device| device.share == Some(share)));
    assert_eq!(offer.gpus[0].daemon.as_ref().map(|daemon| daemon.limit), Some(share));
    insta::assert_snapshot!(Explanation::of(&offer), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): mps
      4 × nvidia.com/gpu, each 20205 MiB and 25 % of the multiprocessors, one at most for a container
      - `sharing.mps.resources[0]` shares it 4 times.
      - Of 81559 MiB of memory 736 MiB are kept back: 480 MiB that the driver keeps for itself and 256 MiB for the MPS server.
      - Each of 4 shares gets 80823 ÷ 4 = 20205 MiB.
      - Each may use 100 ÷ 4 = 25 % of the multiprocessors, in whole percent.
    ");
}

#[test]
fn oversubscription_and_reserve_follow_the_file() {
    let text = "cotenant:\n  mps: {oversubscription: 1.5, reserve: 1GiB}\n  gpus:\n  - {devices: all, strategy: mps, replicas: 3, failRequestsGreaterThanOne: false}\n";
    let offer = offer(text, &[h100(0)]);
    let share = offer.resources[0].devices[0].share.expect("limited");
    assert_eq!((share.memory, share.percent.get()), (Bytes::mebibytes(26_845), 50));
    let limit = offer.gpus[0].daemon.as_ref().expect("MPS").limit;
    assert_eq!((limit.memory, limit.percent.get()), (Bytes::mebibytes(3 * 26_845), 100));
    insta::assert_snapshot!(Explanation::of(&offer), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): mps
      3 × nvidia.com/gpu.shared, each 26845 MiB and 50 % of the multiprocessors
      - `cotenant.gpus[0]` selects it (every GPU).
      - Of 81559 MiB of memory 1024 MiB are kept back: `cotenant.mps.reserve`.
      - Each of 3 shares gets 80535 ÷ 3 = 26845 MiB.
      - Each may use 100 × 1.5 ÷ 3 = 50 % of the multiprocessors (`cotenant.mps.oversubscription`), in whole percent.
    ");
}

#[test]
fn a_factor_is_divided_exactly() {
    // 100 × 1.15 is 114.99999999999999 in floating point.
    let text = "cotenant: {mps: {oversubscription: 1.15}, gpus: [{devices: all, strategy: mps, replicas: 23}]}";
    assert_eq!(offer(text, &[h100(0)]).resources[0].devices[0].share.expect("limited").percent.get(), 5);
}

const CLASSES: &str = "
cotenant:
  classes:
    small: {memory: 8GiB, percent: 10}
    large: {memory: 30GiB, percent: 40}
  gpus:
  - {devices: [0], strategy: mps, classes: {small: 2, large: 2}}
  - {devices: [1], strategy: time-slicing, replicas: 3}
  - {devices: [H100], strategy: exclusive}
";

#[test]
fn each_gpu_follows_its_rule() {
    let offer = offer(CLASSES, &[h100(0), t4(1), h100(2)]);
    let zero = uuid(0);
    assert_eq!(
        ids(&offer)[1],
        ("nvidia.com/gpu.large".to_owned(), vec![format!("{zero}::large-0"), format!("{zero}::large-1")])
    );
    let limit = offer.gpus[0].daemon.as_ref().expect("MPS").limit;
    assert_eq!((limit.memory, limit.percent.get()), (Bytes::mebibytes(30 * 1024), 40));
    insta::assert_snapshot!(Explanation::of(&offer), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): mps
      2 × nvidia.com/gpu.large, each 30720 MiB and 40 % of the multiprocessors, one at most for a container
      2 × nvidia.com/gpu.small, each 8192 MiB and 10 % of the multiprocessors, one at most for a container
      - `cotenant.gpus[0]` selects it (0).
      - `cotenant.gpus[2]` selects it too and does not count: the first rule holds.
      - Of 81559 MiB of memory 736 MiB are kept back: 480 MiB that the driver keeps for itself and 256 MiB for the MPS server.
      - Its shares take 77824 of 80823 MiB and 100 of 100 % of the multiprocessors.

    GPU 1: Tesla T4 (GPU-00000001-1111-2222-3333-444444444444): time-slicing
      3 × nvidia.com/gpu.shared
      - `cotenant.gpus[1]` selects it (1).
      - Its 3 shares take turns; nothing limits their memory.

    GPU 2: NVIDIA H100 80GB HBM3 (GPU-00000002-1111-2222-3333-444444444444): exclusive
      1 × nvidia.com/gpu
      - `cotenant.gpus[2]` selects it (H100).
      - One container has it whole.
    ");
}

#[test]
fn an_explanation_is_json_too() {
    let text = "cotenant: {gpus: [{devices: all, strategy: mps, replicas: 2}]}";
    let offer = offer(text, &[t4(0)]);
    let json = serde_json::to_string_pretty(&Explanation::of(&offer)).expect("serializable");
    insta::assert_snapshot!(json, @r#"
    {
      "gpus": [
        {
          "index": 0,
          "uuid": "GPU-00000000-1111-2222-3333-444444444444",
          "name": "Tesla T4",
          "strategy": "mps",
          "offers": [
            {
              "resource": "nvidia.com/gpu.shared",
              "count": 2,
              "strategy": "mps",
              "share": {
                "memory": 7583301632,
                "percent": 50
              },
              "onePerContainer": true
            }
          ],
          "reserve": 939524096,
          "reasons": [
            "`cotenant.gpus[0]` selects it (every GPU).",
            "Of 15360 MiB of memory 896 MiB are kept back: 640 MiB for the driver, which does not say what it keeps, and 256 MiB for the MPS server.",
            "Each of 2 shares gets 14464 ÷ 2 = 7232 MiB.",
            "Each may use 100 ÷ 2 = 50 % of the multiprocessors, in whole percent."
          ]
        }
      ],
      "notes": []
    }
    "#);
}

#[test]
fn a_class_that_comes_or_grows_leaves_the_ids_of_others() {
    let before = ids(&offer(CLASSES, &[h100(0)]));
    let more = CLASSES
        .replace("    small:", "    medium: {memory: 1GiB, percent: 10}\n    small:")
        .replace("{small: 2, large: 2}", "{small: 1, medium: 1, large: 2}");
    let after = ids(&offer(&more, &[h100(0)]));
    assert_eq!(before[0], after[0]);
    assert_eq!(before[1].1[0], after[2].1[0]);
}

#[test]
fn everything_that_a_gpu_cannot_do_is_said_at_once() {
    let text = "
cotenant:
  classes:
    small: {memory: 12GiB, percent: 30}
  mps: {oversubscription: 1.2}
  gpus:
  - {devices: [0, 1], strategy: mps, classes: {small: 4}}
  - {devices: [2], strategy: exclusive}
  - {devices: [3], strategy: mps, replicas: 49}
  - {devices: [4], strategy: mps, replicas: 2}
  - {devices: [5], strategy: mps, replicas: 17}
  - {devices: [6], strategy: mig, layout: {1g.5gb: 7}}
  - {devices: [7], strategy: mig, layout: {1g.10gb: 1}}
  - {devices: [8, 9], strategy: exclusive}
  - {devices: [10], strategy: mps, replicas: 4}
";
    let capability = |gpu: Gpu, capability| Gpu { compute_capability: Some(capability), ..gpu };
    let gpus = [
        h100(0),
        t4(1),
        h100(2),
        h100(3),
        capability(t4(4), (3, 0)),
        capability(t4(5), (6, 1)),
        h100(6),
        t4(7),
        with_mig(h100(8), &["1g.10gb"]),
        h100(9),
        Gpu { memory: Bytes::mebibytes(500), ..t4(10) },
    ];
    insta::assert_snapshot!(explained(text, &gpus), @r"
    cotenant.gpus[0].classes: 4 × small of 12288 MiB are 49152 MiB, and GPU 1 (Tesla T4) has room for 14464 MiB (15360 MiB less 896 MiB kept back)
      fix: lower the counts, or the memory of the classes by 34688 MiB in all
    cotenant.gpus[2].replicas: maximum allowed replicas exceeded: 49 > 48 on GPU 3 (NVIDIA H100 80GB HBM3)
      fix: lower the number of shares to 48: an MPS server has no more clients
    cotenant.gpus[3].replicas: GPU 4 (Tesla T4) has compute capability 3.0, and MPS needs 3.5
      fix: use time slicing
    cotenant.gpus[4].replicas: maximum allowed replicas exceeded: 17 > 16 on GPU 5 (Tesla T4)
      fix: lower the number of shares to 16: an MPS server has no more clients
    cotenant.gpus[5].layout: GPU 6 (NVIDIA H100 80GB HBM3) has no MIG profile `1g.5gb`; it has 1g.10gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb, 1g.10gb+me, 1g.20gb
      fix: write profiles and counts that the GPU can hold
    cotenant.gpus[6]: GPU 7 (Tesla T4) cannot do MIG
      fix: write another `strategy`, or take the GPU out of `devices`
    cotenant.gpus[7]: GPU 8 is in MIG mode, where no process can use the whole GPU
      fix: write `strategy: mig`, or switch MIG mode off (`nvidia-smi -i 8 -mig 0`)
    cotenant.gpus[8].replicas: GPU 10 has 500 MiB, and 896 MiB are kept back
      fix: write a smaller `cotenant.mps.reserve`, or do not share it through MPS
    ");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let mut sharing = sharing(CLASSES);
    sharing.classes.get_mut("large").expect("known").percent = Percent::ALL;
    let over = Offer::compute(&sharing, &[h100(0)], &driver()).expect_err("too much").to_string();
    sharing.classes.remove("large");
    let unknown = Offer::compute(&sharing, &[h100(0)], &driver()).expect_err("unknown").to_string();
    let mut long = self::sharing(&CLASSES.replace("small", "eighteen-character"));
    long.classes =
        long.classes.into_iter().map(|(name, class)| (name.replace("eighteen", "nearly-twenty"), class)).collect();
    for rule in &mut long.rules {
        if let GpuSharing::MpsClasses { counts } = &mut rule.sharing {
            *counts = counts.iter().map(|(name, count)| (name.replace("eighteen", "nearly-twenty"), *count)).collect();
        }
    }
    let long = Offer::compute(&long, &[h100(0)], &driver()).expect_err("too long").to_string();
    insta::assert_snapshot!(format!("{over}\n{unknown}\n{long}"), @r"
    cotenant.gpus[0].classes: the shares of GPU 0 add up to 220 % of the multiprocessors, and 100 % may be handed out
      fix: lower the counts or percentages, or write `cotenant: {mps: {oversubscription: 2.2}}`
    cotenant.gpus[0].classes: there is no class `large`
      fix: describe it under `cotenant.classes`
    cotenant.gpus[0].classes: devices of class `nearly-twenty-character` would have ids of 67 characters, and the kubelet takes 63
      fix: shorten the name of the class to 19 characters
    ");
}

#[test]
fn a_class_with_the_longest_name_has_ids_that_the_kubelet_takes() {
    let offer = offer(
        &CLASSES
            .replace("small: 2", "small: 16")
            .replace("small", "eighteen-character")
            .replace("8GiB", "1GiB")
            .replace("percent: 10", "percent: 1"),
        &[h100(0)],
    );
    assert!(
        offer
            .resources
            .iter()
            .flat_map(|resource| &resource.devices)
            .any(|device| device.id.0.len() == DeviceId::LONGEST)
    );
}

#[test]
fn more_clients_are_allowed_from_cuda_13_1_on() {
    let new = Driver { cuda: Some((13, 1)), ..driver() };
    let old = Gpu { compute_capability: Some((6, 1)), ..t4(0) };
    let unknown = Gpu { compute_capability: None, ..t4(0) };
    assert_eq!([maximum_clients(&h100(0), &driver()), maximum_clients(&h100(0), &new)], [48, 60]);
    assert_eq!([maximum_clients(&old, &new), maximum_clients(&unknown, &driver())], [16, 48]);
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
fn a_resource_with_more_devices_than_a_message_holds_is_refused() {
    let text = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 60000}]}}";
    assert_eq!(offer(text, &[h100(0)]).resources[0].devices.len(), 60_000);
    insta::assert_snapshot!(explained(text, &[h100(0), h100(1), h100(2)]), @r"
    sharing.timeSlicing.resources[0]: `nvidia.com/gpu` has more devices than the kubelet takes in one message of 4 MiB
      fix: lower the number of shares: a resource holds about 61680 devices in all
    ");
}

fn some_gpus() -> impl Generator<Value = Vec<Gpu>> {
    proptest::collection::vec(0..4_u8, 0..6).prop_map(|kinds| {
        let gpu = |(index, kind): (usize, u8)| {
            let index = u32::try_from(index).expect("few");
            match kind {
                0 => t4(index),
                1 => with_mig(h100(index), &["1g.10gb", "2g.20gb"]),
                _ => h100(index),
            }
        };
        kinds.into_iter().enumerate().map(gpu).collect()
    })
}

fn some_rule() -> impl Generator<Value = String> {
    let devices = prop_oneof![Just("all"), Just("2"), Just("[0, 3]"), Just("[1]"), Just("[T4]"), Just("[H100, 2]")];
    let sharing = prop_oneof![
        Just("strategy: exclusive".to_owned()),
        (2..9_u32).prop_map(|replicas| format!("strategy: time-slicing, replicas: {replicas}, resource: gpu.turns")),
        (1..50_u32).prop_map(|replicas| format!("strategy: mps, replicas: {replicas}")),
        (1..9_u32, 1..9_u32)
            .prop_map(|(small, large)| format!("strategy: mps, classes: {{small: {small}, large: {large}}}")),
        Just("strategy: mig".to_owned()),
        Just("strategy: mig, layout: {2g.20gb: 2}, replicas: 3".to_owned()),
    ];
    (devices, sharing).prop_map(|(devices, sharing)| format!("{{devices: {devices}, {sharing}}}"))
}

fn some_file() -> impl Generator<Value = String> {
    let strategies = prop_oneof![Just("none"), Just("single"), Just("mixed")];
    let shared = prop_oneof![Just("timeSlicing"), Just("mps")];
    (strategies, shared, 2..9_u32, proptest::collection::vec(some_rule(), 0..4), 10..30_u32).prop_map(
        |(strategy, shared, replicas, rules, factor)| {
            let rules = rules.join(", ");
            let factor = f64::from(factor) / 10.0;
            format!(
                "flags: {{migStrategy: {strategy}}}\nsharing: {{{shared}: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}\n\
                 cotenant:\n  mps: {{oversubscription: {factor}}}\n  classes: {{small: {{memory: 2GiB, percent: 5}}, large: {{memory: 9GiB, percent: 20}}}}\n  gpus: [{rules}]\n"
            )
        },
    )
}

proptest! {
    #[test]
    fn what_is_offered_fits_the_gpus(text in some_file(), gpus in some_gpus()) {
        let Ok(sharing) = Sharing::parse("config.yaml", &text) else { return Ok(()) };
        let offer = Offer::compute(&sharing, &gpus, &driver());
        prop_assert_eq!(&offer, &Offer::compute(&sharing, &gpus, &driver()));
        let Ok(offer) = offer else { return Ok(()) };
        let all: Vec<&Device> = offer.resources.iter().flat_map(|resource| &resource.devices).collect();
        let unique: std::collections::BTreeSet<&DeviceId> = all.iter().map(|device| &device.id).collect();
        prop_assert_eq!(unique.len(), all.len());
        prop_assert!(all.iter().all(|device| device.id.0.len() <= DeviceId::LONGEST && device.id.uuid() == device.uuid));
        prop_assert_eq!(offer.gpus.len(), gpus.len());
        for (gpu, known) in offer.gpus.iter().zip(&gpus) {
            let shares: Vec<Share> = offer.devices_of(&gpu.gpu).filter_map(|(_, device)| device.share).collect();
            let memory: u64 = shares.iter().map(|share| share.memory.0).sum();
            let percent: u32 = shares.iter().map(|share| u32::from(share.percent.get())).sum();
            prop_assert!(memory + gpu.reserve.0 <= known.memory.0);
            prop_assert!(f64::from(percent) <= 100.0 * sharing.mps.oversubscription + 1e-9);
            prop_assert_eq!(gpu.strategy == Strategy::Mps, gpu.daemon.is_some());
            prop_assert_eq!(gpu.strategy == Strategy::Mps, !shares.is_empty());
            let counted: u32 = gpu.devices.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(counted as usize, offer.devices_of(&gpu.gpu).count());
            if let Some(daemon) = &gpu.daemon {
                prop_assert!(shares.iter().all(|share| share.memory <= daemon.limit.memory && share.percent <= daemon.limit.percent));
                prop_assert!(daemon.limit.memory.0 > 0);
            }
        }
    }
}
