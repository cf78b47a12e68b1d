//! API objects as the API server shows them: for telling a real difference from another way to write the same.

use serde::Serialize;
use serde_json::Value;

/// The object as JSON without empty fields. Absent, null, `""`, `[]` and `{}` mean the same in the API, and times are
/// whole seconds there, as they are when serialised.
pub(crate) fn normalised(object: &impl Serialize) -> Value {
    // Types of the API serialise without errors: their maps have text keys.
    let mut value = serde_json::to_value(object).unwrap_or_default();
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| !is_empty(value));
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_fields_go_at_every_depth() {
        let object = json!({"a": {"b": null, "c": {"d": []}}, "e": [{"f": ""}], "g": false, "h": 0});
        assert_eq!(normalised(&object), json!({"e": [{}], "g": false, "h": 0}));
    }
}
