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

const REQUIREMENTS: [Requirement; 12] = [
    Requirement {
        program: "chromium",
        packages: &["chromium"],
        tests: "the report in a real browser",
        present: || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| has(name)),
    },
    Requirement {
        program: "python3",
        packages: &["python3", "python3-venv", "python3-pip"],
        tests: "the kernels compiled anew, a real Ollama",
        present: || answer("python3", &["-c", "import ensurepip, venv, pip"]).is_some(),
    },
    Requirement { program: "g++", packages: &["g++"], tests: "a real Ollama", present: || has("g++") },
    Requirement {
        program: "go",
        // Not Debian's: before 1.21 Go could not fetch the newer version that Ollama's source asks for.
        packages: &[],
        tests: "a real Ollama, a real Kubernetes (they take Go 1.21 or newer, from https://go.dev/dl)",
        present: || answer("go", &["version"]).is_some_and(|answer| fetches_its_toolchain(&answer)),
    },
    cluster("etcd", &["etcd-server"], || has("etcd")),
    cluster("containerd", &["containerd"], || has("containerd") && has("ctr")),
    cluster("runc", &["runc"], || has("runc")),
    cluster("CNI plugins", &["containernetworking-plugins"], || is_program(Path::new("/usr/lib/cni/ptp"))),
    cluster("iptables", &["iptables"], || has("iptables")),
    cluster("ip", &["iproute2"], || has("ip")),
    cluster("busybox", &["busybox-static"], || is_program(Path::new("/bin/busybox"))),
    cluster("strip", &["binutils"], || has("strip")),
];

/// What a real Kubernetes is made of besides Go modules.
const CLUSTER: &str = "a real Kubernetes";

/// Names of all that a real Kubernetes needs.
pub(crate) fn cluster_programs() -> Vec<&'static str> {
    let own = REQUIREMENTS.iter().filter(|requirement| requirement.tests == CLUSTER);
    own.map(|requirement| requirement.program).chain(["go"]).collect()
}

const fn cluster(program: &'static str, packages: &'static [&'static str], present: fn() -> bool) -> Requirement {
    Requirement { program, packages, tests: CLUSTER, present }
}

/// A program that is not there and could not be installed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) program: &'static str,
    /// What it would have tested.
    pub(crate) tests: &'static str,
}

/// Installs what is missing where that is possible, and says what is missing still. Without names it is about everything.
pub(crate) fn prepare(install: bool, programs: &[&str]) -> Vec<Missing> {
    let wanted = |one: &&Requirement| programs.is_empty() || programs.contains(&one.program);
    let absent = || REQUIREMENTS.iter().filter(wanted).filter(|requirement| !(requirement.present)());
    let packages: Vec<&str> = absent().flat_map(|requirement| requirement.packages).copied().collect();
    if install && !packages.is_empty() && is_root() && has("apt-get") {
        println!("== installing {} (needed by some tests)", packages.join(", "));
        // Another containerd, Docker's for one, must not be removed for Debian's.
        let mut add = vec!["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove"];
        add.extend(&packages);
        if !(succeeds("apt-get", &["update", "--quiet"]) && succeeds("apt-get", &add)) {
            println!("== the packages could not be installed");
        }
    }
    let missing: Vec<Missing> = absent().map(|one| Missing { program: one.program, tests: one.tests }).collect();
    for Missing { program, tests } in &missing {
        println!("== WARNING: `{program}` is not installed; SKIPPED: {tests}");
    }
    missing
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    succeeds("sh", &["-c", "test \"$(id -u)\" = 0"])
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

/// Runs a program in sight of the terminal.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = step::command(program);
    // No server that a package brings is to be started: systemd then does as in a change root.
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_OFFLINE", "1");
    command.status().is_ok_and(|status| status.success())
}

/// What a program prints, when it ends well.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = step::command(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `go version` names 1.21 or newer.
fn fetches_its_toolchain(version: &str) -> bool {
    let number = version.split_whitespace().find_map(|word| word.strip_prefix("go1."));
    let minor = number.and_then(|number| number.split('.').next()).and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 21)
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
    fn an_old_go_counts_as_missing() {
        assert!(fetches_its_toolchain("go version go1.26.0 linux/amd64\n"));
        assert!(fetches_its_toolchain("go version go1.21 linux/amd64"));
        assert!(!fetches_its_toolchain("go version go1.19.8 linux/amd64"));
        assert!(!fetches_its_toolchain("gccgo"));
    }

    #[test]
    fn nothing_is_installed_unless_allowed() {
        let missing = prepare(false, &[]);
        assert!(missing.iter().all(|one| !one.tests.is_empty()));
        assert!(!missing.iter().any(|one| one.program == "sh"));
        assert_eq!(prepare(false, &["no-program-has-this-name"]), []);
    }
}
