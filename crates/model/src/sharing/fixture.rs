//! GPUs for tests of this room, as real drivers describe them.

use crate::gpu::{Driver, Gpu, MigAttributes, MigDevice, MigPlacement, MigProfile, Pci};
use crate::sharing::{Offer, Sharing};
use crate::{Bytes, GpuUuid};

/// A UUID of real length.
pub(crate) fn uuid(index: u32) -> GpuUuid {
    GpuUuid(format!("GPU-{index:08}-1111-2222-3333-444444444444"))
}

/// Driver 580.
pub(crate) fn driver() -> Driver {
    Driver { version: "580.159.04".to_owned(), cuda: Some((13, 0)) }
}

/// An H100 as driver 580.159.04 describes one, MIG mode off; the NUMA node is made up.
pub(crate) fn h100(index: u32) -> Gpu {
    let profile = |id, name: &str, mebibytes, slices, multiprocessors, maximum, starts: &[u32], size| MigProfile {
        id,
        name: name.to_owned(),
        memory: Bytes::mebibytes(mebibytes),
        slices,
        multiprocessors,
        maximum,
        placements: starts.iter().map(|start| MigPlacement { start: *start, size }).collect(),
    };
    Gpu {
        compute_capability: Some((9, 0)),
        mig: Some(false),
        mig_pending: Some(false),
        memory_reserved: Some(Bytes::mebibytes(480)),
        minor: Some(index),
        numa_node: Some(index / 4),
        pci: Some(Pci {
            bus_id: format!("0000:{:02x}:00.0", index + 1),
            device_id: 0x2330_10DE,
            subsystem_id: None,
            class: Some(0x0302),
        }),
        mig_profiles: vec![
            profile(19, "1g.10gb", 9_984, 1, 16, 7, &[0, 1, 2, 3, 4, 5, 6], 1),
            profile(14, "2g.20gb", 20_096, 2, 32, 3, &[0, 2, 4], 2),
            profile(9, "3g.40gb", 40_448, 3, 60, 2, &[0, 4], 4),
            profile(5, "4g.40gb", 40_448, 4, 64, 1, &[0], 4),
            profile(0, "7g.80gb", 81_152, 7, 132, 1, &[0], 8),
            profile(20, "1g.10gb+me", 9_984, 1, 16, 1, &[0, 1, 2, 3, 4, 5, 6], 1),
            profile(15, "1g.20gb", 20_096, 1, 26, 4, &[0, 2, 4, 6], 2),
        ],
        ..Gpu::new(index, uuid(index), "NVIDIA H100 80GB HBM3".to_owned(), Bytes::mebibytes(81_559))
    }
}

/// A T4: no MIG.
pub(crate) fn t4(index: u32) -> Gpu {
    Gpu {
        compute_capability: Some((7, 5)),
        ..Gpu::new(index, uuid(index), "Tesla T4".to_owned(), Bytes::mebibytes(15_360))
    }
}

/// The same GPU in MIG mode with these devices.
pub(crate) fn with_mig(gpu: Gpu, profiles: &[&str]) -> Gpu {
    let device = |(number, profile): (usize, &&str)| {
        let number = u32::try_from(number).expect("few");
        let known = gpu.mig_profiles.iter().find(|known| known.name == **profile);
        let uuid = GpuUuid(format!("MIG-{:08}-{number:04}-2222-3333-444444444444", gpu.index));
        MigDevice {
            index: Some(number),
            gpu_instance: Some(number + 1),
            compute_instance: Some(0),
            attributes: known.map(|known| MigAttributes {
                multiprocessors: known.multiprocessors,
                gpu_slices: known.slices,
                compute_slices: known.slices,
                copy_engines: 1,
                ..MigAttributes::default()
            }),
            ..MigDevice::new(uuid, (*profile).to_owned(), known.map_or(Bytes::mebibytes(1), |known| known.memory))
        }
    };
    let mig_devices = profiles.iter().enumerate().map(device).collect();
    Gpu { mig: Some(true), mig_pending: Some(true), mig_devices, ..gpu }
}

/// What these GPUs offer under a file.
pub(crate) fn offer(text: &str, gpus: &[Gpu]) -> Offer {
    let sharing = Sharing::parse("config.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
    Offer::compute(&sharing, gpus, &driver()).unwrap_or_else(|problems| panic!("{problems}"))
}
