//! Mappings against a schema: keys that are known, unknown, twice there, without a value or missing.
//!
//! A mapping is *closed* where its schema says `additionalProperties: false`: what is not known is a problem. It is *open*
//! where the schema lists keys and says nothing of others: it is read as Go's `encoding/json` reads it, which takes a known
//! key in any letter case (unless the schema says [`EXACT_KEYS`]), the last of two equal keys, and a key without a value as
//! left out. All of that is noted.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::lines::member;
use super::node::{Content, Key, Node};
use super::problem::{Position, Problem};
use super::shape::{ANYTHING, Reader, description, property};
use super::spelling::{closest, quoted};

/// The schema's word for an open mapping whose keys count only as they are written.
pub(super) const EXACT_KEYS: &str = "x-exact-keys";

/// Most places that are named for a key which stands in the wrong one.
const PLACES: usize = 3;

/// The mapping being read.
#[derive(Clone, Copy)]
struct Here<'s, 'p> {
    schema: &'s Value,
    path: &'p str,
    keys: Keys,
}

/// How a mapping treats keys that its schema does not name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Closed,
    /// All keys are names of the user's choice.
    Free,
    Open,
}

impl Keys {
    fn of(schema: &Value) -> Self {
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => Self::Closed,
            Some(_) => Self::Free,
            None if schema.get("properties").is_some() => Self::Open,
            None => Self::Free,
        }
    }
}

impl<'s> Reader<'s> {
    pub(super) fn mapping(
        &mut self,
        node: &Node,
        entries: &[(Key, Node)],
        schema: &'s Value,
        path: &str,
    ) -> Option<Value> {
        let here = Here { schema, path, keys: Keys::of(schema) };
        let mut names = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            names.push(if here.keys == Keys::Open { self.known_name(here, key, value) } else { &key.name });
        }
        let last: BTreeMap<&str, Position> =
            names.iter().copied().zip(entries.iter().map(|(key, _)| key.position)).collect();
        let mut read = Map::new();
        let mut seen: BTreeMap<&str, Position> = BTreeMap::new();
        for ((key, value), name) in entries.iter().zip(names) {
            let again = last.get(name).filter(|position| here.keys == Keys::Open && **position != key.position);
            if let Some(Position { line, .. }) = again {
                let message = format!("the key stands again on line {line}, and only the last one counts");
                self.note(key.position, &member(path, name), message, "keep one of them".to_owned());
                continue;
            }
            if let Some(first) = seen.insert(name, key.position) {
                let message = format!("the key {} stands here and on line {}", quoted(name), first.line);
                self.refuse(key.position, &member(path, name), message, Some("keep one of them".to_owned()));
            } else if let Some(value) = self.entry(here, key, name, value) {
                read.insert(name.to_owned(), value);
            }
        }
        self.missing(node, schema, path, |name| seen.contains_key(name));
        required(schema).all(|name| read.contains_key(name)).then_some(Value::Object(read))
    }

    /// Reports the required keys that are not there.
    fn missing(&mut self, node: &Node, schema: &'s Value, path: &str, is_there: impl Fn(&str) -> bool) {
        for name in required(schema).filter(|name| !is_there(name)) {
            let meaning = property(schema, name).and_then(description).map(|text| format!(" - {text}"));
            let fix = format!("add `{name}:`{}", meaning.unwrap_or_default());
            self.refuse(node.position, path, format!("`{name}` is missing"), Some(fix));
        }
    }

    /// The key's name as the schema has it, where only its letter case differs.
    fn known_name<'k>(&mut self, here: Here<'k, '_>, key: &'k Key, value: &Node) -> &'k str {
        let Here { schema, path, .. } = here;
        if property(schema, &key.name).is_some() || schema.get(EXACT_KEYS).is_some() {
            return &key.name;
        }
        let Some(known) = properties(schema).find(|known| known.eq_ignore_ascii_case(&key.name)) else {
            return &key.name;
        };
        let message = format!("the key is read as `{known}`");
        self.note(key.position, &member(path, known), message, format!("write `{known}`"));
        self.renamed(value, member(path, known), key.position);
        known
    }

    /// Remembers where the parts of a value stand whose key is written in another letter case.
    fn renamed(&mut self, value: &Node, path: String, position: Position) {
        let mut positions = BTreeMap::new();
        super::lines::collect(value, path, position, &mut positions);
        self.found.renamed.extend(positions);
    }

    fn entry(&mut self, within: Here<'s, '_>, key: &Key, name: &str, value: &Node) -> Option<Value> {
        let Here { schema, path, keys } = within;
        let here = member(path, name);
        if let Some(known) = property(schema, name) {
            if matches!(value.content, Content::Null) {
                self.empty(key.position, &here, keys == Keys::Open && !required(schema).any(|one| one == name));
                return None;
            }
            return self.value(value, known, &here);
        }
        match (keys, schema.get("additionalProperties")) {
            (Keys::Closed, _) => {
                let fix = Some(self.known_keys(name, schema));
                self.refuse(key.position, &here, format!("unknown key {}", quoted(name)), fix)
            }
            (Keys::Open, _) => {
                let fix = self.known_keys(name, schema);
                self.note(key.position, &here, format!("unknown key {}, which does nothing", quoted(name)), fix);
                None
            }
            (Keys::Free, Some(free)) => self.value(value, free, &here),
            (Keys::Free, None) => self.value(value, &ANYTHING, &here),
        }
    }

    /// A known key without a value.
    fn empty(&mut self, position: Position, path: &str, ignored: bool) {
        let fix = "give it a value, or remove the key".to_owned();
        if ignored {
            self.note(position, path, "the key has no value and counts as left out".to_owned(), fix);
        } else {
            self.refuse(position, path, "the key has no value".to_owned(), Some(fix));
        }
    }

    fn note(&mut self, position: Position, path: &str, message: String, fix: String) {
        self.found.notes.push(Problem { position, path: path.to_owned(), message, fix: Some(fix) });
    }

    /// The keys that a mapping has, the one that was meant first, and the place where the key belongs.
    fn known_keys(&self, written: &str, schema: &Value) -> String {
        let known: Vec<&str> = properties(schema).collect();
        if let Some(meant) = closest(written, known.iter().copied()) {
            return format!("did you mean `{meant}`? known keys here: {}", known.join(", "));
        }
        let mut places = Vec::new();
        self.places(written, self.root, "", &mut places);
        let places = places.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(" or ");
        if places.is_empty() {
            format!("known keys here: {}", known.join(", "))
        } else {
            format!("it belongs to {places}")
        }
    }

    /// Where else in the file a key of this name belongs.
    fn places(&self, key: &str, schema: &'s Value, path: &str, places: &mut Vec<String>) {
        if path.len() > 200 || places.len() == PLACES {
            return;
        }
        for schema in self.alternatives(schema) {
            if property(schema, key).is_some() && !path.is_empty() {
                places.push(path.to_owned());
            }
            for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                self.places(key, inner, &member(path, name), places);
            }
            if let Some(item) = schema.get("items") {
                self.places(key, item, &format!("{path}[]"), places);
            }
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str())
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
