//! Resource names, as NVIDIA's plugin completes and checks them.

use crate::document::Lines;
use crate::document::quantity::shown;
use crate::sharing::ResourceName;

const PREFIX: &str = "nvidia.com/";

/// Longest full name of a resource (`MaxResourceNameLength` of NVIDIA's plugin; the kubelet takes 63 after the slash).
const LONGEST: usize = 63;

/// The name of whole GPUs.
pub(super) const GPU: &str = "nvidia.com/gpu";

/// Reads a resource name, with `nvidia.com/` added where it is not there.
pub(super) fn resource(path: &str, text: &str, lines: &mut Lines) -> ResourceName {
    let name = text.strip_prefix(PREFIX).unwrap_or(text);
    let full = format!("{PREFIX}{name}");
    let complaint = if full.len() > LONGEST {
        let fix = format!("shorten it: with `{PREFIX}` it has {} characters, and {LONGEST} are allowed", full.len());
        Some((format!("`{}` is too long for a resource name", shown(text)), fix))
    } else if let Some((domain, rest)) = name.split_once('/') {
        let fix = format!("write `{PREFIX}{}`", shown(&rest.to_lowercase()));
        Some((format!("`{}` is not a domain of this program's: resources are under `nvidia.com`", shown(domain)), fix))
    } else if !is_subdomain(name) {
        let fix = "use lower-case letters, digits, `-` and `.` between them, such as `nvidia.com/gpu.small`".to_owned();
        Some((format!("`{}` is not a resource name", shown(text)), fix))
    } else {
        None
    };
    if let Some((message, fix)) = complaint {
        lines.problem(path, message, fix);
    }
    ResourceName(full)
}

/// Whether [`resource`] found nothing wrong with a name.
pub(super) fn is_valid(name: &ResourceName) -> bool {
    name.0.len() <= LONGEST && name.0.strip_prefix(PREFIX).is_some_and(is_subdomain)
}

/// Whether a text is a DNS subdomain (RFC 1123), as Kubernetes checks it.
pub(super) fn is_subdomain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split('.')
        .all(|label| !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-'))
}
