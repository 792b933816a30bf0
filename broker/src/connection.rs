//! One socket: octets to the session and back, its inputs to the shards, their events to it.

mod presence;
mod socket;

use std::future::{poll_fn, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info};
use warren_amqp::ReplyCode;
use warren_core::queue::ShardInput;
use warren_core::session::{Claim, LoggedIn, MetadataRequest, Notice, Session, SessionOutput, World};
use warren_core::topology::{Action, Identity, Request};
use warren_core::{ConnectionId, Exception, Secret};

use crate::alarms::AlarmSet;
use crate::audit;
use crate::authentication::{Authenticated, Credentials, Door, LoginError};
use crate::connections::{Mailbox, Order, Post};
use crate::drains::Drains;
use crate::limits::{
    FAREWELL_TIMEOUT, HARD_STOP_READ_BYTES, PARTIAL_SLACK_BYTES, READ_BYTES, SEND_TIMEOUT, UNSENT_BYTES,
};
use crate::listener::InHandshake;
use crate::metadata::Answer;
use crate::node::Shared;
use crate::random::random;
use crate::rate::Rate;
use crate::scratch::{self, with_scratch};
use crate::shard::ShardMessage;
use crate::statistics::connection::ConnectionFacts;
use crate::telemetry::traces::Tracer;
use presence::Presence;
use socket::{Passed, Socket};

/// Serves a connection until it ends, and cleans up whatever way it ends.
pub(crate) async fn serve<S>(facts: ConnectionFacts, stream: S, handshake: InHandshake)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Arc::clone(handshake.node());
    let (id, facts) = (facts.id, Arc::new(facts));
    let mailbox = shared.connections.insert(id, Some(Arc::clone(&facts)));
    Drains::joined(&shared, id, facts.peer.ip());
    let connection = Connection::new(facts, stream, handshake, mailbox);
    // A defect that this client's octets have found must not take the other connections along.
    if AssertUnwindSafe(connection.run()).catch_unwind().await.is_err() {
        error!("the connection's task panicked; giving back what it held");
        give_back(id, &shared).await;
    }
    shared.connections.remove(id);
}

/// Takes back everything that a connection may hold anywhere.
async fn give_back(connection: ConnectionId, shared: &Shared) {
    for shard in &shared.shards[1..] {
        let detach = ShardInput::Detach { connection, queue: None };
        // A shard that has stopped holds nothing for anybody.
        let _ = shard.send(ShardMessage::Inputs(vec![detach])).await;
    }
    let identity = Identity::Node(Arc::from("node"));
    let release = Request { connection, identity, vhost: Arc::from("/"), action: Action::ReleaseConnection };
    drop(shared.metadata.request(MetadataRequest::Topology(release)));
}

struct Connection<S> {
    socket: Socket<S>,
    facts: Arc<ConnectionFacts>,
    shared: Arc<Shared>,
    session: Session,
    mailbox: Mailbox,
    answer: Option<oneshot::Receiver<Answer>>,
    login: Option<BoxFuture<'static, Result<Authenticated, LoginError>>>,
    /// Closes the connection if its token is taken back.
    watch: Option<AbortOnDropHandle<()>>,
    /// Who the client says it is, while that is not known to be so.
    user: Option<Box<str>>,
    stopping: watch::Receiver<bool>,
    alarms: watch::Receiver<AlarmSet>,
    /// The client has published: at the hard stop of memory it is not read.
    publishes: bool,
    output: SessionOutput,
    /// Octets read; the session has taken those before `taken`.
    partial: Vec<u8>,
    taken: usize,
    /// The session stopped reading, so `partial` may hold whole frames.
    held: bool,
    /// The user has sent too much: until then it is not read.
    paused_until: Option<Instant>,
    /// Fires at the next deadline or before, so that it need not be set anew each time a deadline moves.
    timer: Pin<Box<Sleep>>,
    told_to_stop: bool,
    /// When the publish came, or may have come, whose confirm is waited for.
    watched_at: Instant,
    presence: Presence,
    /// What is under way of traces, if anybody wants to know.
    tracer: Option<Box<Tracer>>,
}

/// Why the task woke.
enum Wake {
    Socket(Passed),
    Post(Post),
    Orders(Vec<Order>),
    Answer(Answer),
    Login(Result<Authenticated, LoginError>),
    Deadline,
    Alarm,
    Stopping,
    /// Its place is another's.
    Shed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(facts: Arc<ConnectionFacts>, stream: S, handshake: InHandshake, mailbox: Mailbox) -> Self {
        let shared = Arc::clone(handshake.node());
        let mut alarms = shared.alarms.subscribe();
        // One that is on already is noticed at once.
        alarms.mark_changed();
        Self {
            alarms,
            publishes: false,
            session: Session::new(facts.id, handshake.accepted)
                .with_message_bytes(shared.message_bytes)
                .with_tracing(shared.traces.as_ref().map(|traces| traces.one_in))
                .with_certified_user(facts.tls.as_ref().and_then(|tls| tls.certified_user.clone())),
            presence: Presence::new(handshake, Arc::clone(&facts)),
            tracer: shared.traces.clone().map(|traces| Box::new(Tracer::new(traces))),
            stopping: shared.stopping(),
            socket: Socket::new(stream),
            facts,
            shared,
            mailbox,
            answer: None,
            login: None,
            watch: None,
            user: None,
            output: SessionOutput::default(),
            partial: Vec::new(),
            taken: 0,
            held: false,
            paused_until: None,
            timer: Box::pin(sleep_until(Instant::now())),
            told_to_stop: false,
            watched_at: Instant::now(),
        }
    }

    async fn run(mut self) {
        while !(self.session.is_closed() && self.unsent() == 0) {
            let wake = self.wait().await;
            if self.output.octets.capacity() == 0 {
                self.output.octets = scratch::write_buffer();
            }
            if !self.wake(wake) {
                break;
            }
            self.carry_out().await;
            self.keep_no_idle_buffer();
        }
        self.end().await;
    }

    /// Acts on what woke the task; false ends the connection.
    fn wake(&mut self, wake: Wake) -> bool {
        match wake {
            Wake::Socket(passed) => return self.passed(passed),
            Wake::Post(post) => self.take_posts(post),
            Wake::Orders(orders) => orders.into_iter().for_each(|order| self.obey(order)),
            Wake::Answer(answer) => {
                self.answer = None;
                self.session.metadata_answered(answer, &mut self.output);
            }
            Wake::Login(result) => self.login_checked(result.ok()),
            Wake::Deadline => return self.deadline_passed(),
            Wake::Alarm => {
                let alarms = *self.alarms.borrow_and_update();
                self.session.alarm(alarms.reason(), &mut self.output);
                if alarms.is_hard_stop() && self.publishes {
                    self.session.block(&mut self.output);
                }
            }
            Wake::Stopping => {
                self.told_to_stop = true;
                let text = "broker forced connection closure with reason 'shutdown'";
                self.session.shut_down(ReplyCode::ConnectionForced, text, &mut self.output);
            }
            Wake::Shed => {
                debug!("others need its place");
                return false;
            }
        }
        true
    }

    /// Acts on what happened to the socket; false ends the connection.
    fn passed(&mut self, passed: Passed) -> bool {
        match passed {
            Passed::Read(len) => {
                self.facts.meter.received(len);
                self.paused_until = self.rate().and_then(|rate| rate.take(len, Instant::now()));
                self.read(len);
            }
            Passed::Wrote(len) => {
                self.facts.meter.sent(len);
                if self.socket.wrote(len, &mut self.output.octets) {
                    self.session.flushed(&mut self.output);
                }
                self.facts.meter.leaves(self.unsent());
            }
            Passed::Lost(error) => {
                debug!(%error, "the socket is lost");
                return false;
            }
        }
        true
    }

    /// A deadline is about what the client did not do. If it was us who did not look, the socket goes first.
    fn deadline_passed(&mut self) -> bool {
        let now = self.shared.now();
        self.session.expire(now, &mut self.output);
        if self.is_paused() {
            self.session.excuse(now);
        } else {
            // Another one of the user's connections may have been first.
            self.paused_until = self.rate().and_then(|rate| rate.empty_until(Instant::now()));
        }
        let most = self.read_bytes();
        let Self { socket, output, partial, taken, .. } = self;
        let reading = most.map(|most| (&partial[*taken..], most));
        let passed = poll_fn(|context| socket.poll(&output.octets, reading, context)).now_or_never();
        let looked = passed.is_some();
        if passed.is_some_and(|passed| !self.passed(passed)) {
            return false;
        }
        if self.socket.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            info!("the client does not read, or next to nothing; closing");
            return false;
        }
        if !looked {
            self.session.tick(self.shared.now(), &mut self.output);
        }
        true
    }

    fn unsent(&self) -> usize {
        self.socket.unsent(&self.output.octets)
    }

    async fn wait(&mut self) -> Wake {
        if let Some(passed) = self.write_now() {
            return Wake::Socket(passed);
        }
        let deadline = self.deadline();
        if let Some(deadline) = deadline.filter(|at| *at < self.timer.deadline() || self.timer.is_elapsed()) {
            self.timer.as_mut().reset(deadline);
        }
        let (has_room, most, hears) = (self.has_room(), self.read_bytes(), !self.told_to_stop);
        let Self { socket, mailbox, answer, login, stopping, alarms, output, partial, taken, timer, presence, .. } =
            self;
        let reading = most.map(|most| (&partial[*taken..], most));
        tokio::select! {
            passed = poll_fn(|context| socket.poll(&output.octets, reading, context)) => Wake::Socket(passed),
            orders = poll_fn(|context| mailbox.orders.poll_take(context)) => Wake::Orders(orders),
            Some(post) = mailbox.posts.recv(), if has_room => Wake::Post(post),
            answer = async { answer.as_mut()?.await.ok() }, if answer.is_some() => {
                Wake::Answer(answer.unwrap_or_else(|| Err(stopped())))
            }
            Some(result) = async { Some(login.as_mut()?.await) }, if login.is_some() => Wake::Login(result),
            () = timer, if deadline.is_some() => Wake::Deadline,
            _ = alarms.changed() => Wake::Alarm,
            _ = stopping.wait_for(|stopping| *stopping), if hears => Wake::Stopping,
            () = poll_fn(|context| presence.poll_shed(context)) => Wake::Shed,
        }
    }

    /// Sends what there is to send; `None`: the socket takes nothing now.
    fn write_now(&mut self) -> Option<Passed> {
        if self.unsent() == 0 {
            return None;
        }
        let passed = self.socket.write_now(&self.output.octets);
        if passed.is_none() {
            self.facts.meter.leaves(self.unsent());
        }
        passed
    }

    /// The earlier of the session's deadline and the socket's.
    fn deadline(&self) -> Option<Instant> {
        let session = self.session.next_deadline().map(|at| {
            let origin = Instant::from_std(self.shared.started);
            origin + Duration::from_millis(at.0)
        });
        session.into_iter().chain(self.socket.deadline()).chain(self.paused_until).min()
    }

    /// True while the client takes what it is sent.
    fn has_room(&self) -> bool {
        self.unsent() < UNSENT_BYTES
    }

    /// How much may be read now; `None`: nothing. At the hard stop of memory nobody brings much before it is known what.
    fn read_bytes(&self) -> Option<usize> {
        let most = if self.alarms.borrow().is_hard_stop() { HARD_STOP_READ_BYTES } else { READ_BYTES };
        // Not much more than the user has left, so that many connections that read at once do not read much more together.
        let left = self.rate().map_or(most, |rate| rate.left(Instant::now()).max(HARD_STOP_READ_BYTES));
        (self.has_room() && self.session.is_reading() && !self.is_paused()).then_some(most.min(left))
    }

    /// How fast the user's connections are read, if that is limited.
    fn rate(&self) -> Option<&Rate> {
        self.presence.opened.as_ref()?.rate.as_deref()
    }

    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| until > Instant::now())
    }

    /// Hands the session what has been read: `len` octets in the scratch buffer, behind the partial ones.
    fn read(&mut self, len: usize) {
        // Of one publish at a time it is seen how long its confirm takes.
        if !self.session.is_watching_confirm() {
            self.watched_at = Instant::now();
            self.session.watch_confirm();
        }
        let Self { shared, presence, session, output, partial, .. } = self;
        with_scratch(|scratch| {
            let octets = &scratch[..partial.len() - self.taken + len];
            let taken = receive(shared, presence, session, octets, output);
            partial.clear();
            partial.extend_from_slice(&octets[taken..]);
        });
        self.taken = 0;
        self.held = !self.session.is_reading();
    }

    /// Hands the session again what it has not looked at.
    fn resume(&mut self) {
        let Self { shared, presence, session, output, partial, .. } = self;
        self.taken += receive(shared, presence, session, &partial[self.taken..], output);
        self.held = !self.session.is_reading();
    }

    /// Keeps no buffer for nothing, and no large one for little.
    fn keep_no_idle_buffer(&mut self) {
        if self.taken == self.partial.len() {
            (self.partial, self.taken) = (Vec::new(), 0);
        }
        self.partial.shrink_to(self.partial.len() + PARTIAL_SLACK_BYTES);
        if self.output.octets.is_empty() {
            scratch::give_back(std::mem::take(&mut self.output.octets));
        }
    }

    /// Takes in all that was sent, so that one write serves many.
    fn take_posts(&mut self, first: Post) {
        let mut next = Some(first);
        while let Some(post) = next {
            match post {
                Post::Events(shard, events) => {
                    for event in events {
                        self.session.shard_event(shard, event, &mut self.output);
                    }
                }
                Post::Reply(reply) => {
                    self.mailbox.waiting.taken(&reply);
                    self.session.direct_reply(&reply, &mut self.output);
                }
            }
            next = if self.has_room() { self.mailbox.posts.try_recv().ok() } else { None };
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Close(reason) => {
                self.session.shut_down(ReplyCode::ConnectionForced, &reason, &mut self.output);
            }
            Order::Ended(ended) => self.session.deleted(&ended.users, &ended.vhosts, &mut self.output),
            Order::Describe(reply) => {
                self.count_exchanges();
                // Whoever asked may have stopped waiting.
                let _ = reply.send(self.session.statistics());
            }
        }
    }

    /// Does what the session wants done.
    async fn carry_out(&mut self) {
        self.go_on();
        self.trace();
        self.post_replies();
        self.hand_over().await;
        if let Some(login) = self.output.login.take() {
            self.authenticate(login);
        }
        if let Some(request) = self.output.request.take() {
            self.answer = Some(self.shared.metadata.request(request));
        }
        self.count();
    }

    /// Notes what has become of messages that belong to traces.
    fn trace(&mut self) {
        if let Some(tracer) = self.tracer.as_mut().filter(|_| !self.output.traces.is_empty()) {
            tracer.take(&mut self.output.traces, &self.shared.topology.load());
        }
    }

    /// Sends replies to their connections.
    fn post_replies(&mut self) {
        // An address is known before a request that names it can be answered.
        for (address, waits) in self.output.reply_addresses.drain(..) {
            self.shared.connections.set_reply_address(address, waits);
        }
        for reply in self.output.replies.drain(..) {
            self.shared.connections.reply(reply);
        }
    }

    /// Sends the confirms that are due, and goes on with what has been read already if what woke the task is what the
    /// session waited for.
    fn go_on(&mut self) {
        loop {
            self.session.finish_batch(&mut self.output);
            if self.session.take_confirm_seen() {
                self.shared.metrics.confirmed(self.watched_at.elapsed());
            }
            if !self.held || !self.session.is_reading() {
                return;
            }
            self.resume();
        }
    }

    fn login_checked(&mut self, authenticated: Option<Authenticated>) {
        self.login = None;
        if authenticated.is_some() {
            self.user = None;
        }
        self.watch = authenticated.as_ref().and_then(|login| Some(self.watch(login.revocable.clone()?)));
        let login = authenticated.map(|Authenticated { identity, expires, .. }| LoggedIn {
            identity,
            expires: expires.map(|expires| self.shared.machine_time(expires)),
        });
        self.session.login_checked(login, &self.shared.topology.load(), &mut self.output);
    }

    /// Looks from time to time whether the token still is one.
    fn watch(&self, token: Secret) -> AbortOnDropHandle<()> {
        let (shared, id) = (Arc::clone(&self.shared), self.facts.id);
        let watch = async move {
            shared.authentication.revoked(&token).await;
            let reason = "the token is not valid any more: its pod or its ServiceAccount is gone";
            shared.connections.order(id, Order::Close(reason.to_owned()));
        };
        AbortOnDropHandle::new(tokio::spawn(watch))
    }

    /// Begins to ask who it is. The answer may take a while, and the connection's deadline goes on.
    fn authenticate(&mut self, claim: Claim) {
        let (user, credentials) = match claim {
            Claim::Password(login) => (Box::from(login.user.as_str()), Credentials::Password(login)),
            Claim::Certificate(user) => (Box::from(&*user), Credentials::Certificate(user)),
        };
        self.user = Some(user);
        if let Some(caller) = self.facts.inside.clone() {
            self.login = Some(Box::pin(ready(Ok(caller))));
            return;
        }
        let (shared, peer) = (self.shared.clone(), self.facts.peer.ip());
        let renews = self.session.is_open();
        let check = async move {
            match renews {
                true => shared.authentication.renew(&credentials, peer).await,
                false => shared.authentication.authenticate(&credentials, Door::Amqp, peer).await,
            }
        };
        self.login = Some(Box::pin(check));
    }

    /// Sends the shards their inputs, waiting for those that have enough to do. They never wait for us.
    async fn hand_over(&mut self) {
        while let Some((shard, inputs)) = self.output.next_shard_inputs() {
            if let Some(sender) = self.shared.shards.get(usize::from(shard.0)) {
                // A shard that has stopped does so because the node stops.
                let _ = sender.send(ShardMessage::Inputs(inputs)).await;
            }
        }
    }

    fn count(&mut self) {
        let counts = std::mem::take(&mut self.output.counts);
        self.publishes |= counts.received > 0;
        self.shared.metrics.count(&counts);
        for notice in self.output.notices.drain(..) {
            tell(&notice, &self.session, self.user.as_deref());
        }
        let in_handshake = !self.session.is_open() && !self.session.is_closed();
        self.presence.update(in_handshake, self.session.channel_count(), self.session.publisher_count());
        if self.session.is_closed() {
            // Who has asked for the end may want to read it, also on a slow link.
            let patience = if self.session.has_client_left() { SEND_TIMEOUT } else { FAREWELL_TIMEOUT };
            self.socket.finish_within(patience);
            // Before the client reads that it is closed: it may open another one then.
            self.presence.opened = None;
        } else if let Some(opened) = &mut self.presence.opened {
            opened.keep_channels(self.session.channel_count());
        }
    }

    /// Hands over what was published to exchanges.
    fn count_exchanges(&mut self) {
        let counts = self.session.take_exchange_counts();
        self.shared.statistics.exchanges.add(self.session.vhost(), counts);
    }

    /// Gives back what the connection holds. Nobody waits for the answer to its last request.
    async fn end(mut self) {
        self.count_exchanges();
        let client_closes = self.session.has_client_left();
        self.session.disconnect(&mut self.output);
        self.trace();
        self.hand_over().await;
        if let Some(request) = self.output.request.take() {
            drop(self.shared.metadata.request(request));
        }
        self.count();
        self.socket.close(client_closes).await;
    }
}

/// Logs why the session ended something. `claimed`: who the client said it is, for as long as that is not known to be so.
fn tell(notice: &Notice, session: &Session, claimed: Option<&str>) {
    let user = if session.user().is_empty() { claimed.unwrap_or_default() } else { session.user() };
    match notice.over {
        // Whoever was not let in is in the audit trail already.
        Some((method, ReplyCode::AccessRefused)) if !session.user().is_empty() => {
            audit::refused(user, method, (session.vhost(), ""), &notice.text);
        }
        Some((method @ "connection.open", ReplyCode::NotAllowed)) => {
            audit::refused(user, method, ("", ""), &notice.text)
        }
        _ => info!(user, reason = notice.text, "closed"),
    }
}

/// Hands a session octets with what it sees of the node; answers how many it took.
fn receive(
    shared: &Shared,
    presence: &mut Presence,
    session: &mut Session,
    octets: &[u8],
    output: &mut SessionOutput,
) -> usize {
    let topology = shared.topology.load();
    let connections = &*shared.connections;
    let mut world = World {
        now: shared.now(),
        topology: &topology,
        random: &mut random,
        takes_replies: &|address| connections.takes_replies(address),
        census: presence,
    };
    session.receive(&mut world, octets, output)
}

/// The answer of a metadata task that is no more.
fn stopped() -> Exception {
    Exception::connection(ReplyCode::ConnectionForced, "the node is stopping")
}
