//! Scales the consumers of MessageQueues: a task for each MessageQueue that has some.
//!
//! ```text
//! broker ── figures ──> Fleet ── wanted ──> PATCH …/scale
//!                                   └─────> status of the MessageQueue
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::departures::{Crew, DepartureError, Departures};
use super::plan::{FIGURES_AGE_MAX_MS, Fleet, Reason, Wanted};
use super::scale::{Scale, Size};
use crate::api::{Consumer, ConsumerStatus, MessageQueue, Target};
use crate::broker_api::{BrokerApi, BrokerError, Endpoint, Line};
use crate::controller::QueueMeta;
use crate::server_error::said;

/// How often everything is looked at, whether something was heard or not.
const TICK: Duration = Duration::from_secs(1);

/// How old the number of a target's pods may be.
const SCALE_AGE_MAX: Duration = Duration::from_secs(5);

/// The same while there is nothing to do.
const IDLE_SCALE_AGE_MAX: Duration = Duration::from_secs(30);

/// How long a broker is not asked again that did not answer.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long the API server may take for a scale.
const SCALE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a MessageQueue asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Its broker.
    pub endpoint: Endpoint,
    /// Its consumers.
    pub consumers: Vec<Consumer>,
}

/// The tasks, by namespace and name of their MessageQueue.
pub struct Scalers {
    client: Client,
    tasks: Mutex<HashMap<(String, String), Task>>,
    /// Told when the status of a MessageQueue's consumers has changed.
    changed: UnboundedSender<ObjectRef<QueueMeta>>,
    claims: Claims,
}

/// Who scales a target of a namespace: a MessageQueue and the name of one of its consumers. Two would undo each other's work.
type Claims = Arc<Mutex<HashMap<(String, Target), (String, String)>>>;

struct Task {
    wish: watch::Sender<Wish>,
    states: States,
    handle: AbortHandle,
}

/// What is known of each consumer, by name.
type States = Arc<Mutex<HashMap<String, ConsumerStatus>>>;

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Scalers {
    /// None yet. `changed` is told whose status is to be written.
    pub fn new(client: Client, changed: UnboundedSender<ObjectRef<QueueMeta>>) -> Self {
        Self { client, tasks: Mutex::default(), changed, claims: Claims::default() }
    }

    /// A MessageQueue has these consumers from now on; `before` is what was known of them earlier.
    pub fn set(&self, namespace: &str, queue: &str, wish: Wish, before: &[ConsumerStatus]) {
        let mut tasks = self.tasks();
        let key = (namespace.to_owned(), queue.to_owned());
        if wish.consumers.is_empty() {
            tasks.remove(&key);
            return;
        }
        if let Some(task) = tasks.get(&key) {
            task.wish.send_if_modified(|known| {
                let is_new = *known != wish;
                if is_new {
                    *known = wish;
                }
                is_new
            });
            return;
        }
        let rates = before
            .iter()
            .filter_map(|state| Some((state.name.clone(), state.messages_per_second_and_pod.as_ref()?.parse().ok()?)));
        let (sender, wishes) = watch::channel(wish);
        let states = States::default();
        let scaler = Scaler {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
            queue: queue.to_owned(),
            wishes,
            broker: None,
            states: states.clone(),
            changed: self.changed.clone(),
            claims: Arc::clone(&self.claims),
            rates: rates.collect(),
            fleets: HashMap::new(),
        };
        let handle = tokio::spawn(scaler.run()).abort_handle();
        tasks.insert(key, Task { wish: sender, states, handle });
    }

    /// MessageQueues that are not there scale nothing.
    pub fn keep_only(&self, is_there: impl Fn(&str, &str) -> bool) {
        self.tasks().retain(|(namespace, queue), _| is_there(namespace, queue));
    }

    /// A MessageQueue is gone.
    pub fn forget(&self, namespace: &str, queue: &str) {
        self.tasks().remove(&(namespace.to_owned(), queue.to_owned()));
    }

    /// What is known of the consumers of a MessageQueue, in their order; of those that were not looked at yet, what was
    /// known `before`.
    pub fn statuses(&self, queue: &MessageQueue, before: &[ConsumerStatus]) -> Vec<ConsumerStatus> {
        let tasks = self.tasks();
        let task = tasks.get(&(queue.namespace().unwrap_or_default(), queue.name_any()));
        let states = task.map(|task| task.states.lock().unwrap_or_else(PoisonError::into_inner));
        let known = |name: &String| states.as_ref().and_then(|states| states.get(name));
        let earlier = |name: &String| before.iter().find(|state| state.name == *name);
        let names = queue.spec.consumers.iter().map(|consumer| &consumer.name);
        names.filter_map(|name| known(name).or_else(|| earlier(name)).cloned()).collect()
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<(String, String), Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scales the consumers of one MessageQueue.
struct Scaler {
    client: Client,
    namespace: String,
    queue: String,
    wishes: watch::Receiver<Wish>,
    /// The broker that was asked last.
    broker: Option<BrokerApi>,
    states: States,
    changed: UnboundedSender<ObjectRef<QueueMeta>>,
    claims: Claims,
    /// What pods were measured to do, before this process.
    rates: HashMap<String, f64>,
    fleets: HashMap<String, Member>,
}

/// One consumer.
struct Member {
    fleet: Fleet,
    scale: Option<Scale>,
    /// How many pods its target asks for, and when that was so.
    current: Option<(Instant, Option<Size>)>,
    last: Option<Wanted>,
    departures: Departures,
}

/// Why a target cannot be scaled.
#[derive(Debug, thiserror::Error)]
enum ScaleError {
    /// Its scale subresource cannot be read or changed.
    #[error("its scale cannot be read or changed: {}", said(.0))]
    Scale(#[from] kube::Error),
    /// Pods of it cannot be chosen to go.
    #[error(transparent)]
    Departure(#[from] DepartureError),
}

impl Drop for Scaler {
    fn drop(&mut self) {
        self.keep_claims(&[]);
    }
}

/// Figures as they come.
type Lines = BoxStream<'static, Result<Line, BrokerError>>;

impl Scaler {
    async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = Instant::now();
        let mut lines: Option<Lines> = None;
        let mut ask_at = start;
        let mut heard = start;
        loop {
            if lines.is_none() && Instant::now() >= ask_at {
                lines = self.listen().await;
                heard = Instant::now();
                ask_at = heard + RECONNECT;
            }
            let line = async {
                match &mut lines {
                    Some(lines) => lines.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                line = line => match line {
                    Some(Ok(line)) => {
                        heard = Instant::now();
                        let now_ms = millis(start);
                        if self.take(line, now_ms) {
                            self.decide_all(now_ms).await;
                        }
                    }
                    Some(Err(error)) => {
                        debug!(%error, "figures end");
                        lines = None;
                    }
                    None => lines = None,
                },
                _ = tick.tick() => {
                    // Nothing tells that the other side of a connection is gone, if its node is.
                    if heard.elapsed() > Duration::from_millis(FIGURES_AGE_MAX_MS) {
                        lines = None;
                    }
                    self.decide_all(millis(start)).await;
                }
                changed = self.wishes.changed() => match changed {
                    Ok(()) => {
                        lines = None;
                        ask_at = Instant::now();
                    }
                    Err(_) => return,
                },
            }
        }
    }

    /// Asks the broker for figures of all queues.
    async fn listen(&mut self) -> Option<Lines> {
        let wish = self.wishes.borrow_and_update().clone();
        let names: Vec<&str> = wish.consumers.iter().map(|consumer| consumer.name.as_str()).collect();
        self.fleets.retain(|name, _| names.contains(&name.as_str()));
        self.states().retain(|name, _| names.contains(&name.as_str()));
        self.keep_claims(&wish.consumers);
        let queues: Vec<_> =
            wish.consumers.iter().map(|consumer| (consumer.vhost.as_str(), consumer.queue.as_str())).collect();
        let lines = match BrokerApi::new(&wish.endpoint) {
            Ok(api) => self.broker.insert(api).figures(&queues).await,
            Err(error) => Err(error),
        };
        lines.inspect_err(|error| warn!(namespace = self.namespace, queue = self.queue, %error, "no figures")).ok()
    }

    /// Takes what the broker says. True: there is something to decide.
    fn take(&mut self, line: Line, now_ms: u64) -> bool {
        let consumers = self.wishes.borrow().consumers.clone();
        match line {
            Line::Alive { .. } => {
                for consumer in &consumers {
                    self.member(consumer).fleet.unchanged(&consumer.rule(), now_ms);
                }
                false
            }
            Line::Queue { vhost, name, figures } => {
                for consumer in consumers.iter().filter(|one| one.vhost == vhost && one.queue == name) {
                    self.member(consumer).fleet.observe(figures.clone(), &consumer.rule(), now_ms);
                }
                true
            }
        }
    }

    fn member(&mut self, consumer: &Consumer) -> &mut Member {
        let rate = self.rates.get(&consumer.name).copied();
        self.fleets.entry(consumer.name.clone()).or_insert_with(|| Member {
            fleet: Fleet::with_pod_rate(rate),
            scale: None,
            current: None,
            last: None,
            departures: Departures::default(),
        })
    }

    async fn decide_all(&mut self, now_ms: u64) {
        let consumers = self.wishes.borrow().consumers.clone();
        for consumer in &consumers {
            if let Err(error) = self.decide(consumer, now_ms).await {
                let member = self.member(consumer);
                (member.scale, member.current) = (None, None);
                warn!(namespace = self.namespace, target = consumer.target.name, %error, "cannot scale");
            }
        }
    }

    async fn decide(&mut self, consumer: &Consumer, now_ms: u64) -> Result<(), ScaleError> {
        if !self.claim(consumer) {
            self.member(consumer).last = None;
            self.tell(consumer, 0, "TargetTaken", 0);
            return Ok(());
        }
        let Some(size) = self.current(consumer).await? else {
            self.member(consumer).last = None;
            self.tell(consumer, 0, "TargetMissing", 0);
            return Ok(());
        };
        let current = size.replicas;
        let rule = consumer.rule();
        let mut wanted = self.member(consumer).fleet.wanted(&rule, current, now_ms);
        if wanted.replicas < current {
            let free = self.prepare(consumer, &size, current - wanted.replicas).await?;
            if free < current - wanted.replicas {
                wanted = Wanted { replicas: current - free, reason: Reason::Draining };
            }
        } else {
            self.settle(consumer, &size).await?;
        }
        if wanted.replicas != current {
            self.set(consumer, &size, wanted, now_ms).await?;
        }
        let is_news = self.member(consumer).last.replace(wanted) != Some(wanted);
        if is_news {
            self.tell(consumer, wanted.replicas, wanted.reason.as_str(), wanted.replicas);
        }
        Ok(())
    }

    /// Asks for another number, unless somebody else has: then that is looked at the next time.
    async fn set(&mut self, consumer: &Consumer, size: &Size, wanted: Wanted, now_ms: u64) -> Result<(), kube::Error> {
        let Some(scale) = self.member(consumer).scale.clone() else { return Ok(()) };
        let mut seen = size.clone();
        let after = loop {
            match within(scale.set(wanted.replicas, &seen)).await {
                Ok(after) => break after,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
            // Mostly it is its status that has changed.
            match within(scale.size()).await? {
                Some(now) if now.replicas == size.replicas && now != seen => seen = now,
                now => {
                    self.member(consumer).current = Some((Instant::now(), now));
                    return Ok(());
                }
            }
        };
        let (current, Wanted { replicas, reason }) = (size.replicas, wanted);
        info!(namespace = self.namespace, target = consumer.target.name, current, replicas, ?reason, "scaled");
        let member = self.member(consumer);
        if replicas > current {
            member.fleet.ordered(now_ms);
        }
        member.current = Some((Instant::now(), Some(after)));
        Ok(())
    }

    /// Prepares pods to go. Answers how many may.
    async fn prepare(&mut self, consumer: &Consumer, size: &Size, count: u32) -> Result<u32, DepartureError> {
        let is_idle = self.member(consumer).fleet.figures().is_some_and(|figures| figures.unacked == 0);
        let Some(broker) = self.broker.clone().filter(|_| !size.selector.is_empty()) else {
            // Nobody says which pods are the target's: they may go if none of them can have anything.
            return Ok(if is_idle { count } else { 0 });
        };
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let member = self.member(consumer);
        let is_ordinal = member.scale.as_ref().is_some_and(|scale| scale.is_ordinal);
        let crew = Crew { client: &client, namespace: &namespace, selector: &size.selector, is_ordinal };
        let peers = member.fleet.figures().map(|figures| figures.peers.clone()).unwrap_or_default();
        member.departures.prepare(&crew, &broker, &peers, count).await
    }

    /// Nobody has to go.
    async fn settle(&mut self, consumer: &Consumer, size: &Size) -> Result<(), DepartureError> {
        let Some(broker) = self.broker.clone() else { return Ok(()) };
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let crew = Crew { client: &client, namespace: &namespace, selector: &size.selector, is_ordinal: false };
        self.member(consumer).departures.settle(&crew, &broker).await
    }

    /// How many pods the target asks for; `None`: it is not there.
    async fn current(&mut self, consumer: &Consumer) -> Result<Option<Size>, kube::Error> {
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let member = self.member(consumer);
        let has_work = member.fleet.figures().is_none_or(|figures| figures.depth() > 0);
        let age_max = if has_work { SCALE_AGE_MAX } else { IDLE_SCALE_AGE_MAX };
        if let Some((at, current)) = &member.current
            && at.elapsed() < age_max
        {
            return Ok(current.clone());
        }
        let scale = match &member.scale {
            Some(scale) => scale.clone(),
            None => within(Scale::find(&client, &namespace, &consumer.target)).await?,
        };
        let current = within(scale.size()).await?;
        member.scale = Some(scale);
        member.current = Some((Instant::now(), current.clone()));
        Ok(current)
    }

    /// Has it written into the status of the MessageQueue.
    fn tell(&mut self, consumer: &Consumer, current: u32, reason: &str, wanted: u32) {
        let rate = self.member(consumer).fleet.rates.pod_rate();
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let state = ConsumerStatus {
            name: consumer.name.clone(),
            current_replicas: count(current),
            wanted_replicas: count(wanted),
            reason: reason.to_owned(),
            messages_per_second_and_pod: rate.map(|rate| format!("{rate:.3}")),
        };
        let before = self.states().insert(consumer.name.clone(), state.clone());
        if before.as_ref() != Some(&state) {
            // Nobody listens while the operator ends.
            let _ = self.changed.send(ObjectRef::new(&self.queue).within(&self.namespace));
        }
    }

    /// Whether the target is this consumer's to scale: it is its who came first.
    fn claim(&self, consumer: &Consumer) -> bool {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let us = (self.queue.clone(), consumer.name.clone());
        *claims.entry((self.namespace.clone(), consumer.target.clone())).or_insert_with(|| us.clone()) == us
    }

    /// Others may scale what none of `consumers` does.
    fn keep_claims(&self, consumers: &[Consumer]) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|(namespace, target), (queue, name)| {
            let is_ours = *namespace == self.namespace && *queue == self.queue;
            !is_ours || consumers.iter().any(|consumer| consumer.name == *name && consumer.target == *target)
        });
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, ConsumerStatus>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the API server answers, if it does in time.
async fn within<T>(work: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(SCALE_TIMEOUT, work).await.unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())))
}

/// Milliseconds since `start`, for which the clock of the machine does not matter.
fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
