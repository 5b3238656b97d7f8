//! Stamps the commit into the program, so that every record names the code that measured.

#[expect(clippy::disallowed_methods, reason = "a build script has nobody else to ask git")]
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        std::process::Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    println!("cargo::rerun-if-changed=../../.git/logs/HEAD");
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        let changed =
            git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
        println!("cargo::rustc-env=COTENANT_COMMIT={commit}{}", if changed { "-dirty" } else { "" });
    }
}
