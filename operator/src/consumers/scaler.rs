//! Scales the consumers of MessageQueues: a task for each MessageQueue that has some.
//!
//! ```text
//! broker ── figures ──> Fleet ── wanted ──> PATCH …/scale
//!                                   └─────> status and Events of the MessageQueue, metrics
//! ```
//!
//! Without a target the number is only told. What fails is tried again exponentially later: to listen to the broker, to scale each
//! target, and to drain its pods, so that a target still grows when its pods cannot be drained.

use std::collections::{BTreeMap, HashMap};
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
use tracing::{info, warn};

use super::departures::{Crew, DepartureError, Departures};
use super::plan::{FIGURES_AGE_MAX_MS, Fleet, Reason, Wanted};
use super::report::{Report, Told, message};
use super::scale::{Scale, Size, is_refusal};
use super::series::{ConsumerSeries, Place};
use crate::api::{Consumer, ConsumerStatus, MessageQueue, Target};
use crate::backoff::Retry;
use crate::broker_api::{BrokerApi, BrokerError, Endpoint, Line};
use crate::controller::QueueMeta;
use crate::server_error::said;

/// How often everything is looked at, whether something was heard or not.
const TICK: Duration = Duration::from_secs(1);

/// How old the number of a target's pods may be.
const SCALE_AGE_MAX: Duration = Duration::from_secs(5);

/// The same while there is nothing to do.
const IDLE_SCALE_AGE_MAX: Duration = Duration::from_secs(30);

/// What fails is tried again at least this often.
const RETRY: Duration = Duration::from_secs(30);

/// How long the API server may take for a scale.
const SCALE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a MessageQueue asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Its broker.
    pub endpoint: Endpoint,
    /// Whether that serves, as far as Kubernetes knows: when it begins to, it is asked at once.
    pub serves: bool,
    /// Its consumers.
    pub consumers: Vec<Consumer>,
}

/// A target was scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The consumer, and what its target is.
    pub consumer: String,
    /// Its kind and name.
    pub target: String,
    /// How many pods it asked for.
    pub from: u32,
    /// And how many after that.
    pub to: u32,
    /// Why.
    pub reason: Reason,
}

/// The tasks, by namespace and name of their MessageQueue.
pub struct Scalers {
    client: Client,
    tasks: Mutex<HashMap<(String, String), Task>>,
    /// Told when the status of a MessageQueue's consumers has changed.
    changed: UnboundedSender<ObjectRef<QueueMeta>>,
    claims: Claims,
    series: ConsumerSeries,
}

/// Who scales a target of a namespace: a MessageQueue and the name of one of its consumers. Two would undo each other's work.
type Claims = Arc<Mutex<HashMap<(String, Target), (String, String)>>>;

struct Task {
    wish: watch::Sender<Wish>,
    board: Board,
    handle: AbortHandle,
}

/// What a task has to say.
type Board = Arc<Mutex<News>>;

#[derive(Default)]
struct News {
    /// What is known of each consumer, by name.
    statuses: HashMap<String, ConsumerStatus>,
    /// What was scaled and not told yet. Of what follows each other at one target, only the two ends are.
    scales: BTreeMap<String, Scaled>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Scalers {
    /// None yet. `changed` is told whose status is to be written.
    /// Metrics are told in `series`.
    pub fn new(client: Client, changed: UnboundedSender<ObjectRef<QueueMeta>>, series: ConsumerSeries) -> Self {
        Self { client, tasks: Mutex::default(), changed, claims: Claims::default(), series }
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
        let (sender, wishes) = watch::channel(wish);
        let board = Board::default();
        let scaler = Scaler {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
            queue: queue.to_owned(),
            wishes,
            broker: None,
            board: board.clone(),
            changed: self.changed.clone(),
            claims: Arc::clone(&self.claims),
            series: self.series.clone(),
            before: before.to_vec(),
            fleets: HashMap::new(),
            listening: Retry::at_least_every(RETRY),
            silence: None,
        };
        let handle = tokio::spawn(scaler.run()).abort_handle();
        tasks.insert(key, Task { wish: sender, board, handle });
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
        let news = task.map(|task| lock(&task.board));
        let known = |name: &String| news.as_ref().and_then(|news| news.statuses.get(name));
        let earlier = |name: &String| before.iter().find(|state| state.name == *name);
        let names = queue.spec.consumers.iter().map(|consumer| &consumer.name);
        names.filter_map(|name| known(name).or_else(|| earlier(name)).cloned()).collect()
    }

    /// What was scaled for a MessageQueue since it was asked last.
    pub fn news(&self, queue: &MessageQueue) -> Vec<Scaled> {
        let tasks = self.tasks();
        let task = tasks.get(&(queue.namespace().unwrap_or_default(), queue.name_any()));
        task.map(|task| std::mem::take(&mut lock(&task.board).scales).into_values().collect()).unwrap_or_default()
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<(String, String), Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(board: &Board) -> MutexGuard<'_, News> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scales the consumers of one MessageQueue.
struct Scaler {
    client: Client,
    namespace: String,
    queue: String,
    wishes: watch::Receiver<Wish>,
    /// The broker that was asked last.
    broker: Option<BrokerApi>,
    board: Board,
    changed: UnboundedSender<ObjectRef<QueueMeta>>,
    claims: Claims,
    series: ConsumerSeries,
    /// What was known before this process.
    before: Vec<ConsumerStatus>,
    fleets: HashMap<String, Member>,
    listening: Retry,
    /// Why the broker says nothing, if it does not.
    silence: Option<String>,
}

/// One consumer.
struct Member {
    fleet: Fleet,
    scale: Option<Scale>,
    /// How many pods its target asks for, and when that was so.
    current: Option<(Instant, Option<Size>)>,
    /// How many there should be. It is what there are, if there is no target.
    wanted: u32,
    since: Instant,
    told: Option<Told>,
    departures: Departures,
    scaling: Retry,
    draining: Retry,
}

impl Member {
    /// One of which this was known `before`.
    fn new(before: Option<&ConsumerStatus>) -> Self {
        let rate = before.and_then(|status| status.messages_per_second_and_pod.as_ref()?.parse().ok());
        Self {
            fleet: Fleet::with_pod_rate(rate),
            scale: None,
            current: None,
            wanted: before.and_then(|status| u32::try_from(status.wanted_replicas).ok()).unwrap_or(0),
            since: Instant::now(),
            told: None,
            departures: Departures::default(),
            scaling: Retry::at_least_every(RETRY),
            draining: Retry::at_least_every(RETRY),
        }
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        self.keep_claims(&[]);
        self.series.keep_only(&self.namespace, &self.queue, |_| false);
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
        let mut heard = start;
        loop {
            if lines.is_none() && self.listening.is_due(Instant::now()) {
                lines = self.listen().await;
                heard = Instant::now();
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
                        self.listening.succeeded();
                        self.silence = None;
                        let now_ms = millis(start);
                        if self.take(line, now_ms) {
                            self.decide_all(now_ms).await;
                        }
                    }
                    Some(Err(error)) => lines = self.fell_silent(&error.to_string()),
                    None => lines = self.fell_silent("its answer has ended"),
                },
                _ = tick.tick() => {
                    // Nothing tells that the other side of a connection is gone, if its node is.
                    if lines.is_some() && heard.elapsed() > Duration::from_millis(FIGURES_AGE_MAX_MS) {
                        lines = self.fell_silent("it is connected, and silent");
                    }
                    self.decide_all(millis(start)).await;
                }
                changed = self.wishes.changed() => match changed {
                    // Another broker, other consumers, or a broker that serves again.
                    Ok(()) => {
                        lines = None;
                        self.listening.succeeded();
                    }
                    Err(_) => return,
                },
            }
        }
    }

    /// Nothing is heard of the broker any longer.
    fn fell_silent(&mut self, why: &str) -> Option<Lines> {
        let wait = self.listening.failed(Instant::now());
        warn!(namespace = self.namespace, queue = self.queue, error = why, ?wait, "no figures");
        self.silence = Some(why.to_owned());
        None
    }

    /// Asks the broker for figures of all queues.
    async fn listen(&mut self) -> Option<Lines> {
        let wish = self.wishes.borrow_and_update().clone();
        let is_there = |name: &str| wish.consumers.iter().any(|consumer| consumer.name == name);
        self.fleets.retain(|name, _| is_there(name));
        lock(&self.board).statuses.retain(|name, _| is_there(name));
        lock(&self.board).scales.retain(|name, _| is_there(name));
        self.series.keep_only(&self.namespace, &self.queue, is_there);
        self.keep_claims(&wish.consumers);
        let queues: Vec<_> =
            wish.consumers.iter().map(|consumer| (consumer.vhost.as_str(), consumer.queue.as_str())).collect();
        let lines = match BrokerApi::new(&wish.endpoint) {
            Ok(api) => self.broker.insert(api).figures(&queues).await,
            Err(error) => Err(error),
        };
        lines.map_or_else(|error| self.fell_silent(&error.to_string()), Some)
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
        let Self { fleets, before, .. } = self;
        let known = || before.iter().find(|status| status.name == consumer.name);
        fleets.entry(consumer.name.clone()).or_insert_with(|| Member::new(known()))
    }

    async fn decide_all(&mut self, now_ms: u64) {
        let consumers = self.wishes.borrow().consumers.clone();
        for consumer in &consumers {
            let Some(target) = &consumer.target else {
                self.advise(consumer, now_ms);
                continue;
            };
            if !self.member(consumer).scaling.is_due(Instant::now()) {
                continue;
            }
            match self.decide(consumer, target, now_ms).await {
                Ok(()) => self.member(consumer).scaling.succeeded(),
                Err(error) => self.cannot_scale(consumer, target, &error, now_ms),
            }
        }
    }

    /// Says how many pods there should be, which somebody else makes so.
    fn advise(&mut self, consumer: &Consumer, now_ms: u64) {
        let member = self.member(consumer);
        let wanted = member.fleet.wanted(&consumer.rule(), member.wanted, now_ms);
        if wanted.replicas > member.wanted {
            member.fleet.ordered(now_ms);
        }
        member.wanted = wanted.replicas;
        self.tell(consumer, None, wanted, None, now_ms);
    }

    /// Makes the target ask for as many pods as there should be.
    async fn decide(&mut self, consumer: &Consumer, target: &Target, now_ms: u64) -> Result<(), kube::Error> {
        if let Err((queue, name)) = self.claim(consumer, target) {
            let holder = format!("by the consumer {name} of MessageQueue {queue}");
            self.tell(consumer, Some(0), nothing(Reason::TargetTaken), Some(&holder), now_ms);
            return Ok(());
        }
        let Some(size) = self.current(consumer, target).await? else {
            self.tell(consumer, Some(0), nothing(Reason::TargetMissing), None, now_ms);
            return Ok(());
        };
        let current = size.replicas;
        let mut wanted = self.member(consumer).fleet.wanted(&consumer.rule(), current, now_ms);
        let mut asked = wanted.replicas;
        if asked < current {
            let free = self.prepare(consumer, &size, current - asked).await;
            if free < current - asked {
                (asked, wanted.reason) = (current - free, Reason::Draining);
            }
        } else {
            self.settle(consumer, &size).await;
        }
        if asked != current {
            self.set(consumer, target, &size, Wanted { replicas: asked, ..wanted }, now_ms).await?;
        }
        let now = self.member(consumer).current.as_ref().and_then(|(_, size)| size.as_ref());
        let now = now.map_or(current, |size| size.replicas);
        self.tell(consumer, Some(now), wanted, None, now_ms);
        Ok(())
    }

    /// The API server does not answer, which it cannot be told, or refuses.
    fn cannot_scale(&mut self, consumer: &Consumer, target: &Target, error: &kube::Error, now_ms: u64) {
        let member = self.member(consumer);
        let known = member.current.take().and_then(|(_, size)| size);
        member.scale = None;
        let wait = member.scaling.failed(Instant::now());
        warn!(namespace = self.namespace, %target, error = said(error), ?wait, "cannot scale");
        if is_refusal(error) {
            let current = known.map_or(0, |size| size.replicas);
            let member = self.member(consumer);
            let wanted = member.fleet.wanted(&consumer.rule(), current, now_ms);
            let wanted = Wanted { reason: Reason::ScaleRefused, ..wanted };
            self.tell(consumer, Some(current), wanted, Some(&said(error)), now_ms);
        }
    }

    /// Asks for another number, unless somebody else has: then that is looked at the next time.
    async fn set(
        &mut self,
        consumer: &Consumer,
        target: &Target,
        size: &Size,
        wanted: Wanted,
        now_ms: u64,
    ) -> Result<(), kube::Error> {
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
        info!(namespace = self.namespace, %target, current, replicas, ?reason, "scaled");
        let member = self.member(consumer);
        if replicas > current {
            member.fleet.ordered(now_ms);
        }
        member.current = Some((Instant::now(), Some(after)));
        self.series.scaled(self.place(consumer), current, replicas);
        let scaled =
            Scaled { consumer: consumer.name.clone(), target: target.to_string(), from: current, to: replicas, reason };
        let mut news = lock(&self.board);
        let told = news.scales.entry(consumer.name.clone()).or_insert_with(|| scaled.clone());
        *told = Scaled { from: told.from, ..scaled };
        Ok(())
    }

    /// Prepares pods to go. Answers how many may.
    async fn prepare(&mut self, consumer: &Consumer, size: &Size, count: u32) -> u32 {
        let is_idle = self.member(consumer).fleet.figures().is_some_and(|figures| figures.unacked == 0);
        let Some(broker) = self.broker.clone().filter(|_| !size.selector.is_empty()) else {
            // Nobody says which pods are the target's: they may go if none of them can have anything.
            return if is_idle { count } else { 0 };
        };
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let member = self.member(consumer);
        if !member.draining.is_due(Instant::now()) {
            return 0;
        }
        let is_ordinal = member.scale.as_ref().is_some_and(|scale| scale.is_ordinal);
        let crew = Crew { client: &client, namespace: &namespace, selector: &size.selector, is_ordinal };
        let peers = member.fleet.figures().map(|figures| figures.peers.clone()).unwrap_or_default();
        let free = member.departures.prepare(&crew, &broker, &peers, count).await;
        self.drained(consumer, free).unwrap_or(0)
    }

    /// Nobody has to go.
    async fn settle(&mut self, consumer: &Consumer, size: &Size) {
        let Some(broker) = self.broker.clone() else { return };
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let crew = Crew { client: &client, namespace: &namespace, selector: &size.selector, is_ordinal: false };
        let member = self.member(consumer);
        if member.draining.is_due(Instant::now()) {
            let settled = member.departures.settle(&crew, &broker).await;
            self.drained(consumer, settled);
        }
    }

    fn drained<T>(&mut self, consumer: &Consumer, result: Result<T, DepartureError>) -> Option<T> {
        let draining = &mut self.member(consumer).draining;
        match result {
            Ok(done) => {
                draining.succeeded();
                Some(done)
            }
            Err(error) => {
                let wait = draining.failed(Instant::now());
                warn!(namespace = self.namespace, consumer = consumer.name, %error, ?wait, "cannot drain");
                None
            }
        }
    }

    /// How many pods the target asks for; `None`: it is not there.
    async fn current(&mut self, consumer: &Consumer, target: &Target) -> Result<Option<Size>, kube::Error> {
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
            None => within(Scale::find(&client, &namespace, target)).await?,
        };
        let current = within(scale.size()).await?;
        member.scale = Some(scale);
        member.current = Some((Instant::now(), current.clone()));
        Ok(current)
    }

    /// Tells it as metrics, and, if it is worth that, in the status of the MessageQueue. `detail` is what somebody else said of it.
    fn tell(&mut self, consumer: &Consumer, current: Option<u32>, wanted: Wanted, detail: Option<&str>, now_ms: u64) {
        let now = Instant::now();
        let place = self.place(consumer);
        let member = self.member(consumer);
        let report = Report::of(&member.fleet, current, wanted, now_ms);
        let is_new = member.told.as_ref().is_none_or(|told| told.is_outdated_by(&report, now));
        // Who has just begun to listen need not say that nothing was heard.
        let listens = member.told.is_some() || now.duration_since(member.since).as_millis() > FIGURES_AGE_MAX_MS.into();
        let is_told = is_new && (listens || wanted.reason != Reason::FiguresMissing);
        if is_told {
            member.told = Some(Told::new(report.clone(), now));
            let detail = if wanted.reason == Reason::FiguresMissing { self.silence.as_deref() } else { detail };
            let status = report.status(&consumer.name, message(consumer, wanted.reason, detail));
            lock(&self.board).statuses.insert(consumer.name.clone(), status);
            // Nobody listens while the operator ends.
            let _ = self.changed.send(ObjectRef::new(&self.queue).within(&self.namespace));
        }
        self.series.report(place, report);
    }

    /// Whether the target is this consumer's to scale: it is its who came first. Otherwise, whose it is.
    fn claim(&self, consumer: &Consumer, target: &Target) -> Result<(), (String, String)> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let us = (self.queue.clone(), consumer.name.clone());
        let holder = claims.entry((self.namespace.clone(), target.clone())).or_insert_with(|| us.clone());
        if *holder == us { Ok(()) } else { Err(holder.clone()) }
    }

    /// Others may scale what none of `consumers` does.
    fn keep_claims(&self, consumers: &[Consumer]) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|(namespace, target), (queue, name)| {
            let is_ours = *namespace == self.namespace && *queue == self.queue;
            !is_ours
                || consumers.iter().any(|consumer| consumer.name == *name && consumer.target.as_ref() == Some(target))
        });
    }

    fn place(&self, consumer: &Consumer) -> Place {
        (self.namespace.clone(), self.queue.clone(), consumer.name.clone())
    }
}

/// Nobody can say how many there should be.
fn nothing(reason: Reason) -> Wanted {
    Wanted { replicas: 0, reason }
}

/// What the API server answers, if it does in time.
async fn within<T>(work: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(SCALE_TIMEOUT, work).await.unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())))
}

/// Milliseconds since `start`, for which the clock of the machine does not matter.
fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
