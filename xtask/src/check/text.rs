//! Words that must not be committed, and links that must lead somewhere.

use std::path::Path;

use super::finding::Finding;
use super::tree::SourceFile;

/// Words that no file may hold, with the reason; written in two parts so that this file may hold them.
const FORBIDDEN: [(&str, &str); 4] = [
    (concat!("TO", "DO"), "open work belongs in an issue"),
    (concat!("FIX", "ME"), "open work belongs in an issue"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/wo", "rk/"), "a path of one machine"),
];

/// Checks the text of a file; `root` is where the links of a Markdown file are resolved.
pub(super) fn check(root: &Path, file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| stands_alone(line, word)) {
            findings.push(Finding::new(&file.path, index + 1, format!("`{word}`: {why}")));
        }
    }
    if file.path.ends_with(".md") {
        findings.extend(broken_links(root, file));
    }
    findings
}

/// Whether `word` stands in `line` and is not the rest of a longer word or path.
fn stands_alone(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '}'))
    })
}

fn broken_links(root: &Path, file: &SourceFile) -> Vec<Finding> {
    let folder = root.join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut findings = Vec::new();
    let mut in_code = false;
    for (index, line) in file.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for target in targets(line) {
            if !folder.join(target).exists() {
                findings.push(Finding::new(&file.path, index + 1, format!("the link to `{target}` leads nowhere")));
            }
        }
    }
    findings
}

/// The files that a line of Markdown links to: `[text](file#part "title")` without part and title, `[text](<file>)` too.
fn targets(line: &str) -> Vec<&str> {
    let prose: Vec<&str> = line.split("](").skip(1).collect();
    prose
        .into_iter()
        .filter_map(|rest| match rest.strip_prefix('<') {
            Some(bracketed) => bracketed.split('>').next(),
            None => rest.split([')', ' ']).next(),
        })
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(root: &Path, path: &str, text: &str) -> Vec<String> {
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        check(root, &file).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn open_work_and_paths_of_a_machine_are_found() {
        let [(word, _), _, (folder, _), _] = FORBIDDEN;
        let text = format!("fine\n// {word}: later\nlet a = \"{folder}x\";\nhttps://a.example{folder}\n");
        let found = found(Path::new("."), "crates/a/src/lib.rs", &text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|finding| finding.starts_with("crates/a/src/lib.rs:")));
    }

    #[test]
    fn links_are_resolved_from_their_file() {
        let root = tempfile::tempdir().expect("folder");
        fs::create_dir(root.path().join("docs")).expect("folder");
        fs::write(root.path().join("docs/a.md"), "").expect("file");
        let text = "[a](a.md#part) [b](../docs/a.md \"title\") [c](https://c.example) [d](#here) [e](<a.md>)\n\
                    ```\n[e](gone.md)\n```\n[f](gone.md)\n";
        assert_eq!(found(root.path(), "docs/b.md", text), ["docs/b.md:5: the link to `gone.md` leads nowhere"]);
    }
}
