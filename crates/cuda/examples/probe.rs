//! Checks every load kernel on a real GPU and measures it.
//!
//! `cargo run --release -p cotenant-cuda --example probe -- [all|verify|rates|fault]`
//! `… probe -- --loop decode|prefill SECONDS`: the bare kernel loop, for what a harness costs.
//!
//! Prints a line a finding and one JSON line at the end; goes on after a failure and then exits with status 1.
#![expect(clippy::print_stdout, reason = "a report on stdout is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures spans of its own process")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use cotenant_cuda::{Check, CudaError, Device, Load, ProductPath};
use cotenant_model::kernel::{Buffer, Decode, LaunchBound, Products};
use cotenant_model::{Bytes, Kernel};
use serde_json::{Map, Value, json};

const GIB: u64 = 1 << 30;

fn decode(layers: u32, width: u32, hidden: u32, batch: u32) -> Kernel {
    Kernel::Decode(Decode { layers, width, hidden, batch, tokens: 128 })
}

fn product(size: u32) -> Kernel {
    Kernel::Prefill(Products { size, products: 1 })
}

/// The standard decoder: 24 layers, 2048 wide, 2.3 GiB.
fn standard_decode() -> Kernel {
    decode(24, 2048, 5632, 1)
}

/// A decoder as wide as a large model's layers, 6 GiB.
fn wide_decode(batch: u32) -> Kernel {
    decode(4, 8192, 22016, batch)
}

/// What was found, and whether all of it was good.
struct Report {
    findings: Map<String, Value>,
    failed: bool,
}

impl Report {
    fn good(&mut self, name: &str, text: &str, value: Value) {
        println!("  {name:<34} {text}");
        self.findings.insert(name.to_owned(), value);
    }

    fn bad(&mut self, name: &str, text: &str) {
        println!("  {name:<34} FAILED: {text}");
        self.findings.insert(name.to_owned(), json!({ "failed": text }));
        self.failed = true;
    }

    fn check(&mut self, name: &str, outcome: Result<Check, CudaError>) {
        match outcome {
            Ok(check) => {
                let Check { relative_error, bound, compared } = check;
                let text = format!("error {relative_error:.3e}, bound {bound:.3e}, {compared} compared");
                if check.passed() {
                    self.good(name, &text, json!({ "error": relative_error, "bound": bound, "compared": compared }));
                } else {
                    self.bad(name, &text);
                }
            }
            Err(error) => self.bad(name, &error.to_string()),
        }
    }

    fn measure(&mut self, name: &str, outcome: Result<(String, Value), CudaError>) {
        match outcome {
            Ok((text, value)) => self.good(name, &text, value),
            Err(error) => self.bad(name, &error.to_string()),
        }
    }
}

/// Checks a kernel several times, each with fresh input, and keeps the worst.
fn verify(mut load: Load, times: u32) -> Result<Check, CudaError> {
    let mut worst = load.verify()?;
    for _ in 1..times {
        let check = load.verify()?;
        if !check.passed() || check.relative_error > worst.relative_error {
            worst = check;
        }
        if !worst.passed() {
            break;
        }
    }
    load.step().or_else(|error| if matches!(error, CudaError::NoSteps { .. }) { Ok(()) } else { Err(error) })?;
    Ok(worst)
}

fn verify_all(device: &Device, report: &mut Report) {
    println!("results against the CPU");
    let shapes = [(1, 128, 128), (3, 256, 384), (2, 1152, 640), (2, 2048, 5632)];
    for (layers, width, hidden) in shapes {
        for batch in 1..=8 {
            if width == 2048 && ![1, 8].contains(&batch) {
                continue;
            }
            let outcome = Load::prepare(device, &decode(layers, width, hidden, batch), 1).and_then(|l| verify(l, 2));
            report.check(&format!("decode {layers}x{width}x{hidden} batch {batch}"), outcome);
        }
    }
    report.check("decode wide", Load::prepare(device, &wide_decode(1), 2).and_then(|l| verify(l, 1)));
    for size in [128, 256, 384, 640, 1024, 1408, 2944, 4096] {
        for path in [ProductPath::Wide, ProductPath::Narrow, ProductPath::Plain] {
            let outcome = Load::prepare_product(device, size, path, 3).and_then(|load| verify(load, 3));
            report.check(&format!("product {size} {path:?}"), outcome);
        }
    }
    report.check("product 8192 as chosen", Load::prepare(device, &product(8192), 4).and_then(|l| verify(l, 2)));
    let others = [
        ("launch-bound", Kernel::LaunchBound(LaunchBound { launches: 300 })),
        ("bandwidth", Kernel::Bandwidth(Buffer { size: Bytes(GIB + 8) })),
        ("memory", Kernel::Memory(Buffer { size: Bytes(GIB + 24) })),
        ("fault's own store", Kernel::Fault),
    ];
    for (name, kernel) in others {
        report.check(name, Load::prepare(device, &kernel, 5).and_then(|load| verify(load, 2)));
    }
}

/// Seconds a step, from steps over at least `seconds` after a warm-up of a tenth of it.
fn step_seconds(load: &mut Load, seconds: f64) -> Result<f64, CudaError> {
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < seconds / 10.0 {
        load.step()?;
    }
    let (start, mut steps) = (Instant::now(), 0_u32);
    loop {
        load.step()?;
        steps += 1;
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed >= seconds {
            return Ok(elapsed / f64::from(steps));
        }
    }
}

/// Prepares and runs one step, and says how long each took and what the process then weighs.
fn start_up(device: &Device, kernel: &Kernel) -> Result<(Load, String, Value), CudaError> {
    let begin = Instant::now();
    let mut load = Load::prepare(device, kernel, 7)?;
    let prepared = begin.elapsed().as_secs_f64() * 1e3;
    load.step()?;
    let stepped = begin.elapsed().as_secs_f64() * 1e3 - prepared;
    let text = format!("prepare {prepared:.0} ms, first step {stepped:.1} ms");
    Ok((load, text, json!({ "prepare_ms": prepared, "first_step_ms": stepped })))
}

/// A line of `/proc/self/status` in MiB.
fn resident(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
    kibibytes / 1024.0
}

fn memory(report: &mut Report, name: &str) {
    let (all, anonymous) = (resident("VmRSS"), resident("RssAnon"));
    report.good(
        &format!("host memory {name}"),
        &format!("VmRSS {all:.1} MiB, RssAnon {anonymous:.1} MiB"),
        json!({ "rss_mib": all, "anonymous_mib": anonymous }),
    );
}

fn rate_decode(device: &Device, kernel: &Kernel, copy: f64) -> Result<(String, Value), CudaError> {
    let (mut load, start, begun) = start_up(device, kernel)?;
    let seconds = step_seconds(&mut load, 0.7)?;
    let rate = kernel.bytes_per_step() as f64 / seconds;
    let tokens = f64::from(kernel.units_per_step()) / seconds;
    let occupancy = load.occupancy()?;
    let share = 100.0 * rate / copy;
    let text = format!(
        "{:.3} ms, {tokens:.0} tokens/s, {:.0} GB/s = {share:.1} % of copy; {start}; {occupancy:?}",
        seconds * 1e3,
        rate / 1e9
    );
    let value = json!({ "step_ms": seconds * 1e3, "tokens_per_s": tokens, "gb_per_s": rate / 1e9, "copy_percent": share,
        "start": begun });
    Ok((text, value))
}

fn rate_product(mut load: Load, size: u32) -> Result<(String, Value), CudaError> {
    let seconds = step_seconds(&mut load, 0.7)?;
    let rate = product(size).flop_per_step() / seconds / 1e12;
    let occupancy = load.occupancy()?;
    let text = format!("{:.3} ms, {rate:.1} TFLOP/s; {occupancy:?}", seconds * 1e3);
    Ok((text, json!({ "step_ms": seconds * 1e3, "tflop_per_s": rate })))
}

fn rate_copy(device: &Device) -> Result<f64, CudaError> {
    let kernel = Kernel::Bandwidth(Buffer { size: Bytes(2 * GIB) });
    let mut load = Load::prepare(device, &kernel, 8)?;
    Ok(kernel.bytes_per_step() as f64 / step_seconds(&mut load, 0.7)?)
}

fn rate_launches(device: &Device) -> Result<(String, Value), CudaError> {
    let mut load = Load::prepare(device, &Kernel::LaunchBound(LaunchBound { launches: 500 }), 9)?;
    let each = step_seconds(&mut load, 0.5)? / 500.0 * 1e6;
    Ok((format!("{each:.2} us a launch"), json!({ "us_per_launch": each })))
}

fn rates(device: &Device, report: &mut Report) {
    println!("rates");
    let copy = rate_copy(device);
    let bandwidth = copy.as_ref().copied().unwrap_or(f64::NAN);
    let gigabytes = |rate| (format!("{:.0} GB/s read and written", rate / 1e9), json!({ "gb_per_s": rate / 1e9 }));
    report.measure("copy 2 GiB", copy.map(gigabytes));
    report.measure("decode standard", rate_decode(device, &standard_decode(), bandwidth));
    memory(report, "after decode");
    for batch in [1, 2, 4, 8] {
        let outcome = rate_decode(device, &wide_decode(batch), bandwidth);
        report.measure(&format!("decode wide batch {batch}"), outcome);
    }
    report.measure("decode standard batch 8", rate_decode(device, &decode(24, 2048, 5632, 8), bandwidth));
    for (size, path) in [
        (8192, ProductPath::Wide),
        (8192, ProductPath::Narrow),
        (4096, ProductPath::Wide),
        (1024, ProductPath::Wide),
        (1024, ProductPath::Narrow),
        (4096, ProductPath::Plain),
    ] {
        let outcome = Load::prepare_product(device, size, path, 10).and_then(|load| rate_product(load, size));
        report.measure(&format!("product {size} {path:?}"), outcome);
    }
    report.measure("launch-bound", rate_launches(device));
    memory(report, "at the end");
}

/// The fault, last of all: the context is lost afterwards.
fn fault(device: &Device, report: &mut Report) {
    println!("fault");
    let mut load = match Load::prepare(device, &Kernel::Fault, 11) {
        Ok(load) => load,
        Err(error) => return report.bad("fault", &error.to_string()),
    };
    match load.fault() {
        Ok(()) => report.bad("fault", "the GPU let a foreign write pass"),
        Err(error) => report.good("fault", &error.to_string(), json!(error.to_string())),
    }
    match Load::prepare(device, &Kernel::LaunchBound(LaunchBound { launches: 1 }), 12) {
        Ok(_) => report.bad("after the fault", "a later call succeeded"),
        Err(error) => report.good("after the fault", &error.to_string(), json!(error.to_string())),
    }
}

fn open(report: &mut Report) -> Result<Device, CudaError> {
    let begin = Instant::now();
    let device = Device::open(0)?;
    let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
    let (free, total) = device.memory()?;
    println!("{} {} {:?}", device.name(), device.uuid(), device.compute_capability());
    println!(
        "  {} multiprocessors, usable {:?}; {free} of {total} free; opened in {milliseconds:.0} ms",
        device.multiprocessors(),
        device.usable_multiprocessors(),
    );
    report.findings.insert(
        "device".to_owned(),
        json!({ "name": device.name(), "open_ms": milliseconds,
        "multiprocessors": device.multiprocessors(), "usable": device.usable_multiprocessors() }),
    );
    memory(report, "after opening");
    Ok(device)
}

fn run_loop(kind: &str, seconds: &str) -> Result<(), Box<dyn Error>> {
    let kernel = match kind {
        "decode" => standard_decode(),
        "prefill" => product(8192),
        other => return Err(format!("no loop of {other}; decode or prefill").into()),
    };
    let device = Device::open(0)?;
    let mut load = Load::prepare(&device, &kernel, 7)?;
    let step = step_seconds(&mut load, seconds.parse()?)?;
    println!("{}", json!({ "kind": kind, "steps_per_s": 1.0 / step, "step_ms": step * 1e3 }));
    Ok(())
}

fn run(arguments: &[&str]) -> Result<bool, Box<dyn Error>> {
    let part = match arguments {
        ["--loop", kind, seconds] => return run_loop(kind, seconds).map(|()| true),
        [] => "all",
        [part @ ("all" | "verify" | "rates" | "fault")] => *part,
        _ => return Err("usage: probe [all|verify|rates|fault], or probe --loop decode|prefill SECONDS".into()),
    };
    let mut report = Report { findings: Map::new(), failed: false };
    let device = open(&mut report)?;
    let wants = |name: &str| part == "all" || part == name;
    // Rates first: the first load then also shows what a tenant's own start costs, the driver's compiler included.
    if wants("rates") {
        rates(&device, &mut report);
    }
    if wants("verify") {
        verify_all(&device, &mut report);
    }
    if wants("fault") {
        fault(&device, &mut report);
    }
    println!("{}", json!({ "passed": !report.failed, "findings": report.findings }));
    Ok(!report.failed)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
