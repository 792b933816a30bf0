//! What connections say of themselves when they are asked, and said lately.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use warren_core::ConnectionId;
use warren_core::session::{ConnectionState, SessionStatistics};

use crate::connections::{Connections, Order};
use crate::limits::{DESCRIBE_TIMEOUT, DESCRIPTION_LIFETIME};

/// What connections have said, by who they are.
pub(super) type Descriptions = HashMap<ConnectionId, Arc<SessionStatistics>>;

/// Asks connections what they are like, not more often than there is something new to hear.
#[derive(Debug)]
pub(super) struct Sessions {
    connections: Arc<Connections>,
    known: Mutex<HashMap<ConnectionId, Known>>,
    /// Held by who asks. Others wait, and find what that one has heard.
    turn: tokio::sync::Mutex<()>,
}

/// A connection that was asked.
#[derive(Debug)]
struct Known {
    asked: Instant,
    /// Whether it answered then.
    answered: bool,
    /// What it said then, or before if it did not answer.
    said: Option<Arc<SessionStatistics>>,
}

impl Known {
    /// Whether it need not be asked again. Who is just logging in will be another in a moment, unless it does not answer: that
    /// takes everybody's time.
    fn is_recent(&self, now: Instant) -> bool {
        let starts = self.answered && self.said.as_ref().is_some_and(|said| said.state == ConnectionState::Starting);
        !starts && now.duration_since(self.asked) < DESCRIPTION_LIFETIME
    }
}

impl Sessions {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self { connections, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// What these connections have said within [`DESCRIPTION_LIFETIME`], or say now; of one that does not answer, what it said
    /// before. Those that have never said anything are left out.
    pub(super) async fn recent(&self, ids: impl IntoIterator<Item = ConnectionId>) -> Descriptions {
        let _turn = self.turn.lock().await;
        let (mut all, due) = self.said(ids);
        all.extend(self.ask(due).await);
        all
    }

    /// What these connections have said, and which of them it is time to ask.
    fn said(&self, ids: impl IntoIterator<Item = ConnectionId>) -> (Descriptions, Vec<ConnectionId>) {
        let (now, known) = (Instant::now(), self.known());
        let (mut all, mut due) = (Descriptions::new(), Vec::new());
        for id in ids {
            let known = known.get(&id);
            if let Some(said) = known.and_then(|known| known.said.as_ref()) {
                all.insert(id, Arc::clone(said));
            }
            if known.is_none_or(|known| !known.is_recent(now)) {
                due.push(id);
            }
        }
        (all, due)
    }

    /// Asks these connections now. Those that do not answer within [`DESCRIBE_TIMEOUT`] are left out.
    pub(super) async fn ask(&self, ids: impl IntoIterator<Item = ConnectionId>) -> Descriptions {
        let begin = Instant::now();
        let asked = ids.into_iter().map(|id| {
            let (reply, answer) = oneshot::channel();
            self.connections.order(id, Order::Describe(reply));
            (id, answer)
        });
        let mut all = Descriptions::new();
        for (id, answer) in asked.collect::<Vec<_>>() {
            let said = match timeout_at(begin + DESCRIBE_TIMEOUT, answer).await {
                Ok(Ok(said)) => Some(Arc::new(said)),
                // It is gone.
                Ok(Err(_)) => continue,
                Err(_) => None,
            };
            let mut known = self.known();
            let known = known.entry(id).or_insert(Known { asked: begin, answered: false, said: None });
            (known.asked, known.answered) = (begin, said.is_some());
            if let Some(said) = said {
                known.said = Some(Arc::clone(&said));
                all.insert(id, said);
            }
        }
        all
    }

    /// Forgets the connections that are no more.
    pub(super) fn retain(&self, live: &HashSet<ConnectionId>) {
        self.known().retain(|id, _| live.contains(id));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ConnectionId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{advance, pause};
    use warren_core::session::Session;

    use super::*;
    use crate::connections::Mailbox;
    use crate::statistics::connection::ConnectionFacts;

    const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5_672);

    fn connect(connections: &Connections, id: u64) -> (ConnectionId, Mailbox) {
        let id = ConnectionId(id);
        (id, connections.insert(id, Some(Arc::new(ConnectionFacts::new(id, (LOCAL, LOCAL), 0)))))
    }

    /// Answers whoever asks, and counts how often. It is open.
    async fn answers(mailbox: Mailbox, count: Arc<AtomicUsize>) {
        loop {
            for order in poll_fn(|context| mailbox.orders.poll_take(context)).await {
                let Order::Describe(reply) = order else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let said = Session::new(ConnectionId(1), warren_core::Instant(0)).statistics();
                let _ = reply.send(SessionStatistics { state: ConnectionState::Running, ..said });
            }
        }
    }

    #[tokio::test]
    async fn a_connection_is_not_asked_again_within_a_second_however_many_want_to_know() {
        pause();
        let connections = Arc::new(Connections::default());
        let sessions = Sessions::new(Arc::clone(&connections));
        let (id, mailbox) = connect(&connections, 1);
        let count = Arc::new(AtomicUsize::new(0));
        tokio::spawn(answers(mailbox, Arc::clone(&count)));
        let all = futures::future::join_all((0..100).map(|_| sessions.recent([id]))).await;
        assert!(all.iter().all(|answers| answers.contains_key(&id)));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        advance(DESCRIPTION_LIFETIME).await;
        assert_eq!(sessions.recent([id]).await.len(), 1);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert_eq!(sessions.ask([id]).await.len(), 1, "who has to know asks");
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn one_that_does_not_answer_holds_up_one_who_asks_and_not_all() {
        pause();
        let connections = Arc::new(Connections::default());
        let sessions = Sessions::new(Arc::clone(&connections));
        let (id, _mailbox) = connect(&connections, 1);
        let begin = Instant::now();
        let all = futures::future::join_all((0..100).map(|_| sessions.recent([id]))).await;
        assert!(all.iter().all(HashMap::is_empty));
        assert!(begin.elapsed() < DESCRIBE_TIMEOUT * 2, "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn one_that_was_logging_in_and_answers_no_more_holds_up_one_who_asks_and_not_all() {
        pause();
        let connections = Arc::new(Connections::default());
        let sessions = Sessions::new(Arc::clone(&connections));
        let (id, mailbox) = connect(&connections, 1);
        let answered = async {
            for order in poll_fn(|context| mailbox.orders.poll_take(context)).await {
                let Order::Describe(reply) = order else { continue };
                let _ = reply.send(Session::new(id, warren_core::Instant(0)).statistics());
            }
        };
        let (first, ()) = futures::future::join(sessions.recent([id]), answered).await;
        assert_eq!(first[&id].state, ConnectionState::Starting);
        let begin = Instant::now();
        let all = futures::future::join_all((0..100).map(|_| sessions.recent([id]))).await;
        assert!(all.iter().all(|answers| answers.contains_key(&id)), "what it said before");
        assert!(begin.elapsed() < DESCRIBE_TIMEOUT * 2, "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn connections_that_are_gone_are_forgotten() {
        let connections = Arc::new(Connections::default());
        let sessions = Sessions::new(Arc::clone(&connections));
        for id in 1..=10 {
            let (id, mailbox) = connect(&connections, id);
            let asked = sessions.ask([id]);
            let answered = async {
                for order in poll_fn(|context| mailbox.orders.poll_take(context)).await {
                    let Order::Describe(reply) = order else { continue };
                    let _ = reply.send(Session::new(id, warren_core::Instant(0)).statistics());
                }
            };
            assert_eq!(futures::future::join(asked, answered).await.0.len(), 1);
            connections.remove(id);
        }
        assert_eq!(sessions.known().len(), 10);
        sessions.retain(&HashSet::from([ConnectionId(3)]));
        assert_eq!(sessions.known().keys().collect::<Vec<_>>(), [&ConnectionId(3)]);
    }
}
