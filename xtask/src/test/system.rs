//! Programs of the system that some tests need.

use std::path::Path;

use super::step;

/// A program, the Debian packages that bring it, and what it is for.
struct Requirement {
    program: &'static str,
    packages: &'static [&'static str],
    tests: &'static str,
    present: fn() -> bool,
}

const REQUIREMENTS: [Requirement; 3] = [
    Requirement {
        program: "chromium",
        packages: &["chromium"],
        tests: "the report in a real browser",
        present: || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| has(name)),
    },
    Requirement {
        program: "python3",
        packages: &["python3", "python3-venv", "python3-pip"],
        tests: "the kernels compiled anew",
        present: || has("python3") && succeeds("python3", &["-c", "import ensurepip, venv"]),
    },
    Requirement {
        program: "go",
        // Debian's Go is older than Ollama's source.
        packages: &[],
        tests: "a real Ollama",
        present: || has("go"),
    },
];

/// A program that is not there and could not be installed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) program: &'static str,
    /// What it would have tested.
    pub(super) tests: &'static str,
}

/// Installs what is missing where that is possible, and says what is missing still.
pub(super) fn prepare(install: bool) -> Vec<Missing> {
    let absent = || REQUIREMENTS.iter().filter(|requirement| !(requirement.present)());
    let packages: Vec<&str> = absent().flat_map(|requirement| requirement.packages).copied().collect();
    if install && !packages.is_empty() && may_install() {
        println!("== installing {} (needed by some tests)", packages.join(", "));
        let (update, mut add) = (["update", "--quiet"], vec!["install", "--yes", "--quiet", "--no-install-recommends"]);
        add.extend(&packages);
        if !(succeeds("apt-get", &update) && succeeds("apt-get", &add)) {
            println!("== the packages could not be installed");
        }
    }
    let missing: Vec<Missing> = absent().map(|one| Missing { program: one.program, tests: one.tests }).collect();
    for Missing { program, tests } in &missing {
        println!("== WARNING: `{program}` is not installed; SKIPPED: {tests}");
    }
    missing
}

/// Whether this is root on a system with Debian's packages.
fn may_install() -> bool {
    has("apt-get") && succeeds("sh", &["-c", "test \"$(id -u)\" = 0"])
}

/// Whether a program stands in one of the folders of `PATH`.
pub(super) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = step::command(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_count() {
        assert!(has("sh"));
        assert!(!has("no-program-has-this-name"));
        assert!(!is_program(Path::new("/etc")));
        assert!(!is_program(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()));
    }

    #[test]
    fn nothing_is_installed_unless_allowed() {
        let missing = prepare(false);
        assert!(missing.iter().all(|one| !one.tests.is_empty()));
        assert!(!missing.iter().any(|one| one.program == "sh"));
    }
}
