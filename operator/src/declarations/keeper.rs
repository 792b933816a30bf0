//! Keeps what MessageQueues declare in their brokers: a task for each MessageQueue.
//!
//! ```text
//! Secrets (GET by name, each 5 s) ──> passwords ──> pass ──> broker
//!        └── one that pods mount has changed ──> a note on the pod, by which the kubelet looks at once
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::pass::{Findings, Memory, pass};
use super::password::Password;
use super::wanted::{Declared, Login, WantedUser};
use crate::api::{Auth, Flaw, MessageQueue, SecretKey, ServiceAccount, Topology, User};
use crate::broker_api::{BrokerApi, BrokerError, Endpoint};
use crate::controller::QueueMeta;
use crate::names::FIELD_MANAGER;

/// How often brokers and Secrets are looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// How long the API server may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Annotation of a pod: the versions of the Secrets that it mounts. The kubelet looks at volumes about once a minute, and at
/// once when something about the pod changes.
const MOUNTED_ANNOTATION: &str = "warrenmq.dev/mounted-secret";

/// What a MessageQueue asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Its broker, if that serves.
    pub endpoint: Option<Endpoint>,
    /// The pods that mount Secrets.
    pub pods: Vec<String>,
    /// The versions of our Secrets that they mount.
    pub mounted: Vec<Option<String>>,
    /// A Secret of somebody else that they mount.
    pub foreign: Option<String>,
    /// Users, and ServiceAccounts that are users.
    pub auth: Auth,
    /// Everything else.
    pub topology: Topology,
}

/// What is not as declared, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Of users.
    pub users: Vec<Flaw>,
    /// Of everything else.
    pub topology: Vec<Flaw>,
}

/// The tasks, by namespace and name of their MessageQueue.
pub struct Keepers {
    client: Client,
    tasks: Mutex<HashMap<(String, String), Task>>,
    /// Told when there is something to reconcile or to say.
    changed: UnboundedSender<ObjectRef<QueueMeta>>,
}

struct Task {
    wish: watch::Sender<Wish>,
    board: Board,
    handle: AbortHandle,
}

/// What a task has to say.
type Board = Arc<Mutex<Told>>;

#[derive(Default)]
struct Told {
    state: Option<State>,
    /// What was changed in the broker and not told yet.
    news: Findings,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Keepers {
    /// None yet. `changed` is told which MessageQueue is to be reconciled.
    pub fn new(client: Client, changed: UnboundedSender<ObjectRef<QueueMeta>>) -> Self {
        Self { client, tasks: Mutex::default(), changed }
    }

    /// A MessageQueue asks for this from now on.
    pub fn set(&self, namespace: &str, queue: &str, wish: Wish) {
        let mut tasks = self.tasks();
        let key = (namespace.to_owned(), queue.to_owned());
        if wish.endpoint.is_none() && !tasks.contains_key(&key) {
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
        let keeper = Keeper {
            client: self.client.clone(),
            place: ObjectRef::new(queue).within(namespace),
            wishes,
            board: board.clone(),
            changed: self.changed.clone(),
            mounted: None,
            passwords: HashMap::new(),
            broker: None,
            memory: Memory::default(),
            is_bare: false,
        };
        let handle = tokio::spawn(keeper.run()).abort_handle();
        tasks.insert(key, Task { wish: sender, board, handle });
    }

    /// Nothing is kept for MessageQueues that are not there.
    pub fn keep_only(&self, is_there: impl Fn(&str, &str) -> bool) {
        self.tasks().retain(|(namespace, queue), _| is_there(namespace, queue));
    }

    /// A MessageQueue is gone, or is to be left alone.
    pub fn forget(&self, namespace: &str, queue: &str) {
        self.tasks().remove(&(namespace.to_owned(), queue.to_owned()));
    }

    /// What is not as declared; `None`: nobody knows yet.
    pub fn state(&self, queue: &MessageQueue) -> Option<State> {
        self.board(queue)?.lock().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// What was changed in the broker since it was asked last.
    pub fn news(&self, queue: &MessageQueue) -> Findings {
        let board = self.board(queue);
        board.map(|board| std::mem::take(&mut lock(&board).news)).unwrap_or_default()
    }

    fn board(&self, queue: &MessageQueue) -> Option<Board> {
        let key = (queue.namespace().unwrap_or_default(), queue.name_any());
        self.tasks().get(&key).map(|task| task.board.clone())
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<(String, String), Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(board: &Board) -> MutexGuard<'_, Told> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what one MessageQueue declares.
struct Keeper {
    client: Client,
    place: ObjectRef<QueueMeta>,
    wishes: watch::Receiver<Wish>,
    board: Board,
    changed: UnboundedSender<ObjectRef<QueueMeta>>,
    /// Versions of mounted Secrets.
    mounted: Option<Vec<Option<String>>>,
    passwords: HashMap<(String, String), Login>,
    /// The client, and for whom it is.
    broker: Option<(Endpoint, BrokerApi)>,
    memory: Memory,
    /// Nothing is declared, and nothing that was is left.
    is_bare: bool,
}

impl Keeper {
    async fn run(mut self) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                changed = self.wishes.changed() => if changed.is_err() { return },
            }
            let wish = self.wishes.borrow_and_update().clone();
            let Some(endpoint) = wish.endpoint.clone() else { continue };
            self.watch_mounted(&wish).await;
            self.read_passwords(&wish.auth).await;
            if let Err(error) = self.keep(&wish, endpoint).await {
                // The next pass makes a new connection.
                self.broker = None;
                warn!(object = %self.place, %error, "what is declared cannot be kept in the broker, and is tried again");
            }
        }
    }

    /// Has pods look at Secrets that have changed, and the MessageQueue reconciled.
    async fn watch_mounted(&mut self, wish: &Wish) {
        let mut now = wish.mounted.clone();
        if let Some(name) = &wish.foreign {
            let api: Api<Secret> = self.api();
            let Ok(Ok(secret)) = timeout(TIMEOUT, api.get_metadata_opt(name)).await else { return };
            now.push(secret.and_then(|secret| secret.resource_version()));
        }
        let is_new = self.mounted.as_ref().is_some_and(|before| *before != now);
        let version = now.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("-");
        self.mounted = Some(now);
        if !is_new {
            return;
        }
        let note = json!({"metadata": {"annotations": {MOUNTED_ANNOTATION: version}}});
        for pod in &wish.pods {
            let api: Api<Pod> = self.api();
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            if let Ok(Err(error)) = timeout(TIMEOUT, api.patch_metadata(pod, &parameters, &Patch::Merge(&note))).await {
                debug!(pod, %error, "the kubelet cannot be told to look at a Secret; it will in a minute");
            }
        }
        if wish.foreign.is_some() {
            self.tell();
        }
    }

    async fn read_passwords(&mut self, auth: &Auth) {
        let key = |of: &SecretKey| (of.name.clone(), of.key.clone());
        let wanted: Vec<_> = auth.users.iter().map(|user| key(&user.password_secret_ref)).collect();
        self.passwords.retain(|known, _| wanted.contains(known));
        for (name, entry) in wanted {
            let api: Api<Secret> = self.api();
            let login = match timeout(TIMEOUT, api.get_opt(&name)).await {
                Ok(Ok(secret)) => login(secret.as_ref(), &name, &entry),
                // What was read before counts until something else is known.
                Ok(Err(_)) | Err(_) => continue,
            };
            self.passwords.insert((name, entry), login);
        }
    }

    async fn keep(&mut self, wish: &Wish, endpoint: Endpoint) -> Result<(), BrokerError> {
        let declared = self.declared(wish);
        let is_nothing = declared.objects().is_empty();
        if is_nothing && self.is_bare {
            return Ok(());
        }
        let api = match &self.broker {
            Some((known, api)) if *known == endpoint => api.clone(),
            _ => BrokerApi::new(&endpoint)?,
        };
        self.broker = Some((endpoint, api.clone()));
        let findings = pass(&api, &declared, &mut self.memory, Instant::now()).await?;
        self.is_bare = is_nothing && findings.users.is_empty() && findings.topology.is_empty();
        if self.is_bare {
            self.broker = None;
        }
        self.report(findings);
        Ok(())
    }

    fn declared(&self, wish: &Wish) -> Declared {
        let user = |user: &User| {
            let key = (user.password_secret_ref.name.clone(), user.password_secret_ref.key.clone());
            WantedUser {
                name: user.name.clone(),
                login: self.passwords.get(&key).cloned().unwrap_or(Login::Unknown),
                rights: user.rights.clone(),
            }
        };
        let home = self.place.namespace.as_deref().unwrap_or_default();
        let account = |account: &ServiceAccount| WantedUser {
            name: account.user(home),
            login: Login::Token,
            rights: account.rights.clone(),
        };
        let Auth { users, service_accounts } = &wish.auth;
        let users = users.iter().map(user).chain(service_accounts.iter().map(account)).collect();
        Declared { users, topology: wish.topology.clone() }
    }

    fn report(&self, findings: Findings) {
        let Findings { users, topology, written, deleted } = findings;
        let state = State { users, topology };
        let is_news = {
            let mut told = lock(&self.board);
            let is_news = told.state.as_ref() != Some(&state) || !written.is_empty() || !deleted.is_empty();
            told.state = Some(state);
            told.news.written.extend(written.iter().cloned());
            told.news.deleted.extend(deleted.iter().cloned());
            is_news
        };
        if !written.is_empty() || !deleted.is_empty() {
            info!(object = %self.place, ?written, ?deleted, "declared in the broker");
        }
        if is_news {
            self.tell();
        }
    }

    fn tell(&self) {
        // Nobody listens while the operator ends.
        let _ = self.changed.send(self.place.clone());
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.place.namespace.as_deref().unwrap_or_default())
    }
}

fn login(secret: Option<&Secret>, name: &str, entry: &str) -> Login {
    let Some(secret) = secret else {
        return Login::Missing(format!("Secret {name} is not there: the user stays as it is until it is"));
    };
    match secret.data.as_ref().and_then(|data| data.get(entry)) {
        Some(octets) if !octets.0.is_empty() => Login::Password(Password(octets.0.clone())),
        _ => Login::Missing(format!(
            "Secret {name} has no entry {entry}, or it is empty: the user stays as it is until it has"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn a_password_is_an_entry_to_the_last_octet() {
        let entries = [("password", "secret\n"), ("empty", "")];
        let data = entries.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        let secret = Secret { data: Some(data.into()), ..Secret::default() };
        assert_eq!(login(Some(&secret), "s", "password"), Login::Password(Password(b"secret\n".to_vec())));
        for (secret, entry) in [(None, "password"), (Some(&secret), "other"), (Some(&secret), "empty")] {
            assert!(matches!(login(secret, "s", entry), Login::Missing(text) if text.contains("Secret s")), "{entry}");
        }
    }
}
