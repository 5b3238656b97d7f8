//! What every answer to a configuration file owes, whatever the file holds: no panic, problems with places, nothing that
//! steers a terminal, and values within the bounds that their types promise.

use cotenant_model::document::{Problem, Problems};
use cotenant_model::sharing::Sharing;
use cotenant_model::sharing::config::{GpuSharing, Selector};
use cotenant_model::sharing::layout::Configs;

/// Reads a file as a configuration, a values file or a manifest, and panics where an answer owes something.
pub(crate) fn read(text: &str) {
    let configs = match Configs::read("f", text) {
        Ok(configs) => configs,
        Err(problems) => return told(&problems, text),
    };
    placed(&configs.notes, text);
    for label in [None, Some("default"), configs.named.first().map(|named| named.name.as_str())] {
        if let Err(error) = configs.select(label) {
            plain(&error.to_string());
        }
    }
    for named in &configs.named {
        if named.is_mig_parted() {
            if let Err(problems) = named.mig_configs() {
                told(&problems, text);
            }
            continue;
        }
        match named.sharing() {
            Ok(sharing) => sound(&sharing, text),
            Err(problems) => told(&problems, text),
        }
    }
}

/// What every accepted configuration keeps to, as its types say.
fn sound(sharing: &Sharing, text: &str) {
    placed(&sharing.notes, text);
    for replicated in &sharing.replicated {
        assert!((1..=60_000).contains(&replicated.replicas));
        assert!(replicated.resource.0.starts_with("nvidia.com/") && replicated.resource.0.len() <= 63);
        assert!(!matches!(&replicated.devices, Selector::Count(0)));
    }
    for rule in &sharing.rules {
        if let GpuSharing::MpsClasses { counts } = &rule.sharing {
            let share = |class: &str| u64::from(sharing.classes.get(class).expect("known class").percent.get());
            let sum: u64 = counts.iter().map(|(class, count)| u64::from(*count) * share(class)).sum();
            assert!(sum as f64 <= sharing.mps.oversubscription * 100.0 + 1e-6);
        }
    }
    assert!(sharing.flags.mps_root.starts_with('/') && !sharing.flags.device_list.is_empty());
    assert!((1.0..=100.0).contains(&sharing.mps.oversubscription));
}

/// Problems are there, have places in the file and can be printed.
fn told(problems: &Problems, text: &str) {
    assert!(problems.iter().count() > 0);
    for problem in problems {
        placed(std::slice::from_ref(problem), text);
    }
    placed(problems.notes(), text);
    plain(&problems.to_string());
}

fn placed(problems: &[Problem], text: &str) {
    let lines = text.split(['\n', '\r']).count() as u64 + 1;
    for problem in problems {
        let line = problem.position.line;
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        plain(&problem.to_string());
    }
}

fn plain(text: &str) {
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{9b}']), "an escape code reached the terminal");
}
