//! Pure: what was observed becomes a [`Plan`], or a [`Refusal`] that says why it cannot.
//!
//! The API server already enforces the rules of the definition. What is checked here is what it cannot know, and what an
//! older definition in the cluster might let through.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::api::{Auth, MessageQueueSpec, Tls};
use crate::build::{AMQP_PORT, AMQPS_PORT};
use crate::certificates::Certificates;
use crate::credentials::Credentials;
use crate::names::Names;
use crate::observe::{Observed, ObservedObjects, ObservedTls, text};
use crate::prometheus_operator::Kinds;
use crate::release::RESTART_ANNOTATION;

/// Everything that the objects of one MessageQueue are built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names and labels of the objects.
    pub names: Names,
    /// The MessageQueue, as the owner of every object.
    pub owner: OwnerReference,
    /// What was asked for.
    pub spec: MessageQueueSpec,
    /// The broker's image, with the operator's default filled in.
    pub image: String,
    /// The broker's first user.
    pub credentials: Credentials,
    /// What encrypts connections.
    pub tls: PlannedTls,
    /// This release of the operator.
    pub release: String,
    /// The value of the annotation by which a person asks for a restart.
    pub restart: Option<String>,
    /// Kinds of the Prometheus operator that the cluster has.
    pub kinds: Kinds,
    /// Where the operators' pods run, if they run in the cluster.
    pub operator_namespace: Option<String>,
}

impl Plan {
    /// What tokens of ServiceAccounts must be meant for: the host that clients connect to, so that a broker can do nothing with
    /// what it is shown at others. `None`: no such tokens are taken.
    pub fn audience(&self) -> Option<String> {
        (!self.spec.auth.service_accounts.is_empty()).then(|| self.names.client_host())
    }
}

/// Certificates that can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedTls {
    /// None.
    Disabled,
    /// Our own.
    Managed(Box<Certificates>),
    /// Those of another Secret.
    Secret {
        /// Its name.
        name: String,
        /// Whom clients are to trust, in PEM, if it says so.
        authorities: Option<String>,
    },
}

impl PlannedTls {
    /// The certificates of the authorities that clients are to trust.
    pub fn authorities(&self) -> Option<String> {
        match self {
            Self::Disabled => None,
            Self::Managed(certificates) => Some(certificates.authorities.bundle()),
            Self::Secret { authorities, .. } => authorities.clone(),
        }
    }

    /// Who may vouch for the broker when the operator asks it; `None` only if it is asked without TLS.
    pub fn vouchers(&self) -> Option<String> {
        match self {
            Self::Disabled => None,
            // Without an authority that it could trust it does not tell anybody its password.
            Self::Managed(_) | Self::Secret { .. } => Some(self.authorities().unwrap_or_default()),
        }
    }

    /// The port that clients connect to.
    pub fn port(&self) -> i32 {
        if *self == Self::Disabled { AMQP_PORT } else { AMQPS_PORT }
    }
}

/// Why a MessageQueue cannot be made what it asks for. It stays as it is until a person changes something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More replicas than this release can run.
    #[error("spec.replicas is {replicas}: it must be 0 or 1, because replication is not available in this version")]
    Replicas {
        /// The number asked for.
        replicas: i32,
    },
    /// An object that we would write exists and is not ours.
    #[error(
        "{kind} {name} exists and does not belong to this MessageQueue, so it is left as it is: \
         delete it, or give the MessageQueue another name"
    )]
    Foreign {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A ServiceAccount is declared twice.
    #[error("spec.auth.serviceAccounts has {user} twice, with its namespace and without: declare it once")]
    SameServiceAccount {
        /// The user that it is.
        user: String,
    },
    /// The Secret with the certificate is not there, or not complete.
    #[error(
        "Secret {name} has no {entry}: spec.tls.mode Secret takes certificate and key from there; the broker stays as it is until it has"
    )]
    NoCertificate {
        /// The Secret.
        name: String,
        /// What it lacks.
        entry: &'static str,
    },
    /// A declared user has the name of the default user, whose password is in another Secret.
    #[error(
        "spec.auth.users: {name} is the name of the default user, whose password is in the Secret {secret}: give the user another name"
    )]
    DefaultUser {
        /// That name.
        name: String,
        /// Where the default user is.
        secret: String,
    },
    /// The MessageQueue was not read from an API server.
    #[error("the MessageQueue has no name, namespace or uid")]
    Incomplete,
}

impl Refusal {
    /// The reason in conditions and Events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Replicas { .. } | Self::DefaultUser { .. } | Self::SameServiceAccount { .. } | Self::Incomplete => {
                "InvalidSpec"
            }
            Self::Foreign { .. } => "ForeignObject",
            Self::NoCertificate { .. } => "CertificateMissing",
        }
    }
}

/// Turns what was observed into a plan. `default_image` runs where the specification names none; the operators' pods run in
/// `operator_namespace`.
///
/// # Errors
/// See [`Refusal`].
pub fn validate(observed: &Observed, default_image: &str, operator_namespace: Option<&str>) -> Result<Plan, Refusal> {
    let queue = &observed.queue;
    let (Some(owner), Some(namespace)) = (queue.controller_owner_ref(&()), queue.namespace()) else {
        return Err(Refusal::Incomplete);
    };
    let spec = queue.spec.clone();
    if !(0..=1).contains(&spec.replicas) {
        return Err(Refusal::Replicas { replicas: spec.replicas });
    }
    refuse_same_accounts(&spec.auth, &namespace)?;
    refuse_foreign(&observed.objects, &owner.uid)?;
    let names = Names::of(&namespace, &queue.name_any());
    if spec.auth.users.iter().any(|user| user.name == observed.credentials.username) {
        let name = observed.credentials.username.clone();
        return Err(Refusal::DefaultUser { name, secret: names.default_user });
    }
    Ok(Plan {
        names,
        owner,
        image: spec.image.clone().unwrap_or_else(|| default_image.to_owned()),
        tls: planned_tls(&observed.tls, &spec.tls)?,
        spec,
        credentials: observed.credentials.clone(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        restart: queue.annotations().get(RESTART_ANNOTATION).cloned(),
        kinds: observed.kinds,
        operator_namespace: operator_namespace.map(Into::into),
    })
}

fn planned_tls(observed: &ObservedTls, spec: &Tls) -> Result<PlannedTls, Refusal> {
    let secret = match observed {
        ObservedTls::Disabled => return Ok(PlannedTls::Disabled),
        ObservedTls::Managed(certificates) => return Ok(PlannedTls::Managed(certificates.clone())),
        ObservedTls::Secret(secret) => secret,
    };
    let name = spec.secret_name.clone().unwrap_or_default();
    let entry = |entry: &str| secret.as_ref().and_then(|secret| text(secret, entry));
    match ["tls.crt", "tls.key"].into_iter().find(|key| entry(key).is_none()) {
        Some(missing) => Err(Refusal::NoCertificate { name, entry: missing }),
        None => Ok(PlannedTls::Secret { authorities: entry("ca.crt"), name }),
    }
}

/// The API server cannot know what namespace an account without one is in.
fn refuse_same_accounts(auth: &Auth, home: &str) -> Result<(), Refusal> {
    let mut users: Vec<String> = auth.service_accounts.iter().map(|account| account.user(home)).collect();
    users.sort_unstable();
    match users.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::SameServiceAccount { user: pair[0].clone() }),
        None => Ok(()),
    }
}

fn refuse_foreign(objects: &ObservedObjects, owner_uid: &str) -> Result<(), Refusal> {
    // Destructured whole, so that a new kind of object cannot be forgotten here.
    let ObservedObjects {
        default_user,
        config,
        nodes_service,
        client_service,
        disruption_budget,
        authority_secret,
        certificate_secret,
        authorities,
        network_policy,
        service_monitor,
        prometheus_rule,
        service_account,
        stateful_set,
    } = objects;
    check_owner(authority_secret.as_ref(), owner_uid)?;
    check_owner(certificate_secret.as_ref(), owner_uid)?;
    check_owner(authorities.as_ref(), owner_uid)?;
    check_owner(network_policy.as_ref(), owner_uid)?;
    check_owner(service_monitor.as_ref(), owner_uid)?;
    check_owner(prometheus_rule.as_ref(), owner_uid)?;
    check_owner(service_account.as_ref(), owner_uid)?;
    check_owner(default_user.as_ref(), owner_uid)?;
    check_owner(config.as_ref(), owner_uid)?;
    check_owner(nodes_service.as_ref(), owner_uid)?;
    check_owner(client_service.as_ref(), owner_uid)?;
    check_owner(disruption_budget.as_ref(), owner_uid)?;
    check_owner(stateful_set.as_ref(), owner_uid)
}

fn check_owner<K: Resource<DynamicType = ()>>(object: Option<&K>, owner_uid: &str) -> Result<(), Refusal> {
    match object {
        Some(object) if !belongs_to(object, owner_uid) => {
            Err(Refusal::Foreign { kind: K::kind(&()).into_owned(), name: object.name_any() })
        }
        _ => Ok(()),
    }
}

/// Whether the controller of `object` is the owner with this uid.
pub fn belongs_to<K: Resource>(object: &K, owner_uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == owner_uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MessageQueue;
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn observed(spec: MessageQueueSpec, objects: ObservedObjects) -> Observed {
        let mut queue = MessageQueue::new("hello", spec);
        queue.metadata.namespace = Some("default".into());
        queue.metadata.uid = Some("ours".into());
        let credentials = Credentials { username: "u".into(), password: "p".into() };
        let (tls, kinds) = (ObservedTls::Disabled, Kinds::default());
        Observed { queue, objects, volume_claim: None, credentials, tls, kinds }
    }

    fn service_of(owner_uid: &str, controller: bool) -> ObservedObjects {
        let owner = OwnerReference { uid: owner_uid.into(), controller: Some(controller), ..OwnerReference::default() };
        let metadata =
            ObjectMeta { name: Some("hello".into()), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
        ObservedObjects {
            client_service: Some(Service { metadata, ..Service::default() }),
            ..ObservedObjects::default()
        }
    }

    #[test]
    fn the_default_image_runs_unless_another_is_named() {
        let image = |image: Option<&str>| {
            let spec = MessageQueueSpec { image: image.map(Into::into), ..MessageQueueSpec::default() };
            validate(&observed(spec, ObservedObjects::default()), "default", None).unwrap().image
        };
        assert_eq!(image(None), "default");
        assert_eq!(image(Some("own")), "own");
    }

    #[test]
    fn more_than_one_replica_is_refused_by_an_old_definition_too() {
        for replicas in [-1, 2, 3] {
            let spec = MessageQueueSpec { replicas, ..MessageQueueSpec::default() };
            let refusal = validate(&observed(spec, ObservedObjects::default()), "default", None).unwrap_err();
            assert_eq!(refusal, Refusal::Replicas { replicas });
            assert_eq!(refusal.reason(), "InvalidSpec");
        }
    }

    #[test]
    fn a_declared_user_cannot_be_the_default_user() {
        let user = serde_json::json!({"users": [{"name": "u", "passwordSecretRef": {"name": "s"}}]});
        let spec = MessageQueueSpec { auth: serde_json::from_value(user).unwrap(), ..MessageQueueSpec::default() };
        let refusal = validate(&observed(spec, ObservedObjects::default()), "default", None).unwrap_err();
        let names = Names::of("default", "hello");
        assert_eq!(refusal, Refusal::DefaultUser { name: "u".into(), secret: names.default_user });
        assert_eq!(refusal.reason(), "InvalidSpec");
    }

    #[test]
    fn only_objects_that_we_control_are_ours() {
        let check = |objects| validate(&observed(MessageQueueSpec::default(), objects), "default", None).map(|_| ());
        assert_eq!(check(service_of("ours", true)), Ok(()));
        let foreign = Err(Refusal::Foreign { kind: "Service".into(), name: "hello".into() });
        assert_eq!(check(service_of("theirs", true)), foreign);
        assert_eq!(check(service_of("ours", false)), foreign);
    }

    #[test]
    fn an_account_is_declared_once_with_its_namespace_or_without() {
        let check = |accounts: serde_json::Value| {
            let auth = serde_json::from_value(serde_json::json!({"serviceAccounts": accounts})).unwrap();
            let spec = MessageQueueSpec { auth, ..MessageQueueSpec::default() };
            validate(&observed(spec, ObservedObjects::default()), "default", None).map(|plan| plan.audience())
        };
        let twice = serde_json::json!([{"name": "a"}, {"name": "a", "namespace": "default"}]);
        let user = "system:serviceaccount:default:a".to_owned();
        assert_eq!(check(twice), Err(Refusal::SameServiceAccount { user }));
        let elsewhere = serde_json::json!([{"name": "a"}, {"name": "a", "namespace": "other"}]);
        assert_eq!(check(elsewhere), Ok(Some("hello.default.svc".into())));
        assert_eq!(check(serde_json::json!([])), Ok(None));
    }

    #[test]
    fn a_refusal_says_what_and_what_to_do() {
        let refusal = Refusal::Foreign { kind: "Service".into(), name: "hello".into() };
        assert_eq!(
            refusal.to_string(),
            "Service hello exists and does not belong to this MessageQueue, so it is left as it is: delete it, or give \
             the MessageQueue another name"
        );
    }
}
