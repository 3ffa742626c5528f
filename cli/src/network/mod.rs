//! `network`: Docker's words for networks, and Docker's forms of what is shown.

mod filter;
mod format;
mod inspect;
mod list;
mod time;

use std::io::{BufRead, Write};

use pontoon_engine::control::api::{
    EndpointSpec, HostLoopback, NetworkSpec, NetworkView, Reply, Request,
};
use pontoon_engine::control::labels;

use crate::args::{CreateNetwork, Network, PruneNetworks};
use crate::client::{Client, Failure};
use crate::{act, each, start};
pub(crate) use format::Format;
pub(crate) use inspect::inspect;
pub(crate) use time::rfc3339;

pub(crate) fn dispatch(command: Network) -> Result<u8, Failure> {
    match command {
        Network::Create(args) => {
            println!("{}", create(*args)?.id);
            Ok(0)
        }
        Network::Ls(args) => list::networks(&Client::open()?, &args),
        Network::Inspect { names, format } => {
            inspect::networks(&Client::open()?, names, format.as_deref())
        }
        Network::Connect(args) => act(Request::Connect {
            name: args.container,
            endpoint: EndpointSpec {
                network: args.network,
                ip: args.ip,
                aliases: args.alias,
                ..EndpointSpec::default()
            },
        }),
        Network::Disconnect {
            network, container, ..
        } => act(Request::Disconnect {
            name: container,
            network,
        }),
        Network::Rm { names } => each(names, |name| Request::RemoveNetwork { name }),
        Network::Prune(args) => prune(&args),
    }
}

/// Makes a network.
pub(crate) fn create(args: CreateNetwork) -> Result<NetworkView, Failure> {
    let client = start::engine_for_user()?;
    let spec = NetworkSpec {
        name: args.name,
        subnet: args.subnet,
        ip_range: args.ip_range,
        gateway: args.gateway,
        aux_addresses: args.aux_address.into_iter().collect(),
        uplink: Some(args.uplink),
        internal: args.internal,
        host_loopback: if args.host_loopback {
            HostLoopback::Open
        } else {
            HostLoopback::Closed
        },
        mtu: args.mtu,
        host_port: args.host_port,
        offload: args.offload,
        labels: labels::parse(&args.label)?,
        options: args.opt.into_iter().collect(),
    };
    match client.ask(&Request::CreateNetwork(spec))? {
        Reply::Network(network) => Ok(network),
        _ => Err(Failure::unexpected()),
    }
}

/// All networks, by name.
pub(crate) fn all(client: &Client) -> Result<Vec<NetworkView>, Failure> {
    match client.ask(&Request::Networks)? {
        Reply::Networks(all) => Ok(all),
        _ => Err(Failure::unexpected()),
    }
}

fn prune(args: &PruneNetworks) -> Result<u8, Failure> {
    let filter = filter::prune(&args.filter, time::now())?;
    let client = Client::open()?;
    if !args.force && !is_agreed()? {
        return Ok(0);
    }
    let Reply::Names(gone) = client.ask(&Request::PruneNetworks(filter))? else {
        return Err(Failure::unexpected());
    };
    if !gone.is_empty() {
        println!("Deleted Networks:\n{}\n", gone.join("\n"));
    }
    Ok(0)
}

fn is_agreed() -> Result<bool, Failure> {
    print!(
        "WARNING! This will remove all custom networks not used by at least one container.\n\
         Are you sure you want to continue? [y/N] "
    );
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}
