//! Python programs that talk to a broker by pika: in a pod, as applications of the cluster do, or on this machine.
//!
//! A program finds where to connect in the environment variable `AMQP_URI`, and whom to trust where OpenSSL looks for it: in the
//! file that `SSL_CERT_FILE` names. So it need not know that connections are encrypted.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::cluster::Cluster;
use crate::command::output_of;
use crate::image::pika;
use crate::programs::{Lock, cache_folder, install_missing};

/// How long a line of a program may take: longer than a broker needs to come back after it was killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where OpenSSL, and so Python, looks for authorities to trust.
const TRUSTED: &str = "SSL_CERT_FILE";

/// Version of pika on this machine; the one in pods is Debian's.
const PIKA: &str = "pika==1.3.2";

/// A program to run.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// What it is called, a DNS label.
    pub name: &'a str,
    /// Its text.
    pub source: &'a str,
    /// What comes after its name on the command line.
    pub arguments: &'a [&'a str],
}

/// The ServiceAccount of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its token is meant for.
    pub audience: &'a str,
    /// The ConfigMap with whom to trust, in `ca.crt`.
    pub authorities: &'a str,
}

/// How a broker is reached from this machine.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where to connect, as whom.
    pub uri: String,
    /// The certificates of those who may vouch for the broker, in PEM, if that is encrypted.
    authorities: Option<Arc<NamedTempFile>>,
}

impl Access {
    /// Without TLS.
    pub fn plain(uri: String) -> Self {
        Self { uri, authorities: None }
    }
}

/// A program that runs. It is stopped when the value is dropped.
#[derive(Debug)]
pub struct Client<'a> {
    name: String,
    /// The program, or kubectl which follows its output.
    process: Child,
    lines: Receiver<std::io::Result<String>>,
    pod: Option<Pod<'a>>,
    /// What it reads as long as it runs.
    _access: Option<Access>,
}

/// A pod that runs one program to its end.
#[derive(Debug)]
struct Pod<'a> {
    cluster: &'a Cluster,
    namespace: String,
    name: String,
}

impl<'a> Client<'a> {
    /// Runs `program` in a new pod of `namespace`, which gets the URI from the Secret `binding`.
    ///
    /// # Errors
    /// The pod is refused, or its container is not started within a minute.
    pub fn in_pod(cluster: &'a Cluster, namespace: &str, binding: &str, program: Program<'_>) -> Result<Self> {
        Self::start_pod(cluster, namespace, program.name, pod_spec(binding, program))
    }

    /// Runs `program` in a new pod of `namespace` that has the token of an account, in `/var/run/secrets/warren/token`, and knows
    /// whom to trust; nothing else.
    ///
    /// # Errors
    /// The pod is refused, or its container is not started within a minute.
    pub fn in_pod_of(
        cluster: &'a Cluster,
        namespace: &str,
        account: Account<'_>,
        program: Program<'_>,
    ) -> Result<Self> {
        let Account { name, audience, authorities } = account;
        let mut spec = bare_pod_spec(program);
        spec["serviceAccountName"] = name.into();
        let token = json!({"path": "token", "audience": audience, "expirationSeconds": 600});
        list(&mut spec["volumes"]).extend([
            json!({"name": "broker", "configMap": {"name": authorities}}),
            json!({"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}),
        ]);
        let mount = json!({"name": "token", "mountPath": "/var/run/secrets/warren"});
        list(&mut spec["containers"][0]["volumeMounts"]).push(mount);
        Self::start_pod(cluster, namespace, program.name, spec)
    }

    /// Runs a pod to its end.
    fn start_pod(cluster: &'a Cluster, namespace: &str, name: &str, mut spec: Value) -> Result<Self> {
        let pod = Pod { cluster, namespace: namespace.to_owned(), name: name.to_owned() };
        pod.delete()?;
        spec["restartPolicy"] = "Never".into();
        pod.cluster.apply(&manifest(&pod, &spec).to_string())?;
        pod.wait_until("{.status.containerStatuses[0].containerID}")?;
        let mut kubectl = pod.cluster.client("kubectl");
        kubectl.args(["-n", &pod.namespace, "logs", "--follow", &pod.name]);
        Self::start(name, &mut kubectl, Some(pod), None)
    }

    /// Runs `program` on this machine, outside the cluster.
    ///
    /// # Errors
    /// There is no Python with pika and none can be installed.
    pub fn here(access: &Access, program: Program<'_>) -> Result<Self> {
        let mut python = Command::new(python()?);
        python.args(["-c", program.source]).args(program.arguments).env("AMQP_URI", &access.uri);
        if let Some(authorities) = &access.authorities {
            python.env(TRUSTED, authorities.path());
        }
        Self::start(program.name, &mut python, None, Some(access.clone()))
    }

    fn start(name: &str, command: &mut Command, pod: Option<Pod<'a>>, access: Option<Access>) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("make a pipe")?;
        let errors = writer.try_clone().context("make a pipe")?;
        let process = command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        // The command holds the writing end; the output ends when the process has the only other one.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { name: name.to_owned(), process, lines: lines_of(reader), pod, _access: access })
    }

    /// The next line that the program prints, or none after it has ended.
    ///
    /// # Errors
    /// It says nothing for a minute.
    pub fn next_line(&self) -> Result<Option<String>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line.map(Some).with_context(|| format!("read what {} prints", self.name)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the program {} says nothing for {} s", self.name, PATIENCE.as_secs())
            }
        }
    }

    /// Waits for the end of the program and returns the lines that were not read before.
    ///
    /// # Errors
    /// It fails, or says nothing for a minute; the error carries what it said.
    pub fn finish(mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        while let Some(line) = self.next_line()? {
            lines.push(line);
        }
        let succeeded = match &self.pod {
            Some(pod) => pod.exit_code()? == "0",
            None => self.process.wait().context("wait for a program")?.success(),
        };
        let last = &lines[lines.len().saturating_sub(20)..];
        ensure!(succeeded, "the program {} failed; it said:\n    {}", self.name, last.join("\n    "));
        Ok(lines)
    }
}

impl Drop for Client<'_> {
    /// The program ends without a chance to say goodbye to the broker.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.pod.as_ref().map(Pod::delete) {
            eprintln!("the pod {} is left over: {error:#}", self.name);
        }
        // Either fails only if the process has ended, which is what is wanted.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Pod<'_> {
    /// Python as the first process of a pod ignores the wish to end, so it is not given time.
    fn delete(&self) -> Result<()> {
        let delete = ["delete", "pod", &self.name, "--now", "--ignore-not-found", "--timeout=60s"];
        self.cluster.kubectl(&[&["-n", &self.namespace], &delete[..]].concat()).map(drop)
    }

    fn wait_until(&self, exists: &str) -> Result<()> {
        let condition = format!("--for=jsonpath={exists}");
        let pod = format!("pod/{}", self.name);
        self.cluster.kubectl(&["-n", &self.namespace, "wait", &condition, &pod, "--timeout=60s"]).map(drop)
    }

    fn exit_code(&self) -> Result<String> {
        const EXIT_CODE: &str = "{.status.containerStatuses[0].state.terminated.exitCode}";
        self.wait_until(EXIT_CODE)?;
        let path = format!("jsonpath={EXIT_CODE}");
        self.cluster.kubectl(&["-n", &self.namespace, "get", "pod", &self.name, "-o", &path])
    }
}

fn manifest(pod: &Pod<'_>, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "spec": spec,
    })
}

/// A pod that runs `program` with the URI of the Secret `binding`.
pub(crate) fn pod_spec(binding: &str, program: Program<'_>) -> Value {
    let mut spec = bare_pod_spec(program);
    let authority = json!({"name": binding, "items": [{"key": "ca.crt", "path": "ca.crt"}]});
    let uri = json!({"name": "AMQP_URI", "valueFrom": {"secretKeyRef": {"name": binding, "key": "uri"}}});
    list(&mut spec["volumes"]).push(json!({"name": "broker", "projected": {"sources": [{"secret": authority}]}}));
    list(&mut spec["containers"][0]["env"]).push(uri);
    spec
}

/// A pod that meets the Pod Security Standard "restricted", and still needs the volume `broker` with `ca.crt`.
fn bare_pod_spec(program: Program<'_>) -> Value {
    let arguments: Vec<_> = ["-c", program.source].into_iter().chain(program.arguments.iter().copied()).collect();
    json!({
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [],
        "containers": [{
            "name": "python",
            "image": pika::NAME,
            "args": arguments,
            "env": [{"name": TRUSTED, "value": "/etc/broker/ca.crt"}],
            "volumeMounts": [{"name": "broker", "mountPath": "/etc/broker"}],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}

/// A list of a manifest.
fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("it is one in the manifest")
}

/// Reads in a thread of its own, so that whoever waits for a line can stop waiting.
fn lines_of(reader: impl Read + Send + 'static) -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// What the Secret `binding` says, with another address in the place of the Service's.
///
/// # Errors
/// There is no such Secret, or it lacks an entry.
pub fn access_at(cluster: &Cluster, namespace: &str, binding: &str, address: &str) -> Result<Access> {
    let read = |entry: &str| {
        let template = format!("go-template={{{{index .data \"{entry}\" | base64decode}}}}");
        cluster.kubectl(&["-n", namespace, "get", "secret", binding, "-o", &template])
    };
    let uri = read("uri")?;
    let mut authorities = NamedTempFile::new().context("make a file for certificates")?;
    authorities.write_all(read("ca.crt")?.as_bytes()).context("write certificates")?;
    let (credentials, rest) = uri.rsplit_once('@').context("the URI of a binding has credentials")?;
    let (_, virtual_host) = rest.rsplit_once('/').context("the URI of a binding has a virtual host")?;
    Ok(Access { uri: format!("{credentials}@{address}/{virtual_host}"), authorities: Some(Arc::new(authorities)) })
}

/// A Python that can `import pika`: one in the cache with pika from PyPI, else Debian's.
///
/// # Errors
/// PyPI is not reached, and apt-get does not help either.
pub fn python() -> Result<PathBuf> {
    let folder = cache_folder()?.join("pika-client");
    let _lock = Lock::of(&folder.with_extension("lock"), "another run installs pika")?;
    let python = folder.join("bin/python");
    let ours = || has_pika(&python).then(|| python.clone());
    if let Some(python) = ours() {
        return Ok(python);
    }
    eprintln!("installing pika for Python");
    let virtual_environment = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).status();
    if virtual_environment.is_ok_and(|status| status.success()) {
        output_of(Command::new(&python).args(["-m", "pip", "install", "--quiet", PIKA])).ok();
    }
    match ours() {
        Some(python) => Ok(python),
        None => {
            install_missing(&[("/usr/lib/python3/dist-packages/pika", "python3-pika")])?;
            let python = PathBuf::from("/usr/bin/python3");
            ensure!(has_pika(&python), "Debian's python3 cannot import pika, and PyPI was not reached");
            Ok(python)
        }
    }
}

fn has_pika(python: &Path) -> bool {
    Command::new(python).args(["-c", "import pika"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A port of this machine that leads to a Service, by `kubectl port-forward`, until it is dropped.
#[derive(Debug)]
pub struct PortForward {
    kubectl: Child,
    /// Host and port.
    pub address: String,
}

impl PortForward {
    /// Leads a free port to `port` of a pod behind `service`.
    ///
    /// # Errors
    /// kubectl does not say within a minute that it listens.
    pub fn to(cluster: &Cluster, namespace: &str, service: &str, port: u16) -> Result<Self> {
        let mut kubectl = cluster
            .client("kubectl")
            .args(["-n", namespace, "port-forward", "--address=127.0.0.1"])
            .args([format!("service/{service}"), format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It reports each connection that a client leaves behind.
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start kubectl")?;
        let lines = lines_of(kubectl.stdout.take().context("kubectl has an output")?);
        let mut forward = Self { kubectl, address: String::new() };
        let start = Instant::now();
        while forward.address.is_empty() {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let line = lines.recv_timeout(left).context("kubectl port-forward does not listen")??;
            let words = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_whitespace().next());
            forward.address = words.unwrap_or_default().to_owned();
        }
        // It prints a line per connection, which somebody must read.
        std::thread::spawn(move || lines.iter().for_each(drop));
        Ok(forward)
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        // Either fails only if the process has ended, which is what is wanted.
        self.kubectl.kill().ok();
        self.kubectl.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Client<'static> {
        Client::start("shell", Command::new("sh").args(["-c", script]), None, None).unwrap()
    }

    #[test]
    fn lines_come_as_they_are_printed_and_end_with_the_program() {
        let client = shell("echo one; echo two; echo three >&2");
        assert_eq!(client.next_line().unwrap().as_deref(), Some("one"));
        assert_eq!(client.finish().unwrap(), ["two", "three"]);
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_what_it_said() {
        let error = shell("echo reason; exit 3").finish().unwrap_err().to_string();
        assert!(error.contains("shell failed") && error.ends_with("reason"), "{error}");
    }

    #[test]
    fn a_dropped_client_ends_its_program() {
        let client = shell("echo started; exec sleep 600");
        assert_eq!(client.next_line().unwrap().as_deref(), Some("started"));
        let process = Path::new("/proc").join(client.process.id().to_string());
        assert!(process.exists());
        drop(client);
        assert!(!process.exists());
    }
}
