//! Container images from programs of this host, without a container engine or a registry.
//!
//! An image has one layer: the programs, and the shared libraries they were linked with on this host. It is written as the
//! archive of `docker save`, which containerd imports.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::{Programs, State};
use crate::process::{command, run};

/// The image that holds a pod's namespaces.
pub const PAUSE: &str = "cotenant.dev/pause:e2e";
/// The image of what shares a GPU in tests: a shell, and the simulated CUDA client.
pub const CLIENT: &str = "cotenant.dev/client:e2e";
/// The image of the program itself.
pub const COTENANT: &str = "cotenant.dev/cotenant:e2e";

/// A shell and tools (Debian's busybox-static).
const BUSYBOX: &str = "/bin/busybox";
const TOOLS: [&str; 18] = [
    "sh", "cat", "env", "sleep", "nc", "ls", "mount", "id", "kill", "ps", "touch", "rm", "mkdir", "stat", "grep",
    "echo", "head", "test",
];
const LIMIT: Duration = Duration::from_secs(120);

/// An image in a file of its own, removed when dropped.
#[derive(Debug)]
pub struct Image {
    name: String,
    folder: TempDir,
}

/// What an image is to hold.
struct Content<'a> {
    name: &'a str,
    /// Programs of this host and where the image has them; debug information is left out.
    programs: &'a [(PathBuf, &'a str)],
    /// Names in `/bin` for the shell and its tools; none means that there is no shell.
    tools: &'a [&'a str],
    entrypoint: &'a [&'a str],
}

impl Image {
    /// The image that holds a pod's namespaces.
    ///
    /// # Errors
    /// When busybox is missing or the disk refuses.
    pub fn pause(state: &State) -> anyhow::Result<Self> {
        let content =
            Content { name: PAUSE, programs: &[], tools: &["sleep"], entrypoint: &["/bin/sleep", "2147483647"] };
        Self::build(state.folder(), &content)
    }

    /// The image of what shares a GPU in tests. The simulated CUDA client is in it once it is built.
    ///
    /// # Errors
    /// When busybox is missing or the disk refuses.
    pub fn client(state: &State, programs: &Programs) -> anyhow::Result<Self> {
        let client = programs.own.join("fake-cuda-client");
        let client = client.is_file().then_some((client, "/usr/bin/fake-cuda-client"));
        let programs: Vec<_> = client.into_iter().collect();
        let content = Content { name: CLIENT, programs: &programs, tools: &TOOLS, entrypoint: &["/bin/sh", "-c"] };
        Self::build(state.folder(), &content)
    }

    /// The image of the program, named as a chart would name it.
    ///
    /// # Errors
    /// When the program is not built or the disk refuses.
    pub fn cotenant(state: &State, programs: &Programs, name: &str) -> anyhow::Result<Self> {
        let program = programs.own.join("cotenant");
        let entrypoint = ["/usr/bin/cotenant"];
        let programs = [(program, "/usr/bin/cotenant")];
        Self::build(state.folder(), &Content { name, programs: &programs, tools: &[], entrypoint: &entrypoint })
    }

    /// Its name and tag.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its archive.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("image.tar")
    }

    /// Builds it below `place`: in the cluster's folder, so that it goes with that when this process is killed.
    fn build(place: &Path, content: &Content<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("image-").tempdir_in(place)?;
        let image = Self { name: content.name.to_owned(), folder };
        let root = image.folder.path().join("root");
        fill(&root, content).with_context(|| format!("cannot make the image {}", content.name))?;
        image.pack(content)?;
        fs::remove_dir_all(root)?;
        Ok(image)
    }

    /// Packs the layer, and the archive around it.
    fn pack(&self, content: &Content<'_>) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let layer = folder.join("layer.tar");
        let owned = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"];
        run(command("tar").args(owned).arg("-cf").arg(&layer).arg("-C").arg(folder.join("root")).arg("."), LIMIT)?;
        let digest = run(command("sha256sum").arg(&layer), LIMIT)?;
        let digest = digest.split_whitespace().next().context("`sha256sum` printed nothing")?;
        let configuration = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": content.entrypoint, "Env": ["PATH=/usr/bin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": [content.name], "Layers": ["layer.tar"] }]);
        fs::write(folder.join("config.json"), configuration.to_string())?;
        fs::write(folder.join("manifest.json"), manifest.to_string())?;
        let packed = ["manifest.json", "config.json", "layer.tar"];
        run(command("tar").arg("-cf").arg(self.archive()).arg("-C").arg(folder).args(packed), LIMIT)?;
        Ok(fs::remove_file(layer)?)
    }
}

/// The architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn fill(root: &Path, content: &Content<'_>) -> anyhow::Result<()> {
    for folder in ["bin", "tmp", "etc", "usr/bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for (program, target) in content.programs {
        for library in libraries(program)? {
            copy(&library, &inside(root, &library))?;
        }
        let target = inside(root, Path::new(target));
        // A debug build is ten times as large with its debug information.
        run(command("strip").arg("--strip-debug").arg("-o").arg(&target).arg(program), LIMIT)?;
    }
    if !content.tools.is_empty() {
        // A static one has none.
        for library in libraries(Path::new(BUSYBOX)).context("is Debian's busybox-static installed?")? {
            copy(&library, &inside(root, &library))?;
        }
        copy(Path::new(BUSYBOX), &root.join("bin/busybox"))?;
    }
    for tool in content.tools {
        symlink("busybox", root.join("bin").join(tool))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n")?;
    Ok(())
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(source: &Path, target: &Path) -> anyhow::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(source, target).with_context(|| format!("cannot copy {}", source.display()))?;
    Ok(())
}

/// The loader and shared libraries that a program of this host is linked with.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    anyhow::ensure!(program.is_file(), "{} is not built", program.display());
    match run(command("ldd").arg(program), LIMIT) {
        Ok(told) => told.lines().filter_map(library).collect(),
        Err(error) if error.to_string().contains("not a dynamic executable") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The file that a line of `ldd` names; a line about a missing library is an error.
fn library(line: &str) -> Option<anyhow::Result<PathBuf>> {
    if line.contains("not found") {
        return Some(Err(anyhow::anyhow!("{}", line.trim())));
    }
    line.split_whitespace().find(|word| word.starts_with('/')).map(|path| Ok(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ldd_names_a_file_or_a_missing_one() {
        let named = |line| library(line).map(|found| found.unwrap().display().to_string());
        assert_eq!(named("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)"), Some("/lib/libc.so.6".to_owned()));
        assert_eq!(named("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2".to_owned()));
        assert_eq!(named("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert!(library("\tlibcuda.so.1 => not found").unwrap().is_err());
        assert!(libraries(Path::new("/bin/busybox")).is_ok());
    }

    #[test]
    fn an_image_is_an_archive_with_its_layer_and_the_libraries_of_its_programs() {
        let own = std::env::current_exe().unwrap();
        let content = Content { name: "a/b:c", programs: &[(own, "/usr/bin/test")], tools: &[], entrypoint: &["/x"] };
        let folder = tempfile::tempdir().unwrap();
        let image = Image::build(folder.path(), &content).unwrap();
        let listed = run(command("tar").arg("-tf").arg(image.archive()), LIMIT).unwrap();
        assert_eq!(listed, "manifest.json\nconfig.json\nlayer.tar\n");
        let inner = format!("tar -xOf {} layer.tar | tar -tf -", image.archive().display());
        let listed = run(command("sh").args(["-c", &inner]), LIMIT).unwrap();
        assert!(listed.contains("./usr/bin/test\n") && listed.contains("libc.so.6\n"), "{listed}");
    }

    #[test]
    fn a_program_that_is_not_built_is_said_so() {
        let failed = libraries(Path::new("/nowhere/cotenant")).unwrap_err();
        assert_eq!(failed.to_string(), "/nowhere/cotenant is not built");
    }
}
