//! What holds of every offer.

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::sharing::Strategy;

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
