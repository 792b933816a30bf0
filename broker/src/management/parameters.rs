//! Runtime parameters: what RabbitMQ keeps under the name of a component. Here that are policies and limits, which have
//! paths of their own; the components of RabbitMQ's plugins are not there.

use serde_json::{Value as Json, json};
use warren_core::topology::Vhost;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::limits;
use super::policies;
use super::route::Handle::Now;
use super::route::{Needs, Route, get, put};

pub(super) const ROUTES: &[Route] = &[
    get("/api/parameters", Needs::Policymaker, "Operator policies and limits as parameters.", Now(list)),
    get("/api/parameters/{component}", Needs::Policymaker, "Parameters of a component.", Now(of_component)),
    get(
        "/api/parameters/{component}/{vhost}",
        Needs::Policymaker,
        "Parameters of a component in a virtual host.",
        Now(of_vhost),
    ),
    get("/api/parameters/{component}/{vhost}/{name}", Needs::Policymaker, "One parameter.", Now(one)),
    put(
        "/api/parameters/{component}/{vhost}/{name}",
        Needs::Policymaker,
        "Refused: policies and limits have paths of their own, and there are no plugins.",
        Now(refuse),
    ),
];

/// The components that there are, policies of users aside: RabbitMQ lists those only by their component's name.
const LISTED: [&str; 2] = ["operator_policy", "vhost-limits"];

/// The parameters of a component in a virtual host; none, if there is no such component.
fn parameters(vhost: &Vhost, component: &str) -> Vec<Json> {
    let shape = |name: &str, value: Json| json!({"vhost": &**vhost.name(), "component": component, "name": name, "value": value});
    let of_policies = |operator| {
        let records = policies::records(vhost, operator).into_iter();
        records.map(|policy| shape(&policy.name, policies::rule(policy))).collect()
    };
    match component {
        "policy" => of_policies(false),
        "operator_policy" => of_policies(true),
        "vhost-limits" => {
            let limits = limits::named(&vhost.record().limits);
            if limits.is_empty() { Vec::new() } else { vec![shape("limits", Json::Object(limits))] }
        }
        _ => Vec::new(),
    }
}

/// The parameters of a virtual host as definitions have them.
pub(super) fn exported(vhost: &Vhost) -> Vec<Json> {
    let nameless = |mut parameter: Json| {
        parameter.as_object_mut().map(|fields| fields.remove("vhost"));
        parameter
    };
    LISTED.into_iter().flat_map(|component| parameters(vhost, component)).map(nameless).collect()
}

fn list(call: &Call) -> Answer {
    let of = |vhost| LISTED.into_iter().flat_map(move |component| parameters(vhost, component));
    call.list(call.vhosts().flat_map(of).collect())
}

fn of_component(call: &Call) -> Answer {
    call.list(call.vhosts().flat_map(|vhost| parameters(vhost, call.name("component"))).collect())
}

fn of_vhost(call: &Call) -> Answer {
    call.list(parameters(call.vhost()?, call.name("component")))
}

fn one(call: &Call) -> Answer {
    let mut parameters = parameters(call.vhost()?, call.name("component")).into_iter();
    parameters.find(|known| known["name"] == call.name("name")).map(Reply::Json).ok_or_else(Failure::not_found)
}

/// RabbitMQ's words for the component of a plugin that is not there.
fn refuse(call: &Call) -> Answer {
    let component = call.name("component");
    let text = match component {
        "policy" | "operator_policy" => "use /api/policies and /api/operator-policies",
        "vhost-limits" => "use /api/vhost-limits",
        _ => "it is a plugin's of RabbitMQ",
    };
    Err(Failure::bad_request(format!("Validation failed\n\ncomponent {component} not found: {text}\n")))
}
