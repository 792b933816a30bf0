//! The whole life of a cluster: up, a program with a volume, down, and nothing left.

mod tokens;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use warren_tests::cluster::{Cluster, Options};
use warren_tests::image::pika;
use warren_tests::programs::cache_folder;

/// Takes the cluster down also when an assertion fails.
struct TakenDown(String);

impl Drop for TakenDown {
    fn drop(&mut self) {
        if let Err(error) = Cluster::down(&self.0) {
            eprintln!("the cluster {} could not be taken down: {error:#}", self.0);
        }
    }
}

/// Where the program of test.yaml answers, from this machine.
struct Notes(SocketAddr);

impl Notes {
    /// Asks until there is an answer: kube-proxy learns of a new pod a moment after the StatefulSet does.
    fn ask(&self, request: &str) -> Result<String> {
        const LIMIT: Duration = Duration::from_secs(30);
        let start = Instant::now();
        loop {
            match self.ask_once(request) {
                Err(error) if start.elapsed() < LIMIT => eprintln!("{error:#}; asking again"),
                result => return result.with_context(|| format!("{request:?}")),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask_once(&self, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.0, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("half an answer: {answer:?}"))?;
        ensure!(head.starts_with("HTTP/1.0 200"), "{head}");
        Ok(body.to_owned())
    }

    fn store(&self, note: &str) -> Result<String> {
        self.ask(&format!("PUT / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{note}", note.len()))
    }

    fn read(&self) -> Result<String> {
        self.ask("GET / HTTP/1.0\r\n\r\n")
    }

    fn resolve(&self, name: &str) -> Result<String> {
        self.ask(&format!("GET /resolve/{name} HTTP/1.0\r\n\r\n"))
    }
}

fn wait_until_rolled_out(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["-n", "notes", "rollout", "status", "statefulset/notes", "--timeout=120s"]).map(drop)
}

fn field(cluster: &Cluster, object: &str, path: &str) -> Result<String> {
    cluster.kubectl(&["-n", "notes", "get", object, "-o", &format!("jsonpath={path}")])
}

/// What the cluster has outside its folder: processes that use a file of it, mounts, control groups, interfaces.
fn traces(name: &str, node: Ipv4Addr) -> Result<Vec<String>> {
    let folder = cache_folder()?.join("cluster").join(name).display().to_string();
    let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let commands = list(Path::new("/proc")).filter_map(|path| std::fs::read_to_string(path.join("cmdline")).ok());
    let mut traces: Vec<String> = commands.filter(|command| command.contains(&folder)).collect();
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    traces.extend(mounts.lines().filter(|mount| mount.contains(&folder)).map(str::to_owned));
    let root = Path::new("/sys/fs/cgroup");
    let groups = list(root).chain(list(root).flat_map(|hierarchy| list(&hierarchy)));
    let groups = groups.filter(|group| group.ends_with(format!("warren-{name}")));
    traces.extend(groups.map(|group| group.display().to_string()));
    let ip = Command::new("ip").args(["-oneline", "-4", "address", "show", "to", &format!("{node}/16")]).output()?;
    traces.extend(String::from_utf8(ip.stdout)?.lines().map(str::to_owned));
    Ok(traces)
}

#[test]
fn data_outlives_the_pod_and_nothing_outlives_the_cluster() -> Result<()> {
    let name = format!("test-{}", std::process::id());
    let taken_down = TakenDown(name.clone());
    let options = Options { name: name.clone(), nodes: 2, provider: None };
    let cluster = Cluster::up(&options)?;
    cluster.load_image(&pika::archive()?)?;

    cluster.apply(include_str!("test.yaml"))?;
    wait_until_rolled_out(&cluster)?;
    let port = field(&cluster, "service/notes", "{.spec.ports[0].nodePort}")?.parse()?;
    let node = cluster.node_address()?;
    let notes = Notes((node, port).into());

    let pod = field(&cluster, "pod/notes-0", "{.status.podIP}")?;
    assert_eq!(notes.resolve("notes-0.notes-headless.notes.svc.cluster.local")?, pod);
    assert_eq!(notes.resolve("notes")?, field(&cluster, "service/notes", "{.spec.clusterIP}")?);

    assert_eq!(notes.store("kept")?, "stored");
    let first = field(&cluster, "pod/notes-0", "{.metadata.uid}")?;
    cluster.kubectl(&["-n", "notes", "delete", "pod", "notes-0"])?;
    wait_until_rolled_out(&cluster)?;
    assert_ne!(field(&cluster, "pod/notes-0", "{.metadata.uid}")?, first);
    assert_eq!(notes.read()?, "kept");

    // Another process finds the cluster as it is, and bringing it up again changes nothing.
    assert_eq!(Cluster::connect(&name)?.kubeconfig(), cluster.kubeconfig());
    Cluster::up(&options)?;
    assert_eq!(notes.read()?, "kept");

    // The class "standard" has the reclaim policy Delete.
    cluster.kubectl(&["delete", "namespace", "notes"])?;
    cluster.kubectl(&["wait", "--for=delete", "persistentvolume", "--all", "--timeout=60s"])?;

    assert_ne!(traces(&name, node)?, Vec::<String>::new());
    drop(taken_down);
    assert!(Cluster::connect(&name).is_err());
    assert_eq!(traces(&name, node)?, Vec::<String>::new());
    Ok(())
}
