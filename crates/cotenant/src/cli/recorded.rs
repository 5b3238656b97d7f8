//! Recorded runs that come with the program, for a machine without a GPU.

use std::path::Path;

use cotenant_bench::store::{self, StoreError};
use cotenant_model::run::Run;

/// Name and record of each; the first is the one that is shown when none is named.
const RUNS: &[(&str, &[u8])] = &[
    ("two-decoders", include_bytes!("../../../../results/h200/2026-11-23-two-decoders/run.json")),
    ("four-decoders", include_bytes!("../../../../results/h200/2026-11-23-four-decoders/run.json")),
    ("eight-decoders", include_bytes!("../../../../results/h200/2026-11-23-eight-decoders/run.json")),
    ("decoder-beside-prefill", include_bytes!("../../../../results/h200/2026-11-23-decoder-beside-prefill/run.json")),
    ("chat-beside-embed", include_bytes!("../../../../results/h200/2026-11-23-chat-beside-embed/run.json")),
    ("two-servers", include_bytes!("../../../../results/h200/2026-11-23-two-servers/run.json")),
    ("one-faults", include_bytes!("../../../../results/h200/2026-11-23-one-faults/run.json")),
];

/// The recorded run of a workload; of the first when `name` is `None`.
pub(crate) fn run(name: Option<&str>) -> Option<Result<Run, StoreError>> {
    let (name, text) = RUNS.iter().find(|(known, _)| name.is_none_or(|name| name == *known))?;
    Some(store::parse(Path::new(&format!("recorded {name}")), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_run_is_readable_and_of_a_real_gpu() {
        for (name, _) in RUNS {
            let run = run(Some(name)).expect("bundled").expect("readable");
            assert_eq!(run.name, *name);
            assert!(!run.host.gpu.name.contains("Simulated"));
        }
    }
}
