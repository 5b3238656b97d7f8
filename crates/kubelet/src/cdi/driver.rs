//! The user-space part of NVIDIA's driver, found below a root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of libraries, first come first served. Those below `/usr` come first: on many systems `/lib` is a link, whose
/// target may not be right below another root.
const LIBRARIES: [&str; 10] = [
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib",
    "usr/local/nvidia/lib64",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
];
/// Folders of programs.
const PROGRAM_FOLDERS: [&str; 7] =
    ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "usr/local/nvidia/bin", "bin", "sbin"];
/// Programs that containers may want.
const PROGRAMS: [&str; 7] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-imex",
    "nvidia-imex-ctl",
];
/// Names that programs open libraries by, with how the library's own name begins.
const NEEDED: [(&str, &str); 3] = [
    ("libcuda.so.1", "libcuda.so."),
    ("libnvidia-ml.so.1", "libnvidia-ml.so."),
    ("libnvidia-ptxjitcompiler.so.1", "libnvidia-ptxjitcompiler.so."),
];

/// What was found; paths are relative to the root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Driver {
    /// The folder of the libraries.
    pub(super) folder: PathBuf,
    /// Their file names.
    pub(super) libraries: BTreeSet<String>,
    /// Other names of them, each with what it leads to: a library or another such name.
    pub(super) links: BTreeMap<String, String>,
    /// Programs.
    pub(super) programs: Vec<PathBuf>,
}

impl Driver {
    /// Looks below `root`. What is not there is left out.
    pub(super) fn find(root: &Path) -> Self {
        let program =
            |name: &&str| PROGRAM_FOLDERS.iter().map(|at| Path::new(at).join(name)).find(|path| is_file(root, path));
        let programs = PROGRAMS.iter().filter_map(program).collect();
        let libraries = LIBRARIES.iter().find_map(|folder| Some((*folder, version(&root.join(folder))?)));
        let Some((folder, version)) = libraries else { return Self { programs, ..Self::default() } };
        let suffix = format!(".so.{version}");
        let names = names(&root.join(folder));
        let is_library = |name: &String| {
            name.starts_with("lib") && name.ends_with(&suffix) && is_file(root, &Path::new(folder).join(name))
        };
        let libraries: BTreeSet<String> = names.iter().filter(|name| is_library(name)).cloned().collect();
        let links = links(&root.join(folder), &names, &libraries);
        Self { folder: folder.into(), libraries, links, programs }
    }

    /// The library that a name leads to in the end.
    pub(super) fn library<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut name = name;
        // A chain is never longer than there are links, unless it is a circle.
        for _step in 0..=self.links.len() {
            match self.links.get(name) {
                Some(target) => name = target,
                None => return self.libraries.get(name).map(String::as_str),
            }
        }
        None
    }
}

/// The version of the driver whose libraries are in `folder`: what follows `libcuda.so.` in the name of a file. Where
/// several are left, `libcuda.so.1` says which one is in use, else it is the last by name.
fn version(folder: &Path) -> Option<String> {
    let versions = |name: String| {
        let version = name.strip_prefix("libcuda.so.").filter(|version| version.contains('.'))?;
        is_file(folder, Path::new(&name)).then(|| version.to_owned())
    };
    let found: BTreeSet<String> = names(folder).into_iter().filter_map(versions).collect();
    let in_use = link(folder, "libcuda.so.1").and_then(|target| Some(target.strip_prefix("libcuda.so.")?.to_owned()));
    in_use.filter(|version| found.contains(version)).or_else(|| found.last().cloned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether a file itself, and not a link, lies there.
fn is_file(root: &Path, path: &Path) -> bool {
    fs::symlink_metadata(root.join(path)).is_ok_and(|metadata| metadata.is_file())
}

/// The file name that a link leads to, when that is in the same folder.
fn link(folder: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(folder.join(name)).ok()?;
    let is_beside = target.parent().is_some_and(|parent| parent.as_os_str().is_empty());
    is_beside.then(|| target.to_string_lossy().into_owned())
}

/// Names that lead to the libraries: those in the folder, and those that programs need.
fn links(folder: &Path, names: &[String], libraries: &BTreeSet<String>) -> BTreeMap<String, String> {
    let all: BTreeMap<String, String> = names
        .iter()
        .filter(|name| name.starts_with("lib") && name.contains(".so"))
        .filter_map(|name| Some((name.clone(), link(folder, name)?)))
        .collect();
    let mut links = BTreeMap::new();
    // The second round finds `libcuda.so` by `libcuda.so.1`.
    for _round in 0..2 {
        for (name, target) in &all {
            if libraries.contains(target) || links.contains_key(target) {
                links.insert(name.clone(), target.clone());
            }
        }
    }
    for (name, prefix) in NEEDED {
        if let Some(library) = libraries.iter().find(|library| library.starts_with(prefix)) {
            links.entry(name.to_owned()).or_insert_with(|| library.clone());
        }
    }
    if links.contains_key("libcuda.so.1") {
        links.entry("libcuda.so".to_owned()).or_insert_with(|| "libcuda.so.1".to_owned());
    }
    links
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn driver(libraries: &[&str], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("folder");
        let folder = root.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&folder).expect("folder");
        fs::create_dir_all(root.path().join("usr/bin")).expect("folder");
        fs::write(root.path().join("usr/bin/nvidia-smi"), "").expect("program");
        for library in libraries {
            fs::write(folder.join(library), "").expect("library");
        }
        for (name, target) in links {
            symlink(target, folder.join(name)).expect("link");
        }
        root
    }

    #[test]
    fn libraries_of_the_driver_in_use_are_found_with_all_their_names() {
        let libraries = [
            "libcuda.so.535.104.05",
            "libcuda.so.580.95.05",
            "libnvidia-ml.so.580.95.05",
            "libc.so.6",
            "libx.so.580.95.05",
        ];
        let links = [
            ("libcuda.so.1", "libcuda.so.580.95.05"),
            ("libnvidia-ml.so", "libnvidia-ml.so.1"),
            ("libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05"),
            ("libloop.so", "libloop.so"),
            ("libaway.so", "/etc/alternatives/libx.so.580.95.05"),
        ];
        let root = driver(&libraries, &links);
        let found = Driver::find(root.path());
        assert_eq!(found.folder, Path::new("usr/lib/x86_64-linux-gnu"));
        let names: Vec<&str> = found.libraries.iter().map(String::as_str).collect();
        assert_eq!(names, ["libcuda.so.580.95.05", "libnvidia-ml.so.580.95.05", "libx.so.580.95.05"]);
        let names: Vec<&str> = found.links.keys().map(String::as_str).collect();
        assert_eq!(names, ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so", "libnvidia-ml.so.1"]);
        assert_eq!(found.library("libcuda.so"), Some("libcuda.so.580.95.05"));
        assert_eq!(found.library("libnvidia-ml.so"), Some("libnvidia-ml.so.580.95.05"));
        assert_eq!(found.library("libc.so.6"), None);
        assert_eq!(found.programs, [Path::new("usr/bin/nvidia-smi")]);
    }

    #[test]
    fn a_host_without_a_driver_has_none() {
        let root = tempfile::tempdir().expect("folder");
        assert_eq!(Driver::find(root.path()), Driver::default());
        assert_eq!(Driver::find(Path::new("/nowhere")), Driver::default());
    }

    #[test]
    fn without_a_link_the_last_version_is_taken() {
        let root = driver(&["libcuda.so.535.104.05", "libcuda.so.580.95.05"], &[]);
        assert_eq!(Driver::find(root.path()).library("libcuda.so"), Some("libcuda.so.580.95.05"));
    }
}
