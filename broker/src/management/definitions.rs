//! Definitions: all that administrators and applications have declared, as RabbitMQ exports and imports it.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tracing::{Instrument, warn};
use warren_core::session::MetadataRequest;
use warren_core::topology::{Action, Administration, ExchangeRecord, Identity, QueueRecord, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::bindings;
use super::call::Call;
use super::cluster;
use super::json::of_table;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, get, post};
use super::{limits, parameters, permissions, policies, queues, users, vhosts};
use crate::definitions::{self, Definition, Source};
use crate::limits::METADATA_REQUESTS_AT_ONCE;
use crate::node::{RABBITMQ_VERSION, Shared};

pub(super) const ROUTES: &[Route] = &[
    get("/api/definitions", Needs::Administrator, "Everything that was declared, for an import.", Now(export)),
    post(
        "/api/definitions",
        Needs::Administrator,
        "Import definitions: what is there and not in them stays.",
        Later(|call| Box::pin(import(call))),
    ),
    get(
        "/api/definitions/{vhost}",
        Needs::Administrator,
        "What was declared in a virtual host, for an import.",
        Now(export_vhost),
    ),
    post(
        "/api/definitions/{vhost}",
        Needs::Administrator,
        "Import definitions into a virtual host.",
        Later(|call| Box::pin(import(call))),
    ),
];

fn export(call: &Call) -> Answer {
    let topology = &call.topology;
    let lists = |list: fn(&Call, &Vhost) -> Vec<Json>| -> Vec<Json> {
        let named = |vhost| {
            list(call, vhost).into_iter().map(move |mut entry: Json| {
                entry["vhost"] = (**Vhost::name(vhost)).into();
                entry
            })
        };
        topology.vhosts().flat_map(named).collect()
    };
    let [parameters, policies, queues, exchanges, bindings] = IN_VHOST.map(lists);
    Ok(Reply::Json(json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": cluster::PRODUCT_NAME,
        "product_version": cluster::PRODUCT_VERSION,
        "rabbitmq_definition_format": "cluster",
        "original_cluster_name": cluster::cluster_name(call),
        "explanation": "Definitions of a whole cluster",
        "users": topology.users().map(|user| users::shape(user)).collect::<Json>(),
        "vhosts": topology.vhosts().map(vhost).collect::<Json>(),
        "permissions": topology.permissions().map(|record| permissions::shape(record)).collect::<Json>(),
        "topic_permissions":
            topology.topic_permissions().map(|record| permissions::topic_shape(record)).collect::<Json>(),
        "parameters": parameters,
        "global_parameters": cluster::global_parameters(call),
        "policies": policies,
        "queues": queues,
        "exchanges": exchanges,
        "bindings": bindings,
    })))
}

fn export_vhost(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let [parameters, policies, queues, exchanges, bindings] = IN_VHOST.map(|list| list(call, vhost));
    Ok(Reply::Json(json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": cluster::PRODUCT_NAME,
        "product_version": cluster::PRODUCT_VERSION,
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": &**vhost.name(),
        "explanation": format!("Definitions of virtual host '{}'", vhost.name()),
        "description": &*vhost.record().description,
        "metadata": vhosts::metadata(vhost.record()),
        "limits": limits::named(&vhost.record().limits),
        "parameters": parameters,
        "policies": policies,
        "queues": queues,
        "exchanges": exchanges,
        "bindings": bindings,
    })))
}

/// The lists of what is in a virtual host: parameters, policies, queues, exchanges, bindings.
const IN_VHOST: [fn(&Call, &Vhost) -> Vec<Json>; 5] = [
    |_, vhost| parameters::exported(vhost),
    |_, vhost| policies::records(vhost, false).into_iter().map(policy).collect(),
    // What lives only as long as a connection is nobody's to define.
    |_, vhost| {
        queues::records(vhost).into_iter().filter(|queue| queue.exclusive_owner.is_none()).map(|of| queue(of)).collect()
    },
    |_, vhost| {
        let mut records: Vec<_> = vhost.exchanges().filter(|record| is_own(&record.name)).collect();
        records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        records.into_iter().map(|record| exchange(record)).collect()
    },
    |call, vhost| bindings::explicit(vhost, &call.topology).iter().filter(|of| lasts(of, vhost)).map(binding).collect(),
];

/// Whether somebody has declared it: those of the broker itself are there anyway.
fn is_own(exchange: &str) -> bool {
    !exchange.is_empty() && !exchange.starts_with("amq.")
}

/// Bindings of what is not exported are not either.
fn lasts(binding: &bindings::Shown, vhost: &Vhost) -> bool {
    let queue = vhost.queue(&binding.destination);
    !binding.to_queue || queue.is_some_and(|queue| queue.exclusive_owner.is_none())
}

fn vhost(vhost: &Vhost) -> Json {
    json!({
        "name": &**vhost.name(),
        "limits": limits::named(&vhost.record().limits),
        "metadata": vhosts::metadata(vhost.record()),
    })
}

fn policy(policy: &warren_core::topology::Policy) -> Json {
    let mut entry = policies::rule(policy);
    entry["name"] = (*policy.name).into();
    entry
}

fn queue(record: &QueueRecord) -> Json {
    let mut arguments = of_table(&record.arguments);
    arguments["x-queue-type"] = record.queue_type().into();
    json!({
        "name": &*record.name,
        "type": record.queue_type(),
        "durable": record.durable,
        "auto_delete": record.auto_delete,
        "arguments": arguments,
    })
}

fn exchange(record: &ExchangeRecord) -> Json {
    json!({
        "name": &*record.name,
        "type": record.type_name(),
        "durable": record.durable,
        "auto_delete": record.auto_delete,
        "internal": record.internal,
        "arguments": of_table(&record.arguments),
    })
}

fn binding(binding: &bindings::Shown) -> Json {
    json!({
        "source": binding.source,
        "destination": binding.destination,
        "destination_type": binding.destination_type(),
        "routing_key": binding.routing_key,
        "arguments": of_table(&binding.arguments),
    })
}

/// Makes what the body says. What is there already and different stays as it is, as in RabbitMQ; anything else that is
/// refused is told when all the rest has been made.
async fn import(mut call: Call) -> Answer {
    let vhost = match call.path.is_empty() {
        true => None,
        false => Some(call.target_vhost()?.name().clone()),
    };
    let permit = Arc::clone(&call.inside).acquire_owned().await.map_err(|_| Failure::stopping())?;
    let body = call.body.clone();
    // A large file takes a while to read.
    let read = tokio::task::spawn_blocking(move || definitions::read(&body, vhost.as_ref()));
    let definitions = read.await.map_err(|_| Failure::stopping())??;
    let makes_users = |definition: &Definition| {
        matches!(&definition.request.action, Action::Administer(Administration::PutUser { .. }))
    };
    if definitions.iter().any(makes_users) {
        call.keep_built_in().await?;
    }
    let (shared, caller) = (Arc::clone(&call.shared), Arc::clone(call.caller.identity.name()));
    let work = async move {
        let _permit = permit;
        carry_out(&shared, &caller, definitions).await
    };
    // If whoever asked goes away, all of it is made and not a part.
    let refused = tokio::spawn(work.in_current_span()).await.map_err(|_| Failure::stopping())??;
    match refused.first() {
        None => Ok(Reply::Done),
        Some(first) if refused.len() == 1 => Err(Failure::bad_request(first)),
        Some(first) => Err(Failure::bad_request(format!("{first}; and {} more", refused.len() - 1))),
    }
}

/// Makes what was read; answers what was refused, and why.
async fn carry_out(
    shared: &Shared,
    caller: &Arc<str>,
    mut definitions: Vec<Definition>,
) -> Result<Vec<String>, Failure> {
    let ask = |mut definition: Definition| {
        // The tag was asked for: what is in the definitions takes no further rights, as in RabbitMQ and from a file. The log
        // of changes has the caller's name.
        definition.request.identity = Identity::Node(Arc::clone(caller));
        let answer = shared.metadata.request(MetadataRequest::Topology(definition.request.clone()));
        (definition, answer)
    };
    let mut refused = Vec::new();
    definitions.retain(|definition| match definition.reserved(&shared.authentication) {
        Some(refusal) => {
            refused.push(definition.left_out(&refusal, Source::Import));
            false
        }
        None => true,
    });
    let mut definitions = definitions.into_iter();
    // Many are sent before the first is waited for, so that they become durable together.
    loop {
        let asked: Vec<_> = definitions.by_ref().take(METADATA_REQUESTS_AT_ONCE).map(ask).collect();
        if asked.is_empty() {
            break;
        }
        for (definition, answer) in asked {
            match answer.await.map_err(|_| Failure::stopping())? {
                Ok(_) => {}
                Err(refusal) if definitions::is_there_and_different(&refusal) => {
                    warn!("{}", definition.left_out(&refusal, Source::Import));
                }
                Err(refusal) => refused.push(definition.left_out(&refusal, Source::Import)),
            }
        }
    }
    Ok(refused)
}
