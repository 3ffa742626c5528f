//! What the engine has, as a plan sees it.

use pontoon_engine::control::api::{ContainerView, NetworkView, Reply, Request};

use super::plan::{Seen, SeenContainer, SeenNetwork};
use crate::client::{Client, Failure};

/// Asks the engine.
pub(super) fn ask(client: &Client) -> Result<Seen, Failure> {
    let Reply::Networks(networks) = client.ask(&Request::Networks)? else {
        return Err(Failure::unexpected());
    };
    let Reply::Containers(containers) = client.ask(&Request::Containers)? else {
        return Err(Failure::unexpected());
    };
    Ok(Seen {
        networks: networks.into_iter().map(network).collect(),
        containers: containers.into_iter().map(container).collect(),
    })
}

fn network(view: NetworkView) -> SeenNetwork {
    SeenNetwork {
        name: view.name,
        labels: view.labels,
        containers: view.containers,
    }
}

fn container(view: ContainerView) -> SeenContainer {
    SeenContainer {
        id: view.id,
        network: view.network,
        name: view.name,
        labels: view.labels,
        exit_status: view.exit_status,
    }
}
