//! A client on a fake API server.

use cotenant_cluster::{Client, Source};
use cotenant_testkit::api_server::ApiServer;
use serde_json::{Value, json};

/// Where nodes are.
pub(crate) const NODES: &str = "/api/v1/nodes";

/// A server, and a client that found it through a kubeconfig.
pub(crate) async fn cluster() -> (ApiServer, Client) {
    let server = ApiServer::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    server.write_kubeconfig(&path).expect("written");
    let client = Client::new(&Source::File(path)).await.expect("a client");
    (server, client)
}

/// A node with these labels.
pub(crate) fn node(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
}
