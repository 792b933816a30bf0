//! What Kubernetes asks: has it started, is it ready, is it alive.
//!
//! | path | 200 means | else |
//! |---|---|---|
//! | `/startupz` | the log has been read and the definitions are made | nothing answers: the port is open, and waits |
//! | `/readyz` | the ports are open, the node is not stopping, and all shards answer within [`READY_TIMEOUT`] | 503 with the reason |
//! | `/livez` | the runtime answers, and the task that measures memory has done so in the last [`HEARTBEAT_TIMEOUT`] | 503, or no answer |
//!
//! An alarm does not make a node unready: the consumers that end it have to reach it. A disk that stalls makes it unready,
//! because shards that wait for it do not answer, but not dead: no task that waits for a disk is asked whether the node is
//! alive, and a restart would only wait for the same disk. A vital task that panics ends the process at once, and so does a
//! disk that fails, so neither is asked for here.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::timeout;

use crate::limits::{HEARTBEAT_TIMEOUT, READY_TIMEOUT};
use crate::node::Shared;

type Answer = (StatusCode, &'static str);

const OK: Answer = (StatusCode::OK, "ok\n");

const fn unwell(reason: &'static str) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, reason)
}

pub(super) async fn startupz() -> Answer {
    OK
}

pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Answer {
    if shared.is_stopping() {
        return unwell("stopping\n");
    }
    match timeout(READY_TIMEOUT, shared.statistics.summary()).await {
        Ok(_) => OK,
        Err(_) => unwell("the queues do not answer: the disk may have stalled\n"),
    }
}

pub(super) async fn livez(State(shared): State<Arc<Shared>>) -> Answer {
    if shared.alarms.since_measured() < HEARTBEAT_TIMEOUT {
        OK
    } else {
        unwell("the runtime has not come round to its tasks\n")
    }
}
