//! From a configuration and the GPUs to what the agent should offer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cotenant_kubelet::cdi;
use cotenant_kubelet::device_file::{self, MigMinors};
use cotenant_kubelet::device_plugin::{Delivery, DeviceFiles, Given};
use cotenant_model::GpuUuid;
use cotenant_model::gpu::{Driver, Gpu};
use cotenant_model::sharing::compute::OfferProblems;
use cotenant_model::sharing::config::{DeviceIdStrategy, DeviceListStrategy, Flags, MpsProtocol};
use cotenant_model::sharing::mig::{Layout, LayoutError, named, plan};
use cotenant_model::sharing::{GpuOffer, Offer, Sharing};
use cotenant_mps::three::{Namespace, namespace_name};
use cotenant_mps::{ClientLimits, Protocol};

use crate::agent::state::event::Proposal;
use crate::keeper::protocol::DaemonSettings;

/// Why a configuration cannot be had on this node.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProposeError {
    /// The GPUs cannot do it.
    #[error(transparent)]
    Offer(#[from] OfferProblems),
    /// The MIG layout that the node's label names cannot be had.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What a configuration makes of the GPUs. `mig` is the layout that the node's label names.
pub(super) fn propose(
    sharing: &Sharing,
    gpus: &[Gpu],
    driver: &Driver,
    mig: Option<&str>,
) -> Result<Proposal, ProposeError> {
    let offer = Offer::compute(sharing, gpus, driver)?;
    let daemons = offer.gpus.iter().filter_map(|gpu| Some((gpu.gpu.clone(), daemon(sharing, &offer, gpu)?))).collect();
    Ok(Proposal {
        daemons,
        mig: layouts(sharing, (gpus, driver), mig)?,
        offer: Arc::new(offer),
        faults: sharing.faults.clone(),
        drain: sharing.drain,
    })
}

fn daemon(sharing: &Sharing, offer: &Offer, gpu: &GpuOffer) -> Option<DaemonSettings> {
    let wanted = gpu.daemon.as_ref()?;
    let classes = offer.devices_of(&gpu.gpu).filter_map(|(_, device)| Some((device.class.clone()?, device.share?)));
    let namespaces: BTreeMap<String, ClientLimits> = classes
        .map(|(class, share)| {
            (namespace_name(&class), ClientLimits { percent: Some(share.percent), memory: Some(share.memory) })
        })
        .collect();
    Some(DaemonSettings {
        program: None,
        limits: ClientLimits { percent: Some(wanted.limit.percent), memory: Some(wanted.limit.memory) },
        namespaces: namespaces.into_iter().map(|(name, limits)| Namespace { name, limits }).collect(),
        multi_user: wanted.multi_user,
        exclusive: sharing.mps.exclusive_compute_mode,
        protocol: match sharing.mps.protocol {
            MpsProtocol::Automatic => Protocol::Automatic,
            MpsProtocol::Two => Protocol::Two,
            MpsProtocol::Three => Protocol::Three,
        },
        shared_memory: sharing.mps.mount_shm,
    })
}

/// MIG devices that are wanted and not there yet: what rules say, and the layout of the node's label for the others. An
/// empty layout is MIG mode off.
fn layouts(
    sharing: &Sharing,
    (gpus, driver): (&[Gpu], &Driver),
    label: Option<&str>,
) -> Result<BTreeMap<GpuUuid, BTreeMap<String, u32>>, ProposeError> {
    let mut wanted = BTreeMap::new();
    if let Some(label) = label {
        let layouts = named(label, gpus, &sharing.mig_configs)?;
        wanted.extend(gpus.iter().zip(layouts).filter_map(|(gpu, layout)| Some((gpu.uuid.clone(), layout?))));
    }
    wanted.extend(Offer::mig_layouts(sharing, gpus, driver));
    let missing = |(uuid, layout): (GpuUuid, Layout)| {
        let gpu = gpus.iter().find(|gpu| gpu.uuid == uuid)?;
        let is_there = plan(gpu, &layout, &[]).is_ok_and(|plan| plan.steps.is_empty());
        let profiles = match layout {
            Layout::Disabled => BTreeMap::new(),
            Layout::Enabled(profiles) => profiles,
        };
        (!is_there).then_some((uuid, profiles))
    };
    Ok(wanted.into_iter().filter_map(missing).collect())
}

/// How containers are told their devices, with the device files of this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Handing {
    pub(super) delivery: Delivery,
    pub(super) naming: DeviceIdStrategy,
    pub(super) files: BTreeMap<GpuUuid, Vec<String>>,
}

/// The driver's table of MIG capabilities.
const MIG_MINORS: &str = "proc/driver/nvidia-caps/mig-minors";

/// See [`Handing`].
pub(super) fn handing(flags: &Flags, gpus: &[Gpu], root: &Path) -> Handing {
    let seen = Path::new(&flags.container_driver_root);
    let minors = MigMinors::read(&root.join(MIG_MINORS)).unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "MIG devices have no device files");
        MigMinors::default()
    });
    let strategies = flags.device_list.clone();
    let delivery = Delivery {
        strategies,
        cdi_annotation_prefix: flags.cdi_annotation_prefix.clone(),
        cdi_extras: Vec::new(),
        extras: flags.extras,
        imex_channels: flags.imex.iter().map(|_imex| 0).collect(),
        device_files: flags
            .pass_device_specs
            .then(|| DeviceFiles { dev_root: flags.dev_root.clone(), control: device_file::control(&[root, seen]) }),
    };
    Handing { delivery, naming: flags.device_id, files: files(gpus, &minors) }
}

fn files(gpus: &[Gpu], minors: &MigMinors) -> BTreeMap<GpuUuid, Vec<String>> {
    let mut files = BTreeMap::new();
    for gpu in gpus {
        let Some(minor) = gpu.minor else { continue };
        files.insert(gpu.uuid.clone(), vec![device_file::gpu(minor)]);
        for device in &gpu.mig_devices {
            let (Some(instance), Some(compute)) = (device.gpu_instance, device.compute_instance) else { continue };
            if let Ok(own) = minors.device(minor, instance, compute) {
                files.insert(device.uuid.clone(), own);
            }
        }
    }
    files
}

/// Writes the CDI specifications that the strategies need, or removes what is no longer needed.
pub(super) fn write_cdi(directory: &Path, flags: &Flags, handing: &Handing) -> Result<(), cdi::FileError> {
    let uses = |strategy| handing.delivery.strategies.contains(&strategy);
    if !(uses(DeviceListStrategy::CdiAnnotations) || uses(DeviceListStrategy::CdiCri)) {
        return cdi::remove(directory);
    }
    let (seen, host) = (PathBuf::from(&flags.container_driver_root), PathBuf::from(&flags.driver_root));
    let layout = cdi::Layout {
        hook: cdi::Layout::hook(&seen, &host, &flags.nvidia_ctk_path),
        seen,
        host,
        dev_root: PathBuf::from(&flags.dev_root),
    };
    let given: Vec<Given> =
        handing.files.iter().map(|(uuid, files)| Given { name: uuid.0.clone(), files: files.clone() }).collect();
    cdi::write(directory, &cdi::specifications(&layout, &given, flags.extras, &handing.delivery.imex_channels))
}
