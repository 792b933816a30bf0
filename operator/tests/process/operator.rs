//! The operator's program, run as in its pod.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use http::{Request, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::cluster::within;
use crate::proxy::Proxy;

/// An operator that is killed when it is dropped.
pub(crate) struct Operator {
    process: Child,
    address: SocketAddr,
}

impl Operator {
    /// Starts an operator that reaches the API server through `proxy`, and waits until it has said where it listens.
    pub(crate) fn start(proxy: &Proxy, name: &str, arguments: &[&str]) -> Self {
        let kubeconfig = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.json", std::process::id()));
        std::fs::write(&kubeconfig, proxy.kubeconfig()).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_warren-operator"))
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--broker-image",
                "localhost:1/nowhere:test",
            ])
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.by_ref().find_map(|line| listens_at(&line)).expect("the operator says where it listens");
        let name = name.to_owned();
        // Whatever else it says belongs to the test's output.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{name}: {line}")));
        Self { process, address }
    }

    /// Ends it as the kernel does when memory is short.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as the kubelet does.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        within(async {
            loop {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// What it answers on `path`.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        let answer =
            Client::try_from(config).unwrap().send(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let (status, body) = (answer.status(), answer.into_body().collect_bytes().await.unwrap());
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Whether it works, as its metrics say.
    pub(crate) async fn leads(&self) -> bool {
        self.get("/metrics").await.1.lines().any(|line| line == "warren_operator_leader 1")
    }

    /// Octets of memory that it has resident, now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn listens_at(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["listen"].as_str()?.parse().ok()
}
