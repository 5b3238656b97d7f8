//! Configuration files: YAML text to typed values, every problem at once, each with its line and the fix.
//!
//! ```text
//! text ── node ──▶ tree with lines ── shape (the type's JSON schema) ──▶ value of T + Lines ── caller's own checks ──▶
//!          │                            │                                                       │
//!          └ not YAML: one problem      └ unknown keys, wrong types, missing keys               └ Lines::finish
//! ```
//!
//! The shape is read from the schema that [`schema`] publishes, so the editor's completion and the program's messages
//! cannot drift apart. What a schema cannot say (sums, references, units) is the caller's: it adds its problems to the
//! [`Lines`] it was given and ends with [`Lines::finish`].
//!
//! Files of other programs are read in their [`Dialect`]: what those programs pass over in silence is noted, and a file
//! within a file (a text in a `ConfigMap` or a values file) is read with the lines of the outer one ([`Node::embedded`]).

mod items;
mod lines;
mod mapping;
mod node;
mod origin;
mod problem;
pub(crate) mod quantity;
mod shape;
mod spelling;
mod tree;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use items::Items;
pub use lines::Lines;
pub use node::{Dialect, Node};
pub use problem::{Position, Problem, Problems};
pub use spelling::closest;

/// Largest file that is read: 1 MiB.
pub const MAXIMUM_BYTES: usize = 1 << 20;

/// Reads a YAML file into its raw type.
///
/// `file` names it in problems. Optional parts that cannot be read are left out of the value and their problems wait in
/// the [`Lines`], so that the caller's checks can add to them: the value counts only once [`Lines::finish`] agrees.
///
/// # Errors
/// What keeps `text` from being read at all: it is no YAML, or a part that `T` needs is missing or of the wrong type;
/// then with every other problem of shape.
pub fn parse<T: DeserializeOwned + JsonSchema + 'static>(file: &str, text: &str) -> Result<(T, Lines), Problems> {
    let documents = documents(Dialect::Strict, file, text)?;
    typed(file, documents.first().unwrap_or(&Node::empty()))
}

/// Reads the documents of a YAML file; none where it is empty or holds comments alone.
///
/// # Errors
/// The one problem that keeps it from being read.
pub fn documents(dialect: Dialect, file: &str, text: &str) -> Result<Vec<Node>, Problems> {
    node::read(dialect, text, &origin::Origin::file(text)).map_err(|problem| Problems::new(file, vec![*problem]))
}

/// Reads a value of a file into its raw type, as [`parse`] does; paths of problems begin at `root`.
///
/// # Errors
/// As [`parse`].
pub fn typed<T: DeserializeOwned + JsonSchema + 'static>(file: &str, root: &Node) -> Result<(T, Lines), Problems> {
    let mut lines = Lines::new(file, root);
    let value = shape::read(&made_once::<T>(), root, &mut lines);
    let Some(value) = value else { return Err(lines.into_problems()) };
    match serde_json::from_value(value) {
        Ok(typed) => Ok((typed, lines)),
        Err(mismatch) => {
            lines.problem("", mismatch.to_string(), None);
            Err(lines.into_problems())
        }
    }
}

/// Where the value at `path` of a tree stands, or the nearest value around it that is there.
#[must_use]
pub fn position(root: &Node, path: &str) -> Position {
    Lines::new("", root).position(path)
}

/// The JSON schema of a type, draft 2020-12.
#[must_use]
pub fn schema<T: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(T).to_value()
}

/// The schema of a type, made once: making it takes longer than reading a file.
fn made_once<T: JsonSchema + 'static>() -> Arc<serde_json::Value> {
    static SCHEMAS: Mutex<BTreeMap<TypeId, Arc<serde_json::Value>>> = Mutex::new(BTreeMap::new());
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(schemas.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(schema::<T>())))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::workload::raw;

    fn refused(text: &str) -> String {
        parse::<raw::Workload>("file.yaml", text).expect_err("refused").to_string()
    }

    #[test]
    fn bombs_are_refused_at_once() {
        let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
        assert!(refused(laughs).contains("anchors"), "{}", refused(laughs));
        for deep in ["[".repeat(100_000), "a: {".repeat(50_000), "- ".repeat(100_000), "? ".repeat(100_000)] {
            let message = refused(&deep);
            assert!(message.starts_with("file.yaml:1:"), "{message}");
        }
        assert!(refused(&"- x\n".repeat(200_000)).starts_with("file.yaml:"));
        assert!(refused(&" ".repeat(10 << 20)).contains("more than the 1048576 that are read"));
    }

    #[test]
    fn a_control_character_is_named_with_its_place() {
        assert_eq!(
            refused("kind: Workload\nname: a\0b"),
            "file.yaml:2:8: the control character `\\0` cannot stand in YAML\n  fix: remove it, or check that the file is plain text"
        );
    }

    #[test]
    fn a_flood_of_problems_is_cut_short() {
        let keys: String = (0..200).map(|number| format!("key{number}: 1\n")).collect();
        let message = refused(&keys);
        assert!(message.ends_with("\nfile.yaml: and 154 more problems"), "{message}");
    }

    #[test]
    fn a_place_falls_back_to_the_nearest_value_around_it() {
        let text = "apiVersion: v\nkind: k\nmetadata:\n  name: n\ntenants:\n  - name: a\n    slo:\n    - metric: e2e\n";
        let (_, lines) = parse::<raw::Workload>("file.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
        let place = |path: &str| {
            let position = lines.position(path);
            (position.line, position.column)
        };
        assert_eq!(place("tenants[0].slo[0].metric"), (8, 15));
        assert_eq!(place("tenants[0].slo[0].atMost"), (8, 7));
        assert_eq!(place("tenants[0].slo"), (7, 5));
        assert_eq!(place("tenants[0].load.open"), (6, 5));
        assert_eq!(place("tenants[7]"), (5, 1));
        assert_eq!(place("arms[2]"), (1, 1));
    }

    /// Keywords of a schema that bear on its values, with those of its parts.
    fn keywords(schema: &Value, found: &mut std::collections::BTreeSet<String>) {
        let Value::Object(map) = schema else { return };
        for (keyword, value) in map {
            found.insert(keyword.clone());
            match (keyword.as_str(), value) {
                ("properties" | "$defs", Value::Object(parts)) => parts.values().for_each(|part| keywords(part, found)),
                ("anyOf" | "oneOf", Value::Array(parts)) => parts.iter().for_each(|part| keywords(part, found)),
                ("items" | "additionalProperties", part) => keywords(part, found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_workload_schema_is_understood() {
        let mut found = std::collections::BTreeSet::new();
        keywords(&schema::<raw::Workload>(), &mut found);
        let understood = "$schema title description default $defs $ref type enum const anyOf oneOf properties required \
                          additionalProperties items minimum maximum format";
        let strange: Vec<&String> =
            found.iter().filter(|word| !understood.split(' ').any(|known| known == *word)).collect();
        assert_eq!(strange, Vec::<&String>::new());
    }
}
