//! A simulated CUDA program; what it does is told in the library's `mps` module.

fn main() -> std::process::ExitCode {
    cotenant_testkit::mps::run_cuda_client()
}
