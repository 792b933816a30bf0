//! The control plane of a local cluster: etcd, the API server and what works beside it, in one namespace.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::namespace::Namespace;
use super::network::AddressPlan;
use super::pki::{Pki, Subject};
use crate::process::wait_until;
use crate::programs::Programs;

/// The folder of the control namespace in the folder of a cluster.
pub(super) const FOLDER: &str = "control";

/// The programs of the namespace.
pub(super) const PROGRAMS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "provisioner"];

/// The control plane while it is brought up.
pub(super) struct ControlPlane<'a> {
    pub(super) folder: &'a Path,
    pub(super) plan: AddressPlan,
    pub(super) pki: &'a Pki,
    pub(super) programs: &'a Programs,
    pub(super) namespace: &'a Namespace,
}

impl ControlPlane<'_> {
    /// Starts the API server and its store.
    pub(super) fn start_apiserver(&self) -> Result<()> {
        self.spawn("etcd", self.etcd_flags())?;
        self.spawn("kube-apiserver", self.apiserver_flags()?)
    }

    /// Starts what works through the API server. Started before it answers, they wait for seconds until they ask again.
    pub(super) fn start_controllers(&self) -> Result<()> {
        self.spawn("kube-controller-manager", self.controller_manager_flags()?)?;
        let scheduler = self.kubeconfig("kube-scheduler", "system:kube-scheduler")?;
        let leader = flag("leader-elect", "false");
        self.spawn("kube-scheduler", vec![flag("kubeconfig", scheduler.display()), leader])
    }

    /// Waits until the API server says that it is ready.
    pub(super) fn wait_until_ready(&self, kubectl: impl Fn(&[&str]) -> Result<String>) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(90);
        wait_until(LIMIT, || {
            self.namespace.check("etcd")?;
            self.namespace.check("kube-apiserver")?;
            // Asking whether the port is open costs nothing; starting kubectl takes time from what is waited for.
            let is_open = TcpStream::connect((self.plan.control(), 6443)).is_ok();
            Ok(is_open && kubectl(&["get", "--raw", "/readyz"]).is_ok())
        })
        .with_context(|| format!("the API server is not ready:{}", self.namespace.tail("kube-apiserver")))
    }

    /// Starts names for Services and the maker of volumes.
    pub(super) fn start_addons(&self) -> Result<()> {
        let kubeconfig = self.kubeconfig("coredns", "coredns")?;
        let corefile = self.folder.join("Corefile");
        std::fs::write(&corefile, self.corefile(&kubeconfig)).context("write the Corefile")?;
        self.spawn("coredns", vec!["-conf".into(), corefile.display().to_string()])?;

        let kubeconfig = self.kubeconfig("provisioner", "provisioner")?;
        let volumes = self.folder.join("volumes");
        std::fs::create_dir_all(&volumes).context("create the folder of the volumes")?;
        self.spawn("provisioner", vec![flag("kubeconfig", kubeconfig.display()), flag("folder", volumes.display())])
    }

    /// etcd speaks plain HTTP to the loopback interface of this namespace, where only the API server is. What it stores
    /// does not outlive the cluster, so it does not wait for the disk.
    fn etcd_flags(&self) -> Vec<String> {
        let (clients, peers) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        vec![
            flag("data-dir", self.folder.join("etcd").display()),
            flag("listen-client-urls", clients),
            flag("advertise-client-urls", clients),
            flag("listen-peer-urls", peers),
            flag("initial-advertise-peer-urls", peers),
            flag("initial-cluster", format!("default={peers}")),
            "--unsafe-no-fsync".into(),
        ]
    }

    fn apiserver_flags(&self) -> Result<Vec<String>> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let addresses = [self.plan.control(), self.plan.kubernetes_service(), Ipv4Addr::LOCALHOST];
        self.pki.server("kube-apiserver", &names, &addresses)?;
        self.pki
            .client("kube-apiserver-kubelet-client", Subject { user: "kube-apiserver-kubelet-client", group: None })?;
        self.pki.front_proxy_client()?;
        let file = |name: &str| self.pki.path(name).display().to_string();
        Ok(vec![
            flag("etcd-servers", "http://127.0.0.1:2379"),
            flag("advertise-address", self.plan.control()),
            flag("service-cluster-ip-range", self.plan.services()),
            flag("authorization-mode", "Node,RBAC"),
            flag("enable-admission-plugins", "NodeRestriction"),
            flag("allow-privileged", "true"),
            flag("client-ca-file", file("ca.crt")),
            flag("tls-cert-file", file("kube-apiserver.crt")),
            flag("tls-private-key-file", file("kube-apiserver.key")),
            flag("kubelet-certificate-authority", file("ca.crt")),
            flag("kubelet-client-certificate", file("kube-apiserver-kubelet-client.crt")),
            flag("kubelet-client-key", file("kube-apiserver-kubelet-client.key")),
            flag("kubelet-preferred-address-types", "InternalIP"),
            flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            flag("service-account-key-file", file("service-accounts.pub")),
            flag("service-account-signing-key-file", file("service-accounts.key")),
            flag("requestheader-client-ca-file", file("front-proxy-ca.crt")),
            flag("requestheader-allowed-names", "front-proxy-client"),
            flag("requestheader-username-headers", "X-Remote-User"),
            flag("requestheader-group-headers", "X-Remote-Group"),
            flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            flag("proxy-client-cert-file", file("front-proxy-client.crt")),
            flag("proxy-client-key-file", file("front-proxy-client.key")),
            // This namespace has no kube-proxy: aggregated APIs and webhooks are called by their endpoints.
            flag("enable-aggregator-routing", "true"),
        ])
    }

    fn controller_manager_flags(&self) -> Result<Vec<String>> {
        let kubeconfig = self.kubeconfig("kube-controller-manager", "system:kube-controller-manager")?;
        Ok(vec![
            flag("kubeconfig", kubeconfig.display()),
            flag("leader-elect", "false"),
            // With the usual 20 requests per second its own start would take three seconds longer.
            flag("kube-api-qps", 300),
            flag("kube-api-burst", 600),
            flag("use-service-account-credentials", "true"),
            flag("service-account-private-key-file", self.pki.path("service-accounts.key").display()),
            flag("root-ca-file", self.pki.path("ca.crt").display()),
            flag("flex-volume-plugin-dir", self.folder.join("volume-plugins").display()),
            // The pods of each node are part of the address plan.
            flag("allocate-node-cidrs", "false"),
        ])
    }

    /// Answers change as fast as pods do: nothing is cached, and clients may keep an answer for one second.
    fn corefile(&self, kubeconfig: &Path) -> String {
        format!(
            ".:53 {{\n    bind {control}\n    errors\n    health 127.0.0.1:8080\n    ready 127.0.0.1:8181\n    \
             kubernetes cluster.local in-addr.arpa {{\n        kubeconfig {kubeconfig}\n        ttl 1\n    }}\n}}\n",
            control = self.plan.control(),
            kubeconfig = kubeconfig.display(),
        )
    }

    fn kubeconfig(&self, name: &str, user: &str) -> Result<PathBuf> {
        self.pki.kubeconfig(name, Subject { user, group: None }, self.plan.control())
    }

    fn spawn(&self, name: &str, flags: Vec<String>) -> Result<()> {
        self.namespace.spawn(&self.programs.path(name), &flags)
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
