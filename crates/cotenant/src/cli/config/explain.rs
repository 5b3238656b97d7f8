//! `cotenant config explain`.

use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_model::document::{Problem, Problems};
use cotenant_model::sharing::explain::Explanation;
use cotenant_model::sharing::layout::{Configs, Named};
use cotenant_model::sharing::{Offer, Sharing};

use super::inventory::Inventory;
use crate::cli::Format;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// Say what each GPU of this node will offer under a configuration, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A configuration, a values file or a manifest; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Value of the node label `nvidia.com/device-plugin.config`, which selects one of several configurations.
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// GPUs to plan for instead of this machine's: what `cotenant config inventory` printed, or a list of such GPUs.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = super::name(&arguments.file);
    let refused =
        |problems: &Problems| Failure::new(Kind::Input, format!("the configuration has problems\n{problems}"));
    let configs = Configs::read(&file, &super::text(&arguments.file)?).map_err(|problems| refused(&problems))?;
    let selected = configs.select(arguments.label.as_deref()).map_err(|error| {
        Failure::from_error(Kind::Input, &error)
            .hint("`--label NAME` selects a configuration, as the node's label does")
    })?;
    if selected.is_some_and(Named::is_mig_parted) {
        let failure = Failure::new(Kind::Input, format!("{file} holds MIG layouts alone, and they offer nothing"));
        return Err(failure.hint("put them under `cotenant: {mig-configs: …}` of a configuration"));
    }
    let sharing = sharing(selected).map_err(|problems| refused(&problems))?;
    let inventory = match &arguments.inventory {
        Some(path) => Inventory::read(path)?,
        None => Inventory::of_this_machine()?,
    };
    let offer = Offer::compute(&sharing, &inventory.gpus, &inventory.driver).map_err(|problems| {
        let placed = problems.0.into_iter().map(|problem| Problem {
            position: selected.map_or(cotenant_model::document::Position::START, |named| named.position(&problem.path)),
            path: problem.path,
            message: problem.message,
            fix: Some(problem.fix),
        });
        let problems = Problems::new(&file, placed.collect());
        Failure::new(Kind::Input, format!("these GPUs cannot be shared so\n{problems}"))
    })?;
    for note in &sharing.notes {
        terminal::complain(&format!("note: {file}:{note}"));
    }
    let explanation = Explanation::of(&offer);
    let text = match arguments.output {
        Format::Table => explanation.to_string(),
        Format::Json => {
            serde_json::to_string_pretty(&explanation).map_err(|error| Failure::from_error(Kind::Other, &error))?
        }
    };
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration, empty where none is selected.
fn sharing(selected: Option<&Named>) -> Result<Sharing, Problems> {
    selected.map_or_else(|| Ok(Sharing::default()), Named::sharing)
}
