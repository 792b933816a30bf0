//! A request as handlers see it: who calls, the names in the path, the query, the body.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::sync::Semaphore;
use warren_core::ConnectionId;
use warren_core::session::{MetadataAnswer, MetadataRequest};
use warren_core::topology::{Action, Administration, Outcome, Request, Topology, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::caller::Caller;
use super::listing::{Columns, Listing};
use super::users;
use crate::http::query_pairs;
use crate::node::Shared;

/// One request.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    /// As it was when the request came.
    pub(super) topology: Arc<Topology>,
    pub(super) caller: Caller,
    /// Parameters of the path, decoded.
    pub(super) path: Vec<(String, String)>,
    pub(super) query: Query,
    pub(super) body: Bytes,
    /// The header `x-reason`: why something is done, for whom it is done to.
    pub(super) reason: Option<String>,
    /// The fields of the answer that are wanted, if not all of them are.
    pub(super) columns: Option<Arc<Columns>>,
    /// The caller's end of the connection.
    pub(super) peer: SocketAddr,
    /// What is taken as long as an AMQP client inside is used.
    pub(super) inside: Arc<Semaphore>,
    /// What is taken as long as somebody reads figures.
    pub(super) figures: Arc<Semaphore>,
}

impl Call {
    /// The parameter of the path. Its name is one that the route has.
    pub(super) fn name(&self, parameter: &str) -> &str {
        self.path.iter().find(|(name, _)| name == parameter).map_or("", |(_, value)| value)
    }

    /// The exchange that the path names: the default exchange is `amq.default` there.
    pub(super) fn exchange_name(&self, parameter: &str) -> &str {
        match self.name(parameter) {
            "amq.default" => "",
            name => name,
        }
    }

    /// The virtual host that the path names, if it is there and the caller sees it.
    pub(super) fn vhost(&self) -> Result<&Vhost, Failure> {
        self.topology
            .vhost(self.name("vhost"))
            .filter(|vhost| self.caller.sees(&self.topology, vhost.name()))
            .ok_or_else(Failure::not_found)
    }

    /// The virtual host that something is to be made in. Whether the caller may is the topology's to say.
    pub(super) fn target_vhost(&self) -> Result<&Vhost, Failure> {
        self.topology.vhost(self.name("vhost")).ok_or_else(|| self.no_vhost())
    }

    /// There is no such virtual host to make something in.
    pub(super) fn no_vhost(&self) -> Failure {
        Failure::missing("vhost_not_found")
    }

    /// The virtual hosts that the caller sees, by name.
    pub(super) fn vhosts(&self) -> impl Iterator<Item = &Vhost> {
        self.topology.vhosts().filter(|vhost| self.caller.sees(&self.topology, vhost.name()))
    }

    /// Whether this is the name of the node's own user, who may do everything everywhere and is not in the topology.
    pub(super) fn is_node_user(&self, name: &str) -> bool {
        self.node_user().is_some_and(|node| node == name)
    }

    /// Makes the built-in user an ordinary one of the topology, with the same password and rights everywhere, if this is its
    /// name and if the configuration names nobody in its place: from then on it can have less.
    pub(super) async fn make_ordinary(&mut self, name: &str) -> Result<(), Failure> {
        if self.is_node_user(name) && !self.shared.authentication.configures_node_user() {
            users::take_over(self, name).await?;
            self.topology = self.shared.topology.load_full();
        }
        Ok(())
    }

    /// Makes the built-in user an ordinary one before others are made: it would be gone with the first of them, and whoever
    /// has just made that with it.
    pub(super) async fn keep_built_in(&mut self) -> Result<(), Failure> {
        match self.node_user() {
            Some(name) => self.make_ordinary(&name).await,
            None => Ok(()),
        }
    }

    /// The name of the node's own user.
    pub(super) fn node_user(&self) -> Option<String> {
        self.shared.authentication.node_user(&self.topology)
    }

    /// The body as what it should be. What is in it beside that is passed over, as in RabbitMQ.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let body: &[u8] = if self.body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &self.body };
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failure::bad_request("not_json: the body has to be a JSON object"));
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            match error.inner().classify() {
                serde_json::error::Category::Data if path == "." => Failure::bad_request(error.inner().to_string()),
                serde_json::error::Category::Data => Failure::bad_request(format!("{path}: {}", error.inner())),
                _ => Failure::bad_request(format!("not_json: {}", error.inner())),
            }
        })?;
        json.end().map_err(|error| Failure::bad_request(format!("not_json: {error}")))?;
        Ok(read)
    }

    /// Asks the topology for a change in the name of the caller.
    pub(super) async fn ask(&self, vhost: &str, action: Action) -> Result<Outcome, Failure> {
        let request = Request {
            connection: ConnectionId::FORWARDER,
            identity: self.caller.identity.clone(),
            vhost: Arc::from(vhost),
            action,
        };
        match self.request(MetadataRequest::Topology(request)).await? {
            MetadataAnswer::Outcome(outcome) => Ok(outcome),
            MetadataAnswer::Deleted(_) => Ok(Outcome::Done),
        }
    }

    /// [`Self::ask`] for what administrators ask.
    pub(super) async fn administer(&self, vhost: &str, asked: Administration) -> Result<Outcome, Failure> {
        self.ask(vhost, Action::Administer(asked)).await
    }

    pub(super) async fn request(&self, request: MetadataRequest) -> Result<MetadataAnswer, Failure> {
        let answer = self.shared.metadata.request(request).await.map_err(|_| Failure::stopping())?;
        Ok(answer?)
    }

    /// Answers with a list, sorted.
    pub(super) fn list(&self, items: Vec<Json>) -> Answer {
        Listing::whole(&self.query).apply(items).map(Reply::Json)
    }

    /// Answers with a list, sorted, or with a page of it if the query asks for one. Other lists than RabbitMQ has no pages
    /// of have none here either.
    pub(super) fn pages(&self, items: Vec<Json>) -> Answer {
        Listing::of(&self.query)?.apply(items).map(Reply::Json)
    }
}

/// The query of a request: names and values, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what is behind the `?`. Octets that are no UTF-8 become the replacement character.
    pub(super) fn parse(text: &str) -> Self {
        Self(query_pairs(text))
    }

    /// The value of that name; the first one, if there are several.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it says `true` to that name.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}
