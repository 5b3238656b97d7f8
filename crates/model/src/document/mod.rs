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

mod lines;
mod node;
mod problem;
mod shape;
mod spelling;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use lines::Lines;
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
pub fn parse<T: DeserializeOwned + JsonSchema>(file: &str, text: &str) -> Result<(T, Lines), Problems> {
    let root = node::read(text).map_err(|problem| Problems::new(file, vec![*problem]))?;
    let mut lines = Lines::new(file, &root);
    let value = shape::read(&schema::<T>(), &root, &mut lines);
    let Some(value) = value else { return Err(lines.into_problems()) };
    match serde_json::from_value(value) {
        Ok(typed) => Ok((typed, lines)),
        Err(mismatch) => {
            lines.problem("", mismatch.to_string(), None);
            Err(lines.into_problems())
        }
    }
}

/// The JSON schema of a type, draft 2020-12.
#[must_use]
pub fn schema<T: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(T).to_value()
}
