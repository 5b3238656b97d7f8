//! Synthetic runs: records made by arithmetic, not by a GPU, for tests of reports. No figure here was measured.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests build these records, from small constants"
)]

use std::collections::BTreeMap;

use cotenant_model::gpu::{Driver, Gpu, GpuSample};
use cotenant_model::kernel::{Decode, Products, WorkUnit};
use cotenant_model::run::{
    ArmRecord, Host, Metric, Pass, Price, Process, Program, RequestSamples, Run, Settings, Telemetry, Trace, Window,
    Work,
};
use cotenant_model::workload::{Arrivals, Class, Engine, Limit, Load, Slo, Tenant};
use cotenant_model::{Arm, Bytes, GpuUuid, Histogram, Kernel, MicroUsd, Nanoseconds};

const WINDOW: u64 = 5_000_000;
const REPEATS: u32 = 3;
const TRACED: usize = 1500;

/// How a tenant fares in an arm: microseconds a step, their jitter, and microseconds a request waits before its first step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fare {
    /// Microseconds a step.
    pub(crate) step: f64,
    /// Largest share by which a step is longer.
    pub(crate) jitter: f64,
    /// Microseconds a request waits.
    pub(crate) wait: f64,
    /// Requests that had not ended when the window closed.
    pub(crate) unfinished: u64,
}

/// An arm to put into a run.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Ran with these fares, tenants in order, at so many watts.
    Ran(Vec<Fare>, f64),
    /// Refused for this reason.
    Refused(&'static str),
    /// The tenant of this index failed with these last words.
    Failed(usize, &'static str),
}

/// A fare without waiting.
pub(crate) const fn fare(step: f64, jitter: f64) -> Fare {
    Fare { step, jitter, wait: 0.0, unfinished: 0 }
}

/// Two equal decoders: MPS wins.
pub(crate) fn two_decoders() -> Run {
    let tenants = vec![decoder("left", Class::Standard), decoder("right", Class::Standard)];
    let both = |step, jitter| vec![fare(step, jitter), fare(step, jitter)];
    run(
        "two-decoders",
        tenants,
        vec![
            ("solo", Outcome::Ran(both(1130.0, 0.02), 398.0)),
            ("time-slicing", Outcome::Ran(both(2370.0, 0.08), 387.0)),
            ("mps", Outcome::Ran(both(1620.0, 0.05), 500.0)),
            ("mps:50", Outcome::Ran(both(1750.0, 0.04), 486.0)),
            ("mig:1g.18gb", Outcome::Refused("this GPU has no MIG instances")),
        ],
    )
}

/// A protected chat beside a tenant that saturates the GPU: MPS without limits loses, and one arm fails.
pub(crate) fn chat_beside_products() -> Run {
    let mut chat = decoder("chat", Class::Protected);
    chat.slo = vec![Slo { metric: Metric::Itl, percentile: 99.0, limit: Limit::Slowdown(1.5) }];
    chat.load = Some(Load::Open { arrivals: Arrivals::Poisson, requests_per_second: 4.0 });
    let waiting = |step, jitter, wait, unfinished| Fare { step, jitter, wait, unfinished };
    run(
        "chat-beside-products",
        vec![chat, products("products")],
        vec![
            ("solo", Outcome::Ran(vec![fare(1130.0, 0.03), fare(1700.0, 0.01)], 420.0)),
            ("time-slicing", Outcome::Ran(vec![waiting(2400.0, 0.3, 4000.0, 0), fare(2540.0, 0.02)], 560.0)),
            ("mps", Outcome::Ran(vec![waiting(17_900.0, 0.6, 90_000.0, 9), fare(1735.0, 0.01)], 655.0)),
            ("mps:100/25", Outcome::Ran(vec![waiting(1330.0, 0.08, 900.0, 0), fare(5480.0, 0.01)], 470.0)),
            ("mps:100/50", Outcome::Failed(1, "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered")),
        ],
    )
}

/// A run of these tenants and arms.
pub(crate) fn run(name: &str, tenants: Vec<Tenant>, arms: Vec<(&str, Outcome)>) -> Run {
    let arms = arms.into_iter().map(|(arm, outcome)| record(arm.parse().expect("arm"), &outcome, &tenants)).collect();
    Run {
        schema: Run::SCHEMA,
        name: name.to_owned(),
        description: Some("A synthetic record for tests of reports.".to_owned()),
        program: Program { version: "0.1.0".to_owned(), commit: Some("0123abc".to_owned()) },
        started: "2026-11-23T18:00:00Z".to_owned(),
        host: host(),
        settings: Settings {
            repeats: REPEATS,
            duration: Nanoseconds(WINDOW * 1000),
            warmup: Nanoseconds(1_000_000_000),
            seed: 7,
            telemetry_interval: Nanoseconds(100_000_000),
            price: Some(Price { per_hour: MicroUsd(7_912_000), source: "a price made up for this test".to_owned() }),
        },
        tenants,
        arms,
        tuning: None,
        notes: vec!["telemetry paused for 0.4 s in repeat 2 of mps".to_owned()],
    }
}

/// A decoder of 128 tokens a request in a closed loop.
pub(crate) fn decoder(name: &str, class: Class) -> Tenant {
    let decode = Decode { layers: 24, width: 2048, hidden: 5632, batch: 1, tokens: 128 };
    tenant(name, class, Kernel::Decode(decode))
}

/// A tenant of large matrix products.
pub(crate) fn products(name: &str) -> Tenant {
    tenant(name, Class::BestEffort, Kernel::Prefill(Products { size: 8192, products: 16 }))
}

fn tenant(name: &str, class: Class, kernel: Kernel) -> Tenant {
    Tenant {
        name: name.to_owned(),
        class,
        engine: Engine::Kernel(kernel),
        load: Some(Load::Closed { streams: 1, think: Nanoseconds(0) }),
        slo: Vec::new(),
        memory: None,
    }
}

fn host() -> Host {
    Host {
        gpu: Gpu {
            compute_capability: Some((9, 0)),
            power_limit_milliwatts: Some(700_000),
            max_sm_clock_mhz: Some(1980),
            mig: Some(false),
            ..Gpu::new(
                0,
                GpuUuid("GPU-00000000-0000-0000-0000-000000000000".to_owned()),
                "NVIDIA H200".to_owned(),
                Bytes::mebibytes(143_771),
            )
        },
        multiprocessors: Some(132),
        driver: Driver { version: "580.159.04".to_owned(), cuda: Some((13, 0)) },
        processors: 16,
        kernel: Some("6.1.0".to_owned()),
    }
}

fn record(arm: Arm, outcome: &Outcome, tenants: &[Tenant]) -> ArmRecord {
    let refused = if let Outcome::Refused(why) = outcome { Some((*why).to_owned()) } else { None };
    let passes = match outcome {
        Outcome::Refused(_) => Vec::new(),
        Outcome::Ran(fares, watts) if arm == Arm::Solo => {
            let alone = |repeat| {
                let each = tenants.iter().zip(fares).enumerate();
                each.map(move |(index, (tenant, fare))| {
                    pass(repeat, vec![window(tenant, *fare, index, repeat)], *watts)
                })
            };
            (0..REPEATS).flat_map(alone).collect()
        }
        Outcome::Ran(fares, watts) => {
            let windows = |repeat| {
                let each = tenants.iter().zip(fares).enumerate();
                each.map(|(index, (tenant, fare))| window(tenant, *fare, index, repeat)).collect()
            };
            (0..REPEATS).map(|repeat| pass(repeat, windows(repeat), *watts)).collect()
        }
        Outcome::Failed(index, words) => vec![pass(0, failed(tenants, *index, words), 300.0)],
    };
    ArmRecord { arm, refused, passes }
}

fn failed(tenants: &[Tenant], failing: usize, words: &str) -> Vec<Window> {
    let each = tenants.iter().enumerate();
    each.map(|(index, tenant)| {
        let measured = window(tenant, fare(2000.0, 0.1), index, 0);
        Window { failure: (index == failing).then(|| words.to_owned()), ..measured }
    })
    .collect()
}

fn pass(repeat: u32, windows: Vec<Window>, watts: f64) -> Pass {
    let energy = watts * 1e3 * WINDOW as f64 / 1e6;
    let sample = |index: u64| {
        let wave = (index as f64 * 0.7 + f64::from(repeat)).sin();
        let sample = GpuSample {
            power_milliwatts: Some(((watts + 6.0 * wave) * 1e3) as u32),
            sm_clock_mhz: Some((1950.0 + 15.0 * wave) as u32),
            temperature_celsius: Some(52),
            gpu_utilization: Some(100),
            ..GpuSample::default()
        };
        (Nanoseconds(index * 100_000_000), sample)
    };
    let telemetry = Telemetry {
        samples: (0..50).map(sample).collect(),
        energy_millijoules: Some(energy as u64),
        ..Telemetry::default()
    };
    Pass { repeat, start: Nanoseconds(u64::from(repeat) * 60_000_000_000), windows, telemetry }
}

/// A number from 0 to 1 that the same arguments always give.
fn noise(seed: u64) -> f64 {
    let mixed = (seed ^ 0x9e37_79b9).wrapping_mul(0x2545_f491_4f6c_dd1d);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24)
}

fn window(tenant: &Tenant, fare: Fare, index: usize, repeat: u32) -> Window {
    let Engine::Kernel(kernel) = &tenant.engine else { panic!("synthetic tenants are kernels") };
    let steps = u64::from(kernel.steps_per_request());
    let pace = 1.0 + 0.004 * f64::from(repeat);
    let seed = index as u64 * 1000 + u64::from(repeat) * 77;
    let mut events = Vec::new();
    let mut time = fare.step * (0.2 + 0.5 * index as f64);
    while time < WINDOW as f64 {
        events.push(time as u64);
        let rare = if noise(seed + events.len() as u64 * 3) > 0.985 { 2.0 } else { 0.0 };
        time += fare.step * pace * (1.0 + fare.jitter * (noise(seed + events.len() as u64) + rare));
        let idle = if matches!(tenant.load, Some(Load::Open { .. })) { fare.step * steps as f64 * 0.5 } else { 0.0 };
        if (events.len() as u64).is_multiple_of(steps) {
            time += idle + fare.wait * 0.01;
        }
    }
    let gaps: Vec<u64> = events.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let requests: Vec<u64> =
        gaps.chunks_exact(steps.max(1) as usize).map(|gaps| gaps.iter().sum::<u64>() + fare.wait as u64).collect();
    Window {
        tenant: tenant.name.clone(),
        failure: None,
        length: Nanoseconds(WINDOW * 1000),
        work: Work {
            unit: Some(if kernel.unit() == WorkUnit::Token { WorkUnit::Token } else { kernel.unit() }),
            units: events.len() as f64,
            completed: requests.len() as u64,
            failed: 0,
            errors: BTreeMap::new(),
        },
        histograms: BTreeMap::from([(Metric::Itl, histogram(&gaps)), (Metric::E2e, histogram(&requests))]),
        unfinished: histogram(&vec![900_000; usize::try_from(fare.unfinished).expect("small")]),
        requests: RequestSamples::default(),
        trace: (repeat == 0).then(|| trace(&events, steps)),
        process: Some(Process {
            pid: 4242,
            startup: Nanoseconds(640_000_000),
            resident: Bytes::mebibytes(180),
            ..Process::default()
        }),
    }
}

fn trace(events: &[u64], steps: u64) -> Trace {
    let kept = &events[..events.len().min(TRACED)];
    Trace {
        first: kept.first().copied().unwrap_or(0),
        gaps: kept.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        ends: (0..kept.len() as u64)
            .filter(|event| (event + 1).is_multiple_of(steps))
            .map(|event| event as u32)
            .collect(),
    }
}

/// Three significant figures, as the real histograms keep.
fn histogram(microseconds: &[u64]) -> Histogram {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for value in microseconds {
        let nanoseconds = value * 1000;
        let unit = 10_u64.pow(nanoseconds.max(1).ilog10().saturating_sub(2));
        *counts.entry(nanoseconds.div_ceil(unit) * unit).or_default() += 1;
    }
    Histogram { counts: counts.into_iter().collect() }
}
