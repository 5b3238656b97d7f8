//! `cotenant.mps` and `cotenant.faults`.

use super::duration::{SECOND, duration};
use crate::document::Lines;
use crate::document::quantity::{MAXIMUM_BYTES, shown, size, within};
use crate::sharing::config::{Faults, Mps, MpsProtocol, Quarantine, QuarantineAction};
use crate::sharing::raw::own;
use crate::{Bytes, Nanoseconds};

/// Longest time for anything about faults: 30 days.
const LONGEST: Nanoseconds = Nanoseconds(30 * 86_400 * SECOND.0);

/// Checks `cotenant.mps`.
pub(super) fn mps(raw: &own::Mps, lines: &mut Lines) -> Mps {
    let defaults = Mps::default();
    Mps {
        oversubscription: raw.oversubscription.map_or(defaults.oversubscription, |factor| {
            within("cotenant.mps.oversubscription", factor, 1.0..=100.0, lines)
        }),
        reserve: raw
            .reserve
            .as_deref()
            .and_then(|text| size("cotenant.mps.reserve", text, Bytes(0)..=MAXIMUM_BYTES, lines)),
        multi_user: raw.multi_user.unwrap_or(defaults.multi_user),
        exclusive_compute_mode: raw.compute_mode.map_or(defaults.exclusive_compute_mode, |mode| match mode {
            own::ComputeMode::ExclusiveProcess => true,
            own::ComputeMode::Keep => false,
        }),
        protocol: raw.protocol.as_ref().map_or(defaults.protocol, |raw| protocol(raw, lines)),
        mount_shm: raw.shared_memory.map_or(defaults.mount_shm, |memory| match memory {
            own::SharedMemory::Mount => true,
            own::SharedMemory::None => false,
        }),
    }
}

fn protocol(raw: &own::Protocol, lines: &mut Lines) -> MpsProtocol {
    let word = match raw {
        own::Protocol::Version(number) => number.to_string(),
        own::Protocol::Word(word) => word.clone(),
    };
    match word.as_str() {
        "auto" => MpsProtocol::Automatic,
        "2" => MpsProtocol::Two,
        "3" => MpsProtocol::Three,
        other => {
            let message = format!("`{}` is not a protocol of the MPS control daemon", shown(other));
            lines.problem("cotenant.mps.protocol", message, "write `auto`, `2` or `3`".to_owned());
            MpsProtocol::Automatic
        }
    }
}

/// Checks `cotenant.faults`.
pub(super) fn faults(raw: &own::Faults, lines: &mut Lines) -> Faults {
    let path = "cotenant.faults.grace";
    let most = Nanoseconds(600 * SECOND.0);
    Faults {
        grace: raw
            .grace
            .as_deref()
            .map_or_else(|| Faults::default().grace, |text| duration(path, text, Nanoseconds(0)..=most, lines)),
        quarantine: raw.quarantine.as_ref().map(|raw| quarantine(raw, lines)),
    }
}

fn quarantine(raw: &own::Quarantine, lines: &mut Lines) -> Quarantine {
    let path = "cotenant.faults.quarantine";
    let mut span = |key: &str, text: Option<&str>| {
        let hour = Nanoseconds(3600 * SECOND.0);
        text.map_or(hour, |text| duration(&format!("{path}.{key}"), text, SECOND..=LONGEST, lines))
    };
    let (within_time, lasts) = (span("within", raw.within.as_deref()), span("lasts", raw.lasts.as_deref()));
    Quarantine {
        after: within(&format!("{path}.after"), raw.after.unwrap_or(3), 1..=1000, lines),
        within: within_time,
        lasts,
        action: raw.action.map_or_else(QuarantineAction::default, |action| match action {
            own::QuarantineAction::Report => QuarantineAction::Report,
            own::QuarantineAction::Evict => QuarantineAction::Evict,
        }),
    }
}
