//! Tokens of ServiceAccounts, given out by a real API server and shown to a real broker, which asks it about them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use warren_tests::cluster::{Cluster, Options};
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::TakenDown;

/// The broker's own account may ask about tokens and nothing else.
const ACCOUNTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: broker, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: billing, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: unknown, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reviews-tokens}
rules: [{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reviews-tokens}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reviews-tokens}
subjects: [{kind: ServiceAccount, name: broker, namespace: shop}]
";

fn token(cluster: &Cluster, account: &str, more: &[&str]) -> Result<String> {
    let arguments = [&["-n", "shop", "create", "token", account, "--duration=1h"], more].concat();
    Ok(cluster.kubectl(&arguments)?.trim().to_owned())
}

/// A broker outside of the cluster that knows billing's account.
fn broker(cluster: &Cluster, folder: &DataFolder) -> Result<Broker> {
    let config: Value = serde_json::from_str(&cluster.kubectl(&["config", "view", "--raw", "-o", "json"])?)?;
    let server = &config["clusters"][0]["cluster"];
    let file = |name: &str| folder.path().join(name).display().to_string();
    match (&server["certificate-authority-data"], &server["certificate-authority"]) {
        (Value::String(ca), _) => std::fs::write(file("ca.crt"), base64(ca)?)?,
        (_, ca) => drop(std::fs::copy(ca.as_str().context("an authority")?, file("ca.crt"))?),
    }
    std::fs::write(file("token"), token(cluster, "broker", &[])?)?;
    let user = "system:serviceaccount:shop:billing";
    let definitions = json!({
        "vhosts": [{"name": "/"}],
        "users": [{"name": user, "tags": []}],
        "permissions": [{"vhost": "/", "user": user, "configure": "^billing$", "write": "", "read": "^billing$"}],
    });
    std::fs::write(file("definitions.json"), definitions.to_string())?;
    let config = format!(
        "definitions = {:?}\n[authentication.kubernetes]\naudience = 'warren'\napi_server = {}\nca = {:?}\ntoken_file = {:?}\n",
        file("definitions.json"),
        server["server"],
        file("ca.crt"),
        file("token")
    );
    Broker::start_with(folder, Settings { config: &config, ..Settings::default() })
}

fn base64(text: &str) -> Result<Vec<u8>> {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.decode(text).map_err(anyhow::Error::msg)
}

#[test]
fn the_token_of_a_service_account_lets_its_user_in_until_the_account_is_gone() -> Result<()> {
    let name = format!("tokens-{}", std::process::id());
    let _taken_down = TakenDown(name.clone());
    let cluster = Cluster::up(&Options { name, nodes: 1, provider: None })?;
    cluster.apply(ACCOUNTS)?;
    let folder = DataFolder::new()?;
    let broker = broker(&cluster, &folder)?;
    let log_in = |token: &str| Connection::open_as(broker.address, "whoever", token, "/");
    let good = token(&cluster, "billing", &["--audience=warren"])?;
    log_in(&good)?.declare_queue("billing", true, false)?;
    ensure!(log_in(&good)?.declare_queue("orders", true, false).is_err(), "it has no right to that");
    let refusal = |token: &str| Ok::<_, anyhow::Error>(format!("{:#}", log_in(token).err().context("it was let in")?));
    let elsewhere = token(&cluster, "billing", &["--audience=elsewhere"])?;
    ensure!(refusal(&elsewhere)?.contains("Login was refused"));
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    ensure!(refusal(&forged)?.contains("Login was refused"));
    let unknown = refusal(&token(&cluster, "unknown", &["--audience=warren"])?)?;
    ensure!(unknown.contains("refused for user 'system:serviceaccount:shop:unknown'"), "{unknown}");
    cluster.kubectl(&["-n", "shop", "delete", "serviceaccount", "billing"])?;
    let begin = Instant::now();
    // What the API server has said counts for a minute.
    while log_in(&good).is_ok() {
        ensure!(begin.elapsed() < Duration::from_secs(90), "the account is gone and its token still lets in");
        std::thread::yield_now();
    }
    ensure!(refusal(&good)?.contains("Login was refused"));
    Ok(())
}
