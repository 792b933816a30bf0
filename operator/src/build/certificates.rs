//! Where certificates are kept: the authority in a Secret of the operator, the brokers' certificate in one that they mount,
//! and what clients are to trust in a ConfigMap.
//!
//! | object | entry | what it is, in PEM |
//! | --- | --- | --- |
//! | Secret `<name>-ca` | `tls.crt`, `tls.key` | the authority that signs |
//! | | `next.crt`, `next.key` | the one that will |
//! | | `old.crt` | the one that did, while it is trusted |
//! | | `rotated-for` | the last value of the annotation that asks for another authority; no PEM |
//! | Secret `<name>-tls` | `tls.crt`, `tls.key` | the brokers' certificate |
//! | | `ca.crt` | all authorities that are to be trusted |
//! | ConfigMap `<name>-ca` | `ca.crt` | the same |

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::metadata;
use crate::certificates::Certificates;
use crate::validate::{Plan, PlannedTls};

/// The entry with the authorities that are to be trusted.
pub(super) const AUTHORITIES_ENTRY: &str = "ca.crt";

/// The type of Secrets with a certificate and its key.
const TLS_TYPE: &str = "kubernetes.io/tls";

/// `None`: the authority is not ours.
pub(super) fn authority_secret(plan: &Plan) -> Option<Secret> {
    let authorities = &managed(plan)?.authorities;
    let next = authorities.next.as_ref();
    let entries = [
        ("tls.crt", Some(&authorities.active.certificate)),
        ("tls.key", Some(&authorities.active.key)),
        ("next.crt", next.map(|next| &next.certificate)),
        ("next.key", next.map(|next| &next.key)),
        ("old.crt", authorities.old.as_ref()),
        ("rotated-for", authorities.rotated_for.as_ref()),
    ];
    Some(secret(plan, &plan.names.authority_secret, entries.into_iter().filter_map(|(key, text)| Some((key, text?)))))
}

/// `None`: the certificate is not ours.
pub(super) fn certificate_secret(plan: &Plan) -> Option<Secret> {
    let certificates = managed(plan)?;
    let authorities = certificates.authorities.bundle();
    let entries = [
        ("tls.crt", &certificates.leaf.certificate),
        ("tls.key", &certificates.leaf.key),
        (AUTHORITIES_ENTRY, &authorities),
    ];
    Some(secret(plan, &plan.names.certificate_secret, entries.into_iter()))
}

/// `None`: nobody says whom clients are to trust.
pub(super) fn authorities(plan: &Plan) -> Option<ConfigMap> {
    Some(ConfigMap {
        metadata: metadata(plan, &plan.names.authorities),
        data: Some(BTreeMap::from([(AUTHORITIES_ENTRY.into(), plan.tls.authorities()?)])),
        ..ConfigMap::default()
    })
}

fn managed(plan: &Plan) -> Option<&Certificates> {
    match &plan.tls {
        PlannedTls::Managed(certificates) => Some(certificates),
        PlannedTls::Disabled | PlannedTls::Secret { .. } => None,
    }
}

fn secret<'a>(plan: &Plan, name: &str, entries: impl Iterator<Item = (&'a str, &'a String)>) -> Secret {
    Secret {
        metadata: metadata(plan, name),
        type_: Some(TLS_TYPE.into()),
        data: Some(entries.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).collect()),
        ..Secret::default()
    }
}
