//! The simulated MPS control program; what it does is told in the library's `mps` module.

fn main() -> std::process::ExitCode {
    cotenant_testkit::mps::run()
}
