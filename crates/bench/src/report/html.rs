//! The page `report.html`: one file that asks no server for anything.

mod arms;
mod charts;
mod latency;
mod method;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::palette::{self, Ink};
use super::table::header;
use super::text::printable;
use super::{Report, finding};

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");
/// Nothing may be loaded from anywhere; style and script are those in the file.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A report with the look of each arm, in the record's order.
pub(crate) struct Page<'a> {
    /// The report.
    pub(crate) report: Report<'a>,
    /// Looks of the arms of the summary.
    pub(crate) inks: Vec<Ink>,
}

/// The whole page; `raw` is the link to the record.
pub(crate) fn page(report: &Report<'_>, raw: &str) -> String {
    let inks = palette::inks(report.summary.arms.iter().map(|arm| &arm.arm));
    let page = Page { report: *report, inks };
    let title = format!("{} on {}", printable(&report.run.name), printable(&report.run.host.gpu.name));
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(variables())) (PreEscaped(STYLE)) }
            }
            body {
                (banner(report))
                main { (head(report)) (legend(&page)) (sections(&page, raw)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    markup.into_string()
}

fn sections(page: &Page<'_>, raw: &str) -> Markup {
    html! {
        (arms::section(page))
        (latency::section(page))
        (charts::slowdown(page))
        (charts::throughput(page))
        (timeline::section(page))
        (charts::cost(page))
        (timeline::telemetry(page))
        (charts::tuning(page))
        (method::section(page, raw))
    }
}

fn variables() -> String {
    format!(
        ":root{{{}}}@media(prefers-color-scheme:dark){{:root{{{}}}}}{}",
        palette::variables(false),
        palette::variables(true),
        (0..palette::SLOTS.len()).map(|slot| format!(".a{slot}{{--c:var(--arm{slot})}}")).collect::<String>()
    )
}

/// What says on every screen that the figures were not measured here, or not on a real GPU.
fn banner(report: &Report<'_>) -> Markup {
    let why = |mark: &str| match mark {
        "recorded" => "measured earlier, elsewhere; shown from its record",
        _ => "the GPU is simulated; no figure here is of real hardware",
    };
    html! {
        @for mark in report.marks() {
            p.banner { strong { (mark) } span { " · " (why(mark)) } }
        }
    }
}

fn head(report: &Report<'_>) -> Markup {
    let run = report.run;
    let host = &run.host;
    html! {
        header {
            p.kicker { "GPU sharing, measured" @for mark in report.marks() { span.badge { (mark) } } }
            h1 { (printable(&run.name)) }
            @if let Some(description) = &run.description { p.description { (printable(description)) } }
            p.lead { (finding::headline(report)) }
            ul.findings { @for remark in finding::remarks(report) { li { (remark) } } }
            p.facts {
                (printable(&host.gpu.name)) " · driver " (printable(&host.driver.version)) " · " (header::settings(report))
                " · " (header::price(report))
            }
        }
    }
}

/// The arms with their colours; a press hides one in every chart.
fn legend(page: &Page<'_>) -> Markup {
    html! {
        nav.legend aria-label="Arms: press to hide or show" {
            @for (arm, ink) in page.report.summary.arms.iter().zip(&page.inks) {
                @if super::view::ran(arm) {
                    button type="button" class={ "a" (ink.slot) } data-slot=(ink.slot) aria-pressed="true" {
                        svg.key viewBox="0 0 26 10" aria-hidden="true" {
                            path class="line" d="M1 5H25" stroke-dasharray=[(!ink.dash.is_empty()).then_some(ink.dash)] {}
                        }
                        (arm.arm.to_string())
                    }
                }
            }
        }
    }
}

/// A section with its heading, an explanation and its charts; nothing where it has no chart.
fn grid(id: &str, heading: &str, explanation: &str, charts: &[Markup]) -> Markup {
    html! {
        @if !charts.is_empty() {
            section id=(id) {
                h2 { (heading) }
                p.explanation { (explanation) }
                div.grid { @for chart in charts { (chart) } }
            }
        }
    }
}
