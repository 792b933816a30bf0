//! The Secret of the default user: everything that a client needs to connect.
//!
//! Its keys follow the Service Binding specification 1.1 ("Well-known Secret Entries"). The binding type is `rabbitmq`,
//! because that is the name under which client frameworks know an AMQP 0-9-1 broker.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::certificates::AUTHORITIES_ENTRY;
use super::metadata;
use crate::broker_api::encoded;
use crate::validate::{Plan, PlannedTls};

const BINDING_TYPE: &str = "rabbitmq";
const PROVIDER: &str = "warren";
const VIRTUAL_HOST: &str = "/";

pub(super) fn default_user(plan: &Plan) -> Secret {
    let (host, user) = (plan.names.client_host(), &plan.credentials);
    let port = plan.tls.port();
    let scheme = if plan.tls == PlannedTls::Disabled { "amqp" } else { "amqps" };
    let uri = format!(
        "{scheme}://{}:{}@{host}:{port}/{}",
        encoded(&user.username),
        encoded(&user.password),
        encoded(VIRTUAL_HOST)
    );
    let entries = [
        ("type", BINDING_TYPE.to_owned()),
        ("provider", PROVIDER.to_owned()),
        ("host", host),
        ("port", port.to_string()),
        ("username", user.username.clone()),
        ("password", user.password.clone()),
        ("virtual-host", VIRTUAL_HOST.to_owned()),
        ("uri", uri),
    ];
    let authorities = plan.tls.authorities().map(|authorities| (AUTHORITIES_ENTRY, authorities));
    Secret {
        metadata: metadata(plan, &plan.names.default_user),
        type_: Some(format!("servicebinding.io/{BINDING_TYPE}")),
        data: Some(
            entries
                .into_iter()
                .chain(authorities)
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .collect::<BTreeMap<_, _>>(),
        ),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn reserved_characters_are_percent_encoded() {
        assert_eq!(encoded("/"), "%2F");
        assert_eq!(encoded("a:b@c-_.~"), "a%3Ab%40c-_.~");
        assert_eq!(encoded("ü"), "%C3%BC");
    }
}
