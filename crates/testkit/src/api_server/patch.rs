//! How patches change an object.

use serde_json::{Map, Value, json};

/// A JSON merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Server-side apply with force, of labels and annotations: what `manager` applied before and leaves out now goes, unless
/// another manager applied it too.
pub(super) fn apply(target: &mut Value, applied: &Value, manager: &str) {
    for kind in ["labels", "annotations"] {
        let wanted = applied["metadata"][kind].as_object().cloned().unwrap_or_default();
        let before = owned(target, manager, kind);
        for key in before.into_iter().filter(|key| !wanted.contains_key(key)) {
            let others = others_own(target, manager, kind, &key);
            if let (false, Some(held)) = (others, target["metadata"][kind].as_object_mut()) {
                held.remove(&key);
            }
        }
        if !wanted.is_empty() && !target["metadata"][kind].is_object() {
            target["metadata"][kind] = json!({});
        }
        if let Some(held) = target["metadata"][kind].as_object_mut() {
            held.extend(wanted);
        }
    }
    record(target, applied, manager);
}

fn owned(target: &Value, manager: &str, kind: &str) -> Vec<String> {
    let entries = target["metadata"]["managedFields"].as_array().into_iter().flatten();
    let ours = entries.filter(|entry| entry["manager"] == manager && entry["operation"] == "Apply");
    ours.flat_map(|entry| keys(entry, kind)).collect()
}

fn others_own(target: &Value, manager: &str, kind: &str, key: &str) -> bool {
    let entries = target["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["manager"] != manager).any(|entry| keys(entry, kind).iter().any(|held| held == key))
}

fn keys(entry: &Value, kind: &str) -> Vec<String> {
    let fields = entry["fieldsV1"]["f:metadata"][format!("f:{kind}")].as_object();
    fields.into_iter().flatten().filter_map(|(field, _)| field.strip_prefix("f:")).map(str::to_owned).collect()
}

fn record(target: &mut Value, applied: &Value, manager: &str) {
    let mut metadata = Map::new();
    for kind in ["labels", "annotations"] {
        let held = applied["metadata"][kind].as_object().into_iter().flatten();
        let fields: Map<String, Value> = held.map(|(key, _)| (format!("f:{key}"), json!({}))).collect();
        if !fields.is_empty() {
            metadata.insert(format!("f:{kind}"), Value::Object(fields));
        }
    }
    let mut entries = target["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.retain(|entry| entry["manager"] != manager || entry["operation"] != "Apply");
    if !metadata.is_empty() {
        let fields = json!({"f:metadata": metadata});
        entries.push(json!({"manager": manager, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": fields}));
    }
    target["metadata"]["managedFields"] = Value::Array(entries);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applying_less_removes_what_was_ours_alone() {
        let mut node = json!({"metadata": {"name": "n", "labels": {"theirs": "1"}}});
        apply(&mut node, &json!({"metadata": {"labels": {"a": "1", "b": "1"}}}), "us");
        apply(&mut node, &json!({"metadata": {"labels": {"b": "1"}}}), "them");
        apply(&mut node, &json!({"metadata": {}}), "us");
        assert_eq!(node["metadata"]["labels"], json!({"theirs": "1", "b": "1"}));
    }

    #[test]
    fn null_removes_in_a_merge_patch() {
        let mut object = json!({"a": {"b": 1, "c": 2}});
        merge(&mut object, &json!({"a": {"b": null}, "d": [1]}));
        assert_eq!(object, json!({"a": {"c": 2}, "d": [1]}));
    }
}
