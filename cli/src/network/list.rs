//! `network ls`.

use pontoon_engine::control::api::{Labels, NetworkView};
use pontoon_engine::control::name::short_id;
use serde::Serialize;

use super::filter::Filters;
use super::format::Format;
use super::time;
use crate::args::ListNetworks;
use crate::client::{Client, Failure};
use crate::show::{json, table};

/// A network in a listing, as Docker's templates name its parts.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    created_at: String,
    driver: &'static str,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "IPv6")]
    ipv6: &'static str,
    internal: String,
    labels: String,
    name: String,
    scope: &'static str,
}

/// What the columns of Docker's own table hold.
const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

pub(super) fn networks(client: &Client, args: &ListNetworks) -> Result<u8, Failure> {
    let filters = Filters::parse(&args.filter)?;
    let format = Format::parse(args.format.as_deref().unwrap_or(TABLE))?;
    let mut all = super::all(client)?;
    all.retain(|network| filters.match_network(network));
    if args.listing.json {
        return json(&all);
    }
    let rows: Vec<_> = all.iter().map(|network| row(network, args)).collect();
    if args.quiet {
        rows.iter().for_each(|row| println!("{}", row.id));
        return Ok(0);
    }
    let Some(columns) = format.columns() else {
        for row in &rows {
            println!("{}", format.fill(row)?);
        }
        return Ok(0);
    };
    let header: Vec<_> = columns
        .iter()
        .map(|format| header(&format.title()))
        .collect();
    let cells = |row| columns.iter().map(|format| format.fill(row)).collect();
    let rows: Result<Vec<_>, _> = rows.iter().map(cells).collect();
    table(&header, &rows?);
    Ok(0)
}

fn row(network: &NetworkView, args: &ListNetworks) -> Row {
    let id = if args.no_trunc {
        &network.id
    } else {
        short_id(&network.id)
    };
    Row {
        created_at: time::go(network.created_nanos),
        driver: super::inspect::DRIVER,
        id: id.to_owned(),
        ipv6: "false",
        internal: network.internal.to_string(),
        labels: pairs(&network.labels),
        name: network.name.clone(),
        scope: super::inspect::SCOPE,
    }
}

fn pairs(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// Docker's title of a column.
fn header(field: &str) -> String {
    match field {
        "ID" => "NETWORK ID".to_owned(),
        "CreatedAt" => "CREATED AT".to_owned(),
        other => other.to_uppercase(),
    }
}
