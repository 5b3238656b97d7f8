//! Size bounds of functions and files, and where `unsafe` may stand.
//!
//! A line counts when it bears code: blank lines and lines of comment do not. The bounds come from measuring the best
//! code of the field, which keeps nine functions of ten within 25 lines.

use std::collections::BTreeMap;
use std::fmt;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::finding::Finding;
use super::tree::SourceFile;

const LONGEST_FUNCTION: usize = 60;
const LONGEST_FILE: usize = 400;
const NINETIETH: usize = 25;
/// How a file begins that a generator of protocol buffers wrote; nobody reads it, so it has no bounds.
const GENERATED: &str = "// This file is @generated";
/// The only rooms with `unsafe`: the CUDA driver API, a shared library with C symbols for tests, and the functions of NVML that
/// no safe wrapper has.
const UNSAFE_ROOMS: [&str; 3] = ["crates/cuda/", "crates/testkit/", "crates/gpu/src/raw/"];

/// Lengths of functions outside tests, by crate.
#[derive(Debug, Default)]
pub(super) struct Lengths(BTreeMap<String, Vec<usize>>);

impl Lengths {
    fn all(&self) -> Vec<usize> {
        self.0.values().flatten().copied().collect()
    }

    /// The tree as a whole against its bound.
    pub(super) fn check(&self) -> Option<Finding> {
        let found = ninetieth(&self.all());
        let what = format!("nine functions of ten fit in {found} lines, more than {NINETIETH}: shorten the longest");
        (found > NINETIETH).then(|| Finding::new("crates", 1, what))
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = |lengths: &[usize]| lengths.iter().max().copied().unwrap_or_default();
        writeln!(f, "{:<18} {:>9} {:>4} {:>8}", "crate", "functions", "p90", "longest")?;
        for (name, lengths) in &self.0 {
            writeln!(f, "{name:<18} {:>9} {:>4} {:>8}", lengths.len(), ninetieth(lengths), longest(lengths))?;
        }
        let all = self.all();
        writeln!(f, "{:<18} {:>9} {:>4} {:>8}", "all", all.len(), ninetieth(&all), longest(&all))
    }
}

/// The smallest length that nine functions of ten do not exceed (nearest rank).
fn ninetieth(lengths: &[usize]) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 9).div_ceil(10);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or_default()
}

/// Checks a Rust file and adds the lengths of its functions.
pub(super) fn check(file: &SourceFile, lengths: &mut Lengths) -> Vec<Finding> {
    if file.text.starts_with(GENERATED) {
        return Vec::new();
    }
    let parsed = match syn::parse_file(&file.text) {
        Ok(parsed) => parsed,
        Err(error) => return vec![Finding::new(&file.path, error.span().start().line, format!("not Rust: {error}"))],
    };
    let in_tests = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let mut survey = Survey { code: code_lines(&file.text), in_tests, ..Survey::default() };
    survey.visit_file(&parsed);
    let mut findings = Vec::new();
    if !UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room)) {
        let what = "`unsafe` stands outside the crates `cuda` and `testkit` and the folder `raw` of `gpu`";
        findings.extend(survey.unsafe_lines.iter().map(|line| Finding::new(&file.path, *line, what)));
    }
    for (line, name, length) in survey.functions.iter().filter(|(_, _, length)| *length > LONGEST_FUNCTION) {
        let what = format!("`{name}` has {length} code lines, more than {LONGEST_FUNCTION}");
        findings.push(Finding::new(&file.path, *line, what));
    }
    let length = survey.code.iter().filter(|code| **code).count() - survey.test_lines;
    if length > LONGEST_FILE {
        let what = format!("the file has {length} code lines, more than {LONGEST_FILE}: split it by noun");
        findings.push(Finding::new(&file.path, 1, what));
    }
    if !parsed.attrs.iter().any(|attribute| attribute.path().is_ident("doc")) && is_crate_root(&file.path) {
        findings.push(Finding::new(&file.path, 1, "the crate does not say in `//!` what it owns and refuses"));
    }
    lengths.0.entry(room(&file.path)).or_default().extend(survey.own.iter());
    findings
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs")
}

/// The crate a file is of.
fn room(path: &str) -> String {
    let mut folders = path.split('/');
    match (folders.next(), folders.next()) {
        (Some("crates"), Some(name)) => name.to_owned(),
        (Some(first), _) => first.to_owned(),
        (None, _) => String::new(),
    }
}

/// For each line from the first, whether it bears code.
fn code_lines(text: &str) -> Vec<bool> {
    let mut in_comment = false;
    let bears_code = |line: &str| {
        let line = line.trim();
        if in_comment || line.starts_with("/*") {
            in_comment = !line.contains("*/");
            return false;
        }
        !line.is_empty() && !line.starts_with("//")
    };
    text.lines().map(bears_code).collect()
}

/// What one file holds.
#[derive(Default)]
struct Survey {
    code: Vec<bool>,
    /// Functions with their line and length.
    functions: Vec<(usize, String, usize)>,
    /// Lengths of the functions outside tests.
    own: Vec<usize>,
    unsafe_lines: Vec<usize>,
    /// Code lines of inline test modules.
    test_lines: usize,
    in_tests: bool,
}

impl Survey {
    fn count(&self, first: usize, last: usize) -> usize {
        let lines = self.code.iter().skip(first.saturating_sub(1)).take(last + 1 - first);
        lines.filter(|code| **code).count()
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let length = self.count(first, last);
        if signature.unsafety.is_some() {
            self.unsafe_lines.push(first);
        }
        self.functions.push((first, signature.ident.to_string(), length));
        if !self.in_tests {
            self.own.push(length);
        }
    }
}

impl<'ast> Visit<'ast> for Survey {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_tests = module.attrs.iter().any(is_cfg_test);
        if is_tests && !self.in_tests {
            self.test_lines += self.count(module.span().start().line, module.span().end().line);
        }
        let before = self.in_tests;
        self.in_tests |= is_tests;
        visit::visit_item_mod(self, module);
        self.in_tests = before;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_lines.push(block.span().start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.unsafe_lines.extend(item.unsafety.map(|word| word.span().start().line));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_foreign_mod(&mut self, block: &'ast syn::ItemForeignMod) {
        self.unsafe_lines.push(block.span().start().line);
        visit::visit_item_foreign_mod(self, block);
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> (Vec<String>, Lengths) {
        let mut lengths = Lengths::default();
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        (check(&file, &mut lengths).into_iter().map(|finding| finding.to_string()).collect(), lengths)
    }

    fn long(lines: usize) -> String {
        format!("/// Doc.\nfn long() {{\n{}}}\n", "    // why\n\n    step();\n".repeat(lines))
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        assert_eq!(found("crates/gpu/src/a.rs", &long(58)).0, Vec::<String>::new());
        let (findings, lengths) = found("crates/gpu/src/a.rs", &long(59));
        assert_eq!(findings, ["crates/gpu/src/a.rs:2: `long` has 61 code lines, more than 60"]);
        assert_eq!(lengths.0.get("gpu"), Some(&vec![61]));
    }

    #[test]
    fn an_inline_test_module_does_not_count_for_the_file() {
        let lines = "const A: u8 = 1;\n".repeat(400);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn step() {}\n".repeat(50));
        let (findings, lengths) = found("xtask/src/a.rs", &format!("{lines}{tests}"));
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(lengths.0.get("xtask"), Some(&vec![]));
        let (findings, _) = found("xtask/src/a.rs", &format!("{lines}const B: u8 = 1;\n{tests}"));
        assert_eq!(findings, ["xtask/src/a.rs:1: the file has 401 code lines, more than 400: split it by noun"]);
    }

    #[test]
    fn generated_code_has_no_bounds() {
        let (findings, lengths) = found("crates/gpu/src/a.rs", &format!("{GENERATED} by a program.\n{}", long(90)));
        assert_eq!(findings, Vec::<String>::new());
        assert!(lengths.all().is_empty());
    }

    #[test]
    fn unsafe_has_its_rooms() {
        let text = "fn f() {\n    unsafe { g() }\n}\nunsafe fn g() {}\nunsafe impl Send for A {}\n";
        for room in ["crates/cuda/src/a.rs", "crates/gpu/src/raw/a.rs"] {
            assert_eq!(found(room, text).0, Vec::<String>::new());
        }
        assert_eq!(found("crates/gpu/src/a.rs", text).0.len(), 3);
        let (findings, _) = found("crates/mps/src/a.rs", text);
        let lines: Vec<&str> = findings.iter().filter_map(|finding| finding.split(':').nth(1)).collect();
        assert_eq!(lines, ["2", "4", "5"]);
    }

    #[test]
    fn a_crate_says_what_it_owns() {
        assert_eq!(found("crates/gpu/src/lib.rs", "//! Owns.\n").0, Vec::<String>::new());
        assert_eq!(found("crates/gpu/src/lib.rs", "mod a;\n").0.len(), 1);
        assert_eq!(found("crates/gpu/src/lib.rs", "mod {\n").0.len(), 1);
    }

    #[test]
    fn nine_functions_of_ten_are_within_the_ninetieth() {
        assert_eq!(ninetieth(&[]), 0);
        assert_eq!(ninetieth(&[7]), 7);
        assert_eq!(ninetieth(&(1..=10).collect::<Vec<_>>()), 9);
        let mut lengths = Lengths::default();
        lengths.0.insert("gpu".to_owned(), vec![26; 10]);
        assert!(lengths.check().is_some());
        lengths.0.insert("mps".to_owned(), vec![25; 90]);
        assert!(lengths.check().is_none());
    }
}
