//! Chores of the repository: `cargo xtask CHORE`.

mod check;
mod ollama;
mod ptx;
mod schema;
mod test;

use clap::Parser;

/// Chores of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Check the layers of the crates and the size bounds of functions and files.
    Check,
    /// Compile the load kernels to the PTX that is checked in.
    Ptx(ptx::Arguments),
    /// Write the JSON schemas that are checked in.
    Schema(schema::Arguments),
    /// Build a real Ollama and its small model into the cache.
    Ollama(ollama::Arguments),
    /// Run every check and every test, as CI does.
    Test(test::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Check => check::run(),
        Chore::Ptx(arguments) => ptx::run(&arguments),
        Chore::Schema(arguments) => schema::run(&arguments),
        Chore::Ollama(arguments) => ollama::run(&arguments),
        Chore::Test(arguments) => test::run(&arguments),
    }
}
