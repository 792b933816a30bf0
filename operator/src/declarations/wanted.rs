//! Pure: what a specification and its Secrets declare, in the order in which it is made.

use serde_json::{Value, json};

use super::object::Object;
use super::password::Password;
use crate::api::{DeletionPolicy, Exchange, Policy, Queue, QueueBinding, Rights, Topology, Vhost};

/// Everything that a broker should have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// Users and what they may do.
    pub users: Vec<WantedUser>,
    /// Everything else.
    pub topology: Topology,
}

/// Something, and what the broker is to be told about it.
pub type Thing = (Object, Value);

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedUser {
    /// Its name.
    pub name: String,
    /// What it logs in with.
    pub login: Login,
    /// What it may do.
    pub rights: Rights,
}

/// What a user logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A token: it has no password.
    Token,
    /// This password.
    Password(Password),
    /// There is no password where it should be: the user stays as it is. The text says what is missing.
    Missing(String),
    /// Nobody knows at the moment: the user stays as it is.
    Unknown,
}

impl Declared {
    /// All objects, in the order in which they are made.
    pub fn objects(&self) -> Vec<Object> {
        let users = self.users.iter().map(|user| Object::User(user.name.clone()));
        let (vhosts, others) = self.things();
        let objects = |things: Vec<Thing>| things.into_iter().map(|(object, _)| object);
        objects(vhosts).chain(users).chain(objects(others)).collect()
    }

    /// Virtual hosts, and what comes after the users, each with what the broker is to be told about it. Policies come before
    /// queues, so that no queue is ever without its own.
    pub fn things(&self) -> (Vec<Thing>, Vec<Thing>) {
        let Topology { deletion_policy: _, vhosts, exchanges, queues, bindings, policies } = &self.topology;
        let vhosts = vhosts.iter().map(vhost).collect();
        let others = policies.iter().map(policy).chain(exchanges.iter().map(exchange));
        (vhosts, others.chain(queues.iter().map(queue)).chain(bindings.iter().map(binding)).collect())
    }

    /// Whether something that is declared no longer is deleted.
    pub fn deletes(&self, object: &Object) -> bool {
        match object {
            Object::User(_) => true,
            Object::Vhost(name) if name == "/" => false,
            _ => self.topology.deletion_policy == DeletionPolicy::Delete,
        }
    }
}

fn vhost(Vhost { name, description }: &Vhost) -> Thing {
    // One that says nothing else is fine as it is.
    let body = if description.is_empty() { json!({}) } else { json!({"description": description}) };
    (Object::Vhost(name.clone()), body)
}

fn policy(policy: &Policy) -> Thing {
    let Policy { vhost, name, pattern, apply_to, priority, definition } = policy;
    let body = json!({"pattern": pattern, "apply-to": apply_to, "priority": priority, "definition": definition});
    (Object::Policy(vhost.clone(), name.clone()), body)
}

fn exchange(exchange: &Exchange) -> Thing {
    let Exchange { vhost, name, type_, durable, auto_delete, internal, arguments } = exchange;
    let body = json!({
        "type": type_, "durable": durable, "auto_delete": auto_delete, "internal": internal, "arguments": arguments,
    });
    (Object::Exchange(vhost.clone(), name.clone()), body)
}

fn queue(queue: &Queue) -> Thing {
    let Queue { vhost, name, durable, auto_delete, arguments } = queue;
    let body = json!({"durable": durable, "auto_delete": auto_delete, "arguments": arguments});
    (Object::Queue(vhost.clone(), name.clone()), body)
}

fn binding(binding: &QueueBinding) -> Thing {
    let QueueBinding { vhost, source, destination, destination_type, routing_key, arguments } = binding.clone();
    let body = json!({"routing_key": routing_key, "arguments": arguments});
    (Object::Binding { vhost, source, destination, to: destination_type, key: routing_key, arguments }, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(topology: Value) -> Declared {
        let user = WantedUser { name: "app".into(), login: Login::Unknown, rights: Rights::default() };
        Declared { users: vec![user], topology: serde_json::from_value(topology).unwrap() }
    }

    #[test]
    fn what_others_need_comes_first() {
        let declared = declared(json!({
            "bindings": [{"source": "x", "destination": "q"}],
            "queues": [{"name": "q"}],
            "exchanges": [{"name": "x"}],
            "policies": [{"name": "p", "pattern": ".*", "definition": {"max-length": 1}}],
            "vhosts": [{"name": "v"}],
        }));
        let order: Vec<String> = declared.objects().iter().map(ToString::to_string).collect();
        let expected = ["virtual host v", "user app", "policy p in /", "exchange x in /", "queue q in /"];
        assert_eq!(order[..5], expected);
        assert_eq!(order[5], "binding from x to q by '' in /");
    }

    #[test]
    fn defaults_are_those_of_durable_things() {
        let declared = declared(json!({"queues": [{"name": "q"}], "exchanges": [{"name": "x"}]}));
        let bodies: Vec<Value> = declared.things().1.into_iter().map(|(_, body)| body).collect();
        let exchange =
            json!({"type": "direct", "durable": true, "auto_delete": false, "internal": false, "arguments": {}});
        assert_eq!(bodies, [exchange, json!({"durable": true, "auto_delete": false, "arguments": {}})]);
    }

    #[test]
    fn users_go_with_their_declaration_and_other_things_if_that_is_asked_for() {
        let queue = Object::Queue("/".into(), "q".into());
        for (policy, deletes) in [("Retain", false), ("Delete", true)] {
            let declared = declared(json!({"deletionPolicy": policy}));
            assert!(declared.deletes(&Object::User("u".into())));
            assert_eq!(declared.deletes(&queue), deletes);
            assert!(!declared.deletes(&Object::Vhost("/".into())));
        }
    }
}
