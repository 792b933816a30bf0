//! Notices that a Secret of ours was changed or deleted by somebody else.
//!
//! Other objects are watched. Watching or listing Secrets needs the right to read all of them, whosever they are, and the operator
//! does without it: it looks at the metadata of those whose names it knows, one after the other, and not too fast.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;
use tracing::debug;

use crate::controller::QueueMeta;
use crate::names::Names;

/// How often a MessageQueue's Secrets are looked at, if there are few of them.
const PERIOD: Duration = Duration::from_secs(4);

/// The shortest time between two MessageQueues, which makes 50 requests in a second. From 67 MessageQueues on, [`PERIOD`]
/// becomes longer by that: it is 30 s for 500.
const PAUSE_MIN: Duration = Duration::from_millis(60);

/// How soon MessageQueues are looked for again where there are none.
const EMPTY_PERIOD: Duration = Duration::from_secs(1);

/// Versions of the Secrets of one MessageQueue; `None` is one that does not exist.
type Versions = [Option<String>; 3];

/// Looks at the Secrets of all `queues`, again and again, and tells `changed` whose were changed. Never ends.
pub async fn notice(client: &Client, queues: &Store<QueueMeta>, changed: &UnboundedSender<ObjectRef<QueueMeta>>) {
    let mut known: HashMap<ObjectRef<QueueMeta>, Versions> = HashMap::new();
    loop {
        let present = queues.state();
        let count = u32::try_from(present.len()).unwrap_or(u32::MAX).max(1);
        let pause = (PERIOD / count).max(PAUSE_MIN);
        known.retain(|queue, _| queues.get(queue).is_some());
        if present.is_empty() {
            sleep(EMPTY_PERIOD).await;
        }
        for queue in present {
            sleep(pause).await;
            match versions(client, &queue).await {
                Ok(found) => {
                    let queue = ObjectRef::from_obj(&*queue);
                    let before = known.insert(queue.clone(), found.clone());
                    // At first sight nothing can be said but that every MessageQueue has a default user.
                    if before.map_or_else(|| found[0].is_none(), |before| before != found) {
                        // Nobody hears it when the controller has ended.
                        let _ = changed.send(queue);
                    }
                }
                Err(error) => debug!(%error, "a Secret cannot be looked at; it is the next time"),
            }
        }
    }
}

async fn versions(client: &Client, queue: &QueueMeta) -> Result<Versions, kube::Error> {
    let namespace = queue.namespace().unwrap_or_default();
    let names = Names::of(&namespace, &queue.name_any());
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let version = async |name: &str| -> Result<Option<String>, kube::Error> {
        Ok(api.get_metadata_opt(name).await?.and_then(|secret| secret.metadata.resource_version))
    };
    Ok([
        version(&names.default_user).await?,
        version(&names.authority_secret).await?,
        version(&names.certificate_secret).await?,
    ])
}
