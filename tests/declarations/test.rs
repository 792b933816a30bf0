//! What a MessageQueue declares, in a real broker: made, repaired, refused with a reason, and deleted only where that is asked for
//! and nothing is lost by it.

mod keeper;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use warren_operator::api::{Flaw, User};
use warren_operator::broker_api::{BrokerApi, Endpoint};
use warren_operator::credentials::Credentials;
use warren_operator::declarations::pass::{Findings, Memory, pass};
use warren_operator::declarations::password::Password;
use warren_operator::declarations::wanted::{Declared, Login, WantedUser};
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

/// A broker whose own user is the operator's, and what the operator remembers.
struct World {
    broker: Broker,
    api: BrokerApi,
    memory: Memory,
    now: Instant,
    _folder: DataFolder,
}

impl World {
    fn new() -> Result<Self> {
        let folder = DataFolder::new()?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let (name, password) = (file("name", "operator")?, file("password", "sesame")?);
        let config = format!("[default_user]\nname_file = {name:?}\npassword_file = {password:?}\n");
        let broker = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() })?;
        let api = BrokerApi::new(&endpoint(&broker))?;
        Ok(Self { broker, api, memory: Memory::default(), now: Instant::now(), _folder: folder })
    }

    async fn pass(&mut self, declared: &Declared) -> Result<Findings> {
        self.now += Duration::from_secs(5);
        Ok(pass(&self.api, declared, &mut self.memory, self.now).await?)
    }

    /// What a person does beside the operator.
    async fn person(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let body = (!body.is_null()).then_some(body);
        let answer = self.api.call(method.clone(), path, body.as_ref()).await?;
        ensure!(answer.status.is_success(), "{method} {path}: {}", answer.reason());
        Ok(answer.body)
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(&self.broker)
    }

    async fn is_there(&self, path: &str) -> Result<bool> {
        Ok(self.api.call(Method::GET, path, None).await?.status.is_success())
    }

    fn logs_in(&self, name: &str, password: &str) -> bool {
        Connection::open_as(self.broker.address, name, password, "/").is_ok()
    }
}

fn endpoint(broker: &Broker) -> Endpoint {
    let credentials = Credentials { username: "operator".into(), password: "sesame".into() };
    Endpoint { address: broker.management.to_string(), authorities: None, credentials }
}

/// `users` are as in `spec.auth.users`, without the Secret, and all have the same password.
fn declared(users: Value, password: &str, topology: Value) -> Result<Declared> {
    let mut declared = Declared { users: Vec::new(), topology: serde_json::from_value(topology)? };
    for mut user in users.as_array().cloned().unwrap_or_default() {
        user["passwordSecretRef"] = json!({"name": "s"});
        let User { name, rights, .. } = serde_json::from_value(user)?;
        let login = Login::Password(Password(password.as_bytes().to_vec()));
        declared.users.push(WantedUser { name, login, rights });
    }
    Ok(declared)
}

fn shop() -> Value {
    json!({
        "vhosts": [{"name": "shop", "description": "orders"}],
        "exchanges": [{"vhost": "shop", "name": "events", "type": "topic"}],
        "queues": [{"vhost": "shop", "name": "orders/new", "arguments": {"x-message-ttl": 60000, "x-queue-type": "quorum"}}],
        "bindings": [
            {"vhost": "shop", "source": "events", "destination": "orders/new", "routingKey": "order.#"},
            {"vhost": "shop", "source": "events", "destination": "orders/new", "routingKey": "a b/c", "arguments": {"n": 1}},
        ],
        "policies": [{"vhost": "shop", "name": "short", "pattern": "^o", "applyTo": "queues", "definition": {"max-length": 9}}],
    })
}

fn reasons(flaws: &[Flaw]) -> Vec<(&str, &str)> {
    flaws.iter().map(|flaw| (flaw.object.as_str(), flaw.reason.as_str())).collect()
}

#[tokio::test]
async fn what_is_declared_is_made_once_and_repaired_when_somebody_deletes_it() -> Result<()> {
    let mut world = World::new()?;
    let declared = declared(json!([]), "", shop())?;
    let first = world.pass(&declared).await?;
    assert_eq!(first.written.len(), 6, "{first:?}");
    assert_eq!(first.topology, []);
    assert_eq!(world.pass(&declared).await?, Findings::default());
    // Another process of the operator remembers nothing, and changes nothing.
    world.memory = Memory::default();
    assert_eq!(world.pass(&declared).await?, Findings::default());
    for (path, count) in [
        ("/api/queues/shop/orders%2Fnew", 3),
        ("/api/exchanges/shop/events", 3),
        ("/api/policies/shop/short", 1),
        ("/api/bindings/shop/e/events/q/orders%2Fnew/order%2E%23", 1),
        ("/api/vhosts/shop", 6),
    ] {
        let path = path.replace("%2E%23", ".%2523");
        world.person(Method::DELETE, &path, Value::Null).await.context(path.clone())?;
        let repaired = world.pass(&declared).await?;
        assert_eq!((repaired.written.len(), repaired.topology.len()), (count, 0), "{path}: {repaired:?}");
        assert_eq!(world.pass(&declared).await?, Findings::default());
    }
    Ok(())
}

#[tokio::test]
async fn what_somebody_changed_is_changed_back_or_refused_with_a_reason() -> Result<()> {
    let mut world = World::new()?;
    let declared = declared(json!([]), "", shop())?;
    world.pass(&declared).await?;
    let longer = json!({"pattern": "^o", "definition": {"max-length": 10}});
    world.person(Method::PUT, "/api/policies/shop/short", longer).await?;
    assert_eq!(world.pass(&declared).await?.written, ["policy short in shop"]);
    let policy = world.person(Method::GET, "/api/policies/shop/short", Value::Null).await?;
    assert_eq!(policy["definition"], json!({"max-length": 9}));

    world.person(Method::DELETE, "/api/exchanges/shop/events", Value::Null).await?;
    world.person(Method::PUT, "/api/exchanges/shop/events", json!({"type": "fanout", "durable": true})).await?;
    for _ in 0..6 {
        let refused = world.pass(&declared).await?;
        assert_eq!(reasons(&refused.topology), [("exchange events in shop", "Refused")]);
        let message = &refused.topology[0].message;
        assert!(
            message.contains("inequivalent arg 'type'") && message.contains("delete it in the broker"),
            "{message}"
        );
    }
    world.person(Method::DELETE, "/api/exchanges/shop/events", Value::Null).await?;
    let healed = world.pass(&declared).await?;
    assert_eq!((healed.written.len(), healed.topology.len()), (3, 0), "{healed:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_broker_refuses_is_tried_again_when_it_may_be_allowed() -> Result<()> {
    let mut world = World::new()?;
    let binding = json!({"bindings": [{"source": "amq.topic", "destination": "later"}]});
    let declared = declared(json!([]), "", binding)?;
    assert_eq!(
        reasons(&world.pass(&declared).await?.topology),
        [("binding from amq.topic to later by '' in /", "Refused")]
    );
    world.person(Method::PUT, "/api/queues/%2F/later", json!({"durable": true})).await?;
    let mut passes = 0;
    while !world.pass(&declared).await?.topology.is_empty() {
        passes += 1;
        ensure!(passes < 5, "it is not tried again");
    }
    Ok(())
}

#[tokio::test]
async fn only_what_was_declared_is_deleted_and_only_if_that_is_asked_for() -> Result<()> {
    for (policy, is_kept) in [("Retain", true), ("Delete", false)] {
        let mut world = World::new()?;
        let mut topology = shop();
        topology["deletionPolicy"] = policy.into();
        world.pass(&declared(json!([]), "", topology)?).await?;
        world.person(Method::PUT, "/api/queues/%2F/theirs", json!({"durable": true})).await?;
        let less = declared(json!([]), "", json!({"deletionPolicy": policy}))?;
        // Another process of the operator knows what was declared.
        world.memory = Memory::default();
        let gone = world.pass(&less).await?;
        assert_eq!((gone.deleted.is_empty(), gone.topology), (is_kept, Vec::new()));
        assert_eq!(world.is_there("/api/vhosts/shop").await?, is_kept);
        assert!(world.is_there("/api/queues/%2F/theirs").await?);
        assert_eq!(world.pass(&less).await?, Findings::default());
    }
    Ok(())
}

#[tokio::test]
async fn a_queue_with_messages_and_a_virtual_host_with_queues_are_never_deleted() -> Result<()> {
    let mut world = World::new()?;
    let mut topology = shop();
    topology["deletionPolicy"] = "Delete".into();
    world.pass(&declared(json!([]), "", topology)?).await?;
    let message = json!({"properties": {}, "routing_key": "orders/new", "payload": "x", "payload_encoding": "string"});
    world.person(Method::POST, "/api/exchanges/shop/amq.default/publish", message).await?;
    let none = declared(json!([]), "", json!({"deletionPolicy": "Delete"}))?;
    for _ in 0..2 {
        let kept = world.pass(&none).await?;
        let expected = [("queue orders/new in shop", "NotEmpty"), ("virtual host shop", "NotEmpty")];
        assert_eq!(reasons(&kept.topology), expected);
        assert!(kept.topology[0].message.contains("purge it"), "{:?}", kept.topology);
    }
    world.person(Method::DELETE, "/api/queues/shop/orders%2Fnew/contents", Value::Null).await?;
    let gone = world.pass(&none).await?;
    assert_eq!(
        (gone.deleted, gone.topology),
        (vec!["queue orders/new in shop".into(), "virtual host shop".into()], vec![])
    );
    Ok(())
}

#[tokio::test]
async fn users_have_the_password_tags_and_rights_that_are_declared_and_no_others() -> Result<()> {
    let mut world = World::new()?;
    let users = json!([{
        "name": "app",
        "tags": ["monitoring"],
        "permissions": [{"configure": "", "write": "^a", "read": ".*"}],
        "topicPermissions": [{"exchange": "amq.topic", "write": "^a", "read": ""}],
    }]);
    let first = declared(users.clone(), "one", json!({}))?;
    assert_eq!(world.pass(&first).await?.users, []);
    assert_eq!(world.pass(&first).await?, Findings::default());
    world.memory = Memory::default();
    assert_eq!(world.pass(&first).await?, Findings::default());
    assert!(world.logs_in("app", "one") && !world.logs_in("app", "two"));
    // A login leaves the hash as it is.
    assert_eq!(world.pass(&first).await?, Findings::default());

    let second = declared(users, "two", json!({}))?;
    assert_eq!(world.pass(&second).await?.written, ["user app"]);
    assert!(world.logs_in("app", "two") && !world.logs_in("app", "one"));

    let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
    world.person(Method::PUT, "/api/vhosts/other", json!({})).await?;
    world.person(Method::PUT, "/api/permissions/other/app", everything.clone()).await?;
    world.person(Method::PUT, "/api/permissions/%2F/app", everything).await?;
    world.person(Method::DELETE, "/api/topic-permissions/%2F/app", Value::Null).await?;
    world.person(Method::PUT, "/api/users/app", json!({"password": "three", "tags": "administrator"})).await?;
    let repaired = world.pass(&second).await?;
    assert_eq!(repaired.written.len(), 4, "{repaired:?}");
    let rights = world.person(Method::GET, "/api/users/app/permissions", Value::Null).await?;
    assert_eq!(rights, json!([{"user": "app", "vhost": "/", "configure": "", "write": "^a", "read": ".*"}]));
    assert!(world.logs_in("app", "two") && !world.logs_in("app", "three"));
    let tags = world.person(Method::GET, "/api/users/app?columns=tags", Value::Null).await?;
    assert_eq!(tags, json!({"tags": ["monitoring"]}));
    Ok(())
}

#[tokio::test]
async fn a_user_goes_with_its_declaration_and_others_stay() -> Result<()> {
    let mut world = World::new()?;
    world.person(Method::PUT, "/api/users/theirs", json!({"password": "x", "tags": ""})).await?;
    world.pass(&declared(json!([{"name": "app", "permissions": [{}]}]), "one", json!({}))?).await?;
    let mut unknown = declared(json!([{"name": "app", "permissions": [{}]}]), "one", json!({}))?;
    for login in [Login::Missing("Secret s is not there".into()), Login::Unknown] {
        unknown.users[0].login = login;
        world.pass(&unknown).await?;
        assert!(world.logs_in("app", "one"), "a user whose Secret is missing stays");
    }
    unknown.users[0].login = Login::Missing("Secret s is not there".into());
    assert_eq!(reasons(&world.pass(&unknown).await?.users), [("user app", "SecretMissing")]);
    assert_eq!(world.pass(&Declared::default()).await?.deleted, ["user app"]);
    assert!(!world.logs_in("app", "one"));
    assert!(world.is_there("/api/users/theirs").await?);
    Ok(())
}

#[tokio::test]
async fn a_service_account_is_a_user_without_a_password() -> Result<()> {
    let mut world = World::new()?;
    let name = "system:serviceaccount:shop:billing";
    let mut declared = declared(json!([{"name": name, "permissions": [{"read": "^b"}]}]), "", json!({}))?;
    declared.users[0].login = Login::Token;
    let made = world.pass(&declared).await?;
    assert_eq!((made.written.len(), made.users.len()), (2, 0), "{made:?}");
    assert_eq!(world.pass(&declared).await?, Findings::default());
    assert!(!world.logs_in(name, ""));
    let path = "/api/users/system%3Aserviceaccount%3Ashop%3Abilling";
    world.person(Method::PUT, path, json!({"password": "x", "tags": ""})).await?;
    assert!(world.logs_in(name, "x"));
    assert_eq!(world.pass(&declared).await?.written, [format!("user {name}")]);
    assert!(!world.logs_in(name, "x"), "a password that somebody gave it is taken away");
    Ok(())
}

#[tokio::test]
async fn rights_in_a_virtual_host_that_is_not_there_say_so() -> Result<()> {
    let mut world = World::new()?;
    let users = json!([{"name": "app", "permissions": [{"vhost": "shop"}]}]);
    let flawed = world.pass(&declared(users.clone(), "one", json!({}))?).await?;
    assert_eq!(reasons(&flawed.users), [("user app", "VirtualHostMissing")]);
    let healed = world.pass(&declared(users, "one", json!({"vhosts": [{"name": "shop"}]}))?).await?;
    assert_eq!(healed.users, []);
    Ok(())
}

#[tokio::test]
async fn two_hundred_queues_are_made_in_one_pass() -> Result<()> {
    let mut world = World::new()?;
    let queues: Vec<Value> = (0..256).map(|number| json!({"name": format!("{number:0200}")})).collect();
    let many = declared(json!([]), "", json!({"queues": queues}))?;
    assert_eq!(world.pass(&many).await?.written.len(), 256);
    let start = Instant::now();
    assert_eq!(world.pass(&many).await?, Findings::default());
    eprintln!("256 queues looked at in {:?}", start.elapsed());
    world.memory = Memory::default();
    let gone = world.pass(&declared(json!([]), "", json!({"deletionPolicy": "Delete"}))?).await?;
    assert_eq!(gone.deleted.len(), 256);
    Ok(())
}
