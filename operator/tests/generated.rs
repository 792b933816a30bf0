//! Files that are written from the code or from each other are what they would be if they were written now.
//!
//! `WARREN_UPDATE=1 cargo test -p warren-operator` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;

use kube::CustomResourceExt;
use serde_json::{Value, json};
use warren_operator::api::{MessageQueue, crds_yaml};

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Compares a file with what it should be. With `WARREN_UPDATE` set, the file is written instead.
fn check(path: &str, expected: &str) {
    if std::env::var_os("WARREN_UPDATE").is_some() {
        fs::write(root(path), expected).unwrap();
    }
    let found = fs::read_to_string(root(path)).unwrap_or_default();
    assert!(found == expected, "{path} is out of date: run WARREN_UPDATE=1 cargo test -p warren-operator");
}

#[test]
fn the_printed_definition_is_checked_in() {
    check("crds/messagequeues.yaml", &crds_yaml().unwrap());
}

#[test]
fn the_printed_definition_means_what_the_types_say() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&crds_yaml().unwrap()).unwrap();
    assert_eq!(documents, [serde_json::to_value(MessageQueue::crd()).unwrap()]);
}

#[test]
fn kubectl_scale_finds_the_replicas() {
    let crd = serde_json::to_value(MessageQueue::crd()).unwrap();
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    assert_eq!(crd["spec"]["versions"][0]["subresources"]["scale"], scale);
}

#[test]
fn the_definition_fits_kubectls_annotation() {
    // `kubectl apply` keeps the whole object in an annotation, and annotations hold 262,144 octets.
    let size = serde_json::to_string(&MessageQueue::crd()).unwrap().len();
    assert!(size < 200_000, "{size} octets");
}

#[test]
fn the_chart_carries_the_same_definition() {
    let definition = crds_yaml().unwrap();
    assert!(!definition.contains("{{"), "the definition would be taken for a template");
    check(
        "charts/warren/templates/crds.yaml",
        &format!("{{{{- if .Values.crds.enabled }}}}\n{definition}{{{{- end }}}}\n"),
    );
}

#[test]
fn the_chart_carries_the_same_dashboards() {
    let mut names: Vec<_> =
        fs::read_dir(root("deploy/grafana")).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    for name in names.iter().map(|name| name.to_str().unwrap()) {
        check(&format!("charts/warren/dashboards/{name}"), &read(&format!("deploy/grafana/{name}")));
    }
    assert_eq!(fs::read_dir(root("charts/warren/dashboards")).unwrap().count(), names.len());
}

#[test]
fn every_field_is_documented() {
    let crd = serde_json::to_value(MessageQueue::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for part in ["spec", "status"] {
        check_documented(&schema["properties"][part], part);
    }
}

/// Objects of Kubernetes' own types say little about some of their fields; ours say something about each.
fn check_documented(schema: &Value, path: &str) {
    assert!(schema["description"].is_string(), "{path} has no description");
    let own = ![
        "clients",
        "management",
        "metrics",
        "affinity",
        "tolerations",
        "topologySpreadConstraints",
        "conditions",
        "imagePullSecrets",
    ]
    .iter()
    .any(|foreign| path.ends_with(foreign));
    for (name, field) in schema["properties"].as_object().into_iter().flatten().filter(|_| own) {
        check_documented(field, &format!("{path}.{name}"));
    }
}

#[test]
fn chart_and_program_have_the_same_version() {
    let chart = yaml(&read("charts/warren/Chart.yaml"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn samples_are_message_queues() {
    for file in fs::read_dir(root("deploy/samples")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let queue: MessageQueue = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        // A field that the types do not know would be lost on the way.
        let written = serde_json::to_value(&queue).unwrap();
        check_contained(&yaml(&text), &written, "");
    }
}

fn check_contained(part: &Value, whole: &Value, path: &str) {
    match part {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| check_contained(value, &whole[key], &format!("{path}.{key}")));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| check_contained(item, &whole[at], &format!("{path}[{at}]")));
        }
        _ => assert_eq!(part, whole, "{path}"),
    }
}

/// A value of the chart that a user sets.
struct ChartValue {
    path: String,
    default: Value,
    description: String,
}

/// The values in the order of `values.yaml`, with what the schema says about them. Fails on a value that only one of them has.
fn chart_values() -> Vec<ChartValue> {
    let schema: Value = serde_json::from_str(&read("charts/warren/values.schema.json")).unwrap();
    let mut values = Vec::new();
    collect(&yaml(&read("charts/warren/values.yaml")), &schema, "", &mut values);
    values
}

fn collect(defaults: &Value, schema: &Value, path: &str, values: &mut Vec<ChartValue>) {
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(schema["additionalProperties"], false, "{path} takes any key");
    for name in properties.keys().filter(|name| *name != "global") {
        assert!(defaults.get(name).is_some(), "{path}{name} is in the schema and not in values.yaml");
    }
    for (name, default) in defaults.as_object().unwrap() {
        let (path, schema) = (format!("{path}{name}"), &properties[name]);
        if schema["properties"].is_object() {
            collect(default, schema, &format!("{path}."), values);
        } else {
            let description = schema["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
            values.push(ChartValue { path, default: default.clone(), description: description.into() });
        }
    }
}

#[test]
fn the_charts_readme_lists_its_values() {
    const MARK: &str = "<!-- The table is written from values.schema.json and values.yaml; a test compares. -->\n";
    let readme = read("charts/warren/README.md");
    let (text, _) = readme.split_once(MARK).expect("README.md has the mark before its table");
    let mut table = String::from("\n| value | default | meaning |\n| --- | --- | --- |\n");
    for ChartValue { path, default, description } in chart_values() {
        table.push_str(&format!("| `{path}` | `{default}` | {description} |\n"));
    }
    check("charts/warren/README.md", &format!("{text}{MARK}{table}"));
}
