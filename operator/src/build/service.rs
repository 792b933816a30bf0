//! The two Services: one for clients, one that names each broker node.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{MANAGEMENT_PORT, MANAGEMENT_TLS_PORT, METRICS_PORT, metadata};
use crate::validate::{Plan, PlannedTls};

/// The Service that clients connect to. It carries AMQP only, so that a LoadBalancer never publishes the metrics.
pub(super) fn client_service(plan: &Plan) -> Service {
    let mut metadata = metadata(plan, &plan.names.client_service);
    let annotations = &plan.spec.service.annotations;
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(plan.spec.service.type_.as_str().into()),
            selector: Some(plan.names.selector()),
            ports: Some(vec![amqp(plan)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The headless Service of the StatefulSet: `<pod>.<name>-nodes.<namespace>.svc` is one broker node, ready or not.
pub(super) fn nodes_service(plan: &Plan) -> Service {
    Service {
        metadata: metadata(plan, &plan.names.nodes_service),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(plan.names.selector()),
            ports: Some(vec![amqp(plan), management(plan), port("metrics", METRICS_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(super) fn amqp(plan: &Plan) -> ServicePort {
    port(if plan.tls == PlannedTls::Disabled { "amqp" } else { "amqps" }, plan.tls.port())
}

pub(super) fn management(plan: &Plan) -> ServicePort {
    match plan.tls {
        PlannedTls::Disabled => port("management", MANAGEMENT_PORT),
        PlannedTls::Managed(_) | PlannedTls::Secret { .. } => port("management-tls", MANAGEMENT_TLS_PORT),
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        // By name, so that a changed container port needs no second change here.
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}
