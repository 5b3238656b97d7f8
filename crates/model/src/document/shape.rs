//! A tree against a JSON schema: what can be read becomes a JSON value, what cannot a problem.
//!
//! Read are the keywords that `schemars` writes for plain types: `$ref`, `type`, `enum`, `const`, `anyOf`, `oneOf`,
//! `properties`, `required`, `additionalProperties`, `items`, `minimum`, `maximum` and the integer `format`s. Stricter than
//! the schema on purpose: a key without a value is a problem even where the type is optional, and a whole number is
//! written without a point.

use std::collections::BTreeSet;

use serde_json::{Number, Value};

use super::items::SPARSE;
use super::lines::Lines;
use super::node::{Content, Node};
use super::problem::{Position, Problem};
use super::spelling::{closest, quoted};

/// Reads `root` as `schema` describes it; `None` where a part that is required cannot be read.
pub(super) fn read(schema: &Value, root: &Node, lines: &mut Lines) -> Option<Value> {
    let mut reader = Reader { root: schema, found: Found::default() };
    let value = reader.value(root, schema, "");
    let Found { problems, notes, renamed } = reader.found;
    for (path, position) in renamed {
        lines.rename(&path, position);
    }
    for problem in problems {
        lines.push_unread(problem);
    }
    for note in notes {
        lines.push_note(note);
    }
    value
}

pub(super) static ANYTHING: Value = Value::Bool(true);
const TEXT: &str = "a text";

/// A tree being read.
pub(super) struct Reader<'s> {
    /// The whole schema, in which references are looked up.
    pub(super) root: &'s Value,
    pub(super) found: Found,
}

/// What was found on the way.
#[derive(Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    /// What is read all the same.
    pub(super) notes: Vec<Problem>,
    /// Paths that are written in another letter case, as the schema has them.
    pub(super) renamed: Vec<(String, Position)>,
}

impl Found {
    fn append(&mut self, mut other: Self) {
        self.problems.append(&mut other.problems);
        self.notes.append(&mut other.notes);
        self.renamed.append(&mut other.renamed);
    }
}

impl<'s> Reader<'s> {
    /// Notes that the value at `path` cannot be read.
    pub(super) fn refuse(
        &mut self,
        position: Position,
        path: &str,
        message: String,
        fix: Option<String>,
    ) -> Option<Value> {
        self.found.problems.push(Problem { position, path: path.to_owned(), message, fix });
        None
    }

    pub(super) fn value(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        let alternatives = self.alternatives(schema);
        let fitting: Vec<&Value> = alternatives.iter().copied().filter(|one| fits(one, &node.content)).collect();
        match fitting.as_slice() {
            [] => {
                let (message, fix) = wrong_type(&node.content, schema, &alternatives);
                self.refuse(node.position, path, message, fix)
            }
            [one] => self.one(node, one, path),
            several => self.nearest(node, several, path),
        }
    }

    /// The schemas one of which the value must meet, references followed, `null` left out.
    pub(super) fn alternatives(&self, schema: &'s Value) -> Vec<&'s Value> {
        let schema = self.resolved(schema);
        let branches = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)?.as_array());
        match branches {
            Some(branches) => branches
                .iter()
                .filter(|branch| branch.get("type").and_then(Value::as_str) != Some("null"))
                .flat_map(|branch| self.alternatives(branch))
                .collect(),
            None => vec![schema],
        }
    }

    pub(super) fn resolved(&self, mut schema: &'s Value) -> &'s Value {
        while let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            match target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
                Some(next) => schema = next,
                None => return &ANYTHING,
            }
        }
        schema
    }

    /// Reads the value as the alternative with the fewest problems.
    fn nearest(&mut self, node: &Node, several: &[&'s Value], path: &str) -> Option<Value> {
        let words: Vec<&str> = several.iter().flat_map(|one| allowed(one)).collect();
        if let (Content::Text(text), false) = (&node.content, words.is_empty()) {
            return self.word(node, text, &words, path);
        }
        let before = std::mem::take(&mut self.found);
        let tried = several.iter().map(|one| {
            let value = self.one(node, one, path);
            (value, std::mem::take(&mut self.found))
        });
        let best = tried.min_by_key(|(_, found)| found.problems.len());
        self.found = before;
        let (value, found) = best?;
        self.found.append(found);
        value
    }

    fn one(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        match &node.content {
            Content::Null => Some(Value::Null),
            Content::Bool(value) => Some(Value::Bool(*value)),
            Content::Whole(value) => self.number(node, (*value).into(), schema, path),
            Content::Negative(value) => self.number(node, (*value).into(), schema, path),
            Content::Real(value) => match Number::from_f64(*value) {
                Some(finite) => self.number(node, finite, schema, path),
                None => {
                    let message = format!("found the number `{value}`, but a finite one belongs here");
                    self.refuse(node.position, path, message, meaning(schema))
                }
            },
            Content::Text(text) => match allowed(schema).as_slice() {
                [] => Some(Value::String(text.clone())),
                words => self.word(node, text, words, path),
            },
            Content::List(items) => self.list(items, schema, path),
            Content::Map(entries) => self.mapping(node, entries, schema, path),
        }
    }

    /// Reads one of some allowed words.
    fn word(&mut self, node: &Node, text: &str, words: &[&str], path: &str) -> Option<Value> {
        if words.contains(&text) {
            return Some(Value::String(text.to_owned()));
        }
        let fix = closest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
        self.refuse(node.position, path, format!("{} is not one of {}", quoted(text), words.join(", ")), fix)
    }

    /// Reads a number within the bounds that the schema and its integer format set.
    fn number(&mut self, node: &Node, value: Number, schema: &Value, path: &str) -> Option<Value> {
        let (least, most) = bounds(schema);
        let number = value.as_f64()?;
        let limit = match (least, most) {
            (Some(least), Some(most)) if number < least || number > most => format!("a number from {least} to {most}"),
            (Some(least), None) if number < least => format!("a number of at least {least}"),
            (None, Some(most)) if number > most => format!("a number of at most {most}"),
            _ => return Some(Value::Number(value)),
        };
        let message = format!("found {}, but {limit} belongs here", node.content.found());
        self.refuse(node.position, path, message, meaning(schema))
    }

    fn list(&mut self, items: &[Node], schema: &'s Value, path: &str) -> Option<Value> {
        let item_schema = schema.get("items").unwrap_or(&ANYTHING);
        let sparse = schema.get(SPARSE).is_some();
        let read: Vec<Option<Value>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let value = self.value(item, item_schema, &format!("{path}[{index}]"));
                if sparse { Some(value.unwrap_or_default()) } else { value }
            })
            .collect();
        read.into_iter().collect::<Option<Vec<Value>>>().map(Value::Array)
    }
}

/// What was found and what belongs there, and how to write it.
fn wrong_type(found: &Content, schema: &Value, alternatives: &[&Value]) -> (String, Option<String>) {
    let words: Vec<&str> = alternatives.iter().flat_map(|one| allowed(one)).collect();
    let kinds: BTreeSet<&str> = alternatives.iter().flat_map(|one| types(one)).map(wanted).collect();
    let wanted = match words.as_slice() {
        [] => kinds.iter().copied().collect::<Vec<_>>().join(" or "),
        words => format!("one of {}", words.join(", ")),
    };
    let in_quotes = in_quotes(found).filter(|_| words.is_empty() && kinds.contains(TEXT));
    let fix = meaning(schema).or_else(|| alternatives.iter().find_map(|one| meaning(one))).or(in_quotes);
    (format!("found {}, but {wanted} belongs here", found.found()), fix)
}

/// A scalar meant as a text, as it has to be written.
fn in_quotes(found: &Content) -> Option<String> {
    let text = match found {
        Content::Whole(value) => value.to_string(),
        Content::Negative(value) => value.to_string(),
        Content::Real(value) => value.to_string(),
        Content::Bool(value) => value.to_string(),
        Content::Null | Content::Text(_) | Content::List(_) | Content::Map(_) => return None,
    };
    Some(format!("put it in quotes: \"{text}\""))
}

/// The least and the most that a schema and its integer format allow.
fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (Some(0.0), Some(f64::from(u8::MAX))),
        Some("uint16") => (Some(0.0), Some(f64::from(u16::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        Some("uint64" | "uint") => (Some(0.0), None),
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    };
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    (bound("minimum").or(least), bound("maximum").or(most))
}

pub(super) fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(name)
}

/// The documentation of a schema, in one line.
pub(super) fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a value means, from its documentation.
fn meaning(schema: &Value) -> Option<String> {
    description(schema).map(|text| format!("what belongs here: {text}"))
}

/// The texts that a schema allows, where it names them.
fn allowed(schema: &Value) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    schema.get("const").into_iter().chain(listed).filter_map(Value::as_str).collect()
}

fn types(schema: &Value) -> Vec<&str> {
    let listed = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ if !allowed(schema).is_empty() => vec!["string"],
        _ => Vec::new(),
    };
    listed.into_iter().filter(|name| *name != "null").collect()
}

fn wanted(name: &str) -> &str {
    match name {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => TEXT,
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping of keys",
        other => other,
    }
}

fn fits(schema: &Value, content: &Content) -> bool {
    let types = types(schema);
    let matching: &[&str] = match content {
        Content::Null => &[],
        Content::Bool(_) => &["boolean"],
        Content::Whole(_) | Content::Negative(_) => &["integer", "number"],
        Content::Real(_) => &["number"],
        Content::Text(_) => &["string"],
        Content::List(_) => &["array"],
        Content::Map(_) => &["object"],
    };
    types.is_empty() || types.iter().any(|name| matching.contains(name))
}
