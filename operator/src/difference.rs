//! Pure: does an object in the cluster already say what we want it to say?
//!
//! Server-side apply would find out by itself, but each apply is a write request even when nothing changes. Two
//! comparisons together say the same without writing:
//! - every field that we want has the value that we want ([`first_difference`]). Fields that we do not set are not ours: the API
//!   server's defaults and other people's additions stay;
//! - the set of fields that we want is the one that we applied last ([`field_set`], kept in an annotation), so that a
//!   field that we want no longer is taken away.

use serde_json::{Map, Value};

use crate::fingerprint::fingerprint;
use crate::quantity;

/// Annotation of every owned object: the fingerprint of the fields that we applied last.
pub const FIELD_SET_ANNOTATION: &str = "warrenmq.dev/applied-fields";

/// The path of the first field of `wanted` that `observed` lacks or has with another value, such as `.spec.replicas`.
/// `None` if it has them all.
pub fn first_difference(observed: &Value, wanted: &Value) -> Option<String> {
    compare(observed, wanted, Text::Exact)
}

/// Fingerprint of the paths of all fields in `object`, whatever their values, so that it says nothing about a password.
pub fn field_set(object: &Value) -> String {
    let mut paths = Vec::new();
    collect_paths(object, "", &mut paths);
    fingerprint(paths.iter().map(String::as_str))
}

/// How strings are compared.
#[derive(Clone, Copy)]
enum Text {
    Exact,
    /// As Kubernetes quantities: the API server stores `0.5` as `500m`.
    Quantity,
}

/// The path of the first difference, from here on.
fn compare(observed: &Value, wanted: &Value, text: Text) -> Option<String> {
    let same = match (observed, wanted) {
        (Value::Object(observed), Value::Object(wanted)) => {
            return wanted.iter().find_map(|(key, wanted)| {
                compare_field(observed, key, wanted, text).map(|path| format!(".{key}{path}"))
            });
        }
        (Value::Array(observed), Value::Array(wanted)) if observed.len() == wanted.len() => {
            let pairs = observed.iter().zip(wanted).enumerate();
            return pairs.into_iter().find_map(|(index, (observed, wanted))| {
                compare(observed, wanted, text).map(|path| format!("[{index}]{path}"))
            });
        }
        (Value::String(observed), Value::String(wanted)) => match text {
            Text::Exact => observed == wanted,
            Text::Quantity => quantity::equal(observed, wanted),
        },
        _ => observed == wanted,
    };
    (!same).then(String::new)
}

fn compare_field(observed: &Map<String, Value>, key: &str, wanted: &Value, text: Text) -> Option<String> {
    let Some(found) = observed.get(key) else {
        // The API server stores an empty list, map or text as no field at all.
        return (!is_empty(wanted)).then(String::new);
    };
    match (key, found, wanted) {
        // Others may add owners to our objects.
        ("ownerReferences", Value::Array(found), Value::Array(wanted)) => {
            let among = |owner| found.iter().any(|candidate| compare(candidate, owner, Text::Exact).is_none());
            (!wanted.iter().all(among)).then(String::new)
        }
        ("requests" | "limits", ..) => compare(found, wanted, Text::Quantity),
        _ => compare(found, wanted, text),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn collect_paths(value: &Value, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, field)| collect_paths(field, &format!("{path}\n{key}"), paths));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| collect_paths(item, &format!("{path}\n{index}"), paths));
        }
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(observed: &Value, wanted: &Value) -> bool {
        first_difference(observed, wanted).is_none()
    }

    #[test]
    fn defaults_and_additions_of_others_are_no_difference() {
        let wanted = json!({"spec": {"ports": [{"port": 5672}]}, "metadata": {"labels": {"a": "1"}}});
        let observed = json!({
            "spec": {"ports": [{"port": 5672, "protocol": "TCP"}], "clusterIP": "10.0.0.1"},
            "metadata": {"labels": {"a": "1", "theirs": "x"}, "uid": "1"},
        });
        assert!(holds(&observed, &wanted));
    }

    #[test]
    fn a_changed_value_a_lost_field_and_an_added_item_are_differences() {
        let wanted = json!({"spec": {"ports": [{"port": 5672}]}});
        assert!(!holds(&json!({"spec": {"ports": [{"port": 5673}]}}), &wanted));
        assert!(!holds(&json!({"spec": {}}), &wanted));
        assert!(!holds(&json!({"spec": {"ports": [{"port": 5672}, {"port": 1}]}}), &wanted));
    }

    #[test]
    fn the_difference_is_named_by_its_path() {
        let ports = |port: u16| json!({"spec": {"ports": [{"port": 1}, {"port": port}]}});
        assert_eq!(first_difference(&ports(2), &ports(3)).as_deref(), Some(".spec.ports[1].port"));
    }

    #[test]
    fn quantities_compare_by_value_only_where_quantities_are() {
        let resources = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        assert!(holds(&resources("500m"), &resources("0.5")));
        assert!(!holds(&resources("501m"), &resources("0.5")));
        assert!(!holds(&json!({"labels": {"version": "1"}}), &json!({"labels": {"version": "1.0"}})));
    }

    #[test]
    fn an_empty_value_equals_no_field() {
        assert!(holds(&json!({}), &json!({"nodeSelector": {}, "tolerations": [], "value": ""})));
        assert!(!holds(&json!({}), &json!({"replicas": 0})));
    }

    #[test]
    fn owners_added_by_others_are_no_difference() {
        let wanted = json!({"ownerReferences": [{"uid": "ours"}]});
        assert!(holds(
            &json!({"ownerReferences": [{"uid": "theirs"}, {"uid": "ours", "kind": "MessageQueue"}]}),
            &wanted
        ));
        assert!(!holds(&json!({"ownerReferences": [{"uid": "theirs"}]}), &wanted));
    }

    #[test]
    fn the_field_set_depends_on_fields_and_not_on_values() {
        let set = |value: Value| field_set(&value);
        assert_eq!(set(json!({"a": 1, "b": ["x"]})), set(json!({"a": 2, "b": ["y"]})));
        assert_ne!(set(json!({"a": 1, "b": ["x"]})), set(json!({"a": 1})));
        assert_ne!(set(json!({"a": {"b": 1}})), set(json!({"a": 1, "b": 1})));
        assert_ne!(set(json!({"b": ["x"]})), set(json!({"b": ["x", "y"]})));
    }
}
