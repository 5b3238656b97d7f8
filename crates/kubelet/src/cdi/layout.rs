//! From devices and a driver's files to specifications.

use std::fs;
use std::path::{Path, PathBuf};

use cotenant_model::sharing::config::Extras;

use super::driver::Driver;
use super::spec::{Device, DeviceNode, Edits, Hook, Mount, Specification};
use super::{GDRCOPY, GDS, GPU, IMEX, MOFED};
use crate::device_file;
use crate::device_plugin::Given;

/// Where the driver's files are, here and on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `containerDriverRoot`: where this process sees the host's driver root.
    pub seen: PathBuf,
    /// `nvidiaDriverRoot`: where it is on the host.
    pub host: PathBuf,
    /// `nvidiaDevRoot`: the host's folder that holds `dev`.
    pub dev_root: PathBuf,
    /// The host's program that finishes containers, `nvidia-ctk` or `nvidia-cdi-hook`; see [`Layout::hook`]. Without one,
    /// libraries are mounted under each of their names.
    pub hook: Option<String>,
}

impl Layout {
    /// `nvidiaCTKPath`, unless it can be seen that the host has no such program: a hook that is not there would keep every
    /// container from starting. It can be seen where the driver root is the host's own root.
    #[must_use]
    pub fn hook(seen: &Path, host: &Path, configured: &str) -> Option<String> {
        let is_missing = host == Path::new("/") && !device_file::exists(&[seen], configured);
        (!is_missing).then(|| configured.to_owned())
    }
}

/// The specifications of `devices` and of what else is asked for and there, the GPUs' first where there are any.
///
/// `devices` are all GPUs and MIG devices of the node, also those that are not offered any more: a container that is
/// restarted is looked up again.
#[must_use]
pub fn specifications(layout: &Layout, devices: &[Given], extras: Extras, imex_channels: &[u32]) -> Vec<Specification> {
    let nodes = |files: &[String]| Edits { device_nodes: layout.nodes(files), ..Edits::default() };
    let gpu = |device: &Given| Device { name: device.name.clone(), container_edits: nodes(&device.files) };
    let gpus = devices.iter().map(gpu).collect();
    let channel = |channel: &u32| {
        let files = layout.existing(&[device_file::imex_channel(*channel)]);
        Device { name: channel.to_string(), container_edits: nodes(&files) }
    };
    let channels = imex_channels.iter().map(channel).collect();
    let common = Edits { environment: vec![VOID.to_owned()], ..Edits::default() };
    let gpus = (!devices.is_empty()).then(|| Specification::new(GPU, gpus, layout.driver())).flatten();
    let mut specifications: Vec<_> =
        gpus.into_iter().chain(Specification::new(IMEX, channels, common.clone())).collect();
    let Extras { gdrcopy, gds, mofed } = extras;
    let modes = [(gdrcopy, GDRCOPY, layout.gdrcopy()), (gds, GDS, layout.gds()), (mofed, MOFED, layout.mofed())];
    for (_enabled, class, container_edits) in modes.into_iter().filter(|(enabled, ..)| *enabled) {
        let all = Device { name: "all".to_owned(), container_edits };
        specifications.extend(Specification::new(class, vec![all], common.clone()));
    }
    specifications
}

/// Keeps NVIDIA's runtime, where it is installed too, from adding devices of its own.
const VOID: &str = "NVIDIA_VISIBLE_DEVICES=void";
const READ_ONLY: [&str; 5] = ["ro", "nosuid", "nodev", "rbind", "rprivate"];

impl Layout {
    fn roots(&self) -> [&Path; 2] {
        [&self.seen, Path::new("/")]
    }

    fn existing(&self, files: &[String]) -> Vec<String> {
        files.iter().filter(|file| device_file::exists(&self.roots(), file)).cloned().collect()
    }

    fn nodes(&self, files: &[String]) -> Vec<DeviceNode> {
        let host = |file: &str| device_file::below(&self.dev_root, file).display().to_string();
        let node =
            |file: &String| DeviceNode { path: file.clone(), host_path: Some(host(file)).filter(|host| host != file) };
        files.iter().map(node).collect()
    }

    /// A mount of a file below the driver root, at `container` in the container.
    fn mount(&self, file: &Path, container: &Path) -> Mount {
        Mount {
            host_path: self.host.join(file).display().to_string(),
            container_path: Path::new("/").join(container).display().to_string(),
            options: READ_ONLY.to_vec(),
        }
    }

    /// What every container with a GPU gets.
    fn driver(&self) -> Edits {
        let driver = Driver::find(&self.seen);
        if driver.libraries.is_empty() {
            tracing::warn!(root = %self.seen.display(), "no driver libraries are there; CDI gives containers device files only");
        }
        let libraries = driver.libraries.iter().map(|name| driver.folder.join(name));
        let files = libraries.chain(driver.programs.iter().cloned());
        let mut mounts: Vec<Mount> = files.map(|file| self.mount(&file, &file)).collect();
        let mut hooks = Vec::new();
        match &self.hook {
            Some(hook) => hooks = self::hooks(hook, &driver),
            None => mounts.extend(driver.links.keys().filter_map(|name| {
                let library = driver.library(name)?;
                Some(self.mount(&driver.folder.join(library), &driver.folder.join(name)))
            })),
        }
        let control = device_file::control(&self.roots());
        Edits { environment: vec![VOID.to_owned()], device_nodes: self.nodes(&control), hooks, mounts }
    }

    fn gdrcopy(&self) -> Edits {
        let files = self.existing(&["/dev/gdrdrv".to_owned()]);
        Edits { device_nodes: self.nodes(&files), ..Edits::default() }
    }

    fn gds(&self) -> Edits {
        let files = self.in_folder("/dev", "nvidia-fs");
        if files.is_empty() {
            return Edits::default();
        }
        let seen =
            ["run/udev", "etc/cufile.json"].map(Path::new).into_iter().filter(|path| self.seen.join(path).exists());
        let mounts = seen.map(|path| self.mount(path, path)).collect();
        Edits { device_nodes: self.nodes(&files), mounts, ..Edits::default() }
    }

    fn mofed(&self) -> Edits {
        let mut files = self.in_folder("/dev/infiniband", "uverbs");
        files.extend(self.existing(&["/dev/infiniband/rdma_cm".to_owned()]));
        Edits { device_nodes: self.nodes(&files), ..Edits::default() }
    }

    /// Device files of a folder whose names begin so, in order.
    fn in_folder(&self, folder: &str, prefix: &str) -> Vec<String> {
        let entries =
            self.roots().into_iter().flat_map(|root| fs::read_dir(device_file::below(root, folder))).flatten();
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut files: Vec<String> =
            names.filter(|name| name.starts_with(prefix)).map(|name| format!("{folder}/{name}")).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// The hooks that give the libraries their other names and tell the container's loader of them.
fn hooks(program: &str, driver: &Driver) -> Vec<Hook> {
    if driver.libraries.is_empty() {
        return Vec::new();
    }
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = Path::new("/").join(&driver.folder);
    let hook = |verb: &str, more: Vec<String>| {
        let mut arguments = vec![name.clone()];
        arguments.extend((name == "nvidia-ctk").then(|| "hook".to_owned()));
        arguments.push(verb.to_owned());
        arguments.extend(more);
        Hook { hook_name: "createContainer", path: program.to_owned(), arguments }
    };
    let link = |(name, target): (&String, &String)| {
        ["--link".to_owned(), format!("{target}::{}", folder.join(name).display())]
    };
    vec![
        hook("create-symlinks", driver.links.iter().flat_map(link).collect()),
        hook("update-ldcache", vec!["--folder".to_owned(), folder.display().to_string()]),
    ]
}

#[cfg(test)]
#[path = "layout/tests.rs"]
mod tests;
