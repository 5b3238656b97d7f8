//! A fake model server as a process: `fake-model-server [ADDRESS:PORT [SCRIPT]]`.
//!
//! The address is `127.0.0.1:0` when left out; port 0 takes a free one. SCRIPT is [`Script`] as JSON; the environment
//! variable `FAKE_MODEL_SERVER_SCRIPT` holds it where the argument does not. The first line it prints is its base address.
//! Where `CUDA_MPS_PIPE_DIRECTORY` names a simulated MPS daemon it is a client of that, as a real server would be.

use std::io::Write as _;

use anyhow::Context as _;
use cotenant_testkit::model_server::{ModelServer, Script};
use cotenant_testkit::mps::Client;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let script = match arguments.next().or_else(|| std::env::var("FAKE_MODEL_SERVER_SCRIPT").ok()) {
        Some(text) => serde_json::from_str(&text).context("the script is not a valid one")?,
        None => Script::default(),
    };
    let address = address.parse().with_context(|| format!("`{address}` is not an address such as 127.0.0.1:8080"))?;
    // A model server is a client of the MPS daemon that its environment names, when one is there.
    let pipe = std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").map(std::path::PathBuf::from).filter(|pipe| pipe.exists());
    let _client = pipe.map(|pipe| Client::join(&pipe)).transpose()?;
    let server = ModelServer::start_at(script, address)?;
    writeln!(std::io::stdout(), "{}", server.url())?;
    server.wait();
    Ok(())
}
