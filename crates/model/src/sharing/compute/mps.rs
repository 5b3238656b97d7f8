//! Shares of an MPS server: whether a GPU can have them, what each is, what is kept back.

use std::collections::BTreeMap;

use super::draft::Draft;
use crate::gpu::{Driver, Gpu};
use crate::sharing::config::{Mps, MpsProtocol};
use crate::sharing::offer::{MpsDaemon, Share};
use crate::{Bytes, Percent};

/// What an MPS server takes of a GPU for itself and its clients, beside what the clients are charged for.
///
/// On an H100 with driver 580.159.04 the server takes 66 MiB, with one client and with 48 alike, and the memory in use is 9
/// (one client) to 62 MiB (48 clients) more than all processes together: 128 MiB in all. Twice that is kept, because no other
/// card has been seen (an H200's server takes 66 MiB too). A client's own context counts against its limit: 518 MiB without a
/// percentage, 60 MiB at 2 %.
pub const SERVER_RESERVE: Bytes = Bytes::mebibytes(256);

/// What the driver is taken to keep for itself where it does not say (before 510): it says 480 MiB on an H100 with driver 580.
pub const DRIVER_RESERVE: Bytes = Bytes::mebibytes(640);

/// Memory of a GPU that no share gets where the configuration does not say: what the driver keeps for itself, and
/// [`SERVER_RESERVE`].
#[must_use]
pub fn default_reserve(gpu: &Gpu) -> Bytes {
    Bytes(gpu.memory_reserved.unwrap_or(DRIVER_RESERVE).0.saturating_add(SERVER_RESERVE.0))
}

/// Clients that an MPS server takes on a GPU: 16 before Volta, 48 up to CUDA 13.0, 60 from CUDA 13.1 on (NVIDIA's MPS
/// documentation, "Client-Server Connection Limits"). A GPU that does not tell its compute capability counts as newer.
#[must_use]
pub fn maximum_clients(gpu: &Gpu, driver: &Driver) -> u32 {
    match (gpu.compute_capability, driver.cuda) {
        (Some((0..=6, _)), _) => 16,
        (_, Some(cuda)) if cuda >= (13, 1) => 60,
        (Some(_) | None, _) => 48,
    }
}

/// What the shares of a GPU are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) reserve: Bytes,
    /// Whole mebibytes for shares.
    pub(super) mebibytes: u64,
}

/// The memory for shares, and the sentence that says how it came about; `None` with the problem reported.
pub(super) fn room(draft: &mut Draft<'_>, path: &str, gpu: &Gpu) -> Option<Room> {
    let reserve = draft.sharing.mps.reserve.unwrap_or_else(|| default_reserve(gpu));
    let mebibytes = gpu.memory.0.saturating_sub(reserve.0) >> 20;
    if mebibytes == 0 {
        let message = format!(
            "GPU {} has {} MiB, and {} MiB are kept back",
            gpu.index,
            gpu.memory.0 >> 20,
            reserve.to_mebibytes()
        );
        draft.problem(path, message, "write a smaller `cotenant.mps.reserve`, or do not share it through MPS");
        return None;
    }
    let parts = match (draft.sharing.mps.reserve, gpu.memory_reserved) {
        (Some(_), _) => "`cotenant.mps.reserve`".to_owned(),
        (None, Some(driver)) => format!(
            "{} MiB that the driver keeps for itself and {} MiB for the MPS server",
            driver.to_mebibytes(),
            SERVER_RESERVE.to_mebibytes()
        ),
        (None, None) => format!(
            "{} MiB for the driver, which does not say what it keeps, and {} MiB for the MPS server",
            DRIVER_RESERVE.to_mebibytes(),
            SERVER_RESERVE.to_mebibytes()
        ),
    };
    let total = gpu.memory.0 >> 20;
    draft.reason(&gpu.uuid, format!("Of {total} MiB of memory {} MiB are kept back: {parts}.", reserve.to_mebibytes()));
    Some(Room { reserve, mebibytes })
}

/// Whether a GPU can be shared through MPS by so many clients; if not, the problem is reported.
pub(super) fn is_capable(draft: &mut Draft<'_>, path: &str, gpu: &Gpu, clients: u64) -> bool {
    let index = gpu.index;
    if gpu.mig == Some(true) {
        let message = format!("sharing using MPS is not supported for MIG devices, and GPU {index} is in MIG mode");
        draft.problem(
            path,
            message,
            format!("switch MIG mode off (`nvidia-smi -i {index} -mig 0`), or use time slicing"),
        );
        return false;
    }
    if let Some((major, minor)) = gpu.compute_capability.filter(|capability| *capability < (3, 5)) {
        let message = format!("GPU {index} ({}) has compute capability {major}.{minor}, and MPS needs 3.5", gpu.name);
        draft.problem(path, message, "use time slicing");
        return false;
    }
    let most = maximum_clients(gpu, draft.driver);
    if clients > u64::from(most) {
        let message = format!("maximum allowed replicas exceeded: {clients} > {most} on GPU {index} ({})", gpu.name);
        draft.problem(
            path,
            message,
            format!("lower the number of shares to {most}: an MPS server has no more clients"),
        );
        return false;
    }
    if gpu.compute_capability.is_some_and(|capability| capability < (7, 0)) {
        draft.note(format!(
            "GPU {index} ({}) is older than Volta: MPS does not limit its clients' multiprocessors there.",
            gpu.name
        ));
    }
    true
}

/// Thousandths of the oversubscription factor, so that the division below is exact.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the factor is kept between 1 and 100")]
fn thousandths(factor: f64) -> u64 {
    (factor.clamp(1.0, 100.0) * 1000.0).round() as u64
}

/// One of `replicas` equal shares, with the sentences that say how it came about; `None` with the problem reported.
pub(super) fn equal_share(draft: &mut Draft<'_>, path: &str, gpu: &Gpu, replicas: u32) -> Option<Share> {
    if !is_capable(draft, path, gpu, replicas.into()) {
        return None;
    }
    let room = room(draft, path, gpu)?;
    let replicas = replicas.max(1);
    let each = room.mebibytes / u64::from(replicas);
    if each == 0 {
        let message =
            format!("{replicas} shares of {} MiB on GPU {} leave no whole MiB to each", room.mebibytes, gpu.index);
        draft.problem(path, message, "lower the number of shares");
        return None;
    }
    let factor = draft.sharing.mps.oversubscription;
    let number = 100 * thousandths(factor) / 1000 / u64::from(replicas);
    let percent = u8::try_from(number.clamp(1, 100)).ok().and_then(|number| Percent::try_from(number).ok())?;
    draft.reason(&gpu.uuid, format!("Each of {replicas} shares gets {} ÷ {replicas} = {each} MiB.", room.mebibytes));
    let (times, why) = oversubscribed(factor);
    draft.reason(
        &gpu.uuid,
        format!("Each may use 100{times} ÷ {replicas} = {percent} % of the multiprocessors{why}, in whole percent."),
    );
    keep(draft, gpu, room);
    Some(Share { memory: Bytes::mebibytes(each), percent })
}

fn oversubscribed(factor: f64) -> (String, &'static str) {
    if thousandths(factor) == 1000 {
        (String::new(), "")
    } else {
        (format!(" × {factor}"), " (`cotenant.mps.oversubscription`)")
    }
}

/// Writes down what a GPU under MPS keeps back and the daemon that it needs.
fn keep(draft: &mut Draft<'_>, gpu: &Gpu, room: Room) {
    let daemon = daemon(draft.sharing.flags.mps_root.clone(), &draft.sharing.mps);
    if let Some(offer) = draft.gpu(&gpu.uuid) {
        offer.reserve = room.reserve;
        offer.daemon = Some(daemon);
    }
}

fn daemon(root: String, mps: &Mps) -> MpsDaemon {
    let protocol = match mps.protocol {
        MpsProtocol::Automatic => "auto",
        MpsProtocol::Two => "2",
        MpsProtocol::Three => "3",
    };
    // The limit is known once every share of the GPU is.
    let limit = Share { memory: Bytes(0), percent: Percent::ALL };
    MpsDaemon { root, multi_user: mps.multi_user, protocol: protocol.to_owned(), limit }
}

/// Whether a GPU holds so many shares of each class; if not, every problem is reported.
pub(super) fn holds(draft: &mut Draft<'_>, path: &str, gpu: &Gpu, counts: &BTreeMap<String, u32>) -> bool {
    let sharing = draft.sharing;
    let clients = counts.values().map(|count| u64::from(*count)).sum();
    if !is_capable(draft, path, gpu, clients) {
        return false;
    }
    let Some(room) = room(draft, path, gpu) else { return false };
    let (mut memory, mut percent, mut sizes) = (0_u64, 0_u64, Vec::new());
    for (name, count) in counts {
        let Some(class) = sharing.classes.get(name) else {
            draft.problem(path, format!("there is no class `{name}`"), "describe it under `cotenant.classes`");
            return false;
        };
        let mebibytes = class.memory.to_mebibytes();
        memory = memory.saturating_add(mebibytes.saturating_mul((*count).into()));
        percent = percent.saturating_add(u64::from(class.percent.get()) * u64::from(*count));
        sizes.push(format!("{count} × {name} of {mebibytes} MiB"));
    }
    let index = gpu.index;
    let enough = memory <= room.mebibytes;
    if !enough {
        let message = format!(
            "{} are {memory} MiB, and GPU {index} ({}) has room for {} MiB ({} MiB less {} MiB kept back)",
            sizes.join(" and "),
            gpu.name,
            room.mebibytes,
            gpu.memory.0 >> 20,
            room.reserve.to_mebibytes()
        );
        draft.problem(
            path,
            message,
            format!("lower the counts, or the memory of the classes by {} MiB in all", memory - room.mebibytes),
        );
    }
    let most = 100 * thousandths(sharing.mps.oversubscription) / 1000;
    if percent > most {
        let message = format!(
            "the shares of GPU {index} add up to {percent} % of the multiprocessors, and {most} % may be handed out"
        );
        let factor = percent.div_ceil(10) as f64 / 10.0;
        draft.problem(
            path,
            message,
            format!("lower the counts or percentages, or write `cotenant: {{mps: {{oversubscription: {factor}}}}}`"),
        );
        return false;
    }
    if enough {
        draft.reason(
            &gpu.uuid,
            format!(
                "Its shares take {memory} of {} MiB and {percent} of {most} % of the multiprocessors.",
                room.mebibytes
            ),
        );
        keep(draft, gpu, room);
    }
    enough
}
