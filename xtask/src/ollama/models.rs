//! The models folder, made by the server itself.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::cache::Cache;
use super::parts::models_name;
use super::tool::{command, run};

/// Tries, a tenth of a second apart, until the server must listen.
const TRIES: u32 = 300;

/// The folder for `OLLAMA_MODELS` with the model `smol` in it.
pub(super) fn create(cache: &Cache, ollama: &Path, gguf: &Path) -> anyhow::Result<PathBuf> {
    cache.part(&models_name(), |scratch| {
        let modelfile = scratch.join("Modelfile");
        fs::write(&modelfile, format!("FROM {}\n", gguf.display()))?;
        let server = Server::start(ollama, scratch)?;
        run(server.client(ollama).args(["create", "smol", "-f"]).arg(modelfile)).map(|_output| ())
    })
}

/// A server of our own on a free port; it is stopped when dropped.
struct Server {
    child: Child,
    environment: [(&'static str, String); 3],
}

impl Server {
    fn start(ollama: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = |name: &str| scratch.join(name).display().to_string();
        let environment =
            [("OLLAMA_HOST", format!("127.0.0.1:{port}")), ("OLLAMA_MODELS", folder("part")), ("HOME", folder("home"))];
        let log = fs::File::create(scratch.join("server.log"))?;
        let mut serve = command(&ollama.display().to_string());
        serve.arg("serve").envs(environment.clone()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = serve.spawn().with_context(|| format!("cannot start {}", ollama.display()))?;
        let mut server = Self { child, environment };
        for _try in 0..TRIES {
            if let Some(status) = server.child.try_wait()? {
                let log = fs::read_to_string(scratch.join("server.log")).unwrap_or_default();
                anyhow::bail!("the server ended at once ({status}): {}", log.lines().last().unwrap_or_default());
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("the server does not listen on port {port}")
    }

    fn client(&self, ollama: &Path) -> Command {
        let mut client = command(&ollama.display().to_string());
        client.envs(self.environment.clone());
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has loaded no model, so it has no children; one that has ended already cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
