//! Load and latency targets.

use crate::Nanoseconds;
use crate::document::Lines;
use crate::document::quantity::{duration, within};
use crate::kernel::WorkUnit;
use crate::run::Metric;
use crate::workload::raw::{self, SloMetric};
use crate::workload::{Arrivals, Engine, Limit, Load, Slo};

const HOUR: u64 = 3_600_000_000_000;

/// The load of a tenant; a closed loop of one stream when the file names none, `None` where no requests are served.
pub(super) fn load(path: &str, raw: Option<&raw::Load>, engine: &Engine, lines: &mut Lines) -> Option<Load> {
    let path = format!("{path}.load");
    if let Some(kind) = without_requests(engine) {
        if raw.is_some() {
            let fix = "remove `load`, or choose a kernel that serves requests";
            lines.problem(&path, format!("a load on a tenant without requests ({kind})"), fix.to_owned());
        }
        return None;
    }
    let none = Load::Closed { streams: 1, think: Nanoseconds(0) };
    let Some(raw) = raw else { return Some(none) };
    match (&raw.closed, &raw.open, &raw.trace) {
        (Some(closed), None, None) => Some(closed_loop(&format!("{path}.closed"), closed, lines)),
        (None, Some(open), None) => Some(open_loop(&format!("{path}.open"), open, lines)),
        (None, None, Some(trace)) => {
            if trace.file.trim().is_empty() || trace.file.contains('\0') {
                let fix = "name the file of arrivals, relative to the workload file";
                lines.problem(&format!("{path}.trace.file"), "the trace names no file", fix.to_owned());
            }
            Some(Load::Trace { file: trace.file.clone(), arrivals: Vec::new() })
        }
        (None, None, None) => {
            let fix = "write `closed: {streams: 1}`, `open: {requestsPerSecond: 2}` or `trace: {file: arrivals.txt}`";
            lines.problem(&path, "the load says nothing", fix.to_owned());
            Some(none)
        }
        _ => {
            let fix = "keep one of `closed`, `open` and `trace`";
            lines.problem(&path, "the load has more than one shape", fix.to_owned());
            Some(none)
        }
    }
}

fn closed_loop(path: &str, raw: &raw::Closed, lines: &mut Lines) -> Load {
    let streams = within(&format!("{path}.streams"), raw.streams.unwrap_or(1), 1..=1024, lines);
    let think = raw.think.as_deref().map_or(Nanoseconds(0), |text| {
        duration(&format!("{path}.think"), text, Nanoseconds(0)..=Nanoseconds(HOUR), lines)
    });
    Load::Closed { streams, think }
}

fn open_loop(path: &str, raw: &raw::Open, lines: &mut Lines) -> Load {
    let rate = raw.requests_per_second;
    if !(rate > 0.0 && rate <= 100_000.0) {
        let fix = "write a number above 0 and at most 100000";
        lines.problem(
            &format!("{path}.requestsPerSecond"),
            format!("{rate} requests a second cannot be sent"),
            fix.to_owned(),
        );
    }
    let arrivals = match raw.arrivals {
        None | Some(raw::Arrivals::Poisson) => Arrivals::Poisson,
        Some(raw::Arrivals::Constant) => Arrivals::Constant,
    };
    Load::Open { arrivals, requests_per_second: rate }
}

/// The kind of a kernel that serves no requests.
fn without_requests(engine: &Engine) -> Option<&'static str> {
    match engine {
        Engine::Kernel(crate::Kernel::Memory(_)) => Some("memory"),
        Engine::Kernel(crate::Kernel::Fault) => Some("fault"),
        Engine::Kernel(_) | Engine::Server(_) => None,
    }
}

/// The latencies a tenant has: all where it generates tokens, otherwise end to end.
fn metrics(engine: &Engine) -> &'static [Metric] {
    let tokens = match engine {
        Engine::Server(_) => true,
        Engine::Kernel(kernel) => kernel.unit() == WorkUnit::Token,
    };
    if tokens { &[Metric::Ttft, Metric::Tpot, Metric::Itl, Metric::E2e] } else { &[Metric::E2e] }
}

/// The latency targets of a tenant.
pub(super) fn slos(path: &str, raw: &[raw::Slo], engine: &Engine, lines: &mut Lines) -> Vec<Slo> {
    let path = format!("{path}.slo");
    if let Some(kind) = without_requests(engine) {
        if !raw.is_empty() {
            let fix = "remove `slo`, or choose a kernel that serves requests";
            lines.problem(&path, format!("an SLO on a tenant without requests ({kind})"), fix.to_owned());
        }
        return Vec::new();
    }
    let mut slos: Vec<Slo> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let slo = slo(&path, raw, engine, lines);
        let same = |other: &Slo| other.metric == slo.metric && other.percentile.total_cmp(&slo.percentile).is_eq();
        if slos.iter().any(|other| same(other) && is_absolute(other) == is_absolute(&slo)) {
            let message = format!("{} p{} has this kind of target already", slo.metric.label(), slo.percentile);
            lines.problem(&path, message, "keep the stricter one".to_owned());
        }
        slos.push(slo);
    }
    slos
}

const fn is_absolute(slo: &Slo) -> bool {
    matches!(slo.limit, Limit::AtMost(_))
}

fn slo(path: &str, raw: &raw::Slo, engine: &Engine, lines: &mut Lines) -> Slo {
    let metric = match raw.metric {
        SloMetric::Ttft => Metric::Ttft,
        SloMetric::Tpot => Metric::Tpot,
        SloMetric::Itl => Metric::Itl,
        SloMetric::E2e => Metric::E2e,
    };
    if !metrics(engine).contains(&metric) {
        let message = format!("the tenant generates no tokens and has no {}", metric.label());
        lines.problem(&format!("{path}.metric"), message, "write `metric: e2e`".to_owned());
    }
    let percentile = raw.percentile.unwrap_or(99.0);
    if !(percentile > 0.0 && percentile < 100.0) {
        let fix = "write a number above 0 and below 100, such as 99";
        lines.problem(&format!("{path}.percentile"), format!("there is no percentile {percentile}"), fix.to_owned());
    }
    Slo { metric, percentile, limit: limit(path, raw, lines) }
}

fn limit(path: &str, raw: &raw::Slo, lines: &mut Lines) -> Limit {
    match (&raw.at_most, raw.slowdown_at_most) {
        (Some(text), None) => {
            Limit::AtMost(duration(&format!("{path}.atMost"), text, Nanoseconds(1_000)..=Nanoseconds(HOUR), lines))
        }
        (None, Some(slowdown)) => {
            if !(1.0..=1_000.0).contains(&slowdown) {
                let fix = "write 1 or more, at most 1000: 1.2 allows 20 % more than alone";
                lines.problem(
                    &format!("{path}.slowdownAtMost"),
                    format!("no tenant can keep a slowdown of {slowdown}"),
                    fix.to_owned(),
                );
            }
            Limit::Slowdown(slowdown)
        }
        (at_most, _) => {
            let message = match at_most {
                Some(_) => "the target has both `atMost` and `slowdownAtMost`",
                None => "the target has no limit",
            };
            let fix = "keep one: `atMost: 250ms`, or `slowdownAtMost: 1.2` for a multiple of the latency alone";
            lines.problem(path, message, fix.to_owned());
            Limit::Slowdown(1.0)
        }
    }
}
