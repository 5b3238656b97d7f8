//! Prints what this host's GPUs are and do as JSON: driver, inventory, and for each GPU two readings and its processes.
//!
//! `cargo run -p cotenant-gpu --example inventory`; `COTENANT_NVML` names another library.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use cotenant_gpu::{Nvml, OpenError, ProcessTable};
use cotenant_model::GpuReader as _;
use serde_json::{Value, json};

fn main() -> anyhow::Result<ExitCode> {
    let mut output = std::io::stdout();
    let mut reader = match Nvml::open() {
        Ok(reader) => reader,
        Err(error) => {
            writeln!(output, "{:#}", refusal(&error))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    writeln!(output, "{:#}", report(&mut reader)?)?;
    Ok(ExitCode::SUCCESS)
}

fn refusal(error: &OpenError) -> Value {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    json!({ "error": error.to_string(), "cause": cause, "fix": error.fix() })
}

fn report(reader: &mut Nvml) -> anyhow::Result<Value> {
    let table = ProcessTable::default();
    let gpus = reader.gpus()?;
    let mut readings = Vec::new();
    for gpu in &gpus {
        let first = reader.sample(&gpu.uuid)?;
        // GPM figures are differences, so they appear in the second reading.
        std::thread::sleep(Duration::from_millis(250));
        let second = reader.sample(&gpu.uuid)?;
        let processes = reader.processes(&gpu.uuid)?;
        let commands: Vec<_> = processes.iter().map(|process| table.command(process.pid)).collect();
        readings
            .push(json!({ "gpu": gpu.uuid, "samples": [first, second], "processes": processes, "commands": commands }));
    }
    Ok(json!({
        "driver": reader.driver()?,
        "gpus": gpus,
        "readings": readings,
        "hasHostPids": table.has_host_pids(),
    }))
}
