//! Who may ask the API server about tokens follows from what MessageQueues declare.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use warren_operator::api::MessageQueue;
use warren_operator::status::{USERS_READY, find};

use crate::cluster::{administrator, apply, make_namespace, remove_namespace, within};
use crate::operator::Operator;
use crate::proxy::Proxy;

/// A role and its binding as the chart makes them, called as the namespace is.
struct World {
    admin: Client,
    namespace: String,
    proxy: Proxy,
}

impl World {
    async fn new(test: &str) -> Self {
        let admin = administrator().await;
        let namespace = make_namespace(&admin, test).await;
        Self { proxy: Proxy::start(admin.clone()).await, namespace, admin }
    }

    fn start_operator(&self) -> Operator {
        let arguments = ["--watch-namespaces", &self.namespace, "--token-review-binding", &self.namespace];
        Operator::start(&self.proxy, &self.namespace, &arguments)
    }

    async fn make_binding(&self, subjects: Value) {
        let name = &self.namespace;
        let role = json!({
            "metadata": {"name": name},
            "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}],
        });
        let role: ClusterRole = serde_json::from_value(role).unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &role).await.unwrap();
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let binding = json!({"metadata": {"name": name}, "roleRef": reference, "subjects": subjects});
        let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &binding).await.unwrap();
    }

    fn binding(&self) -> Api<ClusterRoleBinding> {
        Api::all(self.admin.clone())
    }

    fn queues(&self) -> Api<MessageQueue> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    async fn declare(&self, queue: &str, accounts: Value) {
        let spec = json!({"replicas": 0, "auth": {"serviceAccounts": accounts}});
        apply(&self.admin, &self.namespace, queue, spec).await.unwrap();
    }

    /// Waits until these accounts of our namespace may ask, and nobody else.
    async fn may_ask(&self, names: &[&str]) {
        let expected: Vec<_> = names.iter().map(|name| ("ServiceAccount", *name, self.namespace.as_str())).collect();
        let are_these = |binding: Option<&ClusterRoleBinding>| {
            let subjects = binding.and_then(|binding| binding.subjects.as_deref()).unwrap_or_default();
            let found = subjects.iter().map(|subject| {
                (subject.kind.as_str(), subject.name.as_str(), subject.namespace.as_deref().unwrap_or_default())
            });
            found.eq(expected.iter().copied())
        };
        within(await_condition(self.binding(), &self.namespace, are_these)).await.unwrap();
    }

    /// Waits until the status of `queue` says of its users what is expected, and returns the sentence.
    async fn users_are(&self, queue: &str, status: Option<&str>) -> String {
        let message = |found: &MessageQueue| {
            let condition = found.status.as_ref().and_then(|status| find(status, USERS_READY));
            condition.map(|condition| (condition.status.clone(), condition.message.clone()))
        };
        let is_so = |found: Option<&MessageQueue>| {
            found.is_some_and(|found| message(found).map(|(status, _)| status).as_deref() == status)
        };
        let found = within(await_condition(self.queues(), queue, is_so)).await.unwrap().unwrap();
        message(&found).map(|(_, message)| message).unwrap_or_default()
    }

    async fn end(self) {
        let parameters = DeleteParams::default();
        self.binding().delete(&self.namespace, &parameters).await.unwrap();
        Api::<ClusterRole>::all(self.admin.clone()).delete(&self.namespace, &parameters).await.unwrap();
        remove_namespace(&self.admin, &self.namespace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_take_tokens_of_service_accounts_may_ask_about_them_and_no_others() {
    let world = World::new("reviews").await;
    // What is left of a MessageQueue that went while no operator ran.
    world.make_binding(json!([{"kind": "ServiceAccount", "name": "old-broker", "namespace": world.namespace}])).await;
    let _operator = world.start_operator();
    world.may_ask(&[]).await;
    apply(&world.admin, &world.namespace, "silent", json!({"replicas": 0})).await.unwrap();
    world.declare("b", json!([{"name": "billing"}])).await;
    world.may_ask(&["b-broker"]).await;
    world.declare("a", json!([{"name": "billing"}])).await;
    world.may_ask(&["a-broker", "b-broker"]).await;

    let theirs =
        Patch::Merge(json!({"subjects": [{"kind": "ServiceAccount", "name": "x", "namespace": world.namespace}]}));
    world.binding().patch(&world.namespace, &PatchParams::default(), &theirs).await.unwrap();
    world.may_ask(&["a-broker", "b-broker"]).await;

    world.declare("a", json!([])).await;
    world.may_ask(&["b-broker"]).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), &world.namespace);
    assert!(accounts.get_opt("a-broker").await.unwrap().is_none());
    world.queues().delete("b", &DeleteParams::default()).await.unwrap();
    world.may_ask(&[]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_cannot_be_given_is_said_until_it_can() {
    let world = World::new("unreviewed").await;
    let _operator = world.start_operator();
    world.declare("hello", json!([{"name": "billing"}])).await;
    let sentence = world.users_are("hello", Some("False")).await;
    let reason = format!("ClusterRoleBinding {} is not there: upgrade or install the chart", world.namespace);
    assert!(sentence.contains("none of them can log in") && sentence.contains(&reason), "{sentence}");
    world.make_binding(json!([])).await;
    world.may_ask(&["hello-broker"]).await;
    // Whether the broker has its users is not known: none runs.
    world.users_are("hello", None).await;
    world.end().await;
}
