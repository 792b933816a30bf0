//! The ServiceAccount by which brokers ask the API server whose token somebody shows, if pods log in with such.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::validate::Plan;

/// `None`: nobody logs in with a token of a ServiceAccount.
pub(super) fn service_account(plan: &Plan) -> Option<ServiceAccount> {
    plan.audience()?;
    Some(ServiceAccount {
        metadata: metadata(plan, &plan.names.service_account),
        // The broker's pod asks for a token by itself, and other pods of this account get none.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
