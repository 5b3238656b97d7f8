//! What XID errors mean: names, and how a GPU is well again, from NVIDIA's Xid catalog.

/// How a GPU is well again after an XID error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XidRecovery {
    /// By itself, once whatever ran is gone.
    Passes,
    /// After a reset, or a reboot.
    Reset,
}

/// How a GPU is well again after an XID error.
///
/// NVIDIA's Xid catalog for Ampere and newer (`docs.nvidia.com/deploy/xid-errors`, “Resolution Bucket (Immediate Action)”): a
/// reset is what it names for these, a restart of the node for 79 and of the virtual machine for 151, and its text says of 48
/// and 74 that a reset or reboot clears them. 109 has the same bucket; NVIDIA's device plugin skips it all the same, and so does
/// [`XidPolicy`](super::XidPolicy) unless told otherwise. The `NVLink` errors 144 to 150 need a reset in some of their cases: there the
/// driver's own [recovery action](super::RecoveryAction) decides, which every driver of those GPUs tells.
#[must_use]
pub const fn xid_recovery(xid: u64) -> XidRecovery {
    match xid {
        46 | 48 | 62 | 64 | 74 | 79 | 95 | 109 | 110 | 119 | 120 | 136 | 140 | 143 | 151 | 155 | 156 | 158 => {
            XidRecovery::Reset
        }
        _ => XidRecovery::Passes,
    }
}

/// The catalog's description of an XID error that is met more than rarely.
#[must_use]
pub const fn xid_name(xid: u64) -> Option<&'static str> {
    Some(match xid {
        13 => "graphics engine exception",
        31 => "GPU memory page fault",
        32 => "corrupted push buffer",
        43 => "GPU stopped processing",
        45 => "preemptive cleanup after earlier errors",
        46 => "GPU stopped processing",
        48 => "double-bit ECC error",
        62 => "internal microcontroller halt",
        63 => "memory remapping event",
        64 => "memory remapping failure",
        68 => "video decoder exception",
        69 => "graphics engine class error",
        74 => "NVLink error",
        79 => "GPU has fallen off the bus",
        92 => "high rate of single-bit ECC errors",
        94 => "contained memory error",
        95 => "uncontained memory error",
        109 => "context switch timeout",
        110 => "security fault",
        119 => "GSP call timeout",
        120 => "GSP error",
        136 => "link training failed",
        140 => "unrecovered ECC error",
        143 => "GPU initialization error",
        154 => "recovery action changed",
        158 => "GPU fatal timeout",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restart_of_the_application_mends_passes_and_what_breaks_the_gpu_does_not() {
        for xid in [63, 92, 94, 154, 9_999] {
            assert_eq!(xid_recovery(xid), XidRecovery::Passes, "{xid}");
        }
        for xid in [48, 64, 79, 95, 119, 120, 140] {
            assert_eq!(xid_recovery(xid), XidRecovery::Reset, "{xid}");
            assert!(xid_name(xid).is_some(), "{xid}");
        }
    }
}
