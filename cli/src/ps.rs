//! `ps`: containers, as Docker lists them, with their network and address.

use pontoon_engine::control::api::{ContainerView, Reply, Request};
use pontoon_engine::control::name::short_id;

use crate::args::Ps;
use crate::client::{Client, Failure};
use crate::is_json;
use crate::show::{Shown, human, json, now, table};

/// `ps`.
pub(crate) fn list(client: &Client, args: &Ps) -> Shown {
    let Reply::Containers(all) = client.ask(&Request::Containers)? else {
        return Err(Failure::unexpected());
    };
    let is_shown = |c: &&ContainerView| args.all || c.exit_status.is_none();
    let shown: Vec<_> = all.iter().filter(is_shown).collect();
    if is_json(&args.listing) {
        return json(&shown);
    }
    if args.quiet {
        shown.iter().for_each(|c| println!("{}", short_id(&c.id)));
        return Ok(0);
    }
    let rows: Vec<_> = shown.iter().map(|c| row(c, &all)).collect();
    let header = [
        "CONTAINER ID",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NETWORK",
        "ADDRESS",
        "NAMES",
    ];
    table(&header, &rows);
    Ok(0)
}

fn row(c: &ContainerView, all: &[ContainerView]) -> Vec<String> {
    let age = human(now().saturating_sub(c.created));
    let status = match (c.state.as_str(), c.exit_status) {
        (_, Some(status)) => format!("Exited ({status})"),
        ("attached", None) => format!("Attached {age}"),
        (_, None) => format!("Up {age}"),
    };
    let command: String = c
        .command
        .chars()
        .take(20)
        .flat_map(char::escape_default)
        .collect();
    let address = c.address.map(|address| address.addr().to_string());
    let ports: Vec<_> = c.publish.iter().map(ToString::to_string).collect();
    vec![
        short_id(&c.id).to_owned(),
        format!("\"{command}\""),
        format!("{age} ago"),
        status,
        ports.join(", "),
        network(c, all),
        address.unwrap_or_default(),
        c.name.clone(),
    ]
}

/// The name of a container's network; whose it shares has a name too, which says more than its id.
fn network(c: &ContainerView, all: &[ContainerView]) -> String {
    let Some(id) = c.network.strip_prefix("container:") else {
        return c.network.clone();
    };
    let owner = all.iter().find(|other| other.id == id);
    format!(
        "container:{}",
        owner.map_or(short_id(id), |owner| &owner.name)
    )
}
