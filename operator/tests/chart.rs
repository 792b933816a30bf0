//! The chart, rendered by Helm: the objects are those checked in below `tests/objects/`, and bad values are refused.
//!
//! Helm is the program `helm` on the PATH, or the one that the variable HELM names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/warren");

fn helm(arguments: &[&str]) -> Output {
    let program = std::env::var_os("HELM").unwrap_or_else(|| OsString::from("helm"));
    let output = Command::new(&program).args(arguments).output();
    output
        .unwrap_or_else(|error| panic!("{program:?} cannot be run ({error}); put helm on the PATH or name it in HELM"))
}

fn render(settings: &[&str]) -> Output {
    let fixed = ["template", "warren", CHART, "--namespace", "warren", "--kube-version", "1.33.0"];
    helm(&[&fixed, settings].concat())
}

/// Compares what the chart renders with a file. With `WARREN_UPDATE` set, the file is written instead.
fn check(file: &str, settings: &[&str]) {
    let output = render(settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = format!("{}/tests/objects/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("WARREN_UPDATE").is_some() {
        fs::write(&path, &output.stdout).unwrap();
    }
    let rendered = String::from_utf8(output.stdout).unwrap();
    assert!(rendered == fs::read_to_string(&path).unwrap(), "{path} differs from what is rendered:\n{rendered}");
}

fn check_refused(setting: &str, reason: &str) {
    let output = render(&["--set", setting]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{setting} is taken");
    assert!(text.contains(reason), "{setting}: {text}");
}

#[test]
fn defaults_render_these_objects() {
    check("chart-defaults.yaml", &["--set", "crds.enabled=false"]);
}

#[test]
fn watched_namespaces_get_roles_and_the_cluster_none() {
    let settings = [
        "--set",
        "crds.enabled=false,watchNamespaces={orders,billing},log.format=text",
        "--set-json",
        r#"consumers.scaleTargets=[{"apiGroup":"argoproj.io","resource":"rollouts"}]"#,
    ];
    check("chart-namespaces.yaml", &settings);
}

#[test]
fn a_single_operator_has_no_lease_and_is_replaced_whole() {
    check("chart-single.yaml", &["--set", "crds.enabled=false,replicas=1,networkPolicy.enabled=true"]);
}

#[test]
fn every_setting_of_a_pod_reaches_it() {
    let settings = [
        "imagePullSecrets[0].name=registry",
        "image.pullPolicy=Always",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "brokerImage.tag=next",
        "clusterDomain=example.org",
        "extraEnv[0].name=HTTPS_PROXY",
        "extraEnv[0].value=http://proxy.example:3128",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
        "affinity.nodeAffinity.x=y",
        "nodeSelector.disk=fast",
        "priorityClassName=high",
        "commonLabels.team=queues",
        "metrics.service.enabled=false",
        "serviceAccount.create=false",
        "serviceAccount.name=own",
    ];
    let settings = format!("crds.enabled=false,rbac.create=false,networkPolicy.enabled=true,{}", settings.join(","));
    check("chart-settings.yaml", &["--set", &settings]);
}

#[test]
fn the_operators_pod_meets_the_restricted_pod_security_standard() {
    let rendered = render(&["--show-only", "templates/deployment.yaml"]).stdout;
    let deployment: Value = serde_saphyr::from_str(&String::from_utf8(rendered).unwrap()).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(
        (&context["allowPrivilegeEscalation"], &context["readOnlyRootFilesystem"]),
        (&false.into(), &true.into())
    );
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert!(pod["hostNetwork"].is_null() && pod["volumes"].is_null(), "{pod}");
}

#[test]
fn dashboards_and_a_service_monitor_come_when_asked_for() {
    let settings =
        "crds.enabled=false,dashboards.enabled=true,dashboards.namespace=grafana,metrics.serviceMonitor.enabled=true";
    let rendered = String::from_utf8(render(&["--set", settings]).stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
    let of_kind = |kind: &str| documents.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let dashboards = of_kind("ConfigMap");
    let files = fs::read_dir(format!("{CHART}/dashboards")).unwrap().count();
    assert_eq!(dashboards.len(), files);
    for dashboard in dashboards {
        let metadata = &dashboard["metadata"];
        assert_eq!(
            (&metadata["namespace"], &metadata["labels"]["grafana_dashboard"]),
            (&"grafana".into(), &"1".into())
        );
        let (_, text) = dashboard["data"].as_object().unwrap().iter().next().unwrap();
        let board: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert!(board["uid"].as_str().unwrap().starts_with("warren-"), "{metadata}");
    }
    assert_eq!(of_kind("ServiceMonitor")[0]["spec"]["endpoints"][0]["interval"], "30s");
}

#[test]
fn the_rights_of_the_operator_are_these() {
    check("chart-rbac.yaml", &["--show-only", "templates/rbac.yaml"]);
    check("chart-rbac-namespaces.yaml", &["--show-only", "templates/rbac.yaml", "--set", "watchNamespaces={orders}"]);
}

#[test]
fn no_right_has_a_wildcard_and_secrets_are_neither_listed_nor_watched_nor_deleted() {
    for settings in ["watchNamespaces=[]", r#"watchNamespaces=["orders"],rbac.tokenReviews="always""#] {
        let rendered = render(&["--show-only", "templates/rbac.yaml", "--set-json", settings]).stdout;
        let rendered = String::from_utf8(rendered).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
        let rules: Vec<&Value> = documents.iter().filter_map(|role| role["rules"].as_array()).flatten().collect();
        assert!(rules.len() > 5, "{rendered}");
        for rule in rules {
            let text = rule.to_string();
            assert!(!text.contains('*') && !text.contains("escalate") && !text.contains("impersonate"), "{text}");
            let says = |key: &str, word: &str| rule[key].as_array().unwrap().contains(&Value::from(word));
            let is_read_whole = ["list", "watch", "delete", "deletecollection"].iter().any(|verb| says("verbs", verb));
            assert!(!(says("resources", "secrets") && is_read_whole), "{text}");
            let changes_rights = says("apiGroups", "rbac.authorization.k8s.io");
            let is_one = rule["resourceNames"] == serde_json::json!(["warren-token-reviews"]);
            let is_read_or_bound = ["get", "patch", "bind"].iter().filter(|verb| says("verbs", verb)).count();
            assert!(!changes_rights || is_one && is_read_or_bound == rule["verbs"].as_array().unwrap().len(), "{text}");
            let is_execution = ["pods/exec", "pods/attach", "pods/ephemeralcontainers", "serviceaccounts/token"];
            assert!(!is_execution.iter().any(|resource| says("resources", resource)), "{text}");
        }
    }
}

#[test]
fn nothing_is_said_about_rights_to_ask_about_tokens_where_they_are_switched_off() {
    let mentions = |settings: &str| {
        let rendered = render(&["--set", "crds.enabled=false", "--set-json", settings]).stdout;
        String::from_utf8(rendered).unwrap().matches("warren-token-reviews").count()
    };
    let everywhere = mentions("watchNamespaces=[]");
    assert!(everywhere > 0);
    assert_eq!(mentions(r#"watchNamespaces=["orders"],rbac.tokenReviews="always""#), everywhere);
    assert_eq!(mentions(r#"watchNamespaces=["orders"]"#), 0);
    assert_eq!(mentions(r#"rbac.tokenReviews="never""#), 0);
}

#[test]
fn the_definition_is_rendered_unless_it_is_switched_off() {
    let rendered = |setting: &str| String::from_utf8(render(&["--set", setting]).stdout).unwrap();
    let definition = "kind: CustomResourceDefinition";
    assert!(rendered("crds.enabled=true").contains(definition));
    assert!(rendered("crds.enabled=true").contains("helm.sh/resource-policy: keep"));
    assert!(!rendered("crds.enabled=false").contains(definition));
}

#[test]
fn bad_values_are_refused_by_name() {
    check_refused("replicas=-1", "replicas");
    check_refused("metrics.serviceMonitor.interval=often", "interval");
    check_refused("dashboards.folder=x", "folder");
    check_refused("replicas=two", "replicas");
    check_refused("clusterDomain=Not_A_Domain", "clusterDomain");
    check_refused("networkPolicy.metricsFrom={all}", "metricsFrom");
    check_refused("extraEnv[0].value=1", "extraEnv");
    check_refused("image.tagg=1", "tagg");
    check_refused("log.format=xml", "format");
    check_refused("rbac.tokenReviews=yes", "tokenReviews");
    check_refused("watchNamespaces={Not_A_Name}", "watchNamespaces");
    check_refused("consumers.scaleTargets[0].resource=*", "scaleTargets");
    check_refused("image.digest=sha256:1", "digest");
}

#[test]
fn the_chart_passes_helms_own_lint() {
    let output = helm(&["lint", "--strict", CHART]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
