//! Bar charts of the page: slowdown, throughput, energy and money; and what the tuner tried.

use maud::{Markup, html};

use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::TuningPoint;

use super::arms::slowdown as slowdown_text;
use super::{Page, grid};
use crate::report::chart::bars::{Bar, Base, Row, bars};
use crate::report::chart::{at, drawing, figure, scale::Scale};
use crate::report::figure::{money, number, ratio, ratio_spread, spread};
use crate::report::table::tuning::{self, setting};
use crate::report::text::printable;
use crate::report::view;
use crate::summary::{ArmSummary, Estimate, TenantSummary};

/// Slowdown of each tenant at p50 and p99.
pub(crate) fn slowdown(page: &Page<'_>) -> Markup {
    let tenants = &page.report.run.tenants;
    let charts: Vec<Markup> = tenants.iter().filter_map(|tenant| slowdown_chart(page, &tenant.name)).collect();
    grid(
        "slowdown",
        "Slowdown",
        "Latency ÷ the same percentile alone: 1× is a tenant that does not feel its neighbours. Filled: p50; open: p99. \
         Logarithmic.",
        &charts,
    )
}

fn slowdown_chart(page: &Page<'_>, tenant: &str) -> Option<Markup> {
    let metric = view::metric(page.report.summary, tenant)?;
    let rows = rows(page, tenant, |seen| {
        let latency = seen.latencies.get(&metric)?;
        latency.slowdown_p50.or(latency.slowdown_p99)?;
        let bar = |name, value, percentile, open| Bar {
            value,
            whisker: None,
            text: format!("{name} {}", slowdown_text(value, percentile)),
            open,
        };
        Some(vec![
            bar("p50", latency.slowdown_p50, &latency.p50, false),
            bar("p99", latency.slowdown_p99, &latency.p99, true),
        ])
    });
    let name = printable(tenant);
    let title = format!("Slowdown of {name}");
    let drawing = bars((&title, "Slowdown at the 50th and 99th percentile, two bars an arm."), &rows, Base::One, None)?;
    Some(figure(&name, metric.label(), &drawing))
}

/// Throughput of all together and of each tenant.
pub(crate) fn throughput(page: &Page<'_>) -> Markup {
    let mut charts: Vec<Markup> = aggregate(page).into_iter().collect();
    charts.extend(page.report.run.tenants.iter().filter_map(|tenant| rate_chart(page, &tenant.name)));
    grid(
        "throughput",
        "Throughput",
        "Mean of the repeats; the whiskers reach from the smallest repeat to the largest.",
        &charts,
    )
}

fn aggregate(page: &Page<'_>) -> Option<Markup> {
    let rows = arm_rows(page, |arm| Some(estimate(arm.aggregate.as_ref()?, ratio_spread)));
    let title = ("Aggregate", "Sum over tenants of throughput divided by throughput alone, one bar an arm.");
    let drawing = bars(title, &rows, Base::Zero, Some((1.0, "one tenant alone")))?;
    Some(figure("all tenants", "aggregate: Σ throughput ÷ throughput alone", &drawing))
}

fn rate_chart(page: &Page<'_>, tenant: &str) -> Option<Markup> {
    let rows = rows(page, tenant, |seen| Some(vec![estimate(seen.throughput.as_ref()?, spread)]));
    let seen = page.report.summary.arms.iter().flat_map(|arm| &arm.tenants).find(|seen| seen.name == tenant)?;
    let name = printable(tenant);
    let title = format!("Throughput of {name}");
    let unit = format!("{} a second", seen.unit.plural());
    let drawing = bars((&title, &format!("{unit}, one bar an arm.")), &rows, Base::Zero, None)?;
    Some(figure(&name, &unit, &drawing))
}

/// Power, energy and money.
pub(crate) fn cost(page: &Page<'_>) -> Markup {
    let unit = page.report.summary.arms.iter().find_map(|arm| arm.unit).map_or("units", WorkUnit::plural);
    let power = arm_rows(page, |arm| Some(estimate(arm.watts.as_ref()?, spread)));
    let energy = arm_rows(page, |arm| {
        let joules = arm.joules_per_unit.as_ref()?;
        Some(bar(joules.mean * 1e3, number(joules.mean * 1e3), Some((joules.low * 1e3, joules.high * 1e3))))
    });
    let price = arm_rows(page, |arm| arm.price_per_million.map(|price| bar(price.dollars(), money(price), None)));
    let chart = |name: &str, detail: String, rows: &[Row]| {
        let drawing = bars((name, &format!("{detail}, one bar an arm.")), rows, Base::Zero, None)?;
        Some(figure(name, &detail, &drawing))
    };
    let charts: Vec<Markup> = [
        chart("power", "mean watts of the board".to_owned(), &power),
        chart("energy", format!("joules of the whole board per 1,000 {unit}"), &energy),
        chart("money", format!("dollars per million {unit}"), &price),
    ]
    .into_iter()
    .flatten()
    .collect();
    grid(
        "cost",
        "Energy and money",
        "Of the whole board and the whole hour, idle power included: lower is better.",
        &charts,
    )
}

/// One row an arm in which the tenant has bars.
fn rows(page: &Page<'_>, tenant: &str, bars: impl Fn(&TenantSummary) -> Option<Vec<Bar>>) -> Vec<Row> {
    let arms = page.report.summary.arms.iter().zip(&page.inks);
    arms.filter_map(|(arm, ink)| {
        let seen = arm.tenants.iter().find(|seen| seen.name == tenant)?;
        Some(Row { ink: *ink, label: arm.arm.to_string(), bars: bars(seen)? })
    })
    .collect()
}

/// One row an arm that ran and has a bar.
fn arm_rows(page: &Page<'_>, bar: impl Fn(&ArmSummary) -> Option<Bar>) -> Vec<Row> {
    let arms = page.report.summary.arms.iter().zip(&page.inks).filter(|(arm, _)| view::ran(arm));
    arms.filter_map(|(arm, ink)| Some(Row { ink: *ink, label: arm.arm.to_string(), bars: vec![bar(arm)?] })).collect()
}

fn estimate(estimate: &Estimate, text: fn(&Estimate) -> String) -> Bar {
    bar(estimate.mean, text(estimate), Some((estimate.low, estimate.high)))
}

const fn bar(value: f64, text: String, whisker: Option<(f64, f64)>) -> Bar {
    Bar { value: Some(value), whisker, text, open: false }
}

/// Every point the tuner measured: what it yields against how near its worst SLO is to breaking.
pub(crate) fn tuning(page: &Page<'_>) -> Markup {
    let Some(seen) = &page.report.run.tuning else { return html! {} };
    let points: Vec<(&TuningPoint, &str)> = seen
        .grid
        .iter()
        .map(|point| (point, "point gridpoint"))
        .chain(seen.points.iter().enumerate().map(|(position, point)| {
            let chosen = seen.chosen == Some(position);
            let front = seen.front.contains(&position);
            (
                point,
                if chosen {
                    "point chosen"
                } else if front {
                    "point front"
                } else {
                    "point"
                },
            )
        }))
        .collect();
    let chart =
        figure("aggregate against worst SLO ÷ limit", "right of 1 an SLO is broken; logarithmic", &scatter(&points));
    let found = [Some(tuning::title(seen)), tuning::grid(seen)];
    grid("tuning", "Tuner", &found.into_iter().flatten().collect::<Vec<_>>().join(" "), &[chart])
}

fn scatter(points: &[(&TuningPoint, &str)]) -> Markup {
    let span = |value: fn(&TuningPoint) -> f64| {
        points
            .iter()
            .map(|(point, _)| value(point))
            .fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (left, right) = span(|point| point.worst_slo);
    let (low, high) = span(|point| point.aggregate);
    let (limits, places) = ((left.min(0.9), right.max(1.1)), (40.0, 388.0));
    // A starved tenant's ratio is tens of times its limit; without any SLO every ratio is 0.
    let x = if left > 0.0 { Scale::logarithmic(limits, places) } else { Scale::linear(limits, places) };
    let y = Scale::linear((low * 0.95, high * 1.05), (200.0, 12.0));
    let content = html! {
        @for tick in y.ticks(4) {
            line.grid x1="40" x2="388" y1=(at(y.place(tick))) y2=(at(y.place(tick))) {}
            text.tick x="35" y=(at(y.place(tick) + 3.5)) text-anchor="end" { (ratio(tick)) }
        }
        @for tick in x.ticks(5) {
            text.tick x=(at(x.place(tick))) y="214" text-anchor="middle" { (number(tick)) }
        }
        line.limit x1=(at(x.place(1.0))) x2=(at(x.place(1.0))) y1="12" y2="200" {}
        @for (point, class) in points {
            circle class=(class) cx=(at(x.place(point.worst_slo))) cy=(at(y.place(point.aggregate))) r="4" {
                title { "mps:" (setting(point)) " · aggregate " (ratio(point.aggregate)) " · worst SLO " (ratio(point.worst_slo)) }
            }
            @if *class == "point chosen" {
                text.label x=(at(x.place(point.worst_slo))) y=(at(y.place(point.aggregate) - 8.0)) text-anchor="middle" {
                    "★ " (setting(point))
                }
            }
        }
    };
    drawing("Points of the tuner", "Each point is one setting: aggregate against the worst SLO ratio.", 222.0, &content)
}
