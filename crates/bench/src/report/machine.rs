//! The figures for programs.

use serde::Serialize;

use cotenant_model::gpu::Driver;
use cotenant_model::run::{Program, Settings};
use cotenant_model::workload::Tenant;

use super::Report;
use super::finding;
use crate::summary::Summary;

/// Layout of [`Figures`]; raised when a field changes its meaning or leaves.
const SCHEMA: u32 = 1;

/// What `--output json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures<'a> {
    schema: u32,
    recorded: bool,
    simulated: bool,
    name: &'a str,
    started: &'a str,
    gpu: &'a str,
    driver: &'a Driver,
    program: &'a Program,
    settings: &'a Settings,
    tenants: &'a [Tenant],
    headline: String,
    summary: &'a Summary,
    notes: &'a [String],
}

/// One JSON object with a newline after it.
pub(crate) fn json(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let run = report.run;
    let figures = Figures {
        schema: SCHEMA,
        recorded: report.recorded,
        simulated: report.marks().contains(&"simulated"),
        name: &run.name,
        started: &run.started,
        gpu: &run.host.gpu.name,
        driver: &run.host.driver,
        program: &run.program,
        settings: &run.settings,
        tenants: &run.tenants,
        headline: finding::headline(report),
        summary: report.summary,
        notes: &run.notes,
    };
    serde_json::to_string_pretty(&figures).map(|text| text + "\n")
}
