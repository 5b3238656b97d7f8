//! The text files of the repository.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// A text file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Path relative to the root, with `/`.
    pub(super) path: String,
    /// Content.
    pub(super) text: String,
}

/// Folders that hold nothing that is committed.
const LEFT_OUT: [&str; 4] = [".git", "target", ".cache", "node_modules"];
/// Larger files are data.
const LARGEST: u64 = 512 << 10;

/// Every file below `root` that is text, in order of path.
pub(super) fn files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    collect(root, "", &mut found)?;
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        // Others may remove a temporary file between the listing and the look.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
            collect(&entry.path(), &format!("{path}/"), found)?;
        } else if metadata.is_file() && metadata.len() <= LARGEST {
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            found.push(SourceFile { path, text });
        }
    }
    Ok(())
}
