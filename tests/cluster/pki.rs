//! Keys, certificates and kubeconfig files of a local cluster, as `kubeadm` would lay them out.
//!
//! Two authorities: `ca` vouches for the API server, the kubelets and every client; `front-proxy-ca` only for the API
//! server when it forwards a request to an aggregated API.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

/// The folder with the files, and the authorities that sign more of them.
pub(super) struct Pki {
    folder: PathBuf,
    ca: Authority,
    front_proxy_ca: Authority,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Who a client is to the API server: a user and a group (RBAC).
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) user: &'a str,
    pub(super) group: Option<&'a str>,
}

impl Pki {
    /// Makes both authorities and the key that signs the tokens of service accounts.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let pki = Self {
            folder: folder.to_owned(),
            ca: authority("warren-test-ca")?,
            front_proxy_ca: authority("warren-test-front-proxy-ca")?,
        };
        pki.write("ca.crt", &pki.ca.pem())?;
        pki.write("front-proxy-ca.crt", &pki.front_proxy_ca.pem())?;
        let key = KeyPair::generate()?;
        pki.write("service-accounts.key", &key.serialize_pem())?;
        pki.write("service-accounts.pub", &key.public_key_pem())?;
        Ok(pki)
    }

    /// Path of a file of this folder.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes `<name>.crt` and `<name>.key` for a server with these names and addresses.
    pub(super) fn server(&self, name: &str, hosts: &[&str], addresses: &[Ipv4Addr]) -> Result<()> {
        let subject = Subject { user: hosts.first().copied().unwrap_or(name), group: None };
        let mut params = leaf(subject, ExtendedKeyUsagePurpose::ServerAuth);
        for host in hosts {
            params.subject_alt_names.push(SanType::DnsName((*host).try_into()?));
        }
        let addresses = addresses.iter().map(|address| SanType::IpAddress(IpAddr::V4(*address)));
        params.subject_alt_names.extend(addresses);
        self.sign(name, params, &self.ca)
    }

    /// Writes `<name>.crt` and `<name>.key` for a client of the API server or a kubelet.
    pub(super) fn client(&self, name: &str, subject: Subject<'_>) -> Result<()> {
        self.sign(name, leaf(subject, ExtendedKeyUsagePurpose::ClientAuth), &self.ca)
    }

    /// Writes what the API server shows to aggregated APIs: `front-proxy-client.crt` and its key.
    pub(super) fn front_proxy_client(&self) -> Result<()> {
        let subject = Subject { user: "front-proxy-client", group: None };
        let params = leaf(subject, ExtendedKeyUsagePurpose::ClientAuth);
        self.sign("front-proxy-client", params, &self.front_proxy_ca)
    }

    /// Writes a client certificate and `<name>.kubeconfig`, which uses it at the API server `address`; returns its path.
    pub(super) fn kubeconfig(&self, name: &str, subject: Subject<'_>, address: Ipv4Addr) -> Result<PathBuf> {
        self.client(name, subject)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "warren", "cluster": {
                "server": format!("https://{address}:6443"),
                "certificate-authority": self.path("ca.crt"),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate": self.path(&format!("{name}.crt")),
                "client-key": self.path(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "warren", "context": {"cluster": "warren", "user": name}}],
            "current-context": "warren",
        });
        let file = format!("{name}.kubeconfig");
        self.write(&file, &serde_json::to_string_pretty(&config)?)?;
        Ok(self.path(&file))
    }

    fn sign(&self, name: &str, params: CertificateParams, authority: &Authority) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, authority).with_context(|| format!("sign the certificate {name}"))?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path(file);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

fn authority(name: &str) -> Result<Authority> {
    let mut params = named(Subject { user: name, group: None });
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?).with_context(|| format!("make the authority {name}"))
}

fn leaf(subject: Subject<'_>, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = named(subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(subject: Subject<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject.user);
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}
