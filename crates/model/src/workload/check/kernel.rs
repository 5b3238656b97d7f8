//! Load kernels: defaults filled in, sizes within what the kernels take.

use crate::document::Lines;
use crate::document::quantity::{bytes, within};
use crate::kernel::{Buffer, Decode, LaunchBound, Products};
use crate::workload::raw::{self, KernelKind, Size};
use crate::{Bytes, Kernel};

const MAXIMUM_WIDTH: u32 = 16_384;
const MAXIMUM_HIDDEN: u32 = 131_072;
const MAXIMUM_ROWS: u32 = 65_536;
/// Most tokens, products or launches of one request.
const MAXIMUM_STEPS: u32 = 1_000_000;

pub(super) fn kernel(path: &str, raw: &raw::Kernel, lines: &mut Lines) -> Kernel {
    refuse_foreign_keys(path, raw, lines);
    match raw.kind {
        KernelKind::Decode => Kernel::Decode(decode(path, raw, lines)),
        KernelKind::Prefill => Kernel::Prefill(products(path, raw, (8192, 1), lines)),
        KernelKind::Embed => Kernel::Embed(products(path, raw, (1024, 16), lines)),
        KernelKind::LaunchBound => {
            let launches = within(&format!("{path}.launches"), raw.launches.unwrap_or(500), 1..=MAXIMUM_STEPS, lines);
            Kernel::LaunchBound(LaunchBound { launches })
        }
        KernelKind::Bandwidth => Kernel::Bandwidth(buffer(path, raw, lines)),
        KernelKind::Memory => Kernel::Memory(buffer(path, raw, lines)),
        KernelKind::Fault => Kernel::Fault,
    }
}

/// The size keys of a kind.
const fn keys(kind: KernelKind) -> (&'static str, &'static [&'static str]) {
    match kind {
        KernelKind::Decode => ("decode", &["layers", "width", "hidden", "weights", "batch", "tokens"]),
        KernelKind::Prefill => ("prefill", &["size", "products"]),
        KernelKind::Embed => ("embed", &["size", "products"]),
        KernelKind::LaunchBound => ("launch-bound", &["launches"]),
        KernelKind::Bandwidth => ("bandwidth", &["size"]),
        KernelKind::Memory => ("memory", &["size"]),
        KernelKind::Fault => ("fault", &[]),
    }
}

fn refuse_foreign_keys(path: &str, raw: &raw::Kernel, lines: &mut Lines) {
    let (kind, own) = keys(raw.kind);
    let given = [
        ("layers", raw.layers.is_some()),
        ("width", raw.width.is_some()),
        ("hidden", raw.hidden.is_some()),
        ("weights", raw.weights.is_some()),
        ("batch", raw.batch.is_some()),
        ("tokens", raw.tokens.is_some()),
        ("size", raw.size.is_some()),
        ("products", raw.products.is_some()),
        ("launches", raw.launches.is_some()),
    ];
    for (key, _) in given.iter().filter(|(key, given)| *given && !own.contains(key)) {
        let fix = match own {
            [] => format!("remove it: {kind} has no sizes"),
            _ => format!("remove it: {kind} has {}", own.join(", ")),
        };
        lines.problem(&format!("{path}.{key}"), format!("`{key}` does not apply to {kind}"), fix);
    }
}

fn decode(path: &str, raw: &raw::Kernel, lines: &mut Lines) -> Decode {
    let layers = within(&format!("{path}.layers"), raw.layers.unwrap_or(24), 1..=512, lines);
    let width = tiled(&format!("{path}.width"), raw.width.unwrap_or(2048), MAXIMUM_WIDTH, lines);
    let hidden = match (raw.hidden, &raw.weights) {
        (Some(_), Some(_)) => {
            let fix = "keep one: `weights` sets `hidden`";
            lines.problem(&format!("{path}.weights"), "both `hidden` and `weights` are given", fix.to_owned());
            128
        }
        (None, Some(weights)) => hidden_for(&format!("{path}.weights"), (layers, width), weights, lines),
        (hidden, None) => tiled(&format!("{path}.hidden"), hidden.unwrap_or(5632), MAXIMUM_HIDDEN, lines),
    };
    let batch = within(&format!("{path}.batch"), raw.batch.unwrap_or(1), 1..=8, lines);
    let tokens = within(&format!("{path}.tokens"), raw.tokens.unwrap_or(128), 1..=MAXIMUM_STEPS, lines);
    let decode = Decode { layers, width, hidden, batch, tokens };
    let most = Bytes(1 << 40);
    if layers <= 512 && width <= MAXIMUM_WIDTH && hidden <= MAXIMUM_HIDDEN && decode.weight_bytes() > most {
        let message = format!("the weights take {}, more than {most}", decode.weight_bytes());
        lines.problem(path, message, "lower `layers`, `width` or `hidden`".to_owned());
    }
    decode
}

/// The feed-forward width that a size of all weights asks for.
fn hidden_for(path: &str, (layers, width): (u32, u32), text: &str, lines: &mut Lines) -> u32 {
    let weights = bytes(path, text, lines);
    let of = |hidden| Decode { layers, width, hidden, batch: 1, tokens: 1 }.weight_bytes();
    if weights.0 == 0 || layers > 512 || width > MAXIMUM_WIDTH {
        return 128;
    }
    let shape = format!("{layers} layers of width {width}");
    if weights < of(128) {
        let message = format!("{weights} is less than {shape} take at least");
        lines.problem(
            path,
            message,
            format!("write {} or more, or lower `layers` or `width`", whole_mebibytes(of(128))),
        );
    } else if weights > of(MAXIMUM_HIDDEN) {
        let message = format!("{weights} is more than {shape} can take");
        lines.problem(path, message, "raise `layers` or `width`".to_owned());
    }
    Decode::hidden_for(layers, width, weights)
}

fn whole_mebibytes(size: Bytes) -> String {
    format!("{}MiB", size.to_mebibytes())
}

fn products(path: &str, raw: &raw::Kernel, (rows, count): (u32, u32), lines: &mut Lines) -> Products {
    let size_path = format!("{path}.size");
    let size = match &raw.size {
        None => rows,
        Some(Size::Rows(rows)) => tiled(&size_path, *rows, MAXIMUM_ROWS, lines),
        Some(Size::Bytes(text)) => {
            let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
            let fix = format!("write the rows and columns of a matrix as a number, such as `size: {rows}`");
            lines.problem(&size_path, format!("`{shown}` is not a number of rows"), fix);
            rows
        }
    };
    let products = within(&format!("{path}.products"), raw.products.unwrap_or(count), 1..=MAXIMUM_STEPS, lines);
    Products { size, products }
}

fn buffer(path: &str, raw: &raw::Kernel, lines: &mut Lines) -> Buffer {
    let (kind, _) = keys(raw.kind);
    let size = match &raw.size {
        Some(Size::Bytes(text)) => bytes(&format!("{path}.size"), text, lines),
        Some(Size::Rows(number)) => {
            let fix = format!("write the unit too, such as `{number}MiB`");
            lines.problem(&format!("{path}.size"), format!("`{number}` is not a size"), fix);
            Bytes(0)
        }
        None => {
            lines.problem(path, format!("{kind} needs a size"), "add `size:`, such as `size: 1GiB`".to_owned());
            Bytes(0)
        }
    };
    Buffer { size }
}

/// Reports a value that is outside `range` or no multiple of 128, the tile of the kernels.
fn tiled(path: &str, value: u32, most: u32, lines: &mut Lines) -> u32 {
    let value = within(path, value, 128..=most, lines);
    if (128..=most).contains(&value) && !value.is_multiple_of(128) {
        let fix = format!("write {} or {}", value / 128 * 128, (value / 128 + 1) * 128);
        lines.problem(path, format!("{value} is not a multiple of 128"), fix);
    }
    value
}
