//! Summaries of small records written out, and of any record.

use std::collections::BTreeMap;

use proptest::prelude::*;

use cotenant_model::gpu::{Driver, Gpu, GpuSample, GpuUuid};
use cotenant_model::kernel::{Buffer, Decode, LaunchBound, Products};
use cotenant_model::run::{
    ArmRecord, Host, Metric, Pass, Price, Process, Program, RequestSamples, Run, Settings, Telemetry, Window, Work,
};
use cotenant_model::workload::{Class, Engine, Limit, Load, Slo, Tenant};
use cotenant_model::{Arm, Bytes, Histogram, Kernel, MicroUsd, Nanoseconds};

use super::sample::Sample;
use super::{Estimate, Percentile, Summary};

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

fn run(tenants: Vec<Tenant>, arms: Vec<ArmRecord>) -> Run {
    Run {
        schema: Run::SCHEMA,
        name: "test".to_owned(),
        description: None,
        program: Program { version: "0".to_owned(), commit: None },
        started: "2026-01-01T00:00:00Z".to_owned(),
        host: Host {
            gpu: Gpu::new(0, GpuUuid("GPU-0".to_owned()), "test".to_owned(), Bytes(0)),
            multiprocessors: None,
            driver: Driver { version: "580".to_owned(), cuda: None },
            processors: 2,
            kernel: None,
        },
        settings: Settings {
            repeats: 3,
            duration: Nanoseconds(SECOND),
            warmup: Nanoseconds(0),
            seed: 1,
            telemetry_interval: Nanoseconds(100 * MILLISECOND),
            price: Some(Price { per_hour: MicroUsd(3_600_000), source: "test".to_owned() }),
        },
        tenants,
        arms,
        tuning: None,
        notes: Vec::new(),
    }
}

fn decoder(name: &str) -> Tenant {
    let kernel = Kernel::Decode(Decode { layers: 24, width: 2048, hidden: 5632, batch: 1, tokens: 128 });
    Tenant {
        name: name.to_owned(),
        class: Class::Standard,
        engine: Engine::Kernel(kernel),
        load: Some(Load::Closed { streams: 1, think: Nanoseconds(0) }),
        slo: Vec::new(),
        memory: None,
    }
}

fn prefill(name: &str) -> Tenant {
    let kernel = Kernel::Prefill(Products { size: 8192, products: 4 });
    Tenant { engine: Engine::Kernel(kernel), ..decoder(name) }
}

/// A window of one second with so many units, whose E2E takes each of `latencies` milliseconds once.
fn window(tenant: &str, units: f64, latencies: &[u64]) -> Window {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for latency in latencies {
        *counts.entry(latency * MILLISECOND).or_default() += 1;
    }
    Window {
        tenant: tenant.to_owned(),
        length: Nanoseconds(SECOND),
        work: Work { units, completed: latencies.len() as u64, ..Work::default() },
        histograms: [(Metric::E2e, Histogram { counts: counts.into_iter().collect() })].into(),
        requests: RequestSamples {
            stride: 1,
            start: vec![0; latencies.len()],
            ttft: vec![1; latencies.len()],
            tpot: vec![1; latencies.len()],
            e2e: latencies.iter().map(|latency| latency * 1000).collect(),
            itl: vec![1; latencies.len()],
        },
        ..Window::default()
    }
}

fn pass(repeat: u32, windows: Vec<Window>) -> Pass {
    Pass { repeat, start: Nanoseconds(0), windows, telemetry: Telemetry::default() }
}

fn arm(arm: Arm, passes: Vec<Pass>) -> ArmRecord {
    ArmRecord { arm, refused: None, passes }
}

fn alone(windows: &[Window]) -> ArmRecord {
    arm(Arm::Solo, windows.iter().map(|window| pass(0, vec![window.clone()])).collect())
}

fn slo(limit: Limit) -> Slo {
    Slo { metric: Metric::E2e, percentile: 50.0, limit }
}

fn mean(estimate: Option<Estimate>) -> f64 {
    estimate.expect("an estimate").mean
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9 * other.abs().max(1.0)
}

#[test]
fn tenants_that_share_a_gpu_as_if_alone_have_an_aggregate_of_their_number() {
    let (a, b) = (window("a", 882.0, &[]), window("b", 50.0, &[]));
    let shared = vec![pass(0, vec![a.clone(), b.clone()]), pass(1, vec![a.clone(), b.clone()])];
    let run = run(vec![decoder("a"), prefill("b")], vec![alone(&[a, b]), arm(Arm::Mps, shared)]);
    let summary = Summary::of(&run);
    assert!(close(mean(summary.arms[1].aggregate), 2.0) && close(mean(summary.arms[1].jain), 1.0));
    assert_eq!((summary.arms[0].aggregate, summary.arms[0].tenants[0].progress), (None, None));
    assert_eq!((summary.arms[1].unit, summary.arms[1].throughput, summary.best), (None, None, Some(1)));
}

#[test]
fn tenants_of_the_same_work_share_one_solo_measurement() {
    let shared = vec![pass(0, vec![window("a", 600.0, &[]), window("b", 300.0, &[])])];
    let run = run(vec![decoder("a"), decoder("b")], vec![alone(&[window("a", 900.0, &[])]), arm(Arm::Mps, shared)]);
    let mps = &Summary::of(&run).arms[1];
    assert!(close(mean(mps.aggregate), 1.0) && close(mean(mps.aggregate_over_best_solo), 1.0));
    assert!(close(mean(mps.throughput), 900.0) && close(mean(mps.tenants[1].progress), 1.0 / 3.0));
    assert!(close(mean(mps.jain), 0.9));
}

#[test]
fn money_and_energy_are_of_all_tenants_together() {
    let mut shared = pass(0, vec![window("a", 600.0, &[]), window("b", 400.0, &[])]);
    shared.telemetry.energy_millijoules = Some(500_000);
    let reading = GpuSample { power_milliwatts: Some(500_000), gpu_utilization: Some(99), ..GpuSample::default() };
    shared.telemetry.samples = vec![(Nanoseconds(0), reading), (Nanoseconds(1), GpuSample::default())];
    let solo = alone(&[window("a", 500.0, &[]), window("b", 500.0, &[])]);
    let summary = Summary::of(&run(vec![decoder("a"), decoder("b")], vec![solo, arm(Arm::Mps, vec![shared])]));
    let mps = &summary.arms[1];
    assert!(
        close(mean(mps.joules_per_unit), 0.5) && close(mean(mps.watts), 500.0) && close(mean(mps.utilization), 99.0)
    );
    // A dollar in 1000 s: 1000 tokens in one second cost a thousandth of a dollar; alone each GPU makes half of that.
    assert_eq!(mps.price_per_million, Some(MicroUsd(1_000_000)));
    assert_eq!(summary.arms[0].price_per_million, Some(MicroUsd(2_000_000)));
}

#[test]
fn a_tenant_that_fails_does_not_count_and_its_arm_is_never_the_best() {
    let dead = Window { failure: Some("illegal address".to_owned()), ..window("b", 9e9, &[1]) };
    let (a, b) = (window("a", 10.0, &[]), window("b", 10.0, &[]));
    let bad = vec![pass(0, vec![a.clone(), b.clone()]), pass(1, vec![a.clone(), dead])];
    let good = vec![pass(0, vec![window("a", 1.0, &[]), window("b", 1.0, &[])])];
    let arms = vec![alone(&[a, b]), arm(Arm::Mps, bad), arm(Arm::TimeSlicing, good)];
    let summary = Summary::of(&run(vec![decoder("a"), decoder("b")], arms));
    assert_eq!(summary.arms[1].failures, [("b".to_owned(), "illegal address".to_owned())]);
    let aggregate = summary.arms[1].aggregate.expect("aggregate");
    assert!(close(aggregate.low, 1.0) && close(aggregate.high, 2.0));
    assert_eq!((summary.arms[1].tenants[1].completed, summary.best), (0, Some(2)));
}

#[test]
fn an_arm_that_breaks_a_target_loses_to_a_slower_one_that_keeps_it() {
    let mut a = decoder("a");
    a.slo = vec![slo(Limit::Slowdown(1.2))];
    let solo = alone(&[window("a", 100.0, &[10; 20]), window("b", 100.0, &[10; 20])]);
    let fast = arm(Arm::Mps, vec![pass(0, vec![window("a", 90.0, &[13; 20]), window("b", 90.0, &[10; 20])])]);
    let kept = arm(Arm::TimeSlicing, vec![pass(0, vec![window("a", 50.0, &[12; 20]), window("b", 50.0, &[10; 20])])]);
    let summary = Summary::of(&run(vec![a, prefill("b")], vec![solo, fast, kept]));
    let verdict = summary.arms[1].tenants[0].verdicts[0];
    assert_eq!((verdict.limit, verdict.kept), (Some(Nanoseconds(12 * MILLISECOND)), Some(false)));
    assert!(close(verdict.ratio.expect("ratio"), 13.0 / 12.0));
    assert_eq!((summary.arms[1].slo_kept, summary.arms[2].slo_kept, summary.best), (Some(false), Some(true), Some(2)));
    let latency = &summary.arms[1].tenants[0].latencies[&Metric::E2e];
    assert!(close(latency.slowdown_p50.expect("slowdown"), 1.3));
    assert_eq!(latency.p99, Percentile::TooFew { count: 20, needed: 299 });
}

#[test]
fn a_queue_that_grows_breaks_a_target_that_the_ended_requests_keep() {
    let mut a = decoder("a");
    a.slo = vec![slo(Limit::AtMost(Nanoseconds(100 * MILLISECOND)))];
    let mut stuck = window("a", 10.0, &[20; 10]);
    stuck.unfinished = Histogram { counts: vec![(800 * MILLISECOND, 30)] };
    let summary = Summary::of(&run(vec![a], vec![arm(Arm::Mps, vec![pass(0, vec![stuck])])]));
    let tenant = &summary.arms[0].tenants[0];
    let verdict = tenant.verdicts[0];
    assert_eq!((verdict.measured, verdict.kept), (Percentile::AtLeast(Nanoseconds(800 * MILLISECOND)), Some(false)));
    assert_eq!((tenant.unfinished, tenant.good_fraction), (30, Some(0.25)));
}

#[test]
fn too_few_requests_keep_no_target_but_can_break_one() {
    let of = |latencies: &[u64]| {
        let mut a = decoder("a");
        a.slo = vec![Slo { percentile: 99.0, ..slo(Limit::AtMost(Nanoseconds(15 * MILLISECOND))) }];
        let record = run(vec![a], vec![arm(Arm::Mps, vec![pass(0, vec![window("a", 1.0, latencies)])])]);
        let summary = Summary::of(&record);
        (summary.arms[0].tenants[0].verdicts[0].kept, summary.arms[0].slo_kept)
    };
    assert_eq!(of(&[10; 20]), (None, None));
    assert_eq!(of(&[10, 10, 10, 10, 10, 10, 10, 10, 20, 20]), (Some(false), Some(false)));
}

#[test]
fn goodput_counts_requests_that_met_every_limit_and_scales_with_the_stride() {
    let mut a = decoder("a");
    a.slo = vec![slo(Limit::AtMost(Nanoseconds(15 * MILLISECOND)))];
    let mut sampled = window("a", 1.0, &[10, 10, 20, 10]);
    sampled.requests.stride = 10;
    sampled.work.completed = 40;
    sampled.work.failed = 20;
    let tenant = &Summary::of(&run(vec![a], vec![arm(Arm::Mps, vec![pass(0, vec![sampled])])])).arms[0].tenants[0];
    assert!(close(mean(tenant.goodput), 30.0));
    assert_eq!(tenant.good_fraction, Some(0.5));
}

#[test]
fn percentiles_come_from_all_repeats_together() {
    let repeats = vec![pass(0, vec![window("a", 1.0, &[10; 90])]), pass(1, vec![window("a", 1.0, &[50; 10])])];
    let summary = Summary::of(&run(vec![decoder("a")], vec![arm(Arm::Mps, repeats)]));
    let latency = &summary.arms[0].tenants[0].latencies[&Metric::E2e];
    assert!(matches!(latency.p90, Percentile::Known { value: Nanoseconds(10_000_000), .. }), "{latency:?}");
}

fn histograms() -> impl Strategy<Value = Histogram> {
    let entry = (prop_oneof![0..1000_u64, any::<u64>()], prop_oneof![9 => 0..400_u64, 1 => any::<u64>()]);
    prop::collection::vec(entry, 0..6).prop_map(|counts| Histogram { counts })
}

fn metrics() -> impl Strategy<Value = Metric> {
    prop::sample::select(vec![Metric::Ttft, Metric::Tpot, Metric::Itl, Metric::E2e, Metric::Lag])
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
}

fn windows() -> impl Strategy<Value = Window> {
    let measured = (
        prop_oneof![Just(0.0), 0.0..1e6, any::<f64>()],
        prop_oneof![Just(0), Just(SECOND), any::<u64>()],
        prop_oneof![0..100_u64, any::<u64>()],
        prop::collection::btree_map(metrics(), histograms(), 0..4),
        histograms(),
        prop::collection::vec(any::<u64>(), 0..3),
    );
    (names(), prop::option::weighted(0.2, Just("died".to_owned())), measured).prop_map(|(tenant, failure, measured)| {
        let (units, length, completed, histograms, unfinished, e2e) = measured;
        let process = Process { startup: Nanoseconds(completed), ..Process::default() };
        Window {
            tenant,
            failure,
            length: Nanoseconds(length),
            work: Work { units, completed, failed: completed, ..Work::default() },
            histograms,
            unfinished,
            requests: RequestSamples { e2e, ..RequestSamples::default() },
            trace: None,
            process: Some(process),
        }
    })
}

fn tenants() -> impl Strategy<Value = Tenant> {
    let kernels = prop::sample::select(vec![
        decoder("").engine,
        prefill("").engine,
        Engine::Kernel(Kernel::LaunchBound(LaunchBound { launches: 9 })),
        Engine::Kernel(Kernel::Memory(Buffer { size: Bytes(1) })),
        Engine::Kernel(Kernel::Fault),
    ]);
    let limit =
        prop_oneof![any::<u64>().prop_map(|ns| Limit::AtMost(Nanoseconds(ns))), any::<f64>().prop_map(Limit::Slowdown)];
    let slo = (metrics(), prop_oneof![0.0..100.0, any::<f64>()], limit).prop_map(|(metric, percentile, limit)| Slo {
        metric,
        percentile,
        limit,
    });
    (names(), kernels, any::<bool>(), prop::collection::vec(slo, 0..3)).prop_map(|(name, engine, serves, slo)| {
        let tenant = decoder(&name);
        Tenant { engine, load: tenant.load.clone().filter(|_| serves), slo, ..tenant }
    })
}

fn passes() -> impl Strategy<Value = Pass> {
    let reading = prop::option::of(any::<u32>())
        .prop_map(|power| (Nanoseconds(0), GpuSample { power_milliwatts: power, ..GpuSample::default() }));
    let telemetry = (prop::collection::vec(reading, 0..3), prop::option::of(any::<u64>()))
        .prop_map(|(samples, energy)| Telemetry { samples, energy_millijoules: energy, ..Telemetry::default() });
    (0..3_u32, prop::collection::vec(windows(), 0..4), telemetry).prop_map(|(repeat, windows, telemetry)| Pass {
        repeat,
        start: Nanoseconds(0),
        windows,
        telemetry,
    })
}

fn records() -> impl Strategy<Value = ArmRecord> {
    let arms = prop::sample::select(vec![Arm::Solo, Arm::TimeSlicing, Arm::Mps, Arm::MpsMemory]);
    (arms, prop::option::weighted(0.1, Just("no".to_owned())), prop::collection::vec(passes(), 0..4))
        .prop_map(|(arm, refused, passes)| ArmRecord { arm, refused, passes })
}

/// Whether a percentile's interval encloses it.
fn is_ordered(percentile: Percentile) -> bool {
    match percentile {
        Percentile::Known { value, low, high } => low <= value && high.is_none_or(|high| value <= high),
        Percentile::AtLeast(_) => true,
        Percentile::TooFew { count, needed } => count < needed,
    }
}

proptest! {
    #[test]
    fn any_record_has_a_summary_with_ordered_intervals(
        tenants in prop::collection::vec(tenants(), 0..4),
        records in prop::collection::vec(records(), 0..4),
    ) {
        let summary = Summary::of(&run(tenants, records));
        for arm in &summary.arms {
            let index = arm.jain.map_or(1.0, |jain| jain.mean);
            prop_assert!(index <= 1.0 + 1e-9 && index >= 1.0 / arm.tenants.len().max(1) as f64 - 1e-9);
            for tenant in &arm.tenants {
                prop_assert!(tenant.good_fraction.is_none_or(|share| (0.0..=1.0).contains(&share)));
                for latency in tenant.latencies.values() {
                    prop_assert!([latency.p50, latency.p90, latency.p99].into_iter().all(is_ordered));
                }
                prop_assert!(tenant.verdicts.iter().all(|verdict| is_ordered(verdict.measured)));
            }
        }
        if let Some(best) = summary.best {
            prop_assert!(summary.arms[best].failures.is_empty() && summary.arms[best].slo_kept != Some(false));
        }
    }

    #[test]
    fn a_merged_percentile_lies_between_those_of_the_repeats(
        repeats in prop::collection::vec(prop::collection::vec(1..1000_u64, 40..80), 1..4),
        percent in 5.0..90.0,
    ) {
        let mut merged = Sample::default();
        let mut values = Vec::new();
        for repeat in &repeats {
            let mut single = Sample::default();
            for value in repeat {
                single.add(&Histogram { counts: vec![(*value, 1)] });
                merged.add(&Histogram { counts: vec![(*value, 1)] });
            }
            let Percentile::Known { value, .. } = single.percentile(percent) else { continue };
            values.push(value);
        }
        if let Percentile::Known { value, .. } = merged.percentile(percent) && values.len() == repeats.len() {
            prop_assert!(values.iter().min() <= Some(&value) && Some(&value) <= values.iter().max());
        }
    }

    #[test]
    fn windows_equal_to_solo_have_an_aggregate_of_their_number(units in prop::collection::vec(1.0..1e9, 1..9)) {
        let names: Vec<String> = (0..units.len()).map(|index| index.to_string()).collect();
        let windows: Vec<Window> = names.iter().zip(&units).map(|(name, units)| window(name, *units, &[])).collect();
        let shared = arm(Arm::Mps, vec![pass(0, windows.clone()), pass(1, windows.clone())]);
        let tenants = names.iter().map(|name| decoder(name)).collect();
        let summary = Summary::of(&run(tenants, vec![alone(&windows), shared]));
        prop_assert!(close(mean(summary.arms[1].aggregate), units.len() as f64));
    }
}

#[test]
fn among_arms_that_do_equally_much_the_gentlest_is_best() {
    let estimate = |mean: f64, margin: f64| Estimate { mean, low: mean, high: mean, margin: Some(margin), repeats: 3 };
    let gentle = (1, estimate(2.00, 0.3), 1.3);
    let harsh = (2, estimate(2.02, 0.3), 567.0);
    let least = (3, estimate(1.2, 0.1), 1.0);
    assert_eq!(super::best(&[gentle, harsh, least]), Some(1));
    assert_eq!(super::best(&[(1, estimate(2.00, 0.005), 1.3), (2, estimate(2.02, 0.005), 567.0)]), Some(2));
    assert_eq!(super::best(&[]), None);
}
