//! What the agent shows: metrics, probes, status.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::harness::{Node, Program, RESOURCE, SHARED, until};

/// An address that is free now; another process could take it before the agent does, which no test here has seen.
fn address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("free").local_addr().expect("an address")
}

fn agent(node: &Node, address: SocketAddr) -> Program {
    node.start("agent.log", node.agent_command().args(["--listen", &address.to_string()]))
}

/// The status code and the body of an answer.
fn fetch(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

#[tokio::test]
async fn it_is_ready_when_what_it_advertises_is_served_and_not_before() {
    let (node, address) = (Node::new(SHARED), address());
    let _agent = agent(&node, address);
    until("the agent is up", || fetch(address, "/healthz").is_some_and(|(code, _)| code == 200));
    until("it says what it waits for", || {
        fetch(address, "/readyz").is_some_and(|(code, body)| code == 503 && body.contains("MPS control daemon"))
    });
    let _keeper = node.keeper();
    node.until_healthy(RESOURCE, 4).await;
    until("it is ready", || fetch(address, "/readyz").is_some_and(|(code, _)| code == 200));
}

#[tokio::test]
async fn metrics_and_status_tell_who_holds_what() {
    let (node, address) = (Node::new(SHARED), address());
    let _keeper = node.keeper();
    let _agent = agent(&node, address);
    node.until_healthy(RESOURCE, 4).await;
    node.admit("a", RESOURCE).await;
    until("the tenant is known", || {
        fetch(address, "/metrics")
            .is_some_and(|(_, body)| body.contains("cotenant_tenant_memory_bytes{") && body.contains("pod=\"a\""))
    });
    let status = node.command(&["status", "--socket"]).arg(node.socket()).output().expect("ran");
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && text.contains("default/a") && text.contains("registered"), "{text}");
    let json = node.command(&["status", "--output", "json", "--socket"]).arg(node.socket()).output().expect("ran");
    let view: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(view["resources"][0]["allocated"], 1);
}

#[test]
fn without_an_agent_status_says_so() {
    let node = Node::new("version: v1\n");
    let status = node.command(&["status", "--socket"]).arg(node.socket()).output().expect("ran");
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stderr).contains("no agent answers"));
}
