//! A node of a local cluster: containerd, kubelet and kube-proxy in a namespace of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cgroup;
use super::namespace::Namespace;
use super::network::AddressPlan;
use super::pki::{Pki, Subject};
use crate::process::wait_until;
use crate::programs::Programs;

/// The programs of the namespace.
pub(super) const PROGRAMS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// The image of every pod's first container, as [`super::local`] makes it.
pub(super) const PAUSE_IMAGE: &str = "docker.io/warrenmq/pause:local";

/// Where the node's containerd listens, in its own `/run`.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// A node while it is brought up.
pub(super) struct Node<'a> {
    pub(super) cluster: &'a str,
    /// Counted from 1.
    pub(super) number: u8,
    pub(super) folder: &'a Path,
    pub(super) plan: AddressPlan,
    pub(super) pki: &'a Pki,
    pub(super) programs: &'a Programs,
    pub(super) namespace: &'a Namespace,
}

/// Name of a node in the API, and its host name.
pub(super) fn name(number: u8) -> String {
    format!("node-{number}")
}

/// Path of the control groups of a cluster, below the root of each hierarchy.
pub(super) fn cgroup_of(cluster: &str) -> PathBuf {
    PathBuf::from(format!("warren-{cluster}"))
}

/// Loads an image archive into the node's containerd.
pub(super) fn load_image(namespace: &Namespace, programs: &Programs, archive: &Path) -> Result<()> {
    let ctr = programs.path("ctr").display().to_string();
    let words = [&ctr, "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import", "--local", "-"];
    let archive = File::open(archive).with_context(|| format!("open the image {}", archive.display()))?;
    namespace.run_with_input(&words, archive).map(drop)
}

impl Node<'_> {
    /// Gives the node its own `/run`, `/var/lib` and `/var/log`, and starts containerd.
    pub(super) fn start_containerd(&self) -> Result<()> {
        cgroup::create(&self.cgroup())?;
        self.mount_folders()?;
        self.pretend_kernel_settings()?;
        std::fs::create_dir_all(self.folder.join("cni")).context("create the folder of the network configuration")?;
        self.write("cni/10-pods.conflist", &self.cni_config().to_string())?;
        let config = self.write("containerd.toml", &self.containerd_config()?)?;
        self.spawn("containerd", vec!["--config".into(), config.display().to_string()])
    }

    /// Waits for containerd and loads the image that every pod needs.
    pub(super) fn load_pause_image(&self, archive: &Path) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(30);
        let ctr = self.programs.path("ctr").display().to_string();
        wait_until(LIMIT, || {
            self.namespace.check("containerd")?;
            Ok(self.namespace.run(&[&ctr, "--address", CONTAINERD_SOCKET, "version"]).is_ok())
        })
        .with_context(|| format!("containerd does not answer:{}", self.namespace.tail("containerd")))?;
        load_image(self.namespace, self.programs, archive)
    }

    /// Starts kubelet and kube-proxy.
    pub(super) fn start_kubelet(&self) -> Result<()> {
        let (node, address) = (name(self.number), self.plan.node(self.number));
        self.pki.server(&format!("{node}-kubelet"), &[&node], &[address])?;
        let user = format!("system:node:{node}");
        let subject = Subject { user: &user, group: Some("system:nodes") };
        let kubeconfig = self.pki.kubeconfig(&node, subject, self.plan.control())?;
        let config = self.write("kubelet.json", &self.kubelet_config().to_string())?;
        self.spawn(
            "kubelet",
            vec![
                format!("--config={}", config.display()),
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--hostname-override={node}"),
                format!("--node-ip={address}"),
            ],
        )?;
        let proxy = format!("{node}-kube-proxy");
        let subject = Subject { user: "system:kube-proxy", group: None };
        let kubeconfig = self.pki.kubeconfig(&proxy, subject, self.plan.control())?;
        let config = self.write("kube-proxy.json", &self.proxy_config(&kubeconfig).to_string())?;
        self.spawn("kube-proxy", vec![format!("--config={}", config.display())])
    }

    /// Programs of a node write to fixed places below `/run`, `/var/lib` and `/var/log`; these are the node's own.
    fn mount_folders(&self) -> Result<()> {
        self.namespace.run(&["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
        for (folder, place) in [("lib", "/var/lib"), ("log", "/var/log")] {
            let folder = self.folder.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
            self.namespace.run(&["mount", "--bind", &folder.display().to_string(), place])?;
        }
        Ok(())
    }

    /// The kubelet insists on some settings of the kernel, which are those of the whole machine. It finds them as it wants
    /// them, and the machine keeps its own.
    fn pretend_kernel_settings(&self) -> Result<()> {
        let settings = [
            ("vm/overcommit_memory", "1"),
            ("vm/panic_on_oom", "0"),
            ("kernel/panic", "10"),
            ("kernel/panic_on_oops", "1"),
            ("kernel/keys/root_maxkeys", "1000000"),
            ("kernel/keys/root_maxbytes", "25000000"),
        ];
        for (setting, value) in settings {
            let path = Path::new("/proc/sys").join(setting);
            if path.exists() {
                let file = self.write(&setting.replace('/', "."), &format!("{value}\n"))?;
                self.namespace.run(&["mount", "--bind", &file.display().to_string(), &path.display().to_string()])?;
            }
        }
        Ok(())
    }

    fn containerd_config(&self) -> Result<String> {
        // overlayfs cannot lie on overlayfs, as in a container; copying whole layers is slower and works everywhere.
        let file_system = self.namespace.run(&["stat", "--file-system", "--format=%T", "/var/lib"])?;
        let snapshotter = if file_system.trim() == "overlayfs" { "native" } else { "overlayfs" };
        let runc = self.namespace.run(&["sh", "-c", "command -v runc"])?;
        Ok(format!(
            r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd-opt"

[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
# Without CAP_SYS_RESOURCE a score below the present one is refused, and runc fails.
restrict_oom_score_adj = true
# A profile would be loaded into the kernel of the machine and stay there.
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#,
            cni = self.folder.join("cni").display(),
            runc = runc.trim(),
        ))
    }

    /// Every pod has a cable of its own to the node, which routes. On a bridge, answers from a pod of the same node would
    /// bypass kube-proxy's translation unless the machine has br_netfilter.
    fn cni_config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": self.plan.pods_of(self.number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        })
    }

    fn kubelet_config(&self) -> Value {
        let node = name(self.number);
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.plan.node(self.number),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.pki.path("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.pki.path(&format!("{node}-kubelet.crt")),
            "tlsPrivateKeyFile": self.pki.path(&format!("{node}-kubelet.key")),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": Path::new("/").join(self.cgroup()),
            "failCgroupV1": false,
            "failSwapOn": false,
            "makeIPTablesUtilChains": false,
            "clusterDNS": [self.plan.dns_service()],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            // The disk is the machine's, and how full it is not the cluster's affair.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": false,
        })
    }

    /// The connection table's limits are the machine's and cannot be set from a namespace: 0 leaves them.
    fn proxy_config(&self, kubeconfig: &Path) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": self.plan.pods(),
            "hostnameOverride": name(self.number),
            "clientConnection": {"kubeconfig": kubeconfig},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"minSyncPeriod": "100ms"},
        })
    }

    fn cgroup(&self) -> PathBuf {
        cgroup_of(self.cluster).join(name(self.number))
    }

    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn spawn(&self, name: &str, flags: Vec<String>) -> Result<()> {
        self.namespace.spawn(&self.programs.path(name), &flags)
    }
}
