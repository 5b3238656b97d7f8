//! Rules of the strategy `mig`.

use std::collections::BTreeMap;

use super::draft::{Draft, Portion};
use super::mig_device;
use crate::gpu::{Gpu, MigDevice};
use crate::sharing::config::MigStrategy;
use crate::sharing::mig::{self, Layout, Plan, PlanError, Step};
use crate::sharing::offer::{ResourceName, Strategy};

/// Carries out a rule: the MIG devices that are there, less those that the layout does not keep.
pub(super) fn apply(
    draft: &mut Draft<'_>,
    path: &str,
    gpu: &Gpu,
    layout: Option<&BTreeMap<String, u32>>,
    replicas: u32,
) {
    draft.strategy(&gpu.uuid, Strategy::Mig);
    if gpu.mig.is_none() {
        let message = format!("GPU {} ({}) cannot do MIG", gpu.index, gpu.name);
        draft.problem(path, message, "write another `strategy`, or take the GPU out of `devices`");
        return;
    }
    let plan = match layout.map(|counts| mig::plan(gpu, &Layout::Enabled(counts.clone()), &[])).transpose() {
        Ok(plan) => plan,
        Err(PlanError::ResetPending { .. }) => {
            draft.note(format!(
                "MIG mode of GPU {} changes with its next reset; until then it offers nothing.",
                gpu.index
            ));
            return;
        }
        Err(error) => {
            draft.problem(&format!("{path}.layout"), error.to_string(), fix_of(&error));
            return;
        }
    };
    if let Some(plan) = &plan {
        say(draft, gpu, plan);
    } else if gpu.mig_devices.is_empty() {
        let why = if gpu.mig == Some(false) { "MIG mode is off" } else { "no MIG devices are configured on it" };
        draft.note(format!("GPU {} offers nothing: {why}; a `layout` in `{path}` makes some.", gpu.index));
    }
    let stays =
        |device: &&MigDevice| plan.as_ref().is_none_or(|plan| plan.keep.iter().any(|kept| kept.device == device.uuid));
    for device in gpu.mig_devices.iter().filter(stays) {
        let Some(resource) = offered(draft, gpu, device) else { continue };
        add(draft, path, (gpu, device), &resource, replicas);
    }
}

fn fix_of(error: &PlanError) -> &'static str {
    match error {
        PlanError::Unreadable { .. } => {
            "run as root with `CAP_SYS_ADMIN`, or cut the GPU as the layout says beforehand"
        }
        PlanError::NotCapable { .. }
        | PlanError::UnknownProfile { .. }
        | PlanError::PartOfInstance { .. }
        | PlanError::TooMany { .. }
        | PlanError::DoesNotFit { .. }
        | PlanError::Busy { .. }
        | PlanError::ResetPending { .. } => "write profiles and counts that the GPU can hold",
    }
}

/// Says what of a layout is there and what is still to be done.
fn say(draft: &mut Draft<'_>, gpu: &Gpu, plan: &Plan) {
    let created = plan.steps.iter().filter(|step| matches!(step, Step::Create { .. })).count();
    let text = match (plan.steps.is_empty() && !plan.again, plan.keep.len()) {
        (true, kept) => format!("Its {kept} MIG devices are those of its `layout`."),
        (false, kept) if plan.again => {
            format!("Of its `layout` {kept} MIG devices are there; it is made when the GPU is idle.")
        }
        (false, kept) => format!(
            "Of its `layout` {kept} MIG devices are there; {created} more are made when what is in their way is idle."
        ),
    };
    draft.reason(&gpu.uuid, text);
}

fn offered(draft: &mut Draft<'_>, gpu: &Gpu, device: &MigDevice) -> Option<ResourceName> {
    if draft.sharing.flags.mig_strategy == MigStrategy::Single {
        return Some(ResourceName(super::GPU.to_owned()));
    }
    let resource = super::profile_resource(&device.profile);
    if resource.is_none() {
        draft.note(format!(
            "GPU {}: MIG device `{}` is not offered: `{}` is a part of a GPU instance.",
            gpu.index, device.uuid, device.profile
        ));
    }
    resource
}

fn add(draft: &mut Draft<'_>, path: &str, (gpu, device): (&Gpu, &MigDevice), resource: &ResourceName, replicas: u32) {
    let strategy = if replicas > 1 { Strategy::TimeSlicing } else { Strategy::Mig };
    if replicas > 1 {
        draft.reason(
            &gpu.uuid,
            format!("Each MIG device has {replicas} shares that take turns; nothing limits their memory within it."),
        );
    }
    let device = mig_device(gpu, device, strategy);
    draft.add(&Portion {
        path,
        resource,
        one_per_container: false,
        device,
        shares: (replicas > 1).then_some(replicas),
    });
}
