use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::gpu::Gpu;
use crate::sharing::fixture::{h100, offer, t4, uuid, with_mig};

fn held(pod: &str, resource: &str, device: String) -> Held {
    Held {
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
        resource: ResourceName(resource.to_owned()),
        device: DeviceId(device),
    }
}

fn turns(replicas: u32) -> String {
    format!("sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}")
}

fn mps(replicas: u32, more: &str) -> String {
    format!("sharing: {{mps: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}\n{more}")
}

fn classes(counts: &str) -> String {
    let classes = "{small: {memory: 8GiB, percent: 10}, large: {memory: 20GiB, percent: 30}}";
    format!("cotenant: {{classes: {classes}, gpus: [{{devices: all, strategy: mps, classes: {counts}}}]}}")
}

fn plan(old: &str, new: &str, gpus: &[Gpu], held: &[Held]) -> String {
    Change::between(&offer(old, gpus), &offer(new, gpus), held).to_string()
}

fn share(gpu: u32, number: u32) -> String {
    format!("{}::{number}", uuid(gpu))
}

#[test]
fn more_turns_disturb_nobody_and_fewer_only_those_that_go() {
    let gpus = [h100(0)];
    let holders = [held("web", "nvidia.com/gpu", share(0, 0)), held("job", "nvidia.com/gpu", share(0, 3))];
    insta::assert_snapshot!(plan(&turns(4), &turns(6), &gpus, &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays time-slicing
      + 2 × nvidia.com/gpu
    No running container is disturbed.
    ");
    insta::assert_snapshot!(plan(&turns(4), &turns(2), &gpus, &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays time-slicing
      - 2 × nvidia.com/gpu
    One running container is disturbed:
      default/job, container main: GPU-00000000-1111-2222-3333-444444444444::3 of nvidia.com/gpu is no longer offered
    ");
    assert_eq!(plan(&turns(4), &turns(4), &gpus, &holders), "Nothing changes.");
}

#[test]
fn another_strategy_disturbs_every_holder_of_the_gpu() {
    let gpus = [h100(0), t4(1)];
    let holders = [held("web", "nvidia.com/gpu", share(0, 0)), held("web", "nvidia.com/gpu", share(1, 1))];
    insta::assert_snapshot!(plan(&turns(2), &mps(2, ""), &gpus, &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): from time-slicing to mps
      ~ 2 × nvidia.com/gpu, from time-slicing to mps
    GPU 1: Tesla T4 (GPU-00000001-1111-2222-3333-444444444444): from time-slicing to mps
      ~ 2 × nvidia.com/gpu, from time-slicing to mps
    A container may now ask for one device at most of nvidia.com/gpu.
    2 devices of running containers are disturbed:
      default/web, container main: GPU-00000000-1111-2222-3333-444444444444::0 of nvidia.com/gpu changes from time-slicing to mps
      default/web, container main: GPU-00000001-1111-2222-3333-444444444444::1 of nvidia.com/gpu changes from time-slicing to mps
    ");
    assert_eq!(Change::between(&offer(&turns(2), &gpus), &offer("", &gpus), &holders).pods(), [("default", "web")]);
}

#[test]
fn another_number_of_equal_shares_disturbs_all_because_their_limits_change() {
    let holders = [held("web", "nvidia.com/gpu", share(0, 0))];
    insta::assert_snapshot!(plan(&mps(2, ""), &mps(4, ""), &[h100(0)], &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays mps
      ~ 2 × nvidia.com/gpu, each 20205 MiB and 25 % of the multiprocessors instead of 40411 MiB and 50 % of the multiprocessors
      + 2 × nvidia.com/gpu, each 20205 MiB and 25 % of the multiprocessors
      its MPS daemon limits new clients to 20205 MiB and 25 % of the multiprocessors
    One running container is disturbed:
      default/web, container main: GPU-00000000-1111-2222-3333-444444444444::0 of nvidia.com/gpu gets other limits: 20205 MiB and 25 % of the multiprocessors instead of 40411 MiB and 50 % of the multiprocessors
    ");
}

#[test]
fn a_class_is_added_beside_running_containers() {
    let holders = [held("web", "nvidia.com/gpu.small", format!("{}::small-1", uuid(0)))];
    insta::assert_snapshot!(plan(&classes("{small: 2}"), &classes("{small: 2, large: 1}"), &[h100(0)], &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays mps
      + 1 × nvidia.com/gpu.large, 20480 MiB and 30 % of the multiprocessors
      its MPS daemon limits new clients to 20480 MiB and 30 % of the multiprocessors
    No running container is disturbed.
    ");
}

#[test]
fn another_daemon_disturbs_its_clients() {
    let holders = [held("web", "nvidia.com/gpu", share(0, 0)), held("idle", "example.com/other", "x".to_owned())];
    let multi = mps(2, "cotenant: {mps: {multiUser: true}}");
    insta::assert_snapshot!(plan(&mps(2, ""), &multi, &[h100(0)], &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays mps
      its MPS daemon is replaced, and clients end
    One running container is disturbed:
      default/web, container main: GPU-00000000-1111-2222-3333-444444444444::0 of nvidia.com/gpu is of GPU 0, whose MPS daemon is replaced
    ");
}

#[test]
fn a_device_under_another_name_is_another_device() {
    let renamed = "cotenant: {gpus: [{devices: all, strategy: exclusive, resource: gpu.whole}]}";
    let holders = [held("web", "nvidia.com/gpu", uuid(0).0)];
    insta::assert_snapshot!(plan("", renamed, &[h100(0)], &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays exclusive
      - 1 × nvidia.com/gpu
      + 1 × nvidia.com/gpu.whole
    One running container is disturbed:
      default/web, container main: GPU-00000000-1111-2222-3333-444444444444 of nvidia.com/gpu is no longer offered
    ");
}

#[test]
fn a_gpu_may_come_and_go() {
    let old = offer("", &[h100(0), h100(1)]);
    let new = offer("", &[h100(1), h100(2)]);
    let holders = [held("web", "nvidia.com/gpu", uuid(0).0), held("job", "nvidia.com/gpu", uuid(1).0)];
    insta::assert_snapshot!(Change::between(&old, &new, &holders), @r"
    GPU 2: NVIDIA H100 80GB HBM3 (GPU-00000002-1111-2222-3333-444444444444): new, exclusive
      + 1 × nvidia.com/gpu
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): gone
      - 1 × nvidia.com/gpu
    One running container is disturbed:
      default/web, container main: GPU-00000000-1111-2222-3333-444444444444 of nvidia.com/gpu is no longer offered
    ");
}

#[test]
fn mig_devices_that_go_disturb_their_holders_alone() {
    let old = offer("flags: {migStrategy: mixed}", &[with_mig(h100(0), &["1g.10gb", "2g.20gb"])]);
    let new = offer("flags: {migStrategy: mixed}", &[with_mig(h100(0), &["1g.10gb"])]);
    let device = |number: usize| old.resources[number].devices[0].id.0.clone();
    let holders = [held("web", "nvidia.com/mig-1g.10gb", device(0)), held("job", "nvidia.com/mig-2g.20gb", device(1))];
    insta::assert_snapshot!(Change::between(&old, &new, &holders), @r"
    GPU 0: NVIDIA H100 80GB HBM3 (GPU-00000000-1111-2222-3333-444444444444): stays mig
      - 1 × nvidia.com/mig-2g.20gb
    One running container is disturbed:
      default/job, container main: MIG-00000000-0001-2222-3333-444444444444 of nvidia.com/mig-2g.20gb is no longer offered
    ");
}

#[test]
fn without_an_old_offer_only_holders_of_what_is_not_offered_are_disturbed() {
    let new = offer(&turns(2), &[h100(0)]);
    let holders = [held("web", "nvidia.com/gpu", share(0, 0)), held("job", "nvidia.com/gpu", share(0, 5))];
    let change = Change::between(&Offer::default(), &new, &holders);
    assert_eq!(change.pods(), [("default", "job")]);
}

#[test]
fn what_a_container_may_ask_for_is_part_of_the_plan() {
    let one =
        "sharing: {timeSlicing: {failRequestsGreaterThanOne: true, resources: [{name: nvidia.com/gpu, replicas: 2}]}}";
    insta::assert_snapshot!(plan(&turns(2), one, &[h100(0)], &[]), @r"
    A container may now ask for one device at most of nvidia.com/gpu.
    No running container is disturbed.
    ");
}

fn some_offer() -> impl Generator<Value = Offer> {
    let text = prop_oneof![
        Just(String::new()),
        (2..6_u32).prop_map(turns),
        (1..6_u32).prop_map(|replicas| mps(replicas, "")),
        (1..3_u32).prop_map(|replicas| mps(replicas, "cotenant: {mps: {multiUser: true}}")),
        (1..4_u32).prop_map(|small| classes(&format!("{{small: {small}}}"))),
        (1..3_u32, 1..3_u32).prop_map(|(small, large)| classes(&format!("{{small: {small}, large: {large}}}"))),
    ];
    (text, 1..4_u32).prop_map(|(text, gpus)| offer(&text, &(0..gpus).map(h100).collect::<Vec<_>>()))
}

/// Every device held by a pod of its own.
fn all_held(offer: &Offer) -> Vec<Held> {
    let devices = offer.resources.iter().flat_map(|resource| resource.devices.iter().map(move |one| (resource, one)));
    devices.map(|(resource, device)| held(&device.id.0, &resource.name.0, device.id.0.clone())).collect()
}

proptest! {
    #[test]
    fn the_same_offer_changes_nothing(offer in some_offer()) {
        let change = Change::between(&offer, &offer, &all_held(&offer));
        prop_assert!(change.is_empty());
        prop_assert_eq!(change.to_string(), "Nothing changes.");
    }

    #[test]
    fn what_is_added_disturbs_nobody(offer in some_offer(), taken in proptest::collection::vec(0..64_usize, 0..12)) {
        let mut less = offer.clone();
        for number in taken {
            let resource = number % less.resources.len().max(1);
            if let Some(resource) = less.resources.get_mut(resource)
                && !resource.devices.is_empty()
            {
                resource.devices.remove(number % resource.devices.len());
            }
        }
        let change = Change::between(&less, &offer, &all_held(&less));
        prop_assert_eq!(change.disturbed, []);
        let back = Change::between(&offer, &less, &all_held(&offer));
        let gone: usize = back.gpus.iter().map(|gpu| gpu.devices.len()).sum();
        prop_assert_eq!(back.disturbed.len(), gone);
    }

    #[test]
    fn a_holder_is_left_alone_only_if_nothing_of_its_device_changes(old in some_offer(), new in some_offer()) {
        let holders = all_held(&old);
        let change = Change::between(&old, &new, &holders);
        prop_assert_eq!(Change::between(&old, &new, &[]).disturbed, []);
        let disturbed: BTreeSet<&Held> = change.disturbed.iter().map(|one| &one.held).collect();
        prop_assert_eq!(disturbed.len(), change.disturbed.len());
        for holder in &holders {
            let find = |offer: &Offer| offer.device(&holder.device).map(|(resource, device)| (resource.name.clone(), device.strategy, device.share));
            let gpu = |offer: &Offer| offer.gpu(&holder.device.uuid()).map(|gpu| {
                (gpu.strategy, gpu.daemon.as_ref().map(|daemon| (daemon.multi_user, daemon.root.clone())))
            });
            let same = find(&old) == find(&new) && gpu(&old) == gpu(&new);
            prop_assert_eq!(disturbed.contains(holder), !same);
        }
    }
}
