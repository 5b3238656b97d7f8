//! MIG layouts: what a GPU shall be cut into, and the steps from what it is to that.
//!
//! ```text
//! rule of a GPU ──────────────┐
//! name (`nvidia.com/mig.config`) ── layout::named ──▶ Layout ── plan (profiles, instances, holders) ──▶ Plan: keep, steps
//! ```
//!
//! Nothing here asks the driver: profiles, placements and instances are fields of [`Gpu`]. The driver has the last word when
//! steps are taken (it also counts engines, which a profile's placements do not show).

mod fit;
mod layout;
mod plan;

use std::collections::BTreeMap;
use std::fmt;

pub use layout::{LayoutError, named};
pub use plan::{PlanError, plan};

use crate::GpuUuid;
use crate::gpu::{Gpu, MigPlacement};

/// What a GPU shall be cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// MIG mode off.
    Disabled,
    /// MIG mode on, with so many devices of each profile (`1g.18gb`, `1g.18gb+me`, or `1g.18gb.me` as resource names have it)
    /// and no others.
    Enabled(BTreeMap<String, u32>),
}

/// Who holds a GPU or a MIG device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// The GPU or MIG device.
    pub device: GpuUuid,
    /// A pod or a process, as people are to read it.
    pub by: String,
}

/// The way from what a GPU is to a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Index of the GPU.
    pub index: u32,
    /// MIG devices that stay.
    pub keep: Vec<Kept>,
    /// What is done, in this order; nothing where the GPU is as wanted.
    pub steps: Vec<Step>,
    /// Whether the GPU tells its profiles in MIG mode only (drivers before 550), so that another plan must follow the steps.
    pub again: bool,
}

/// A MIG device that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The device.
    pub device: GpuUuid,
    /// Its profile.
    pub profile: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Switch MIG mode on; GPUs before Hopper need a reset for it.
    Enable,
    /// Destroy a GPU instance with its compute instances.
    Destroy {
        /// Id of the GPU instance.
        instance: u32,
        /// Ids of its compute instances.
        compute_instances: Vec<u32>,
        /// Name of its profile.
        profile: String,
        /// Its MIG devices.
        devices: Vec<GpuUuid>,
    },
    /// Make a GPU instance with one compute instance of all its slices.
    Create {
        /// Id of the profile.
        profile_id: u32,
        /// Its name.
        profile: String,
        /// Where.
        placement: MigPlacement,
    },
    /// Switch MIG mode off; GPUs before Hopper need a reset for it.
    Disable,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enable => f.write_str("switch MIG mode on"),
            Self::Disable => f.write_str("switch MIG mode off"),
            Self::Create { profile, placement, .. } => write!(f, "create {profile} at {}", slices(*placement)),
            Self::Destroy { instance, profile, devices, .. } => {
                write!(f, "destroy {profile} (GPU instance {instance}")?;
                for device in devices {
                    write!(f, ", {device}")?;
                }
                f.write_str(")")
            }
        }
    }
}

fn slices(placement: MigPlacement) -> String {
    match placement.size {
        1 => format!("memory slice {}", placement.start),
        size => format!("memory slices {} to {}", placement.start, placement.start + size.saturating_sub(1)),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {}", self.index)?;
        f.write_str(if self.steps.is_empty() && !self.again { " has the MIG layout that is wanted:" } else { ":" })?;
        for kept in &self.keep {
            write!(f, "\n  keep {} ({})", kept.profile, kept.device)?;
        }
        for step in &self.steps {
            write!(f, "\n  {step}")?;
        }
        if self.again {
            f.write_str("\n  then ask the GPU for its profiles and plan the MIG devices")?;
        }
        Ok(())
    }
}

impl Gpu {
    /// The MIG devices of a GPU instance.
    fn mig_devices_of(&self, instance: u32) -> impl Iterator<Item = &crate::gpu::MigDevice> {
        self.mig_devices.iter().filter(move |device| device.gpu_instance == Some(instance))
    }
}

/// A profile's name in the form in which names are compared: attributes after `.`, as resource names have them, and no
/// compute part where it says the same as the GPU part (`3c.3g.71gb` is `3g.71gb`).
#[must_use]
pub fn normalized(profile: &str) -> String {
    let dotted = profile.trim().replace('+', ".");
    match dotted.split_once('.') {
        Some((compute, rest)) if is_part(&dotted) && rest.starts_with(&compute.replace('c', "g")) => rest.to_owned(),
        Some(_) | None => dotted,
    }
}

/// Whether a profile's name begins with a number of compute slices, `1c.3g.71gb`.
fn is_part(profile: &str) -> bool {
    let digits = profile.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < profile.len() && digits.starts_with("c.")
}

/// Whether a profile's name stands for a part of a GPU instance (`1c.3g.71gb`), which no plugin offers by name.
#[must_use]
pub fn is_part_of_instance(profile: &str) -> bool {
    is_part(&normalized(profile))
}

#[cfg(test)]
mod tests;
