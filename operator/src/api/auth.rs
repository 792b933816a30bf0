//! `spec.auth`: who may do what in the broker.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may do what in the broker, beside the default user, which may do everything.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Users with a password. They are kept as they are declared here, and one that is taken from this list is deleted in the
    /// broker, which closes its connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub users: Vec<User>,

    /// ServiceAccounts of the cluster, whose pods log in with nothing but a token of theirs as the password. Tokens must be for
    /// the audience `<name>.<namespace>.svc` of the MessageQueue, the host at which clients connect. The first one in this list,
    /// and the end of the list, restart the broker; other changes do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub service_accounts: Vec<ServiceAccount>,
}

/// A user of the broker.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The name to log in with.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("!self.startsWith('system:serviceaccount:')").message(
        "auth.users: a name that begins with system:serviceaccount: is that of a ServiceAccount and has no password"
    ))]
    pub name: String,

    /// Where the password is. Another one counts within ten seconds; connections that are there go on.
    pub password_secret_ref: SecretKey,

    /// What the user may do.
    #[serde(flatten)]
    pub rights: Rights,
}

/// A ServiceAccount that may log in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccount {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message(
        "auth.serviceAccounts: name must be that of a ServiceAccount: lower case letters, digits, - and ."
    ))]
    pub name: String,

    /// Its namespace. Default: that of the MessageQueue.
    #[serde(default)]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$')").message(
        "auth.serviceAccounts: namespace must be the name of a namespace: lower case letters, digits and -"
    ))]
    pub namespace: String,

    /// What its pods may do.
    #[serde(flatten)]
    pub rights: Rights,
}

impl ServiceAccount {
    /// The user of the broker that its pods are, in the form in which Kubernetes names the account. `home` is the namespace of
    /// the MessageQueue.
    pub fn user(&self, home: &str) -> String {
        let namespace = if self.namespace.is_empty() { home } else { &self.namespace };
        format!("system:serviceaccount:{namespace}:{}", self.name)
    }
}

/// What a user may do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rights {
    /// What the user may do in the management API: administrator, monitoring, policymaker, management or impersonator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 32)))]
    #[x_kube(validation = Rule::new("self.all(tag, tag in ['administrator', 'monitoring', 'policymaker', 'management', 'impersonator'])").message(
        "auth: tags must be administrator, monitoring, policymaker, management or impersonator"
    ))]
    pub tags: Vec<String>,

    /// What the user may do, one entry for each virtual host. Others are not open to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vhost".into()]))]
    pub permissions: Vec<Permission>,

    /// Which routing keys the user may use with topic exchanges. Where nothing is said, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vhost".into(), "exchange".into()]))]
    pub topic_permissions: Vec<TopicPermission>,
}

/// An entry of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret, in the namespace of the MessageQueue.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message(
        "auth: passwordSecretRef.name must be the name of a Secret: lower case letters, digits, - and ."
    ))]
    pub name: String,

    /// The entry that holds it, to the last octet: a line's end counts too. Default: password
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message(
        "auth: passwordSecretRef.key must be an entry of a Secret: letters, digits, -, _ and ."
    ))]
    pub key: String,
}

/// What somebody may do in a virtual host. Each pattern is a regular expression for names of queues and exchanges; an empty one
/// matches none.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    /// The virtual host. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 128))]
    pub vhost: String,

    /// What may be declared and deleted. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub configure: String,

    /// What may be published to and bound to. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub write: String,

    /// What may be consumed and bound from. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub read: String,
}

/// Which routing keys of a topic exchange somebody may use. Each pattern is a regular expression.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TopicPermission {
    /// The virtual host. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 128))]
    pub vhost: String,

    /// The exchange.
    #[schemars(length(min = 1, max = 255))]
    pub exchange: String,

    /// Keys to publish with. Default: none.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub write: String,

    /// Keys to bind with. Default: none.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub read: String,
}

pub(super) fn default_vhost() -> String {
    "/".into()
}

fn default_key() -> String {
    "password".into()
}
