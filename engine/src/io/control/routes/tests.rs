use super::call::{Wanted, read};
use super::*;
use crate::control::api::{AttachSpec, EndpointSpec, NetworkSpec, PruneFilter, RemoveMode};
use crate::control::publish;
use crate::io::control::http::Received;

fn received(method: &str, target: &str, body: &[u8]) -> Received {
    Received {
        method: method.to_owned(),
        target: target.to_owned(),
        media_type: Some("application/json; charset=utf-8".to_owned()),
        body: body.to_vec(),
        fds: Vec::new(),
        closes: false,
    }
}

fn refused(method: &str, target: &str, body: &str) -> (u16, String) {
    match read(received(method, target, body.as_bytes())) {
        Err(refusal) => (refusal.status, refusal.why.to_string()),
        Ok(_) => panic!("{method} {target} {body} is taken"),
    }
}

fn attach_spec() -> AttachSpec {
    serde_json::from_str(
        r#"{"networks": [{"network": "n"}], "publish": ["127.0.0.1:80-81:8080-8081/udp"]}"#,
    )
    .unwrap()
}

fn every_request() -> Vec<Request> {
    let name = "a/b ü%".to_owned();
    let ports = ["80", "127.0.0.1:8000-8001:80-81/udp"].map(|text| publish::parse(text).unwrap());
    let ports = ports.to_vec();
    vec![
        Request::Hello,
        Request::Namespaces,
        Request::Attach(attach_spec()),
        Request::Detach { name: name.clone() },
        Request::Exited {
            id: name.clone(),
            status: 3,
        },
        Request::Containers,
        Request::Container { name: name.clone() },
        Request::Stop {
            name: name.clone(),
            seconds: 3,
        },
        Request::Remove {
            name: name.clone(),
            mode: RemoveMode::Force,
        },
        Request::Remove {
            name: name.clone(),
            mode: RemoveMode::Stopped,
        },
        Request::Publish {
            name: name.clone(),
            ports: ports.clone(),
        },
        Request::Unpublish {
            name: name.clone(),
            ports,
        },
        Request::CreateNetwork(NetworkSpec::default()),
        Request::Connect {
            name: name.clone(),
            endpoint: EndpointSpec::default(),
        },
        Request::Disconnect {
            name: name.clone(),
            network: "x/y".to_owned(),
        },
        Request::Networks,
        Request::PruneNetworks(PruneFilter::default()),
        Request::Network { name: name.clone() },
        Request::RemoveNetwork { name },
        Request::Fdb,
        Request::Neighbours,
        Request::Flows,
        Request::Stats,
        Request::Status,
        Request::Upgrade {
            program: "/opt/pontoon new".into(),
        },
        Request::ShutDown,
    ]
}

#[test]
fn what_a_client_asks_for_is_what_the_engine_reads() {
    for request in every_request() {
        let asked = ask(&request);
        let body = asked.body.as_deref().unwrap_or_default();
        match read(received(asked.method, &asked.target, body)) {
            Ok(Wanted::Request(understood, _, _)) => {
                assert_eq!(format!("{understood:?}"), format!("{request:?}"));
            }
            Ok(Wanted::Document | Wanted::Events) => {
                panic!("{request:?} is taken for the document")
            }
            Err(refusal) => panic!("{request:?}: {refusal:?}"),
        }
    }
}

/// Method, target, body; status and words of the refusal.
const WRONG: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", "/v1/nothing", "", 404, "path"),
    ("GET", "/v2/status", "", 404, "path"),
    ("GET", "/", "", 404, "path"),
    ("GET", "*", "", 400, "path"),
    ("GET", "/v1/containers/%zz", "", 400, "percent-encoded"),
    ("GET", "/v1/containers/%ff", "", 400, "percent-encoded"),
    ("GET", "/v1/status?x=1", "", 400, "x: unknown parameter"),
    ("GET", "/v1/status", "{}", 400, "nothing is taken"),
    ("PUT", "/v1/status", "", 405, "only GET"),
    ("GET", "/v1/shutdown", "", 405, "only POST"),
    ("POST", "/v1/networks", "", 400, "body"),
    ("POST", "/v1/networks", "{", 400, "EOF"),
    ("POST", "/v1/networks", "{}", 400, "name: missing field"),
    (
        "POST",
        "/v1/networks",
        r#"{"name": 5}"#,
        400,
        "invalid type",
    ),
    (
        "POST",
        "/v1/networks",
        r#"{"name": "n", "sub": 1}"#,
        400,
        "sub: unknown field",
    ),
    (
        "POST",
        "/v1/networks",
        r#"{"name": "n", "name": "m"}"#,
        400,
        "duplicate",
    ),
    (
        "POST",
        "/v1/containers/a/ports",
        r#"{"ports": ["0"]}"#,
        422,
        "Invalid containerPort: 0",
    ),
    (
        "POST",
        "/v1/containers/a/stop?seconds=-1",
        "",
        400,
        "seconds",
    ),
    (
        "POST",
        "/v1/containers/a/stop?seconds=1&seconds=2",
        "",
        400,
        "more than once",
    ),
    ("DELETE", "/v1/containers/a?force=maybe", "", 400, "force"),
    (
        "DELETE",
        "/v1/containers/a/ports",
        "",
        400,
        "port: must be given",
    ),
    (
        "DELETE",
        "/v1/containers/a/ports?port=70000",
        "",
        422,
        "Invalid containerPort",
    ),
];

#[test]
fn what_is_wrong_is_named() {
    for (method, target, body, status, said) in WRONG {
        let (had, text) = refused(method, target, body);
        assert_eq!(had, *status, "{method} {target}: {text}");
        assert!(text.contains(said), "{method} {target}: {text}");
    }
}

#[test]
fn a_body_that_is_not_json_by_its_type_is_refused() {
    for media_type in [None, Some("text/plain"), Some("application/jsonx")] {
        let request = Received {
            media_type: media_type.map(str::to_owned),
            ..received("POST", "/v1/networks", b"{}")
        };
        let status = read(request).err().map(|refusal| refusal.status);
        assert_eq!(status, Some(415), "{media_type:?}");
    }
}

#[test]
fn a_method_that_does_not_do_is_told_which_do() {
    let refusal = find("PATCH", "/v1/networks").err().unwrap();
    assert_eq!(refusal.allow.as_deref(), Some("GET, POST"));
}

#[test]
fn an_absolute_target_is_the_same() {
    let found = read(received("GET", "http://pontoon/v1/status", b""));
    assert!(
        matches!(found, Ok(Wanted::Request(asked, _, 200)) if matches!(*asked, Request::Status))
    );
}

#[test]
fn the_document_names_every_route_and_resolves() {
    let document = document();
    let text = document.to_string();
    for route in routes() {
        let path = format!("{VERSION}{}", route.path);
        let operation = &document["paths"][&path][route.method.to_lowercase()];
        assert_eq!(operation["operationId"], route.id, "{path}");
    }
    for part in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = format!("/{}", part.split('"').next().unwrap_or_default());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
    let spec = &document["components"]["schemas"]["NetworkSpec"];
    assert_eq!(spec["additionalProperties"], false, "{spec}");
}

#[test]
fn a_number_without_a_fraction_is_an_integer() {
    let post = |status: &str| {
        let body = format!(r#"{{"status": {status}}}"#);
        read(received("POST", "/v1/containers/a/exited", body.as_bytes()))
    };
    let Ok(Wanted::Request(request, ..)) = post("3.0") else {
        panic!("3.0 is refused");
    };
    assert!(matches!(*request, Request::Exited { status: 3, .. }));
    for other in ["3.5", "1e30"] {
        assert_eq!(
            post(other).err().map(|refusal| refusal.status),
            Some(400),
            "{other}"
        );
    }
}

#[test]
fn ids_are_unique() {
    let mut ids: Vec<_> = routes().iter().map(|route| route.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), routes().len());
}
