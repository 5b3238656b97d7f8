//! Values files as trees: read, merged as Helm merges them, and compared with what is known.

use serde_json::{Map, Value};

/// Reads a values file; an empty one has no values.
pub(super) fn read(text: &str) -> Result<Map<String, Value>, String> {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(tree)) => Ok(tree),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("it is not a mapping of keys to values".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Lays `over` over `base`: mappings key by key, everything else whole; null takes a key away, as in Helm.
pub(super) fn merge(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (_, Value::Null) => {
                base.remove(&key);
            }
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Takes every null away: it says the same as no key.
pub(super) fn without_nulls(tree: &mut Map<String, Value>) {
    tree.retain(|_, value| !value.is_null());
    for value in tree.values_mut() {
        if let Value::Object(inner) = value {
            without_nulls(inner);
        }
    }
}

/// Whether a value says nothing: null, false, 0, empty text, list or mapping, as templates see it.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_merged_as_helm_merges_them() {
        let mut base = read("a: {x: 1, y: [1, 2]}\nb: {z: 1}\nc: 1\n").expect("read");
        merge(&mut base, read("a: {x: 2, y: [3]}\nb: null\nc: {d: 1}\n").expect("read"));
        assert_eq!(Value::Object(base), json!({"a": {"x": 2, "y": [3]}, "c": {"d": 1}}));
        assert_eq!(read("# nothing\n").expect("read"), Map::new());
        assert!(read("- a").expect_err("a list").contains("mapping"));
        assert!(read("a: [").is_err());
    }
}
