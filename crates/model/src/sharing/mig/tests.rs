use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::Bytes;
use crate::gpu::{MigDevice, MigInstance, MigProfile, Pci};
use crate::sharing::config::{DeviceReference, MigConfig, Selector};
use crate::sharing::fixture::h100;

fn counts(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn enabled(pairs: &[(&str, u32)]) -> Layout {
    Layout::Enabled(counts(pairs))
}

/// The GPU after the steps of a plan: what the driver would then say of it.
fn after(gpu: &Gpu, plan: &Plan) -> Gpu {
    let mut gpu = gpu.clone();
    for step in &plan.steps {
        match step {
            Step::Enable => gpu.mig = Some(true),
            Step::Disable => gpu.mig = Some(false),
            Step::Destroy { instance, .. } => {
                gpu.mig_instances.retain(|known| known.id != *instance);
                gpu.mig_devices.retain(|device| device.gpu_instance != Some(*instance));
            }
            Step::Create { profile_id, profile, placement } => {
                let id = (1..).find(|id| gpu.mig_instances.iter().all(|known| known.id != *id)).expect("a free id");
                let instance =
                    MigInstance { id, profile: *profile_id, placement: *placement, compute_instances: vec![0] };
                gpu.mig_instances.push(instance);
                let uuid = GpuUuid(format!("MIG-{id}-{profile}-{}", placement.start));
                let device = MigDevice::new(uuid, profile.clone(), Bytes(1));
                gpu.mig_devices.push(MigDevice { gpu_instance: Some(id), compute_instance: Some(0), ..device });
            }
        }
    }
    gpu.mig_pending = gpu.mig;
    gpu
}

fn cut(layout: &Layout) -> Gpu {
    let gpu = h100(0);
    after(&gpu, &plan(&gpu, layout, &[]).expect("it fits"))
}

fn shown(gpu: &Gpu, layout: &Layout, occupied: &[Occupied]) -> String {
    plan(gpu, layout, occupied).map_or_else(|error| error.to_string(), |plan| plan.to_string())
}

#[test]
fn an_uncut_gpu_is_switched_to_mig_and_cut() {
    insta::assert_snapshot!(shown(&h100(0), &enabled(&[("1g.10gb", 2), ("2g.20gb", 1), ("3g.40gb", 1)]), &[]), @r"
    GPU 0:
      switch MIG mode on
      create 3g.40gb at memory slices 4 to 7
      create 2g.20gb at memory slices 0 to 1
      create 1g.10gb at memory slice 2
      create 1g.10gb at memory slice 3
    ");
}

#[test]
fn a_gpu_that_has_the_layout_is_left_alone() {
    let layout = enabled(&[("1g.10gb", 7)]);
    let cut = cut(&layout);
    let again = plan(&cut, &layout, &[]).expect("as it is");
    assert_eq!((again.keep.len(), again.steps.len()), (7, 0));
    assert!(again.to_string().starts_with("GPU 0 has the MIG layout that is wanted:\n"), "{again}");
    assert_eq!(plan(&h100(0), &Layout::Disabled, &[]).expect("as it is").steps, []);
}

#[test]
fn what_a_new_layout_has_too_stays() {
    let cut = cut(&enabled(&[("3g.40gb", 1), ("1g.10gb", 3)]));
    insta::assert_snapshot!(shown(&cut, &enabled(&[("3g.40gb", 2)]), &[]), @r"
    GPU 0:
      keep 3g.40gb (MIG-1-3g.40gb-0)
      destroy 1g.10gb (GPU instance 2, MIG-2-1g.10gb-4)
      destroy 1g.10gb (GPU instance 3, MIG-3-1g.10gb-5)
      destroy 1g.10gb (GPU instance 4, MIG-4-1g.10gb-6)
      create 3g.40gb at memory slices 4 to 7
    ");
}

#[test]
fn an_instance_that_is_in_the_way_moves_unless_someone_holds_it() {
    let gpu = cut(&enabled(&[("1g.10gb", 1)]));
    let layout = enabled(&[("1g.10gb", 1), ("4g.40gb", 1)]);
    assert_eq!(gpu.mig_instances[0].placement.start, 0);
    insta::assert_snapshot!(shown(&gpu, &layout, &[]), @r"
    GPU 0:
      destroy 1g.10gb (GPU instance 1, MIG-1-1g.10gb-0)
      create 4g.40gb at memory slices 0 to 3
      create 1g.10gb at memory slice 4
    ");
    let held = Occupied { device: gpu.mig_devices[0].uuid.clone(), by: "default/web (server)".to_owned() };
    insta::assert_snapshot!(
        shown(&gpu, &layout, &[held]),
        @"GPU 0 is in use: default/web (server) holds MIG-1-1g.10gb-0"
    );
}

#[test]
fn switching_mig_mode_waits_for_every_holder() {
    let layout = enabled(&[("7g.80gb", 1)]);
    let gpu = h100(0);
    let held = |device: &GpuUuid| [Occupied { device: device.clone(), by: "process 4711".to_owned() }];
    assert!(matches!(plan(&gpu, &layout, &held(&gpu.uuid)), Err(PlanError::Busy { .. })));
    let cut = cut(&layout);
    assert!(matches!(plan(&cut, &Layout::Disabled, &held(&cut.mig_devices[0].uuid)), Err(PlanError::Busy { .. })));
    let other = plan(&cut, &Layout::Disabled, &held(&GpuUuid("GPU-other".to_owned()))).expect("idle");
    assert_eq!(other.steps.last(), Some(&Step::Disable));
    assert_eq!(other.steps.len(), 2);
    assert!(matches!(plan(&cut, &enabled(&[]), &held(&cut.uuid)), Err(PlanError::Busy { .. })));
}

#[test]
fn an_instance_without_a_device_is_cleared_away() {
    let mut gpu = cut(&enabled(&[("3g.40gb", 1)]));
    gpu.mig_devices.clear();
    gpu.mig_instances[0].compute_instances.clear();
    insta::assert_snapshot!(shown(&gpu, &enabled(&[("3g.40gb", 1)]), &[]), @r"
    GPU 0:
      destroy 3g.40gb (GPU instance 1)
      create 3g.40gb at memory slices 0 to 3
    ");
}

#[test]
fn a_layout_that_the_gpu_cannot_have_is_refused_with_the_reason() {
    let refusals: Vec<String> = [
        enabled(&[("1g.12gb", 1)]),
        enabled(&[("1c.3g.40gb", 1)]),
        enabled(&[("1g.10gb", 8)]),
        enabled(&[("1g.10gb+me", 2)]),
        enabled(&[("4g.40gb", 1), ("3g.40gb", 1), ("1g.10gb", 1)]),
        enabled(&[("1g.20gb", 4), ("1g.10gb", 1)]),
        enabled(&[("1g.10gb", u32::MAX), ("1g.10gb+me", 1)]),
    ]
    .iter()
    .map(|layout| shown(&h100(0), layout, &[]))
    .collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    GPU 0 (NVIDIA H100 80GB HBM3) has no MIG profile `1g.12gb`; it has 1g.10gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb, 1g.10gb+me, 1g.20gb
    `1c.3g.40gb` is a part of a GPU instance, and MIG devices are made of whole ones here; write `3g.40gb`
    GPU 0 (NVIDIA H100 80GB HBM3) holds at most 7 of `1g.10gb`, and 8 are wanted
    GPU 0 (NVIDIA H100 80GB HBM3) holds at most 1 of `1g.10gb+me`, and 2 are wanted
    1 × 1g.10gb and 1 × 3g.40gb and 1 × 4g.40gb do not fit on GPU 0 (NVIDIA H100 80GB HBM3) together: they take 8 compute slices of 7
    1 × 1g.10gb and 4 × 1g.20gb do not fit on GPU 0 (NVIDIA H100 80GB HBM3) together
    GPU 0 (NVIDIA H100 80GB HBM3) holds at most 7 of `1g.10gb`, and 4294967295 are wanted
    ");
}

#[test]
fn a_gpu_without_mig_and_one_that_waits_for_a_reset_are_refused() {
    let old = Gpu { mig: None, mig_pending: None, mig_profiles: Vec::new(), ..h100(3) };
    assert_eq!(shown(&old, &enabled(&[]), &[]), "GPU 3 (NVIDIA H100 80GB HBM3) cannot do MIG");
    assert_eq!(plan(&old, &Layout::Disabled, &[]).expect("nothing to do").steps, []);
    let pending = Gpu { mig_pending: Some(true), ..h100(1) };
    assert!(shown(&pending, &enabled(&[]), &[]).contains("`nvidia-smi -i 1 --gpu-reset`"));
}

#[test]
fn a_driver_that_tells_profiles_in_mig_mode_only_is_asked_again() {
    let gpu = Gpu { mig_profiles: Vec::new(), ..h100(0) };
    insta::assert_snapshot!(shown(&gpu, &enabled(&[("1g.10gb", 7)]), &[]), @r"
    GPU 0:
      switch MIG mode on
      then ask the GPU for its profiles and plan the MIG devices
    ");
    assert!(!plan(&gpu, &enabled(&[]), &[]).expect("planned").again);
}

#[test]
fn without_a_sight_of_instances_only_the_layout_at_hand_is_accepted() {
    let gpu = Gpu { mig_instances: Vec::new(), ..cut(&enabled(&[("1g.10gb", 2)])) };
    assert_eq!(plan(&gpu, &enabled(&[("1g.10gb", 2), ("2g.20gb", 0)]), &[]).expect("as it is").steps, []);
    let refused = shown(&gpu, &enabled(&[("1g.10gb", 3)]), &[]);
    assert_eq!(refused, "GPU 0 does not say which MIG instances it has; reading them takes root");
}

#[test]
fn names_of_profiles_are_compared_in_every_spelling() {
    assert_eq!(normalized("1g.10gb+me"), "1g.10gb.me");
    assert_eq!(normalized("3c.3g.40gb"), "3g.40gb");
    assert_eq!(normalized("1c.3g.40gb"), "1c.3g.40gb");
    assert!(is_part_of_instance("1c.3g.40gb") && !is_part_of_instance("3c.3g.40gb") && !is_part_of_instance("3g.40gb"));
    assert!(!is_part_of_instance("") && !is_part_of_instance("c.1g") && !is_part_of_instance("all"));
}

#[test]
fn built_in_names_follow_the_hardware() {
    let one = [h100(0)];
    let layout = |name: &str| named(name, &one, &BTreeMap::new()).map(|mut layouts| layouts.remove(0));
    assert_eq!(layout("all-disabled"), Ok(Some(Layout::Disabled)));
    assert_eq!(layout("all-enabled"), Ok(Some(enabled(&[]))));
    assert_eq!(layout("all-1g.10gb"), Ok(Some(enabled(&[("1g.10gb", 7)]))));
    assert_eq!(layout("all-1g.10gb.me"), Ok(Some(enabled(&[("1g.10gb+me", 1)]))));
    let balanced = enabled(&[("1g.10gb", 2), ("2g.20gb", 1), ("3g.40gb", 1)]);
    assert_eq!(layout("all-balanced"), Ok(Some(balanced)));
    insta::assert_snapshot!(layout("all-balance").expect_err("a typing error"), @"there is no MIG layout `all-balance`; known are all-disabled, all-enabled, all-balanced, all-1g.10gb, all-2g.20gb, all-3g.40gb, all-4g.40gb, all-7g.80gb, all-1g.10gb.me, all-1g.20gb");
}

#[test]
fn every_built_in_layout_of_an_h100_can_be_planned() {
    let gpu = h100(0);
    let names = named("?", std::slice::from_ref(&gpu), &BTreeMap::new()).expect_err("unknown").known;
    assert!(names.len() > 5);
    for name in names {
        let layouts = named(&name, std::slice::from_ref(&gpu), &BTreeMap::new()).expect("known");
        let layout = layouts[0].as_ref().expect("for this GPU");
        assert!(plan(&gpu, layout, &[]).is_ok(), "{name}");
    }
}

#[test]
fn entries_of_a_file_select_by_device_id_and_index() {
    let entry = |filter: &[&str], devices: Selector, layout: &[(&str, u32)]| MigConfig {
        filter: filter.iter().map(|text| (*text).to_owned()).collect(),
        devices,
        enabled: true,
        layout: counts(layout),
    };
    let entries = vec![
        entry(&["0x233010DE"], Selector::All, &[("1g.10gb", 7)]),
        entry(&["0x20B010DE", "0x233010DE:0x18BE10DE"], Selector::All, &[("2g.20gb", 1)]),
        entry(&[], Selector::List(vec![DeviceReference::Index(2)]), &[("3g.40gb", 2)]),
    ];
    let configs = BTreeMap::from([("custom".to_owned(), entries), ("all-disabled".to_owned(), Vec::new())]);
    let mut gpus = [h100(0), h100(1), h100(2), h100(3)];
    let pci = |device_id, subsystem_id| Some(Pci { bus_id: String::new(), device_id, subsystem_id, class: None });
    gpus[0].pci = pci(0x2330_10DE, None);
    gpus[1].pci = pci(0x2330_10DE, Some(0x18BE_10DE));
    gpus[3].pci = pci(0x2335_10DE, None);
    let layouts = named("custom", &gpus, &configs).expect("known");
    let wanted =
        [Some(enabled(&[("1g.10gb", 7)])), Some(enabled(&[("2g.20gb", 1)])), Some(enabled(&[("3g.40gb", 2)])), None];
    assert_eq!(layouts, wanted);
    assert_eq!(named("all-disabled", &gpus, &configs), Ok(vec![None, None, None, None]));
}

fn some_counts() -> impl Strategy<Value = BTreeMap<String, u32>> {
    let profile = proptest::sample::select(h100(0).mig_profiles);
    proptest::collection::btree_map(profile.prop_map(|profile: MigProfile| profile.name), 0..4_u32, 0..4)
}

fn devices(gpu: &Gpu) -> BTreeMap<String, u32> {
    let mut devices = BTreeMap::new();
    for device in &gpu.mig_devices {
        *devices.entry(device.profile.clone()).or_default() += 1;
    }
    devices
}

proptest! {
    #[test]
    fn a_plan_leads_to_the_layout_and_leaves_holders_alone(
        first in some_counts(),
        second in some_counts(),
        held in proptest::collection::btree_set(0..7_usize, 0..4),
    ) {
        let gpu = h100(0);
        let Ok(one) = plan(&gpu, &Layout::Enabled(first), &[]) else { return Ok(()) };
        let gpu = after(&gpu, &one);
        let held: BTreeSet<GpuUuid> =
            held.iter().filter_map(|number| gpu.mig_devices.get(*number)).map(|device| device.uuid.clone()).collect();
        let occupied: Vec<Occupied> =
            held.iter().map(|device| Occupied { device: device.clone(), by: "pod".to_owned() }).collect();
        let free = plan(&gpu, &Layout::Enabled(second.clone()), &[]);
        let plan = plan(&gpu, &Layout::Enabled(second.clone()), &occupied);
        if free.is_err() || occupied.is_empty() {
            prop_assert_eq!(&plan, &free);
        }
        let Ok(plan) = plan else { return Ok(()) };
        let then = after(&gpu, &plan);
        prop_assert!(held.iter().all(|device| then.mig_devices.iter().any(|known| known.uuid == *device)));
        let wanted: BTreeMap<String, u32> = second.into_iter().filter(|(_, count)| *count > 0).collect();
        prop_assert_eq!(&devices(&then), &wanted);
        for (number, one) in then.mig_instances.iter().enumerate() {
            for other in &then.mig_instances[..number] {
                let (a, b) = (one.placement, other.placement);
                prop_assert!(a.start + a.size <= b.start || b.start + b.size <= a.start);
            }
        }
        let again = super::plan(&then, &Layout::Enabled(wanted), &occupied).expect("as it is");
        prop_assert_eq!(again.steps, []);
    }
}
