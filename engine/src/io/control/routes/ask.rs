//! How a client asks for each request.

use serde::Serialize;

use super::table::{Exit, Ports, Upgrade};
use crate::control::api::{RemoveMode, Request};
use crate::control::publish::PublishRange;

/// What goes over the wire for a request.
#[derive(Debug)]
pub(in super::super) struct Asked {
    /// `GET`, `POST`, ….
    pub(in super::super) method: &'static str,
    /// Path and query.
    pub(in super::super) target: String,
    /// JSON.
    pub(in super::super) body: Option<Vec<u8>>,
}

/// How `request` is asked for.
pub(in super::super) fn ask(request: &Request) -> Asked {
    match request {
        Request::Hello => get("/v1/ping"),
        Request::Namespaces => get("/v1/namespaces"),
        Request::Status => get("/v1/status"),
        Request::ShutDown => post("/v1/shutdown"),
        Request::Upgrade { program } => {
            let program = program.clone();
            post("/v1/upgrade").with(&Upgrade { program })
        }
        Request::Containers => get("/v1/containers"),
        Request::Attach(spec) => post("/v1/containers").with(spec),
        Request::Container { name } => get(&container(name, "")),
        Request::Detach { name } => post(&container(name, "/detach")),
        Request::Exited { id, status } => {
            post(&container(id, "/exited")).with(&Exit { status: *status })
        }
        Request::Stop { name, seconds } => {
            post(&format!("{}?seconds={seconds}", container(name, "/stop")))
        }
        Request::Remove { name, mode } => {
            let force = *mode == RemoveMode::Force;
            delete(&format!("{}?force={force}", container(name, "")))
        }
        Request::Publish { name, ports } => {
            let ports = ports.clone();
            post(&container(name, "/ports")).with(&Ports { ports })
        }
        Request::Unpublish { name, ports } => {
            delete(&format!("{}?{}", container(name, "/ports"), query(ports)))
        }
        Request::Connect { name, endpoint } => post(&container(name, "/networks")).with(endpoint),
        Request::Disconnect { name, network } => delete(&format!(
            "{}/{}",
            container(name, "/networks"),
            encode(network)
        )),
        Request::Networks => get("/v1/networks"),
        Request::CreateNetwork(spec) => post("/v1/networks").with(spec),
        Request::PruneNetworks(filter) => post("/v1/prune/networks").with(filter),
        Request::Network { name } => get(&network(name)),
        Request::RemoveNetwork { name } => delete(&network(name)),
        Request::Fdb => get("/v1/fdb"),
        Request::Neighbours => get("/v1/neighbours"),
        Request::Flows => get("/v1/flows"),
        Request::Stats => get("/v1/stats"),
    }
}

/// How events are asked for.
pub(in super::super) fn watch() -> Asked {
    get("/v1/events")
}

fn get(target: &str) -> Asked {
    asked("GET", target)
}

fn post(target: &str) -> Asked {
    asked("POST", target)
}

fn delete(target: &str) -> Asked {
    asked("DELETE", target)
}

fn asked(method: &'static str, target: &str) -> Asked {
    Asked {
        method,
        target: target.to_owned(),
        body: None,
    }
}

impl Asked {
    fn with(self, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body);
        Self {
            body: Some(body.expect("what is asked for has no keys but strings")),
            ..self
        }
    }
}

fn container(name: &str, rest: &str) -> String {
    format!("/v1/containers/{}{rest}", encode(name))
}

fn network(name: &str) -> String {
    format!("/v1/networks/{}", encode(name))
}

fn query(ports: &[PublishRange]) -> String {
    let ports = ports
        .iter()
        .map(|port| format!("port={}", encode(&port.to_string())));
    ports.collect::<Vec<_>>().join("&")
}

/// Percent-encodes whatever is not unreserved (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match keep(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
