//! MIG on a simulated GPU: what it can be cut into, and what it is cut into.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

/// MIG on a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mig {
    /// Whether MIG mode is on.
    pub enabled: bool,
    /// Whether it will be on after the next reset; `None` is the same as now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<bool>,
    /// Where it differs from what a new GPU and driver do.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub habits: BTreeSet<MigHabit>,
    /// What the GPU can be cut into.
    pub profiles: Vec<MigProfile>,
    /// GPU instances that exist.
    pub instances: Vec<GpuInstance>,
}

/// What older GPUs and drivers do otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigHabit {
    /// A change of the mode waits for a reset, as on Ampere while anything watches the GPU.
    ModeNeedsReset,
    /// The product name of a MIG device leaves the profile out.
    BareNames,
    /// The driver tells the profiles in MIG mode only; an H100's driver 580 tells them always.
    ProfilesInMigModeOnly,
}

/// A kind of GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigProfile {
    /// NVML's number of the kind, `NVML_GPU_INSTANCE_PROFILE_…`.
    pub kind: u32,
    /// Its id on this GPU, as `nvidia-smi mig -lgip` prints it.
    pub id: u32,
    /// Name, `1g.18gb`.
    pub name: String,
    /// Compute slices.
    pub slices: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines, decoders, encoders, JPEG decoders and optical-flow accelerators.
    pub engines: [u32; 5],
    /// How many fit on an empty GPU.
    pub maximum: u32,
    /// First memory slices it may begin at.
    pub starts: Vec<u32>,
    /// Memory slices it takes.
    pub size: u32,
}

/// A GPU instance that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuInstance {
    /// Its id.
    pub id: u32,
    /// Its profile, [`MigProfile::id`].
    pub profile: u32,
    /// First memory slice.
    pub start: u32,
    /// Its compute instances.
    #[serde(default)]
    pub compute: Vec<ComputeInstance>,
}

/// A compute instance, which is a MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComputeInstance {
    /// Its id within the GPU instance.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// UUID, `MIG-…`.
    pub uuid: String,
}

impl Mig {
    /// MIG of an A100 with 40 GB: figures of NVIDIA's MIG user guide.
    #[must_use]
    pub fn ampere() -> Self {
        let table = [
            (0, 19, "1g.5gb", 1, 4_864, 14, [1, 0, 0, 0, 0]),
            (7, 20, "1g.5gb+me", 1, 4_864, 14, [1, 1, 0, 1, 1]),
            (9, 15, "1g.10gb", 1, 9_856, 14, [1, 1, 0, 0, 0]),
            (1, 14, "2g.10gb", 2, 9_856, 28, [2, 1, 0, 0, 0]),
            (2, 9, "3g.20gb", 3, 19_968, 42, [3, 2, 0, 0, 0]),
            (3, 5, "4g.20gb", 4, 19_968, 56, [4, 2, 0, 0, 0]),
            (4, 0, "7g.40gb", 7, 40_192, 98, [7, 5, 0, 1, 1]),
        ];
        Self {
            habits: [MigHabit::ModeNeedsReset].into(),
            profiles: table.map(MigProfile::of).into(),
            ..Self::default()
        }
    }

    /// MIG of an H200 with 141 GB: names, ids and placements of NVIDIA's MIG user guide.
    #[must_use]
    pub fn hopper() -> Self {
        let table = [
            (0, 19, "1g.18gb", 1, 16_384, 16, [1, 1, 0, 1, 0]),
            (7, 20, "1g.18gb+me", 1, 16_384, 16, [1, 1, 0, 1, 1]),
            (9, 15, "1g.35gb", 1, 33_280, 26, [1, 1, 0, 1, 0]),
            (1, 14, "2g.35gb", 2, 33_280, 32, [2, 2, 0, 2, 0]),
            (2, 9, "3g.71gb", 3, 71_424, 60, [3, 3, 0, 3, 0]),
            (3, 5, "4g.71gb", 4, 71_424, 64, [4, 4, 0, 4, 0]),
            (4, 0, "7g.141gb", 7, 143_360, 132, [8, 7, 0, 7, 1]),
        ];
        Self { profiles: table.map(MigProfile::of).into(), ..Self::default() }
    }

    /// Whether it has a habit.
    #[must_use]
    pub fn has(&self, habit: MigHabit) -> bool {
        self.habits.contains(&habit)
    }

    /// A profile by its id.
    #[must_use]
    pub fn profile(&self, id: u32) -> Option<&MigProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// A GPU instance by its id.
    #[must_use]
    pub fn instance(&self, id: u32) -> Option<&GpuInstance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// The MIG devices in the driver's order: each compute instance with its GPU instance.
    pub fn devices(&self) -> impl Iterator<Item = (&GpuInstance, &ComputeInstance)> {
        let enabled = self.instances.iter().filter(|_| self.enabled);
        enabled.flat_map(|instance| instance.compute.iter().map(move |compute| (instance, compute)))
    }

    /// Where another instance of a profile can begin beside those that exist.
    #[must_use]
    pub fn free_starts(&self, profile: &MigProfile) -> Vec<u32> {
        let taken = |slice: u32| {
            let sized = |instance: &GpuInstance| self.profile(instance.profile).map_or(0, |profile| profile.size);
            self.instances.iter().any(|other| (other.start..other.start + sized(other)).contains(&slice))
        };
        let slices = |id: u32| self.profile(id).map_or(0, |profile| profile.slices);
        let used: u32 = self.instances.iter().map(|instance| slices(instance.profile)).sum();
        let of_this = self.instances.iter().filter(|instance| instance.profile == profile.id).count();
        let room = used + profile.slices <= COMPUTE_SLICES && of_this < usize::try_from(profile.maximum).unwrap_or(0);
        let free = |start: &u32| room && !(*start..*start + profile.size).any(taken);
        profile.starts.iter().copied().filter(free).collect()
    }

    /// Adds an instance of a profile by name at its first free place, with one compute instance of its whole size.
    ///
    /// # Panics
    /// When the GPU has no such profile or no room: the scenario's author is wrong.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a scenario that cannot be is its author's mistake")]
    pub fn with(mut self, gpu: &str, profile: &str) -> Self {
        let found = self.profiles.iter().find(|known| known.name == profile);
        let found = found.expect("the GPU has the profile").clone();
        let start = *self.free_starts(&found).first().expect("the GPU has room");
        let id = self.free_id(&found);
        let compute = ComputeInstance { id: 0, slices: found.slices, uuid: uuid(gpu, &found, start, 0) };
        self.instances.push(GpuInstance { id, profile: found.id, start, compute: vec![compute] });
        self.enabled = true;
        self
    }

    /// An id that no instance has: 0 is the whole GPU's, as on real ones.
    #[must_use]
    pub fn free_id(&self, profile: &MigProfile) -> u32 {
        let first = if profile.slices == COMPUTE_SLICES { 0 } else { 1 };
        (first..).find(|id| self.instance(*id).is_none()).unwrap_or(u32::MAX)
    }
}

/// Compute slices of every GPU that can do MIG so far.
const COMPUTE_SLICES: u32 = 7;

impl MigProfile {
    fn of(
        (kind, id, name, slices, memory_mib, multiprocessors, engines): (u32, u32, &str, u32, u64, u32, [u32; 5]),
    ) -> Self {
        let (starts, size): (&[u32], u32) = match (slices, kind) {
            (1, 9) => (&[0, 2, 4, 6], 2),
            (1, _) => (&[0, 1, 2, 3, 4, 5, 6], 1),
            (2, _) => (&[0, 2, 4], 2),
            (3, _) => (&[0, 4], 4),
            (4, _) => (&[0], 4),
            _ => (&[0], 8),
        };
        let maximum = if name.ends_with("+me") { 1 } else { u32::try_from(starts.len()).unwrap_or(u32::MAX) };
        let starts = starts.to_vec();
        Self { kind, id, name: name.to_owned(), slices, memory_mib, multiprocessors, engines, maximum, starts, size }
    }
}

/// The UUID of a MIG device: the same place on the same GPU always has the same.
pub(in crate::nvml) fn uuid(gpu: &str, profile: &MigProfile, start: u32, compute: u32) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, gpu, profile.id, start, compute).hash(&mut hasher);
        hasher.finish()
    };
    let text = format!("{:016x}{:016x}", half(0), half(1));
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &text[range]);
    format!("MIG-{}", parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_cut_until_nothing_fits() {
        let mig =
            ["3g.71gb", "2g.35gb", "1g.18gb"].into_iter().fold(Mig::hopper(), |mig, name| mig.with("GPU-0", name));
        let free = |name: &str| {
            let profile = mig.profiles.iter().find(|profile| profile.name == name).expect("a profile");
            mig.free_starts(profile)
        };
        let places: Vec<_> = mig.instances.iter().map(|instance| (instance.id, instance.start)).collect();
        assert_eq!(places, [(1, 0), (2, 4), (3, 6)]);
        assert_eq!(
            free("1g.18gb"),
            [] as [u32; 0],
            "seven compute slices are taken but one, and memory slice 7 begins nothing"
        );
        assert_eq!(free("4g.71gb"), [] as [u32; 0]);
    }

    #[test]
    fn the_uuid_of_a_place_is_its_own() {
        let profile = &Mig::hopper().profiles[0];
        assert_eq!(uuid("GPU-0", profile, 1, 0), uuid("GPU-0", profile, 1, 0));
        assert_ne!(uuid("GPU-0", profile, 1, 0), uuid("GPU-0", profile, 2, 0));
        assert_eq!(uuid("GPU-0", profile, 1, 0).len(), 40);
    }
}
