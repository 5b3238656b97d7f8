//! Charts as inline SVG, drawn by hand: scales, lines, bars and lanes.
//!
//! Every chart is [`WIDTH`] units wide and scales with its column, so that its text stays readable on a phone. It names what
//! it draws beside the drawing, carries a title and a description, and takes its colours from the page's CSS variables.

pub(crate) mod bars;
pub(crate) mod lanes;
pub(crate) mod lines;
pub(crate) mod scale;

use maud::{Markup, html};

/// Width of every chart in its own units.
pub(crate) const WIDTH: f64 = 400.0;

/// A drawing of so many units in height with its title and description for those who do not see it.
pub(crate) fn drawing(title: &str, description: &str, height: f64, content: &Markup) -> Markup {
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", at(height))) role="img" aria-label=(title) {
            title { (title) }
            desc { (description) }
            (content)
        }
    }
}

/// A chart with its caption, as it stands in the page.
pub(crate) fn figure(caption: &str, detail: &str, drawing: &Markup) -> Markup {
    html! {
        figure {
            figcaption { strong { (caption) } @if !detail.is_empty() { span { (detail) } } }
            (drawing)
        }
    }
}

/// A coordinate: a tenth of a unit is finer than any screen shows.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}
