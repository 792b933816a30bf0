//! The provider that needs no container engine: every part of Kubernetes as a process of this machine.
//!
//! See [`super::network`] for the picture. Everything a cluster is lies in one folder of the cache: keys, logs, the nodes'
//! `/var/lib`, volumes. What is outside it — namespaces, one interface, control groups — is found from there by [`down`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Options;
use super::cgroup;
use super::control::{self, ControlPlane};
use super::namespace::Namespace;
use super::network::{self, AddressPlan};
use super::node::{self, Node};
use super::pki::{Pki, Subject};
use crate::command::output_of;
use crate::image::{Architecture, Image};
use crate::process::wait_until;
use crate::programs::{Lock, Programs, install_missing};

/// What is written down before anything is started, so that it can be taken down whatever happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Index of the [`AddressPlan`].
    index: u8,
    /// How many nodes there are, from 1 to [`NODES_MAX`].
    nodes: u8,
}

/// A running local cluster.
#[derive(Debug)]
pub(super) struct LocalCluster {
    name: String,
    folder: PathBuf,
    plan: AddressPlan,
    nodes: u8,
}

/// The most nodes a local cluster can have.
pub(super) const NODES_MAX: u8 = 9;

/// File with the [`State`], in the folder of the cluster.
const STATE: &str = "local.json";

/// What the machine must have besides the built programs, and the Debian packages it comes in.
const COMMANDS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("unshare", "util-linux"),
];

impl LocalCluster {
    /// Brings the cluster in `folder` up. One that runs and is whole stays as it is; the rest of a broken one is removed.
    pub(super) fn up(folder: &Path, options: &Options, programs: &Programs) -> Result<Self> {
        check_machine(options)?;
        let name = &options.name;
        let _lock = lock(folder, name)?;
        match Self::connect(folder, name) {
            Ok(cluster) if cluster.nodes == options.nodes => {
                // Another run may have ended between starting the last program and this.
                cluster.wait_until_nodes_are_ready(programs)?;
                return Ok(cluster);
            }
            Ok(cluster) => bail!(
                "the cluster {name} runs with {} nodes, not {}: take it down first, or choose another name",
                cluster.nodes,
                options.nodes,
            ),
            Err(error) if exists(folder) => {
                eprintln!("the cluster {name} is made anew: {error:#}");
                remove(folder, name)?;
            }
            Err(_) => {}
        }
        let cluster = Self::claim(folder, options)?;
        cluster
            .start(programs)
            .with_context(|| format!("bring up the cluster {name}; its logs are in {}", folder.display()))?;
        Ok(cluster)
    }

    /// Finds the cluster that runs in `folder`.
    pub(super) fn connect(folder: &Path, name: &str) -> Result<Self> {
        let state = State::read(folder)?.with_context(|| format!("there is no cluster {name}"))?;
        let cluster =
            Self { name: name.to_owned(), folder: folder.to_owned(), plan: state.plan()?, nodes: state.nodes };
        let check = |folder: PathBuf, programs: &[&str]| {
            let namespace = Namespace::find(&folder).context("some of its processes have ended")?;
            programs.iter().try_for_each(|program| namespace.check(program))
        };
        let broken = || format!("the cluster {name} is not whole; take it down and up again");
        check(cluster.control_folder(), &control::PROGRAMS).with_context(broken)?;
        for number in 1..=cluster.nodes {
            check(cluster.node_folder(number), &node::PROGRAMS).with_context(broken)?;
        }
        Ok(cluster)
    }

    /// The file for kubectl, of a user who may do everything.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/admin.kubeconfig")
    }

    /// Address of the first node, where every NodePort answers.
    pub(super) fn node_address(&self) -> std::net::Ipv4Addr {
        self.plan.node(1)
    }

    /// Loads an image archive into every node.
    pub(super) fn load_image(&self, programs: &Programs, archive: &Path) -> Result<()> {
        for number in 1..=self.nodes {
            let namespace = Namespace::find(&self.node_folder(number)).context("the node has ended")?;
            node::load_image(&namespace, programs, archive)?;
        }
        Ok(())
    }

    /// Chooses addresses and writes them down, before another cluster of this machine can choose the same.
    fn claim(folder: &Path, options: &Options) -> Result<Self> {
        let clusters = folder.parent().context("the folder of a cluster is in the cache")?;
        let _lock = Lock::of(&clusters.join("addresses.lock"), "another cluster chooses its addresses")?;
        let mut taken = Vec::new();
        for entry in std::fs::read_dir(clusters).context("list the clusters")? {
            taken.extend(State::read(&entry?.path())?.map(|state| state.index));
        }
        let plan = AddressPlan::free(&taken)?;
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        State { index: plan.index(), nodes: options.nodes }.write(folder)?;
        Ok(Self { name: options.name.clone(), folder: folder.to_owned(), plan, nodes: options.nodes })
    }

    fn start(&self, programs: &Programs) -> Result<()> {
        let pki = Pki::create(&self.folder.join("pki"))?;
        let admin = Subject { user: "kubernetes-admin", group: Some("system:masters") };
        pki.kubeconfig("admin", admin, self.plan.control())?;
        let pause = programs.path("pause");
        let pause_image = self.folder.join("pause.tar");
        Image::of_binary(node::PAUSE_IMAGE, &pause, Architecture::host()?)?.write(&pause_image)?;

        let folder = self.control_folder();
        let namespace = Namespace::start(&folder, &format!("{}-control", self.name), &pause)?;
        network::connect_control(self.plan, &namespace)?;
        let control = ControlPlane { folder: &folder, plan: self.plan, pki: &pki, programs, namespace: &namespace };
        control.start_apiserver()?;
        self.start_nodes(&namespace, &pki, programs, &pause_image)?;
        control.wait_until_ready(|arguments| self.kubectl(programs, arguments))?;
        control.start_controllers()?;
        let addons = self.folder.join("addons.yaml");
        std::fs::write(&addons, self.addons()).context("write the addons")?;
        self.kubectl(programs, &["apply", "-f", &addons.display().to_string()])?;
        control.start_addons()?;
        self.wait_until_nodes_are_ready(programs)
    }

    fn start_nodes(&self, control: &Namespace, pki: &Pki, programs: &Programs, pause_image: &Path) -> Result<()> {
        let mut namespaces = Vec::new();
        for number in 1..=self.nodes {
            let folder = self.node_folder(number);
            let namespace = Namespace::start(&folder, &node::name(number), &programs.path("pause"))?;
            network::connect_node(self.plan, control, &namespace, number, self.nodes)?;
            namespaces.push((number, folder, namespace));
        }
        let nodes: Vec<_> = namespaces
            .iter()
            .map(|(number, folder, namespace)| Node {
                cluster: &self.name,
                number: *number,
                folder,
                plan: self.plan,
                pki,
                programs,
                namespace,
            })
            .collect();
        nodes.iter().try_for_each(Node::start_containerd)?;
        nodes.iter().try_for_each(|node| node.load_pause_image(pause_image))?;
        nodes.iter().try_for_each(Node::start_kubelet)
    }

    fn wait_until_nodes_are_ready(&self, programs: &Programs) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(90);
        const READY: &str = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
        let mut seen = String::new();
        wait_until(LIMIT, || {
            for number in 1..=self.nodes {
                let namespace = Namespace::find(&self.node_folder(number)).context("a node has ended")?;
                node::PROGRAMS.iter().try_for_each(|program| namespace.check(program))?;
            }
            seen = self.kubectl(programs, &["get", "nodes", "-o", READY])?;
            let ready = seen.split_whitespace().filter(|status| *status == "True").count();
            Ok(ready == usize::from(self.nodes) && self.has_default_service_account(programs))
        })
        .with_context(|| format!("the nodes are not ready (they say: {seen})"))
    }

    /// Pods are refused until the controller manager has made this account.
    fn has_default_service_account(&self, programs: &Programs) -> bool {
        self.kubectl(programs, &["get", "serviceaccount", "default", "-n", "default"]).is_ok()
    }

    fn addons(&self) -> String {
        include_str!("addons.yaml")
            .replace("{dns_service}", &self.plan.dns_service().to_string())
            .replace("{control}", &self.plan.control().to_string())
    }

    fn kubectl(&self, programs: &Programs, arguments: &[&str]) -> Result<String> {
        output_of(super::client(programs, "kubectl", &self.kubeconfig()).args(arguments))
    }

    fn control_folder(&self) -> PathBuf {
        self.folder.join(control::FOLDER)
    }

    fn node_folder(&self, number: u8) -> PathBuf {
        self.folder.join(node::name(number))
    }
}

/// Takes down what runs in `folder` and removes it. Nothing there is nothing to do.
pub(super) fn down(folder: &Path, name: &str) -> Result<()> {
    if !exists(folder) {
        return Ok(());
    }
    let lock = lock(folder, name)?;
    remove(folder, name)?;
    lock.remove()
}

fn lock(folder: &Path, name: &str) -> Result<Lock> {
    Lock::of(&folder.with_extension("lock"), &format!("another run brings the cluster {name} up or down"))
}

fn remove(folder: &Path, name: &str) -> Result<()> {
    let Some(state) = State::read(folder)? else {
        return Ok(());
    };
    for number in 1..=state.nodes {
        Namespace::end(&folder.join(node::name(number)))?;
    }
    Namespace::end(&folder.join(control::FOLDER))?;
    network::disconnect(state.plan()?)?;
    cgroup::remove(&node::cgroup_of(name))?;
    std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

/// Whether there is a local cluster, whole or not, in `folder`.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(STATE).exists()
}

impl State {
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(STATE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Replaces the file at once: a reader sees a whole state or none.
    fn write(&self, folder: &Path) -> Result<()> {
        let (unfinished, path) = (folder.join("local.json.new"), folder.join(STATE));
        std::fs::write(&unfinished, serde_json::to_string(self)?).context("write the state of the cluster")?;
        std::fs::rename(&unfinished, &path).with_context(|| format!("write {}", path.display()))
    }

    fn plan(&self) -> Result<AddressPlan> {
        AddressPlan::new(self.index).with_context(|| format!("{STATE} names the address range {}", self.index))
    }
}

fn check_machine(options: &Options) -> Result<()> {
    if !(1..=NODES_MAX).contains(&options.nodes) {
        bail!("a local cluster has 1 to {NODES_MAX} nodes, not {}", options.nodes);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("a local cluster needs root, for namespaces and mounts: run this as root, or install Docker and kind");
    }
    install_missing(&COMMANDS)
}
