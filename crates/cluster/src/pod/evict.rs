//! Asking for the end of a pod, so that disruption budgets are kept.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::api::policy::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kube::Api;
use kube::api::PostParams;
use kube::core::{ObjectMeta, Status};

use super::Pod;
use crate::{ApiError, Client};

/// What became of an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// The pod is asked to end and has its grace period.
    Accepted,
    /// There is no such pod any more (or another one of the same name).
    Gone,
    /// A disruption budget, or too many requests, forbids it for now (429).
    Blocked {
        /// The API server's words, which name the budget.
        why: String,
        /// When it suggests to ask again.
        retry_after: Option<Duration>,
    },
}

impl Client {
    /// Asks the API server to evict `pod`, and no other pod of the same name. `grace` replaces the pod's own grace period.
    ///
    /// # Errors
    /// When the API server refuses for another reason than a budget (several budgets over one pod are such a reason), or
    /// cannot be asked.
    pub async fn evict(&self, pod: &Pod, grace: Option<Duration>) -> Result<Eviction, ApiError> {
        let pods: Api<ApiPod> = Api::namespaced(self.kube(), &pod.namespace);
        let uid = (!pod.uid.is_empty()).then(|| pod.uid.clone());
        let options = DeleteOptions {
            grace_period_seconds: grace.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteOptions::default()
        };
        // The client library has a call of its own for this, which drops the options: its body spells their key wrong.
        let eviction = v1::Eviction {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            delete_options: Some(options),
        };
        let parameters = PostParams::default();
        let request = pods.create_subresource::<_, Status>("eviction", &pod.name, &parameters, &eviction);
        let action = format!("evict pod {}/{}", pod.namespace, pod.name);
        match self.call(action, request).await {
            Ok(_status) => Ok(Eviction::Accepted),
            Err(error) if error.is_not_found() => Ok(Eviction::Gone),
            Err(ApiError::Refused { code: 409, message, .. }) if is_another(&message) => Ok(Eviction::Gone),
            Err(ApiError::Refused { code: 429, message, retry_after, .. }) => {
                Ok(Eviction::Blocked { why: message, retry_after })
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a conflict is about the UID: the API server has two ways to say so, and other conflicts.
fn is_another(message: &str) -> bool {
    message.contains("UID in precondition") || message.contains("UID in the precondition")
}
