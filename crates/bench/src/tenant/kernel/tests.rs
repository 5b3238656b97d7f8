use std::sync::atomic::{AtomicU64, Ordering};

use cotenant_model::run::Metric;
use cotenant_model::workload::Arrivals as Spacing;

use super::*;
use crate::clock::MonotonicClock;

/// Time that passes only when someone sleeps or works.
#[derive(Debug, Default)]
struct VirtualClock(AtomicU64);

impl Clock for VirtualClock {
    fn monotonic(&self) -> Nanoseconds {
        Nanoseconds(self.0.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        self.0.fetch_max(instant.0, Ordering::Relaxed);
    }
}

/// Steps that take `ordinary` nanoseconds, save the `stalled`-th, which takes `stall`.
struct Script<'a> {
    clock: &'a VirtualClock,
    done: u64,
    ordinary: u64,
    stalled: u64,
    stall: u64,
    fails_at: Option<u64>,
}

impl<'a> Script<'a> {
    fn steady(clock: &'a VirtualClock, ordinary: u64) -> Self {
        Self { clock, done: 0, ordinary, stalled: u64::MAX, stall: 0, fails_at: None }
    }
}

impl Steps for Script<'_> {
    type Error = String;

    fn step(&mut self) -> Result<(), String> {
        let number = self.done;
        self.done += 1;
        if self.fails_at == Some(number) {
            return Err("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned());
        }
        let takes = if number == self.stalled { self.stall } else { self.ordinary };
        self.clock.0.fetch_add(takes, Ordering::Relaxed);
        Ok(())
    }
}

fn tokens(steps: u32, load: Load) -> Service {
    Service { tenant: "decoder".to_owned(), steps, units: 1.0, unit: WorkUnit::Token, load: Some(load) }
}

fn closed(streams: u32, think: u64) -> Load {
    Load::Closed { streams, think: Nanoseconds(think) }
}

fn constant(requests_per_second: f64) -> Load {
    Load::Open { arrivals: Spacing::Constant, requests_per_second }
}

fn plan(warm: u64, open: u64, close: u64) -> WindowPlan {
    WindowPlan { warm: Nanoseconds(warm), open: Nanoseconds(open), close: Nanoseconds(close), seed: 1, trace: true }
}

fn measure(script: &mut Script<'_>, service: &Service, plan: &WindowPlan) -> Window {
    let clock = script.clock;
    serve(script, service, plan, Host { clock, stop: &Stop::default() }).expect("window")
}

const MS: u64 = 1_000_000;

#[test]
fn a_closed_loop_of_one_stream_keeps_the_slot_busy() {
    let clock = VirtualClock::default();
    let service = tokens(4, closed(1, 0));
    let window = measure(&mut Script::steady(&clock, MS), &service, &plan(0, 20 * MS, 60 * MS));
    assert_eq!((window.work.units, window.work.completed, window.work.failed), (40.0, 10, 0));
    assert_eq!(window.requests.e2e, [4_000; 10]);
    assert_eq!(window.requests.ttft, [1_000; 10]);
    assert_eq!(window.requests.tpot, [1_000; 10]);
    assert_eq!(window.requests.start[..3], [-4_000, 0, 4_000]);
    assert_eq!(window.length, Nanoseconds(40 * MS));
    assert!(window.unfinished.is_empty());
}

#[test]
fn closed_streams_wait_for_one_another_in_order() {
    let clock = VirtualClock::default();
    // Three streams of requests of 2 ms: each begins when the two before it have ended, so 6 ms a request, 4 of them waiting.
    let service = tokens(2, closed(3, 0));
    let window = measure(&mut Script::steady(&clock, MS), &service, &plan(0, 12 * MS, 42 * MS));
    assert_eq!(window.requests.e2e, [6_000; 15]);
    assert_eq!(window.requests.ttft, [5_000; 15]);
}

#[test]
fn think_time_leaves_the_slot_asleep() {
    let clock = VirtualClock::default();
    let service = tokens(2, closed(1, 3 * MS));
    let window = measure(&mut Script::steady(&clock, MS), &service, &plan(0, 0, 50 * MS));
    assert_eq!(window.requests.start, (0..10).map(|request| request * 5_000).collect::<Vec<_>>());
    assert_eq!(window.requests.e2e, [2_000; 10]);
    assert_eq!(window.work.units, 20.0);
}

#[test]
fn a_stall_delays_every_request_due_behind_it() {
    let clock = VirtualClock::default();
    let mut script = Script { stalled: 2, stall: 55 * MS, ..Script::steady(&clock, MS) };
    // Due every 10 ms, 1 ms of work each; the third takes 55 ms.
    let window = measure(&mut script, &tokens(1, constant(100.0)), &plan(0, 0, 200 * MS));
    let latencies = &window.requests.e2e;
    assert_eq!(latencies[..9], [1_000, 1_000, 55_000, 46_000, 37_000, 28_000, 19_000, 10_000, 1_000]);
    assert_eq!(latencies.len(), 20);
    assert_eq!(window.histograms[&Metric::Lag].max(), Some(Nanoseconds(0)), "the load generator itself was never late");
}

#[test]
fn a_queue_that_grows_leaves_its_ages_behind() {
    let clock = VirtualClock::default();
    // Due every 10 ms, 40 ms of work each: in 100 ms two end, the third is under way, seven wait.
    let window = measure(&mut Script::steady(&clock, 40 * MS), &tokens(1, constant(100.0)), &plan(0, 0, 100 * MS));
    assert_eq!(window.work.completed, 2);
    assert_eq!(window.work.units, 2.5);
    assert_eq!(window.unfinished.len(), 8);
    let ages: Vec<u64> = window.unfinished.counts.iter().map(|(age, _count)| age / MS).collect();
    assert_eq!(ages, [10, 20, 30, 40, 50, 60, 70, 80]);
}

#[test]
fn a_request_cut_off_by_the_close_of_a_closed_loop_is_not_unfinished() {
    let clock = VirtualClock::default();
    let window = measure(&mut Script::steady(&clock, 30 * MS), &tokens(2, closed(2, 0)), &plan(0, 0, 100 * MS));
    assert_eq!((window.work.completed, window.unfinished.len()), (1, 0));
}

#[test]
fn steps_at_the_edges_count_by_the_fraction_inside() {
    let clock = VirtualClock::default();
    let window = measure(&mut Script::steady(&clock, 10 * MS), &tokens(1, closed(1, 0)), &plan(0, 25 * MS, 52 * MS));
    // 5 of the third step's 10 ms, the fourth and fifth, 2 of the sixth's.
    assert!((window.work.units - 2.7).abs() < 1e-9, "{}", window.work.units);
    assert_eq!(window.work.completed, 3, "those that ended inside, also the one that began before");
}

#[test]
fn nothing_begins_after_the_close() {
    let clock = VirtualClock::default();
    let mut script = Script::steady(&clock, 10 * MS);
    let window = measure(&mut script, &tokens(1, closed(1, 0)), &plan(0, 0, 50 * MS));
    assert_eq!(script.done, 5);
    assert_eq!(window.work.completed, 4, "a request that ends with the close did not end inside");
    assert_eq!(window.work.units, 5.0);
    assert_eq!(clock.monotonic(), Nanoseconds(50 * MS));
}

#[test]
fn a_kernel_without_tokens_has_only_its_end_to_end_latency() {
    let clock = VirtualClock::default();
    let service = Service { unit: WorkUnit::Product, ..tokens(4, closed(1, 0)) };
    let window = measure(&mut Script::steady(&clock, MS), &service, &plan(0, 0, 20 * MS));
    assert_eq!(window.histograms.keys().copied().collect::<Vec<_>>(), [Metric::E2e, Metric::Lag]);
    assert_eq!(window.requests.ttft, [0; 4]);
    assert_eq!(window.trace.expect("trace").ends, [3, 7, 11, 15]);
}

#[test]
fn a_batch_counts_a_token_for_each_sequence() {
    let clock = VirtualClock::default();
    let service = Service { units: 4.0, ..tokens(2, closed(1, 0)) };
    let window = measure(&mut Script::steady(&clock, MS), &service, &plan(0, 0, 10 * MS));
    assert_eq!(window.work.units, 40.0);
    assert_eq!(window.requests.tpot[0], 1_000, "time per token is of one sequence");
}

#[test]
fn a_tenant_without_requests_sleeps_to_the_close() {
    let clock = VirtualClock::default();
    let service = Service { load: None, unit: WorkUnit::None, ..tokens(0, closed(1, 0)) };
    let mut script = Script::steady(&clock, MS);
    let window = measure(&mut script, &service, &plan(0, 0, 70 * MS));
    assert_eq!((script.done, clock.monotonic()), (0, Nanoseconds(70 * MS)));
    assert!(window.histograms.is_empty());
}

#[test]
fn the_first_failing_step_ends_the_window() {
    let clock = VirtualClock::default();
    let mut script = Script { fails_at: Some(3), ..Script::steady(&clock, MS) };
    let host = Host { clock: &clock, stop: &Stop::default() };
    let outcome = serve(&mut script, &tokens(1, closed(1, 0)), &plan(0, 0, 90 * MS), host);
    assert_eq!(outcome, Err("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned()));
}

#[test]
fn the_order_to_stop_is_seen_between_two_steps() {
    let clock = VirtualClock::default();
    let stop = Stop::default();
    stop.set();
    let mut script = Script::steady(&clock, MS);
    let window =
        serve(&mut script, &tokens(1, constant(10.0)), &plan(MS, MS, 90 * MS), Host { clock: &clock, stop: &stop });
    assert_eq!(window.map(|window| window.work.completed), Ok(0));
    assert_eq!(script.done, 0);
}

/// Steps of real time.
struct Spinning {
    takes: u64,
}

impl Steps for Spinning {
    type Error = String;

    fn step(&mut self) -> Result<(), String> {
        let end = MonotonicClock.monotonic().0 + self.takes;
        while MonotonicClock.monotonic().0 < end {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

fn real_window(takes: u64, length: u64, load: Load, steps: u32) -> Window {
    let now = MonotonicClock.monotonic().0;
    let plan = plan(now, now + 2 * MS, now + 2 * MS + length);
    let host = Host { clock: &MonotonicClock, stop: &Stop::default() };
    serve(&mut Spinning { takes }, &tokens(steps, load), &plan, host).expect("window")
}

#[test]
fn real_time_gives_the_same_shape() {
    let window = real_window(100_000, 60 * MS, closed(1, MS), 8);
    assert!(window.work.completed > 0);
    assert!(window.requests.ttft.iter().zip(&window.requests.e2e).all(|(first, end)| first < end));
    assert!(window.requests.ttft.iter().all(|first| *first >= 100));
    let times: Vec<u64> = window.trace.expect("trace").times().collect();
    assert!(times.is_sorted());
}

/// Prints what the harness costs; run with `cargo test --release -p cotenant-bench -- --ignored --nocapture harness`.
#[test]
#[ignore = "a measurement: needs a release build and a processor to itself"]
fn the_harness_costs_less_than_a_fiftieth_of_a_step() {
    let length = 1_000 * MS;
    let free = real_window(0, length, closed(1, 0), 128);
    println!("{:.0} ns a token for the loop, two clock readings and the recorder", length as f64 / free.work.units);

    let step = 100_000;
    let mut ratios: Vec<f64> = (0..7)
        .map(|_round| {
            let begin = MonotonicClock.monotonic().0;
            let mut bare = 0_u32;
            while MonotonicClock.monotonic().0 < begin + length / 4 {
                Spinning { takes: step }.step().expect("step");
                bare += 1;
            }
            real_window(step, length / 4, closed(1, 0), 128).work.units / f64::from(bare)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("{:.4} of the bare loop's steps of 100 us, the median of {ratios:.4?}", ratios[3]);
    assert!(ratios[3] >= 0.98, "{ratios:?}");
}
