//! The table of routes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Route;
use super::schema::{Flag, Seconds};
use crate::control::api::{
    AttachSpec, ContainerView, EndpointSpec, NetworkSpec, NetworkView, PruneFilter, RemoveMode,
    Reply, Request, StatusView,
};
use crate::control::event::Record;
use crate::control::publish::{PublishRange, PublishSpec};
use crate::view::{FdbEntry, FlowEntry, NeighbourEntry, Stats};

/// Longest time between SIGTERM and SIGKILL, in seconds: a day.
pub(super) const MAX_STOP: u64 = 86_400;
/// What it is when nobody says.
const STOP: u64 = 10;

/// How a container's first process has ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exit {
    /// Its exit status, as a shell would see it.
    pub(super) status: i32,
}

/// Ports to publish.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    /// All of them, or none.
    pub(super) ports: Vec<PublishRange>,
}

/// The program that the engine is to be.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upgrade {
    /// Its path.
    pub(super) program: PathBuf,
}

/// What comes with the descriptors of the sandbox.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Namespaces {
    /// A user namespace was made, and its descriptor precedes that of the host's network namespace.
    unprivileged: bool,
}

/// Everything that can be asked for.
pub(super) fn routes() -> Vec<Route> {
    let mut all = engine();
    all.extend(containers());
    all.extend(ends());
    all.extend(ports());
    all.extend(places());
    all.extend(networks());
    all.extend(tables());
    all
}

fn engine() -> Vec<Route> {
    vec![
        Route::get("/openapi.json", "describe", "This document")
            .answers(200, |_: serde_json::Map<String, serde_json::Value>| {
                Reply::Done
            }),
        Route::get("/ping", "ping", "Whether the engine serves").reads(|_| Ok(Request::Hello)),
        Route::get(
            "/status",
            "status",
            "Processes, version, uptime, networks, containers",
        )
        .answers(200, |status: StatusView| Reply::Status(Box::new(status)))
        .reads(|_| Ok(Request::Status)),
        Route::get(
            "/namespaces",
            "namespaces",
            "The sandbox's user namespace, if one was made, and the host's network namespace, as \
             descriptors beside the first bytes of the answer (SCM_RIGHTS)",
        )
        .answers(200, |Namespaces { unprivileged }| Reply::Namespaces {
            unprivileged,
        })
        .reads(|_| Ok(Request::Namespaces)),
        Route::get(
            "/events",
            "watch",
            "What happens from now on, a line of JSON for each event, until one side ends. Who reads \
             slowly loses events, and is told how many",
        )
        .watches::<Record>(),
        Route::post("/shutdown", "shutDown", "End everything").reads(|_| Ok(Request::ShutDown)),
        Route::post(
            "/upgrade",
            "upgrade",
            "Swap the engine's program: the engine ends, and its keeper starts this one in its place, \
             which takes over",
        )
        .takes::<Upgrade>()
        .reads(|call| {
            let Upgrade { program } = call.body()?;
            Ok(Request::Upgrade { program })
        }),
    ]
}

fn containers() -> Vec<Route> {
    vec![
        Route::get("/containers", "listContainers", "All containers")
            .answers(200, Reply::Containers)
            .reads(|_| Ok(Request::Containers)),
        Route::post(
            "/containers",
            "attachContainer",
            "Plug a network namespace in, whose descriptor comes beside the request's first bytes \
             (SCM_RIGHTS), with pidfds of its first process and its monitor if it is one of run's",
        )
        .takes::<AttachSpec>()
        .answers(201, Reply::Container)
        .reads(|call| call.body().map(Request::Attach)),
        Route::get(
            "/containers/{name}",
            "container",
            "One container, by name or the beginning of its id",
        )
        .answers::<ContainerView>(200, Reply::Container)
        .reads(|call| Ok(Request::Container { name: call.name() })),
        Route::delete(
            "/containers/{name}",
            "removeContainer",
            "Forget a container that has ended",
        )
        .with::<Flag>("force", "End it first, if it runs")
        .reads(|call| {
            let mode = match call.flag("force")? {
                true => RemoveMode::Force,
                false => RemoveMode::Stopped,
            };
            Ok(Request::Remove {
                name: call.name(),
                mode,
            })
        }),
    ]
}

fn ends() -> Vec<Route> {
    vec![
        Route::post("/containers/{name}/detach", "detachContainer", "Pull a namespace that was attached out")
            .reads(|call| Ok(Request::Detach { name: call.name() })),
        Route::post(
            "/containers/{name}/stop",
            "stopContainer",
            "End a container's first process: SIGTERM, and SIGKILL after some time",
        )
        .with::<Seconds>("seconds", "How long to wait in between; 10 if not given")
        .reads(|call| {
            let seconds = call.number("seconds", STOP, MAX_STOP)?;
            Ok(Request::Stop { name: call.name(), seconds })
        }),
        Route::post(
            "/containers/{name}/exited",
            "containerExited",
            "The first process of the container with this id has ended. One that is not there is ended",
        )
        .takes::<Exit>()
        .reads(|call| {
            let Exit { status } = call.body()?;
            Ok(Request::Exited { id: call.name(), status })
        }),
    ]
}

fn ports() -> Vec<Route> {
    vec![
        Route::post("/containers/{name}/ports", "publishPorts", "Publish ports of a container, all or none")
            .takes::<Ports>()
            .answers::<Vec<PublishSpec>>(201, Reply::Ports)
            .reads(|call| {
                let Ports { ports } = call.body()?;
                Ok(Request::Publish { name: call.name(), ports })
            }),
        Route::delete(
            "/containers/{name}/ports",
            "unpublishPorts",
            "Take published ports back, all or none. An address or a port of the host's that is not \
             given stands for every one",
        )
        .with::<Vec<PublishRange>>("port", "Which; may be given more than once")
        .needed()
        .answers::<Vec<PublishSpec>>(200, Reply::Ports)
        .reads(|call| {
            let ports = call.ports("port")?;
            Ok(Request::Unpublish { name: call.name(), ports })
        }),
    ]
}

fn places() -> Vec<Route> {
    vec![
        Route::post(
            "/containers/{name}/networks",
            "connectContainer",
            "Let a container that runs join one more network",
        )
        .takes::<EndpointSpec>()
        .reads(|call| {
            let (name, endpoint) = (call.name(), call.body()?);
            Ok(Request::Connect { name, endpoint })
        }),
        Route::delete(
            "/containers/{name}/networks/{network}",
            "disconnectContainer",
            "Let a container leave a network",
        )
        .reads(|call| {
            let (name, network) = (call.name(), call.segment("network"));
            Ok(Request::Disconnect { name, network })
        }),
    ]
}

fn networks() -> Vec<Route> {
    vec![
        Route::get("/networks", "listNetworks", "All networks")
            .answers(200, Reply::Networks)
            .reads(|_| Ok(Request::Networks)),
        Route::post("/networks", "createNetwork", "Make a network")
            .takes::<NetworkSpec>()
            .answers(201, Reply::Network)
            .reads(|call| call.body().map(Request::CreateNetwork)),
        Route::get("/networks/{name}", "network", "One network")
            .answers::<NetworkView>(200, Reply::Network)
            .reads(|call| Ok(Request::Network { name: call.name() })),
        Route::delete(
            "/networks/{name}",
            "removeNetwork",
            "Take an empty network away",
        )
        .reads(|call| Ok(Request::RemoveNetwork { name: call.name() })),
        Route::post(
            "/prune/networks",
            "pruneNetworks",
            "Take all networks away that nobody uses; answers their names",
        )
        .takes::<PruneFilter>()
        .answers(200, Reply::Names)
        .reads(|call| call.body().map(Request::PruneNetworks)),
    ]
}

fn tables() -> Vec<Route> {
    vec![
        Route::get("/fdb", "fdb", "Forwarding databases")
            .answers::<Vec<FdbEntry>>(200, Reply::Fdb)
            .reads(|_| Ok(Request::Fdb)),
        Route::get("/neighbours", "neighbours", "Neighbour tables")
            .answers::<Vec<NeighbourEntry>>(200, Reply::Neighbours)
            .reads(|_| Ok(Request::Neighbours)),
        Route::get("/flows", "flows", "Tracked connections")
            .answers::<Vec<FlowEntry>>(200, Reply::Flows)
            .reads(|_| Ok(Request::Flows)),
        Route::get("/stats", "stats", "Counters")
            .answers::<Stats>(200, Reply::Stats)
            .reads(|_| Ok(Request::Stats)),
    ]
}
