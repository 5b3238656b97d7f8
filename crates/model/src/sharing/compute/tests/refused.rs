//! What GPUs cannot do.

use super::*;

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
    let mut long = super::sharing(&CLASSES.replace("small", "eighteen-character"));
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
fn more_clients_are_allowed_from_cuda_13_1_on() {
    let new = Driver { cuda: Some((13, 1)), ..driver() };
    let old = Gpu { compute_capability: Some((6, 1)), ..t4(0) };
    let unknown = Gpu { compute_capability: None, ..t4(0) };
    assert_eq!([maximum_clients(&h100(0), &driver()), maximum_clients(&h100(0), &new)], [48, 60]);
    assert_eq!([maximum_clients(&old, &new), maximum_clients(&unknown, &driver())], [16, 48]);
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

#[test]
fn a_gpu_that_no_process_can_use_is_noted() {
    let gpu = Gpu { compute_mode: Some(ComputeMode::Prohibited), ..h100(0) };
    let note = "No process can use GPU 0: its compute mode is prohibited (`nvidia-smi -i 0 -c 0` ends that).";
    assert_eq!(offer("", &[gpu]).notes, [note]);
    assert!(offer("", &[h100(0)]).notes.is_empty());
}
