//! `cotenant config inventory`, and the file that it prints.

use std::path::Path;
use std::process::ExitCode;

use cotenant_gpu::Nvml;
use cotenant_model::gpu::{Driver, Gpu, GpuReader as _};
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Kind};
use crate::terminal;

/// Print this machine's GPUs as JSON, for `cotenant config explain --inventory` on another machine.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments) -> Result<ExitCode, Failure> {
    let text = serde_json::to_string_pretty(&Inventory::of_this_machine()?)
        .map_err(|error| Failure::from_error(Kind::Other, &error))?;
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}

/// GPUs and their driver.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Inventory {
    /// Versions of the driver.
    pub(super) driver: Driver,
    /// GPUs in NVML's order.
    pub(super) gpus: Vec<Gpu>,
}

impl Inventory {
    pub(super) fn of_this_machine() -> Result<Self, Failure> {
        let nvml = Nvml::open().map_err(|error| {
            Failure::from_error(Kind::NoGpu, &error)
                .hint("`--inventory FILE` takes the GPUs of another machine, as `cotenant config inventory` prints them there")
        })?;
        let read = |error: &dyn std::error::Error| Failure::from_error(Kind::NoGpu, error);
        let driver = nvml.driver().map_err(|error| read(&error))?;
        Ok(Self { driver, gpus: nvml.gpus().map_err(|error| read(&error))? })
    }

    /// Reads the file, or a plain list of GPUs, whose driver is then unknown.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Input, format!("inventory `{}`: {error}", path.display()))
                .hint("`cotenant config inventory` prints such a file on a machine with GPUs")
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        if text.trim_start().starts_with('[') {
            let gpus = serde_json::from_str(&text).map_err(|error| failed(&error))?;
            return Ok(Self { driver: Driver { version: "unknown".to_owned(), cuda: None }, gpus });
        }
        serde_json::from_str(&text).map_err(|error| failed(&error))
    }
}
