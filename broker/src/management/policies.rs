//! Policies and operator policies.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use warren_core::topology::{Administration, ApplyTo, Policy, PolicyDeclaration, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::{integer, of_table};
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};
use crate::definitions;

pub(super) const ROUTES: &[Route] = &[
    get("/api/policies", Needs::Management, "The policies that the caller sees.", Now(|call| list(call, false))),
    get("/api/policies/{vhost}", Needs::Management, "Policies of a virtual host.", Now(|call| of_vhost(call, false))),
    get("/api/policies/{vhost}/{policy}", Needs::Management, "One policy.", Now(|call| one(call, false))),
    put(
        "/api/policies/{vhost}/{policy}",
        Needs::Policymaker,
        "Make or change a policy.",
        Later(|call| Box::pin(make(call, false))),
    ),
    delete(
        "/api/policies/{vhost}/{policy}",
        Needs::Policymaker,
        "Delete a policy.",
        Later(|call| Box::pin(remove(call, false))),
    ),
    get(
        "/api/operator-policies",
        Needs::Management,
        "The operator policies that the caller sees.",
        Now(|call| list(call, true)),
    ),
    get(
        "/api/operator-policies/{vhost}",
        Needs::Management,
        "Operator policies of a virtual host.",
        Now(|call| of_vhost(call, true)),
    ),
    get(
        "/api/operator-policies/{vhost}/{policy}",
        Needs::Management,
        "One operator policy.",
        Now(|call| one(call, true)),
    ),
    put(
        "/api/operator-policies/{vhost}/{policy}",
        Needs::Administrator,
        "Make or change an operator policy.",
        Later(|call| Box::pin(make(call, true))),
    ),
    delete(
        "/api/operator-policies/{vhost}/{policy}",
        Needs::Administrator,
        "Delete an operator policy.",
        Later(|call| Box::pin(remove(call, true))),
    ),
];

/// Whether operator policies are meant, for all that follows.
type Operator = bool;

/// The policies of a virtual host by name.
pub(super) fn records(vhost: &Vhost, operator: Operator) -> Vec<&Policy> {
    let mut records: Vec<_> =
        vhost.policies().map(AsRef::as_ref).filter(|policy| policy.operator == operator).collect();
    records.sort_unstable_by(|one: &&Policy, other| one.name.cmp(&other.name));
    records
}

fn list(call: &Call, operator: Operator) -> Answer {
    call.list(call.vhosts().flat_map(|vhost| records(vhost, operator)).map(shape).collect())
}

fn of_vhost(call: &Call, operator: Operator) -> Answer {
    call.list(records(call.vhost()?, operator).into_iter().map(shape).collect())
}

fn one(call: &Call, operator: Operator) -> Answer {
    found(call, operator).map(|policy| Reply::Json(shape(policy)))
}

fn found(call: &Call, operator: Operator) -> Result<&Policy, Failure> {
    let mut records = records(call.vhost()?, operator).into_iter();
    records.find(|policy| *policy.name == *call.name("policy")).ok_or_else(Failure::not_found)
}

fn shape(policy: &Policy) -> Json {
    let mut shape = rule(policy);
    shape["vhost"] = (*policy.vhost).into();
    shape["name"] = (*policy.name).into();
    shape
}

/// What a policy says, without where it is and how it is called.
pub(super) fn rule(policy: &Policy) -> Json {
    json!({
        "pattern": policy.pattern.as_str(),
        "apply-to": policy.apply_to.name(),
        "definition": of_table(&policy.definition),
        "priority": policy.priority,
    })
}

/// What a policy may be made with.
#[derive(Deserialize)]
struct Body {
    pattern: String,
    definition: BTreeMap<String, Json>,
    #[serde(default, deserialize_with = "integer")]
    priority: i64,
    #[serde(default, rename = "apply-to")]
    apply_to: Option<String>,
}

impl Body {
    fn declaration(self, name: String, operator: Operator) -> Result<PolicyDeclaration, Failure> {
        let apply_to = self.apply_to.as_deref().unwrap_or("all");
        let apply_to = ApplyTo::from_name(apply_to).ok_or_else(|| {
            let names = ApplyTo::ALL.map(ApplyTo::name).join(", ");
            Failure::bad_request(format!("apply-to '{apply_to}' is not one of {names}"))
        })?;
        let definition: Bytes = definitions::table("definition", &self.definition).map_err(Failure::from)?;
        let (pattern, priority) = (self.pattern, self.priority);
        Ok(PolicyDeclaration { name, operator, pattern, apply_to, priority, definition })
    }
}

async fn make(call: Call, operator: Operator) -> Answer {
    let body: Body = call.read()?;
    let vhost = call.target_vhost()?;
    let is_new = found(&call, operator).is_err();
    let declaration = body.declaration(call.name("policy").to_owned(), operator)?;
    call.administer(vhost.name(), Administration::PutPolicy(declaration)).await?;
    Ok(Reply::put(is_new))
}

async fn remove(call: Call, operator: Operator) -> Answer {
    let name = found(&call, operator)?.name.to_string();
    call.administer(call.name("vhost"), Administration::DeletePolicy { operator, name }).await?;
    Ok(Reply::Done)
}
