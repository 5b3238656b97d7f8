//! The terminal table.

mod alike;
mod arms;
pub(crate) mod header;
mod tenants;
pub(crate) mod tuning;

use comfy_table::{CellAlignment, Table, TableComponent, presets};

use super::Report;
use super::finding;
use super::text::{shortened, wrapped};

/// How a terminal report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStyle {
    /// Columns of the terminal; 100 shows everything that matters, 80 most of it.
    pub width: usize,
    /// Whether to mark lines with ANSI colours.
    pub color: bool,
}

/// Heads of columns of words, which begin at the left like the first column; figures end at the right.
const WORDS: [&str; 2] = ["figure", "B is"];

/// What a line is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// An ordinary line.
    Plain,
    /// A title or the best arm.
    Strong,
    /// An arm or tenant that failed, a broken SLO.
    Bad,
    /// A footnote.
    Faint,
}

/// One line with its tone.
pub(crate) type Line = (Tone, String);

/// The whole report, every line of it marked where the report is.
pub(crate) fn table(report: &Report<'_>, style: TableStyle) -> String {
    let gutter = gutter(report);
    let width = style.width.saturating_sub(gutter.chars().count()).max(40);
    let mut lines = header::lines(report, width);
    lines.push(blank());
    lines.extend(arms::lines(report, width));
    lines.push(blank());
    lines.extend(words(report, width));
    lines.extend(tenants::lines(report, width));
    lines.extend(tuning::lines(report, width));
    written(&lines, &gutter, style.color)
}

/// What stands at the start of every line of a report that is not of a run measured here on a real GPU.
pub(crate) fn gutter(report: &Report<'_>) -> String {
    let marks = report.marks();
    if marks.is_empty() { String::new() } else { format!("{} │ ", marks.join(" ")) }
}

/// The lines with their gutter, coloured if told so, without spaces at their ends.
pub(crate) fn written(lines: &[Line], gutter: &str, color: bool) -> String {
    let mut text = String::new();
    for (tone, line) in lines {
        let (on, off) = if color { escapes(*tone) } else { ("", "") };
        let marked = format!("{gutter}{}", line.trim_end());
        text.extend([format!("{on}{}{off}\n", marked.trim_end())]);
    }
    text
}

const fn escapes(tone: Tone) -> (&'static str, &'static str) {
    match tone {
        Tone::Plain => ("", ""),
        Tone::Strong => ("\u{1b}[1m", "\u{1b}[0m"),
        Tone::Bad => ("\u{1b}[31m", "\u{1b}[0m"),
        Tone::Faint => ("\u{1b}[2m", "\u{1b}[0m"),
    }
}

pub(crate) const fn blank() -> Line {
    (Tone::Plain, String::new())
}

/// What the figures say, and the notes of the run.
fn words(report: &Report<'_>, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> =
        wrapped(&finding::headline(report), width).into_iter().map(|line| (Tone::Strong, line)).collect();
    let remarks = finding::remarks(report).into_iter().map(|remark| (Tone::Plain, remark));
    let notes = report.run.notes.iter().map(|note| (Tone::Bad, format!("note: {}", super::text::printable(note))));
    for (tone, sentence) in remarks.chain(notes) {
        lines.extend(wrapped(&sentence, width).into_iter().map(|line| (tone, line)));
    }
    lines.push(blank());
    lines
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Its head, one or two lines.
    pub(crate) head: &'static str,
    /// How soon it goes when the table is too wide; 0 never.
    pub(crate) dispensable: u8,
    /// One cell a row.
    pub(crate) cells: Vec<String>,
}

/// A table laid out in lines: those of its head, then one a row; and the heads of the columns that did not fit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// Lines of the head with the rule below it.
    pub(crate) head: Vec<String>,
    /// One line a row.
    pub(crate) rows: Vec<String>,
    /// Heads of the columns left out.
    pub(crate) left_out: Vec<&'static str>,
    /// Width of the first column.
    pub(crate) first: usize,
}

/// Lays columns out in at most `width` characters: the most dispensable go first, then the first column is cut.
pub(crate) fn fitted(mut columns: Vec<Column>, width: usize) -> Layout {
    let mut left_out = Vec::new();
    loop {
        let lines: Vec<String> = plain(&columns).lines().map(|line| line.trim_end().to_owned()).collect();
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let most = columns.iter().enumerate().filter(|(_, column)| column.dispensable > 0);
        let most = most.max_by_key(|(_, column)| column.dispensable).map(|(position, _)| position);
        match most {
            Some(position) if widest > width => left_out.push(columns.remove(position).head),
            _ => {
                let rows = columns.first().map_or(0, |column| column.cells.len());
                let head = lines.len().saturating_sub(rows);
                let first = columns
                    .first()
                    .map_or(0, |column| column.cells.iter().map(|c| c.chars().count()).max().unwrap_or(0));
                let (head, rows) = lines.split_at(head);
                return Layout { head: head.to_vec(), rows: rows.to_vec(), left_out, first };
            }
        }
    }
}

fn plain(columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(columns.iter().map(|column| column.head));
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        table.add_row(columns.iter().map(|column| column.cells.get(row).cloned().unwrap_or_default()));
    }
    for (position, column) in table.column_iter_mut().enumerate() {
        let last = position + 1 == columns.len();
        column.set_padding((0, if last { 0 } else { 2 }));
        let words = position == 0 || WORDS.contains(&columns[position].head);
        column.set_cell_alignment(if words { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.to_string()
}

/// A name cut to what a column may take.
pub(crate) fn name(text: &str) -> String {
    shortened(text, 24)
}
