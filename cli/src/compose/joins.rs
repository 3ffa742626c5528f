//! Reading where a service's container is.

use pontoon_engine::control::name::check_name;

use super::fields::{Place, Table};
use super::file::{DEFAULT, Join, Joins};
use super::service::address;
use super::yaml::Fault;

/// Reads `network_mode` or `networks`.
pub(super) fn joins(table: &mut Table<'_>) -> Result<Joins, Fault> {
    let (mode, networks) = (table.take("network_mode"), table.take("networks"));
    if let Some(mode) = mode {
        return match mode.text()?.as_str() {
            _ if networks.is_some() => Err(mode.fault("give network_mode or networks, not both")),
            "bridge" => Ok(Joins::Bridge),
            other => {
                let what = format!("{}: expected bridge", other.escape_default());
                Err(mode.fault(what))
            }
        };
    }
    let joined = networks.as_ref().map(joined).transpose()?;
    match joined {
        Some(joined) if !joined.is_empty() => Ok(Joins::Networks(joined)),
        _ => Ok(Joins::Networks(vec![Join::of(DEFAULT)])),
    }
}

impl Join {
    fn of(network: &str) -> Self {
        Self {
            network: network.to_owned(),
            ipv4_address: None,
            mac_address: None,
            aliases: Vec::new(),
        }
    }
}

fn joined(place: &Place<'_>) -> Result<Vec<Join>, Fault> {
    if !place.is_map() {
        let names = place.texts()?;
        return Ok(names.iter().map(|name| Join::of(name)).collect());
    }
    let join = |(name, place): &(&str, Place<'_>)| {
        let mut table = place.table()?;
        let join = Join {
            network: (*name).to_owned(),
            ipv4_address: table.read("ipv4_address", address)?,
            mac_address: table.read("mac_address", Place::text)?,
            aliases: table.read("aliases", aliases)?.unwrap_or_default(),
        };
        table.finish(|_| None)?;
        Ok(join)
    };
    place.entries()?.iter().map(join).collect()
}

fn aliases(place: &Place<'_>) -> Result<Vec<String>, Fault> {
    let aliases = place.texts()?;
    for alias in &aliases {
        check_name("", alias).map_err(|error| place.fault(error.reason))?;
    }
    Ok(aliases)
}
