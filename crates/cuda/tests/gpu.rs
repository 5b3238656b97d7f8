//! Every kind of load on a GPU, checked against the CPU: on a real one where a test is asked for, and always on an
//! emulated one.
//!
//! For the emulated GPU the kernels' own source is compiled for the host behind a library with libcuda's symbols
//! (`emulator/`), and the tests run in a process that finds that library where it looks for the driver. That proves index
//! arithmetic, argument lists, sizes and the host's side; not speed, and not that the hardware does what the emulator
//! takes its instructions to do.

#![expect(clippy::expect_used, clippy::panic, reason = "a test program: what fails here is to stop it")]

use std::path::Path;
use std::process::{Command, Output};

use cotenant_cuda::{CudaError, Device, Load, ProductPath};
use cotenant_model::kernel::{Buffer, Decode, LaunchBound, Products};
use cotenant_model::{Bytes, Kernel};

fn check(load: Result<Load, CudaError>, what: &str) {
    let mut load = load.unwrap_or_else(|error| panic!("{what}: {error}"));
    let check = load.verify().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(check.passed(), "{what}: {check:?}");
}

fn device() -> Device {
    Device::open(0).expect("a GPU")
}

/// Compiles the emulated driver into a folder; `false` where there is no C++ compiler.
fn compile_emulator(folder: &Path) -> bool {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator");
    let mut compiler = run("c++");
    compiler.args([
        "-std=c++17",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fno-strict-aliasing",
        "-Wno-unknown-pragmas",
        "-fPIC",
        "-shared",
        "-I",
    ]);
    compiler.arg(&sources).arg("-o").arg(folder.join("libcuda.so.1"));
    compiler.args(["driver.cpp", "fibers.cpp", "kernels.cpp"].map(|file| sources.join(file)));
    match compiler.output() {
        Ok(Output { status, stderr, .. }) => {
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => panic!("c++: {error}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "every child here is waited for where it is started")]
fn run(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Runs the tests of this file that need a GPU on the emulated one.
fn pass_on_the_emulator(folder: &Path, capability: &str, names: &[&str]) {
    let output = run(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--test-threads", "1", "--exact"])
        .args(names)
        .env("LD_LIBRARY_PATH", folder)
        .env("COTENANT_EMULATED_CAPABILITY", capability)
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{capability}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("{} passed", names.len())), "{text}");
}

#[test]
fn every_kind_computes_what_it_should_on_an_emulated_gpu() {
    let folder = tempfile::tempdir().expect("folder");
    if !compile_emulator(folder.path()) {
        println!("no C++ compiler: nothing was tried");
        return;
    }
    let all = [
        "decoders_of_every_batch_compute_the_chain",
        "products_of_every_path_compute_the_product",
        "launches_copies_and_held_memory_are_exact",
        "more_memory_than_there_is_is_refused_with_both_numbers",
        "devices_are_found_by_uuid_and_others_are_named_in_the_refusal",
        "z_a_foreign_write_fails_and_so_does_every_later_call",
    ];
    pass_on_the_emulator(folder.path(), "9.0", &all);
    pass_on_the_emulator(folder.path(), "7.5", &["products_of_every_path_compute_the_product"]);
    pass_on_the_emulator(folder.path(), "7.0", &["a_card_older_than_the_kernels_is_refused"]);
}

#[test]
#[ignore = "needs a GPU older than compute capability 7.5"]
fn a_card_older_than_the_kernels_is_refused() {
    let error = Device::open(0).expect_err("a card of 7.0");
    assert_eq!(error.to_string(), "compute capability 7.0 is below 7.5");
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let error = Device::open(0).expect_err("no driver");
    let is_named = matches!(error, CudaError::LibraryMissing | CudaError::Driver { operation: "start the driver", .. });
    assert!(is_named, "{error}");
}

#[test]
#[ignore = "needs a GPU"]
fn decoders_of_every_batch_compute_the_chain() {
    let device = device();
    // Rows of 128 to 2176 elements: less than a warp's stride, whole strides, two strides ahead, and rests of them.
    for (layers, width, hidden, batch) in
        [(2, 128, 128, 1), (1, 128, 2176, 1), (1, 128, 2176, 2), (1, 384, 128, 3), (1, 128, 640, 4), (1, 128, 1152, 7)]
    {
        let kernel = Kernel::Decode(Decode { layers, width, hidden, batch, tokens: 1 });
        check(Load::prepare(&device, &kernel, 1), &format!("{kernel:?}"));
    }
}

#[test]
#[ignore = "needs a GPU"]
fn products_of_every_path_compute_the_product() {
    let device = device();
    let paths: &[ProductPath] = match device.compute_capability().0 {
        ..8 => &[ProductPath::Plain],
        8.. => &[ProductPath::Wide, ProductPath::Narrow, ProductPath::Plain],
    };
    for path in paths {
        for size in [128, 384] {
            check(Load::prepare_product(&device, size, *path, 2), &format!("{size} {path:?}"));
        }
    }
    check(Load::prepare(&device, &Kernel::Embed(Products { size: 256, products: 3 }), 3), "embed");
}

#[test]
#[ignore = "needs a GPU"]
fn launches_copies_and_held_memory_are_exact() {
    let device = device();
    check(Load::prepare(&device, &Kernel::LaunchBound(LaunchBound { launches: 37 }), 4), "launch-bound");
    check(Load::prepare(&device, &Kernel::Bandwidth(Buffer { size: Bytes(1_000_008) }), 5), "bandwidth");
    check(Load::prepare(&device, &Kernel::Memory(Buffer { size: Bytes(8) }), 6), "one word");
    check(Load::prepare(&device, &Kernel::Memory(Buffer { size: Bytes(1_000_024) }), 6), "memory");
}

#[test]
#[ignore = "needs a GPU"]
fn more_memory_than_there_is_is_refused_with_both_numbers() {
    let device = device();
    let wants = Bytes(1 << 44);
    let error = Load::prepare(&device, &Kernel::Memory(Buffer { size: wants }), 7).expect_err("16 TiB");
    let CudaError::OutOfMemory { wants: named, free } = &error else { panic!("{error}") };
    assert!(*named == wants && free.0 > 0 && error.to_string().starts_with("out of GPU memory: wants 16384 GiB, "));
}

#[test]
#[ignore = "needs a GPU"]
fn devices_are_found_by_uuid_and_others_are_named_in_the_refusal() {
    let first = device();
    assert_eq!(Device::open_uuid(first.uuid()).expect("the same").uuid(), first.uuid());
    let error = Device::open(99).expect_err("no hundred GPUs");
    assert!(error.to_string().starts_with("no CUDA device 99; "), "{error}");
}

/// The last test by name, for a process of its own: the context is lost afterwards.
#[test]
#[ignore = "needs a GPU, and loses its context"]
fn z_a_foreign_write_fails_and_so_does_every_later_call() {
    let device = device();
    let mut other = Load::prepare(&device, &Kernel::LaunchBound(LaunchBound { launches: 1 }), 8).expect("load");
    other.step().expect("a step before");
    assert!(matches!(other.fault(), Err(CudaError::NoFault { kind: "launch-bound" })));
    let mut load = Load::prepare(&device, &Kernel::Fault, 8).expect("load");
    assert!(load.verify().expect("its own address").passed());
    assert!(matches!(load.step(), Err(CudaError::NoSteps { kind: "fault" })));
    let error = load.fault().expect_err("a fault");
    assert!(error.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    assert!(other.step().expect_err("lost").to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"));
}
