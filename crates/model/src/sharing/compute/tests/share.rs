//! Shares of MPS: how large they are, and the ids of classes.

use super::*;

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
