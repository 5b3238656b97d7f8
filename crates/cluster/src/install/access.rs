//! Who the agent is, and what it may ask of the API server.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Installation, Object};

/// That an agent may change no other node than its own. Tokens before Kubernetes 1.30 do not say where their pod runs.
const OWN_NODE: &str = "!has(request.userInfo.extra) || \
    !(\"authentication.kubernetes.io/node-name\" in request.userInfo.extra) || \
    request.userInfo.extra[\"authentication.kubernetes.io/node-name\"].exists(node, node == object.metadata.name)";

pub(super) fn objects(installation: &Installation) -> Vec<Object> {
    let account =
        ServiceAccount { metadata: installation.metadata("-service-account", None), ..ServiceAccount::default() };
    let mut objects = vec![Object::new(&account)];
    objects.extend(cluster_wide(installation));
    objects.extend(in_namespace(installation));
    if installation.values.own_node_only {
        objects.extend(own_node_only(installation));
    }
    objects
}

fn cluster_wide(installation: &Installation) -> [Object; 2] {
    let role = ClusterRole {
        metadata: clusterwide_metadata(installation, "-role"),
        rules: Some(vec![
            // Its own node: the labels that choose a configuration, and those it sets.
            rule("", "nodes", &["get", "list", "watch", "patch"]),
            // Pods of its node: whose a process is.
            rule("", "pods", &["get", "list", "watch"]),
            // Only where a configuration says `drain: allow` or a quarantine evicts.
            rule("", "pods/eviction", &["create"]),
            // Faults, waiting edits and recoveries, where `kubectl describe` shows them.
            rule("events.k8s.io", "events", &["create", "patch"]),
        ]),
        aggregation_rule: None,
    };
    let binding = ClusterRoleBinding {
        metadata: clusterwide_metadata(installation, "-role-binding"),
        role_ref: reference("ClusterRole", installation),
        subjects: Some(vec![subject(installation)]),
    };
    [Object::new(&role), Object::new(&binding)]
}

fn in_namespace(installation: &Installation) -> [Object; 2] {
    let mut own = rule("apps", "daemonsets", &["get"]);
    own.resource_names = Some(vec![installation.name()]);
    // Its own DaemonSet: whether a SIGTERM is an upgrade or the end.
    let role = Role { metadata: installation.metadata("-role", None), rules: Some(vec![own]) };
    let binding = RoleBinding {
        metadata: installation.metadata("-role-binding", None),
        role_ref: reference("Role", installation),
        subjects: Some(vec![subject(installation)]),
    };
    [Object::new(&role), Object::new(&binding)]
}

/// RBAC cannot say "its own node"; an admission policy can.
fn own_node_only(installation: &Installation) -> [Object; 2] {
    let user = format!("system:serviceaccount:{}:{}", installation.namespace(), installation.account());
    let validation = |expression: &str, message: &str| Validation {
        expression: expression.to_owned(),
        message: Some(format!("an agent of cotenant may change {message}")),
        ..Validation::default()
    };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![node_updates()]),
            ..MatchResources::default()
        }),
        match_conditions: Some(vec![MatchCondition {
            name: "agents".to_owned(),
            expression: format!("request.userInfo.username == \"{user}\""),
        }]),
        validations: Some(vec![
            validation(OWN_NODE, "its own node only"),
            validation("object.spec == oldObject.spec", "labels and annotations only"),
        ]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    let metadata = clusterwide_metadata(installation, "-own-node");
    let binding = ValidatingAdmissionPolicyBindingSpec {
        policy_name: metadata.name.clone(),
        validation_actions: Some(vec!["Deny".to_owned()]),
        ..ValidatingAdmissionPolicyBindingSpec::default()
    };
    let policy = ValidatingAdmissionPolicy { metadata: metadata.clone(), spec: Some(spec), status: None };
    [Object::new(&policy), Object::new(&ValidatingAdmissionPolicyBinding { metadata, spec: Some(binding) })]
}

fn node_updates() -> NamedRuleWithOperations {
    let one = |text: &str| Some(vec![text.to_owned()]);
    NamedRuleWithOperations {
        api_groups: one(""),
        api_versions: one("v1"),
        operations: one("UPDATE"),
        resources: one("nodes"),
        ..NamedRuleWithOperations::default()
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn reference(kind: &str, installation: &Installation) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: format!("{}-role", installation.name()),
    }
}

fn subject(installation: &Installation) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: installation.account(),
        namespace: Some(installation.namespace().to_owned()),
        api_group: None,
    }
}

fn clusterwide_metadata(installation: &Installation, suffix: &str) -> ObjectMeta {
    ObjectMeta { namespace: None, ..installation.metadata(suffix, None) }
}
