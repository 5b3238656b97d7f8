//! Which devices an entry is for.

use crate::GpuUuid;
use crate::document::Lines;
use crate::document::quantity::shown;
use crate::sharing::config::{DeviceReference, Selector};
use crate::sharing::raw::{Device, Devices};

/// Longest part of a product name; NVML's product names have at most 96 characters.
const LONGEST_PRODUCT: usize = 96;

/// Stands for devices that could not be read, so that nothing is said of their overlap with others.
const NOTHING: Selector = Selector::List(Vec::new());

/// What the devices are chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Shares of GPUs and MIG devices (`sharing`).
    Shares,
    /// Rules for GPUs (`cotenant.gpus`).
    Rule,
}

impl Purpose {
    const fn fix(self) -> &'static str {
        match self {
            Self::Shares => "write `all`, a number of devices, or a list of indices (`0`, MIG `0:1`) and UUIDs",
            Self::Rule => {
                "write `all`, a number of GPUs, or a list of indices, UUIDs and parts of product names: `[0, H200]`"
            }
        }
    }
}

/// Reads `devices`; all where it is left out.
pub(super) fn selector(path: &str, raw: Option<&Devices>, purpose: Purpose, lines: &mut Lines) -> Selector {
    match raw {
        None => Selector::All,
        Some(Devices::Word(word)) if word == "all" => Selector::All,
        Some(Devices::Word(word)) => {
            lines.problem(path, format!("`{}` is neither `all` nor a list", shown(word)), purpose.fix().to_owned());
            NOTHING
        }
        Some(Devices::Count(0)) => {
            lines.problem(path, "0 devices are none", "write 1 or more, or `all`".to_owned());
            NOTHING
        }
        Some(Devices::Count(count)) => Selector::Count(*count),
        Some(Devices::List(list)) => Selector::List(references(path, list, purpose, lines)),
    }
}

fn references(path: &str, raw: &[Device], purpose: Purpose, lines: &mut Lines) -> Vec<DeviceReference> {
    if raw.is_empty() {
        lines.problem(path, "the list names no device", purpose.fix().to_owned());
    }
    let mut list = Vec::new();
    for (index, device) in raw.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let reference = match device {
            Device::Index(index) => Some(DeviceReference::Index(*index)),
            Device::Name(name) => reference(name, purpose),
        };
        match reference {
            Some(reference) if list.contains(&reference) => {
                lines.note(&path, "the device stands in the list already", "remove one of them".to_owned());
            }
            Some(reference) => list.push(reference),
            None => {
                let text = if let Device::Name(name) = device { shown(name) } else { String::new() };
                lines.problem(&path, format!("`{text}` does not name a device"), purpose.fix().to_owned());
            }
        }
    }
    list
}

fn reference(text: &str, purpose: Purpose) -> Option<DeviceReference> {
    if let Ok(index) = text.parse() {
        return Some(DeviceReference::Index(index));
    }
    let is_gpu = text.strip_prefix("GPU-").is_some_and(is_uuid);
    match purpose {
        _ if is_gpu => Some(DeviceReference::Uuid(canonical(text))),
        Purpose::Shares => {
            let is_mig = text.strip_prefix("MIG-").is_some_and(|rest| is_uuid(rest) || is_old_mig(rest));
            let uuid = is_mig.then(|| DeviceReference::Uuid(canonical(text)));
            uuid.or_else(|| {
                let (gpu, mig) = text.split_once(':')?;
                Some(DeviceReference::MigIndex(gpu.parse().ok()?, mig.parse().ok()?))
            })
        }
        Purpose::Rule => {
            let product = text.contains(|c: char| c.is_ascii_alphabetic())
                && text.chars().count() <= LONGEST_PRODUCT
                && !text.starts_with("GPU-")
                && !text.starts_with("MIG-")
                && !text.chars().any(char::is_control);
            product.then(|| DeviceReference::Product(text.to_owned()))
        }
    }
}

/// `GPU-UUID/GI/CI`, the name of a MIG device before driver 470, without its `MIG-`.
fn is_old_mig(text: &str) -> bool {
    let mut parts = text.split('/');
    let gpu = parts.next().and_then(|gpu| gpu.strip_prefix("GPU-")).is_some_and(is_uuid);
    let numbers: Vec<Option<u32>> = parts.map(|part| part.parse().ok()).collect();
    gpu && matches!(numbers.as_slice(), [Some(_), Some(_)])
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The UUID as the driver writes it: hexadecimal digits in lower case.
fn canonical(text: &str) -> GpuUuid {
    let (prefix, rest) = text.split_at(4);
    GpuUuid(format!("{prefix}{}", rest.to_ascii_lowercase().replace("gpu-", "GPU-")))
}
