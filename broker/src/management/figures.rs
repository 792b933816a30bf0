//! What queues have to do, told as it changes: for who scales their consumers.
//!
//! The answer has a line of JSON for each change and does not end by itself. [`Figures`] and its fields are the format.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use warren_core::queue::{ConsumerStatus, QueueFilter};
use warren_core::topology::Topology;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::route::Handle::Later;
use super::route::{Needs, Route, get};
use crate::limits::{FIGURES_LIFETIME, FIGURES_QUEUES};
use crate::node::Shared;
use crate::statistics::QueueReport;

pub(super) const ROUTES: &[Route] = &[get(
    "/api/warren/figures",
    Needs::Monitoring,
    "What the queues `queue=<vhost>/<name>` have to do, a line of JSON for each change, for as long as somebody reads.",
    Later(|call| Box::pin(figures(call))),
)];

/// What happens at one time is told together: a burst is not told as its first message.
const TOGETHER: Duration = Duration::from_millis(50);

/// A queue that goes on changing is told so often.
const PERIOD: Duration = Duration::from_millis(200);

/// So often it is said that there is nothing new, and looked whether queues were declared or deleted.
const ALIVE: Duration = Duration::from_millis(1_000);

/// Lines that wait for the reader.
const LINES: usize = 16;

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    /// A queue has changed.
    Queue(Figures<'a>),
    /// Nothing else is new.
    Alive {
        /// When, by the broker's clock: milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// One queue.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    vhost: &'a str,
    name: &'a str,
    /// When it was so, by the broker's clock: milliseconds since the Unix epoch.
    at_ms: u64,
    /// Since when the counters count: when the broker started.
    since_ms: u64,
    /// What it has to do; absent if there is no such queue.
    #[serde(flatten)]
    work: Option<Work>,
}

/// What a queue has to do, and what was done. Counters count from `since_ms` or, if that is later, from when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Work {
    /// Messages that wait.
    ready: u64,
    /// Messages that consumers hold.
    unacked: u64,
    /// Messages that were routed to it.
    published: u64,
    /// Messages that were handed out.
    delivered: u64,
    /// Of those, what had been handed out before.
    redelivered: u64,
    /// Messages that were acknowledged.
    acknowledged: u64,
    /// For how long messages were held, all together, in milliseconds: the integral of `unacked`.
    unacked_message_ms: u64,
    /// One consumer is served at a time.
    single_active_consumer: bool,
    /// Its consumers by where they come from.
    peers: Vec<Peer>,
}

/// The consumers of a queue that come from one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Peer {
    address: String,
    /// How many they are.
    consumers: u64,
    /// How many messages they may hold; 0: as many as there are.
    prefetch: u64,
    /// How many they hold.
    unacked: u64,
}

/// A queue that somebody wants to hear about.
struct Watched {
    vhost: String,
    name: String,
    /// What was told last; `None`: nothing yet.
    told: Option<Option<Work>>,
}

async fn figures(call: Call) -> Answer {
    let queues = asked(&call)?;
    let permit = Arc::clone(&call.figures).try_acquire_owned().map_err(|_| {
        let reason = "as many read figures as may; end one of these first";
        Failure::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "busy", reason)
    })?;
    let (sender, mut lines) = mpsc::channel(LINES);
    let teller = Teller { shared: Arc::clone(&call.shared), queues, sender, woken: Arc::default(), _permit: permit };
    tokio::spawn(teller.run());
    let lines = stream::poll_fn(move |context| lines.poll_recv(context).map(|line| line.map(Ok::<Bytes, Infallible>)));
    Ok(Reply::Lines(Body::from_stream(lines)))
}

/// The queues of the query, each once.
fn asked(call: &Call) -> Result<Vec<Watched>, Failure> {
    let mut queues = BTreeMap::new();
    for text in call.query.all("queue") {
        let (vhost, name) = text.split_once('/').ok_or_else(|| {
            Failure::bad_request(format!(
                "queue={text} has to be a virtual host and a name, each percent-encoded, with / between them"
            ))
        })?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let vhost = decoded(vhost);
        if !call.caller.sees(&call.topology, &vhost) {
            return Err(Failure::not_found());
        }
        queues.insert((vhost, decoded(name)), ());
    }
    if queues.is_empty() || queues.len() > FIGURES_QUEUES {
        return Err(Failure::bad_request(format!("name 1 to {FIGURES_QUEUES} queues by queue=<vhost>/<name>")));
    }
    Ok(queues.into_keys().map(|(vhost, name)| Watched { vhost, name, told: None }).collect())
}

/// Tells one reader.
struct Teller {
    shared: Arc<Shared>,
    queues: Vec<Watched>,
    sender: mpsc::Sender<Bytes>,
    /// Something has happened in a shard with one of the queues.
    woken: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// The reader has gone.
struct Gone;

/// Whether queues were not as they had been told last.
enum Told {
    Something,
    Nothing,
}

impl Teller {
    /// Runs until nobody reads, or for [`FIGURES_LIFETIME`]: then the reader has to show who it is again.
    async fn run(mut self) {
        let end = Instant::now() + FIGURES_LIFETIME;
        let mut alive = interval(ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What only waits for the log is not there yet, so that it counts when something was told and not when it was looked.
        let mut earliest = Instant::now();
        let mut due: Option<Instant> = None;
        loop {
            let told = tokio::select! {
                () = sleep_until(end) => return,
                () = self.sender.closed() => return,
                () = sleep_until(due.unwrap_or(end)), if due.is_some() => {
                    due = None;
                    self.tell().await
                }
                () = self.woken.notified(), if due.is_none() => {
                    due = Some((Instant::now() + TOGETHER).max(earliest));
                    Ok(Told::Nothing)
                }
                _ = alive.tick() => match self.tell().await {
                    Ok(told) => self.say_alive().await.map(|()| told),
                    gone => gone,
                },
            };
            match told {
                Ok(Told::Something) => earliest = Instant::now() + PERIOD,
                Ok(Told::Nothing) => {}
                Err(Gone) => return,
            }
        }
    }

    /// Tells of each queue that is not as it was told last.
    async fn tell(&mut self) -> Result<Told, Gone> {
        let mut told = Told::Nothing;
        let topology = self.shared.topology.load_full();
        let mut works = self.works(&topology).await;
        let (at_ms, since_ms) = (self.shared.clock.unix_millis(), self.shared.clock.started_ms());
        for index in 0..self.queues.len() {
            let queue = &mut self.queues[index];
            let work = works.remove(&(queue.vhost.clone(), queue.name.clone()));
            if queue.told.as_ref() == Some(&work) {
                continue;
            }
            let line =
                Line::Queue(Figures { vhost: &queue.vhost, name: &queue.name, at_ms, since_ms, work: work.clone() });
            let text = line_of(&line);
            queue.told = Some(work);
            told = Told::Something;
            self.send(text).await?;
        }
        Ok(told)
    }

    /// What the queues that are there have to do, by virtual host and name. Their shards wake this from now on.
    async fn works(&self, topology: &Topology) -> BTreeMap<(String, String), Work> {
        let records = self.queues.iter().filter_map(|queue| topology.queue(&queue.vhost, &queue.name));
        let ids =
            records.inspect(|record| self.shared.statistics.watch(record.shard, &self.woken)).map(|record| record.id);
        let filter = QueueFilter { queues: Some(ids.collect()), consumers: true };
        let reports = self.shared.statistics.queues(topology, &filter).await;
        let key = |report: &QueueReport| (report.record.vhost.to_string(), report.record.name.to_string());
        reports.iter().map(|report| (key(report), self.work(report))).collect()
    }

    fn work(&self, report: &QueueReport) -> Work {
        let statistics = &report.statistics;
        let counters = &statistics.counters;
        Work {
            ready: statistics.ready,
            unacked: statistics.unacked,
            published: counters.published,
            delivered: counters.delivered + counters.delivered_no_ack,
            redelivered: counters.redelivered,
            // What needs no acknowledgement is done with when it is handed out.
            acknowledged: counters.acknowledged + counters.delivered_no_ack,
            unacked_message_ms: statistics.unacked_message_ms,
            single_active_consumer: statistics
                .consumers
                .iter()
                .any(|consumer| matches!(consumer.status, ConsumerStatus::SingleActive | ConsumerStatus::Waiting)),
            peers: self.peers(report),
        }
    }

    fn peers(&self, report: &QueueReport) -> Vec<Peer> {
        let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
        for consumer in &report.statistics.consumers {
            let Some(address) = self.shared.connections.peer(consumer.key.connection) else { continue };
            let address = address.ip().to_canonical();
            let empty = || Peer { address: address.to_string(), ..Peer::default() };
            let peer = peers.entry(address).or_insert_with(empty);
            // One consumer without a bound is enough for there to be none.
            let is_bounded = consumer.prefetch_count > 0 && (peer.consumers == 0 || peer.prefetch > 0);
            peer.prefetch = if is_bounded { peer.prefetch + u64::from(consumer.prefetch_count) } else { 0 };
            peer.consumers += 1;
            peer.unacked += u64::from(consumer.held);
        }
        peers.into_values().collect()
    }

    async fn say_alive(&self) -> Result<(), Gone> {
        self.send(line_of(&Line::Alive { at_ms: self.shared.clock.unix_millis() })).await
    }

    async fn send(&self, line: Bytes) -> Result<(), Gone> {
        self.sender.send(line).await.map_err(|_| Gone)
    }
}

fn line_of(line: &Line<'_>) -> Bytes {
    // Numbers, booleans and texts: there is nothing that JSON could not say.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text.into()
}
