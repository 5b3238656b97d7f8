//! Cutting a GPU into MIG devices: the steps of a plan, taken one by one, and taken back when one is refused.

use cotenant_model::GpuUuid;
use cotenant_model::gpu::{MigInstance, MigPlacement};
use cotenant_model::sharing::mig::Step;
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use crate::inventory::existing;
use crate::raw;
use crate::reader::{Nvml, ReadError};

/// How a GPU is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigState {
    /// Whether MIG mode is on.
    pub enabled: bool,
    /// Whether it will be on after the next reset.
    pub pending: bool,
    /// GPU instances, in order of place.
    pub instances: Vec<MigInstance>,
}

/// What came of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigOutcome {
    /// Every step was taken.
    Done(MigState),
    /// The mode changes with the next reset, which is not done here; the steps behind that were not taken.
    WaitsForReset(MigState),
}

/// Why a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum MigError {
    /// The GPU is unknown or lost, or does not say what there is.
    #[error("cannot read how the GPU is cut")]
    Gpu(#[from] ReadError),
    /// Processes hold what a step would take from them; nothing was done.
    #[error("cannot {step} on {gpu}: it is used by {}", list(.pids))]
    InUse {
        /// The GPU.
        gpu: GpuUuid,
        /// The step.
        step: Box<Step>,
        /// Process ids, the host's.
        pids: Vec<u32>,
    },
    /// The driver refused a step.
    #[error("cannot {step} on {gpu}; {}", aftermath(.not_undone))]
    Refused {
        /// The GPU.
        gpu: GpuUuid,
        /// The step.
        step: Box<Step>,
        /// What could not be taken back, and why.
        not_undone: Vec<String>,
        /// How the GPU is cut now; `None` where it does not say.
        state: Option<Box<MigState>>,
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
}

fn list(pids: &[u32]) -> String {
    let each: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!("process{} {}", if pids.len() == 1 { "" } else { "es" }, each.join(", "))
}

fn aftermath(not_undone: &[String]) -> String {
    if not_undone.is_empty() {
        "the steps before it were taken back".to_owned()
    } else {
        format!("the steps before it could not all be taken back: {}", not_undone.join("; "))
    }
}

/// Takes a step back.
#[derive(Debug)]
enum Undo {
    Mode(bool),
    Remove { instance: u32 },
    MakeCompute { instance: u32, slices: u32 },
    Make { profile: u32, placement: (u32, u32), compute: Vec<u32> },
}

impl Nvml {
    /// Takes the steps of a plan on one GPU. Nothing is done when a process holds what a step would take from it: any of the GPU
    /// for a change of the mode, one of the instance for its end. When the driver refuses a step, those before it are taken back.
    ///
    /// MIG devices have other handles and UUIDs afterwards, and so they are looked up again by every reader. Takes root.
    ///
    /// # Errors
    /// When the GPU is unknown, in use, or the driver refuses a step; the error says how the GPU is cut then.
    pub fn apply_mig(&mut self, gpu: &GpuUuid, steps: &[Step]) -> Result<MigOutcome, MigError> {
        let outcome = self.ask(gpu, |device| {
            let held = processes(device).map_err(|source| unreadable(gpu, source))?;
            steps.iter().try_for_each(|step| idle(gpu, step, &held))?;
            carry_out(device, gpu, steps)
        });
        self.driver().forget_handles();
        outcome
    }
}

fn unreadable(gpu: &GpuUuid, source: NvmlError) -> ReadError {
    crate::reader::failed("the MIG mode, instances or processes", &gpu.0, source)
}

/// Every process of a GPU and of its MIG devices.
fn processes(device: &Device<'_>) -> Result<Vec<ProcessInfo>, NvmlError> {
    let mut all = device.running_compute_processes()?;
    all.extend(device.mps_running_compute_processes().unwrap_or_default());
    all.extend(device.running_graphics_processes().unwrap_or_default());
    Ok(all)
}

fn idle(gpu: &GpuUuid, step: &Step, held: &[ProcessInfo]) -> Result<(), MigError> {
    let takes = |process: &&ProcessInfo| match step {
        Step::Enable | Step::Disable => true,
        // A process of which the driver does not say where it runs may run there.
        Step::Destroy { instance, .. } => process.gpu_instance_id.is_none_or(|of| of == *instance),
        Step::Create { .. } => false,
    };
    let mut pids: Vec<u32> = held.iter().filter(takes).map(|process| process.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    if pids.is_empty() { Ok(()) } else { Err(MigError::InUse { gpu: gpu.clone(), step: Box::new(step.clone()), pids }) }
}

fn carry_out(device: &Device<'_>, gpu: &GpuUuid, steps: &[Step]) -> Result<MigOutcome, MigError> {
    let mut undo = Vec::new();
    for step in steps {
        match take(device, step, &mut undo) {
            Ok(true) => {}
            Ok(false) => {
                return Ok(MigOutcome::WaitsForReset(state(device).map_err(|source| unreadable(gpu, source))?));
            }
            Err(source) => {
                let not_undone = undo.into_iter().rev().filter_map(|one| take_back(device, &one).err()).collect();
                let (gpu, step, state) = (gpu.clone(), Box::new(step.clone()), state(device).ok().map(Box::new));
                return Err(MigError::Refused { gpu, step, not_undone, state, source });
            }
        }
    }
    Ok(MigOutcome::Done(state(device).map_err(|source| unreadable(gpu, source))?))
}

/// Takes one step; whether the next can be taken before a reset.
fn take(device: &Device<'_>, step: &Step, undo: &mut Vec<Undo>) -> Result<bool, NvmlError> {
    match step {
        Step::Enable => return switch(device, true, undo),
        Step::Disable => return switch(device, false, undo),
        Step::Create { profile_id, placement: MigPlacement { start, size }, .. } => {
            let slices = profile(device, *profile_id)?.slices;
            let made = raw::create_instance(device, *profile_id, (*start, *size))?;
            undo.push(Undo::Remove { instance: made });
            raw::create_compute_instance(device, made, slices)?;
        }
        Step::Destroy { instance, .. } => destroy(device, *instance, undo)?,
    }
    Ok(true)
}

/// Switches the mode; whether it is in force at once.
fn switch(device: &Device<'_>, on: bool, undo: &mut Vec<Undo>) -> Result<bool, NvmlError> {
    let before = device.mig_mode()?;
    if before.current != u32::from(on) {
        device.set_mig_mode(on)?;
        undo.push(Undo::Mode(!on));
    }
    let after = device.mig_mode()?;
    Ok(after.current == u32::from(on))
}

fn profile(device: &Device<'_>, id: u32) -> Result<raw::Profile, NvmlError> {
    raw::profiles(device)?.into_iter().find(|profile| profile.id == id).ok_or(NvmlError::InvalidArg)
}

fn found(device: &Device<'_>, id: u32) -> Result<raw::Instance, NvmlError> {
    let all = raw::instances(device, &raw::profiles(device)?)?;
    all.into_iter().find(|instance| instance.id == id).ok_or(NvmlError::NotFound)
}

/// Destroys an instance with its compute instances.
fn destroy(device: &Device<'_>, id: u32, undo: &mut Vec<Undo>) -> Result<(), NvmlError> {
    let instance = found(device, id)?;
    let before = undo.len();
    for compute in &instance.compute {
        raw::destroy_compute_instance(device, id, compute.id)?;
        undo.push(Undo::MakeCompute { instance: id, slices: compute.slices });
    }
    raw::destroy_instance(device, id)?;
    undo.truncate(before);
    let compute = instance.compute.iter().map(|compute| compute.slices).collect();
    undo.push(Undo::Make { profile: instance.profile, placement: instance.placement, compute });
    Ok(())
}

/// Takes a step back; what could not be.
fn take_back(device: &Device<'_>, step: &Undo) -> Result<(), String> {
    let outcome = match step {
        Undo::Mode(on) => device.set_mig_mode(*on).map(drop),
        Undo::Remove { instance } => destroy(device, *instance, &mut Vec::new()),
        Undo::MakeCompute { instance, slices } => raw::create_compute_instance(device, *instance, *slices).map(drop),
        Undo::Make { profile, placement, compute } => {
            raw::create_instance(device, *profile, *placement).and_then(|made| {
                compute.iter().try_for_each(|slices| raw::create_compute_instance(device, made, *slices).map(drop))
            })
        }
    };
    outcome.map_err(|error| match step {
        Undo::Mode(on) => format!("switching MIG mode {}: {error}", if *on { "on" } else { "off" }),
        Undo::Remove { instance } => format!("destroying GPU instance {instance}: {error}"),
        Undo::MakeCompute { instance, .. } => format!("making a compute instance in GPU instance {instance}: {error}"),
        Undo::Make { profile, placement: (start, _), .. } => {
            format!("making a GPU instance of profile {profile} at memory slice {start}: {error}")
        }
    })
}

/// How the GPU is cut now.
fn state(device: &Device<'_>) -> Result<MigState, NvmlError> {
    let mode = device.mig_mode()?;
    let enabled = mode.current == 1;
    let instances = if enabled { raw::instances(device, &raw::profiles(device)?)? } else { Vec::new() };
    Ok(MigState { enabled, pending: mode.pending == 1, instances: instances.iter().map(existing).collect() })
}
