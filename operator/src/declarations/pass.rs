//! One pass over a broker: looks at everything that is declared, changes what differs, and deletes what is declared no longer.
//!
//! What a thing must be like to be left alone is for the broker to say: a declaration that it takes without a word is what
//! is there. How the thing looked then is remembered, so that nothing is declared twice while it looks the same.

mod rights;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::inventory;
use super::object::Object;
use super::password::{self, Password};
use super::wanted::{Declared, Login, WantedUser};
use crate::api::Flaw;
use crate::broker_api::{Answer, BrokerApi, BrokerError, encoded};
use crate::fingerprint::fingerprint;

/// How long a refusal counts while nothing changes that it was about; what it lacked may be there by then.
const REFUSAL_PERIOD: Duration = Duration::from_secs(20);

/// What came of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Users that are not as declared.
    pub users: Vec<Flaw>,
    /// Other things that are not as declared.
    pub topology: Vec<Flaw>,
    /// What was made or changed.
    pub written: Vec<String>,
    /// What was deleted.
    pub deleted: Vec<String>,
}

/// What one pass leaves for the next. To forget it costs work and nothing else.
#[derive(Default)]
pub struct Memory {
    /// By object.
    known: HashMap<String, Known>,
    /// Hashes that brokers have, and the passwords that they were found to be of, by user.
    passwords: HashMap<String, (String, Password)>,
}

/// How a thing looked when the broker was last told about it.
struct Known {
    /// Of that, and of what the broker was told.
    print: String,
    /// What the broker said, and when, if it was told in vain.
    refusal: Option<(String, Instant)>,
}

/// Makes the broker have what is `declared`.
///
/// # Errors
/// The broker does not answer; the rest is left for the next pass.
pub async fn pass(
    api: &BrokerApi,
    declared: &Declared,
    memory: &mut Memory,
    now: Instant,
) -> Result<Findings, BrokerError> {
    let mut pass = Pass { api, memory, now, findings: Findings::default() };
    let wanted: HashSet<String> = declared.objects().iter().map(key).collect();
    let mut ours = inventory::read(api).await?;
    let known: HashSet<String> = ours.iter().map(key).collect();
    let before = ours.len();
    ours.extend(declared.objects().into_iter().filter(|object| !known.contains(&key(object))));
    if ours.len() > before {
        // Before they are made: otherwise one could be made and forgotten.
        inventory::write(api, &ours).await?;
    }
    let (vhosts, others) = declared.things();
    for (object, body) in &vhosts {
        pass.keep(object, body).await?;
    }
    for user in &declared.users {
        pass.keep_user(user).await?;
    }
    for (object, body) in &others {
        pass.keep(object, body).await?;
    }
    let (mut kept, leftovers): (Vec<_>, Vec<_>) = ours.into_iter().partition(|object| wanted.contains(&key(object)));
    if !leftovers.is_empty() {
        kept.extend(pass.remove_all(leftovers, declared).await?);
        inventory::write(api, &kept).await?;
    }
    pass.memory.known.retain(|key, _| wanted.contains(key));
    Ok(pass.findings)
}

struct Pass<'a> {
    api: &'a BrokerApi,
    memory: &'a mut Memory,
    now: Instant,
    findings: Findings,
}

impl Pass<'_> {
    /// Makes the broker have `object`, which it is told about by `body`.
    async fn keep(&mut self, object: &Object, body: &Value) -> Result<(), BrokerError> {
        let found = self.look(object).await?;
        if found.is_some() && body.as_object().is_some_and(Map::is_empty) {
            return Ok(());
        }
        let print = print(found.as_ref(), body);
        if let Some(known) = self.memory.known.get(&key(object)).filter(|known| known.print == print) {
            match &known.refusal {
                None => return Ok(()),
                Some((reason, at)) if self.now.duration_since(*at) < REFUSAL_PERIOD => {
                    let message = advice(object, found.is_some(), reason);
                    self.flaw(object, "Refused", message);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let method = if let Object::Binding { .. } = object { Method::POST } else { Method::PUT };
        let answer = answered(self.api.call(method, &object.path(), Some(body)).await?)?;
        let known = if answer.status.is_success() {
            let now_there = self.look(object).await?;
            if now_there != found {
                self.findings.written.push(object.to_string());
            }
            Known { print: self::print(now_there.as_ref(), body), refusal: None }
        } else {
            let message = advice(object, found.is_some(), &answer.reason());
            self.flaw(object, "Refused", message);
            Known { print, refusal: Some((answer.reason(), self.now)) }
        };
        self.memory.known.insert(key(object), known);
        Ok(())
    }

    /// What the broker shows of it; `None`: it is not there.
    async fn look(&self, object: &Object) -> Result<Option<Value>, BrokerError> {
        let path = format!("{}?columns={}", object.path(), object.fields());
        let answer = answered(self.api.call(Method::GET, &path, None).await?)?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let Object::Binding { key, arguments, .. } = object else { return Ok(Some(answer.body)) };
        let arguments = json!(arguments);
        let is_it = |shown: &&Value| shown["routing_key"] == **key && shown["arguments"] == arguments;
        Ok(answer.body.as_array().and_then(|list| list.iter().find(is_it)).cloned())
    }

    /// Deletes what is declared no longer, and returns what has to stay for now.
    async fn remove_all(
        &mut self,
        mut leftovers: Vec<Object>,
        declared: &Declared,
    ) -> Result<Vec<Object>, BrokerError> {
        leftovers.sort_by_key(rank);
        let mut staying = Vec::new();
        for object in leftovers {
            if declared.deletes(&object) && !self.remove(&object).await? {
                staying.push(object);
            }
        }
        Ok(staying)
    }

    /// False: it cannot be deleted now.
    async fn remove(&mut self, object: &Object) -> Result<bool, BrokerError> {
        let path = match object {
            Object::Queue(..) => format!("{}?if-empty=true", object.path()),
            Object::Vhost(name) if self.has_queues(name).await? => {
                let message = "it has queues and is not deleted: delete those, or declare it again";
                self.flaw(object, "NotEmpty", message.to_owned());
                return Ok(false);
            }
            Object::Binding { .. } => match self.look(object).await? {
                Some(found) => {
                    format!("{}/{}", object.path(), encoded(found["properties_key"].as_str().unwrap_or_default()))
                }
                None => return Ok(true),
            },
            _ => object.path(),
        };
        let answer = answered(self.api.call(Method::DELETE, &path, None).await?)?;
        if answer.status.is_success() {
            self.findings.deleted.push(object.to_string());
        } else if answer.status != StatusCode::NOT_FOUND {
            let (reason, message) = match object {
                Object::Queue(..) => ("NotEmpty", still_full(&answer)),
                _ => ("Refused", format!("it is not deleted: {}", answer.reason())),
            };
            self.flaw(object, reason, message);
            return Ok(false);
        }
        Ok(true)
    }

    async fn has_queues(&self, vhost: &str) -> Result<bool, BrokerError> {
        let path = format!("/api/queues/{}?page=1&page_size=1&disable_stats=true&columns=name", encoded(vhost));
        let answer = answered(self.api.call(Method::GET, &path, None).await?)?;
        Ok(answer.body["total_count"].as_u64().is_some_and(|count| count > 0))
    }

    fn flaw(&mut self, object: &Object, reason: &str, message: String) {
        let flaw = Flaw { object: object.to_string(), reason: reason.to_owned(), message };
        if object.is_user() { self.findings.users.push(flaw) } else { self.findings.topology.push(flaw) }
    }
}

/// An answer about the thing that was asked for. Others are about the broker, and pass.
fn answered(answer: Answer) -> Result<Answer, BrokerError> {
    let is_busy = answer.status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&answer.status);
    if is_busy { Err(BrokerError::Answered(answer.reason())) } else { Ok(answer) }
}

fn advice(object: &Object, is_there: bool, reason: &str) -> String {
    match object {
        Object::Queue(..) | Object::Exchange(..) if is_there => format!(
            "{reason}; what is there cannot be changed: delete it in the broker, so that it is made anew, or declare it as it is"
        ),
        _ => reason.to_owned(),
    }
}

fn still_full(answer: &Answer) -> String {
    format!(
        "it is declared no longer and is not deleted: {}; purge it or consume its messages, and it goes; or declare it again",
        answer.reason()
    )
}

/// In which order things are deleted: what others hold on to comes last.
fn rank(object: &Object) -> u8 {
    match object {
        Object::Binding { .. } => 0,
        Object::Queue(..) => 1,
        Object::Exchange(..) => 2,
        Object::Policy(..) => 3,
        Object::User(_) => 4,
        Object::Vhost(_) => 5,
    }
}

fn key(object: &Object) -> String {
    json!(object).to_string()
}

fn print(found: Option<&Value>, body: &Value) -> String {
    fingerprint([json!(found).to_string().as_str(), body.to_string().as_str()])
}
