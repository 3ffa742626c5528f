//! Reading where a service's container is.

use pontoon_engine::control::name::check_name;

use super::fields::{Place, Table};
use super::file::{DEFAULT, Join, Joins};
use super::service::address;
use super::yaml::Fault;

/// What is said of a network where there is none.
const OF_NETWORKS: &[&str] = &["ports", "mac_address"];
/// What is said of a container whose files, names and networks are another's or the user's.
const OF_OWN: &[&str] = &[
    "ports",
    "mac_address",
    "hostname",
    "dns",
    "dns_search",
    "dns_opt",
    "extra_hosts",
];

/// Reads `network_mode` or `networks`, and refuses what does not go with it.
pub(super) fn joins(table: &mut Table<'_>) -> Result<Joins, Fault> {
    let (mode, networks) = (table.take("network_mode"), table.take("networks"));
    if let Some(mode) = mode {
        if networks.is_some() {
            return Err(mode.fault("give network_mode or networks, not both"));
        }
        let (joins, refused) = network_mode(&mode)?;
        let why = format!("not with network_mode: {}", mode.text()?);
        table.refuse(refused, &why)?;
        return Ok(joins);
    }
    let joined = networks.as_ref().map(joined).transpose()?;
    match joined {
        Some(joined) if !joined.is_empty() => Ok(Joins::Networks(joined)),
        _ => Ok(Joins::Networks(vec![Join::of(DEFAULT)])),
    }
}

/// Where a mode leads to, and what cannot be said beside it.
fn network_mode(place: &Place<'_>) -> Result<(Joins, &'static [&'static str]), Fault> {
    let text = place.text()?;
    let named = |name: &str| {
        let checked = check_name("", name).map_err(|error| place.fault(error.reason));
        checked.map(|()| name.to_owned())
    };
    match (text.as_str(), text.split_once(':')) {
        ("bridge", _) => Ok((Joins::Bridge, &[])),
        ("none", _) => Ok((Joins::None, OF_NETWORKS)),
        ("host", _) => Ok((Joins::Host, OF_OWN)),
        (_, Some(("service", name))) => Ok((Joins::Service(named(name)?), OF_OWN)),
        (_, Some(("container", name))) => Ok((Joins::Container(named(name)?), OF_OWN)),
        (other, _) => {
            let shown = other.escape_default();
            let what =
                format!("{shown}: expected bridge, none, host, service:NAME or container:NAME");
            Err(place.fault(what))
        }
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
