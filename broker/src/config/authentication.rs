//! `[authentication]`: who else says who somebody is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Mistakes;
pub use crate::authentication::SignatureAlgorithm;
use crate::authentication::check_address;

/// Who says who somebody is, beside users and their passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthenticationConfig {
    /// Issuers of tokens (OAuth 2, OpenID Connect). A client gives the token in the place of a password; the user's name
    /// beside it does not matter. Default: none.
    pub issuers: Vec<IssuerConfig>,
    /// Take the tokens of Kubernetes' ServiceAccounts, which the API server is asked about. Default: none.
    pub kubernetes: Option<KubernetesConfig>,
}

/// How tokens of ServiceAccounts are checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// The audience that tokens must be meant for. Pods mount one with it (`projected` volumes, `serviceAccountToken`).
    pub audience: String,
    /// The API server. Default: `https://kubernetes.default.svc`.
    #[serde(default = "in_cluster_api_server")]
    pub api_server: String,
    /// The authority that has signed its certificate, PEM. Default: where Kubernetes mounts it.
    #[serde(default = "in_cluster_ca")]
    pub ca: PathBuf,
    /// The token that this broker asks with; its account may create `tokenreviews`. It is read each time. Default: where
    /// Kubernetes mounts it.
    #[serde(default = "in_cluster_token")]
    pub token_file: PathBuf,
}

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What its tokens have in `iss`, octet for octet. If `jwks_uri` is not given, what is at
    /// `/.well-known/openid-configuration` behind it says where its keys are.
    pub issuer: String,
    /// What tokens for this broker have in `aud`, alone or among others: RabbitMQ's `resource_server_id`.
    pub audience: String,
    /// Where its keys are.
    pub jwks_uri: Option<String>,
    /// The authorities that may sign the certificate of the issuer's server, PEM. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// The algorithms that it signs with. Default: all that there are here: RS, PS and ES with 256, 384 and 512 bits, and EdDSA.
    #[serde(default = "all_algorithms")]
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Claims with the user's name; the first that a token has counts. Default: `sub`, `client_id`.
    #[serde(default = "usual_username_claims")]
    pub username_claims: Vec<String>,
    /// Where a token's holder has its rights from. Default: `scopes`.
    #[serde(default)]
    pub rights: RightsFrom,
    /// Claims with scopes, beside `scope`; one inside of another is written with a dot. Default: none.
    #[serde(default)]
    pub additional_scopes_keys: Vec<String>,
    /// What scopes for this broker begin with. Default: the audience and a dot.
    pub scope_prefix: Option<String>,
    /// Scopes that stand for others, with their prefix. Default: none.
    #[serde(default)]
    pub scope_aliases: BTreeMap<String, Vec<String>>,
    /// Take keys over plain HTTP from this host's loopback addresses, for tests. Default: false.
    #[serde(default)]
    pub allow_http_on_loopback: bool,
}

/// Where the holder of a token has its rights from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RightsFrom {
    /// The token's scopes.
    #[default]
    Scopes,
    /// The user of that name: the token stands in the place of its password.
    User,
}

impl AuthenticationConfig {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        for (index, issuer) in self.issuers.iter().enumerate() {
            if let Err(text) = issuer.check() {
                mistakes.add("authentication.issuers", format!("the issuer '{}': {text}", issuer.issuer));
            }
            if self.issuers[..index].iter().any(|other| other.issuer == issuer.issuer) {
                let text = format!("the issuer '{}' is there twice: name each once", issuer.issuer);
                mistakes.add("authentication.issuers", text);
            }
        }
        if let Some(kubernetes) = &self.kubernetes {
            if kubernetes.audience.is_empty() {
                let text = "it is empty: name what tokens for this broker are meant for, such as \"warren\"";
                mistakes.add("authentication.kubernetes.audience", text);
            }
            if let Err(error) = check_address(&kubernetes.api_server, false) {
                mistakes.add("authentication.kubernetes.api_server", error.to_string());
            }
        }
    }
}

impl IssuerConfig {
    /// What scopes for this broker begin with.
    pub(crate) fn prefix(&self) -> String {
        self.scope_prefix.clone().unwrap_or_else(|| format!("{}.", self.audience))
    }

    fn check(&self) -> Result<(), String> {
        let addresses = [("issuer", Some(&self.issuer)), ("jwks_uri", self.jwks_uri.as_ref())];
        for (name, address) in addresses.into_iter().filter_map(|(name, address)| Some((name, address?))) {
            check_address(address, self.allow_http_on_loopback).map_err(|error| format!("{name}: {error}"))?;
        }
        let needed = [
            ("audience", self.audience.is_empty()),
            ("algorithms", self.algorithms.is_empty()),
            ("username_claims", self.username_claims.is_empty()),
        ];
        match needed.into_iter().find(|(_, is_empty)| *is_empty) {
            Some((name, _)) => Err(format!("{name} is empty, and without it no token can be taken")),
            None => Ok(()),
        }
    }
}

fn all_algorithms() -> Vec<SignatureAlgorithm> {
    SignatureAlgorithm::ALL.to_vec()
}

fn usual_username_claims() -> Vec<String> {
    ["sub", "client_id"].map(String::from).to_vec()
}

fn in_cluster_api_server() -> String {
    "https://kubernetes.default.svc".into()
}

fn in_cluster_ca() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt".into()
}

fn in_cluster_token() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}
