//! Reading a network of a topology file.

use super::fields::Place;
use super::file::{Ipam, Network};
use super::service::{address, labels, named};
use super::yaml::Fault;

/// Reads what stands under a network's name.
pub(super) fn network(key: &str, place: &Place<'_>) -> Result<Network, Fault> {
    let mut table = place.table()?;
    table.read("driver", driver)?;
    let network = Network {
        line: place.line(),
        key: key.to_owned(),
        name: table.read("name", named)?,
        external: table.read("external", Place::flag)?.unwrap_or_default(),
        ipam: table.read("ipam", ipam)?.unwrap_or_default(),
        driver_opts: table.read("driver_opts", options)?.unwrap_or_default(),
        uplink: table.read("uplink", Place::text)?,
        internal: table.read("internal", Place::flag)?.unwrap_or_default(),
        host_loopback: table
            .read("host_loopback", Place::flag)?
            .unwrap_or_default(),
        mtu: table.read("mtu", |place| place.parsed("a number of bytes"))?,
        host_port: table.read("host_port", Place::text)?,
        offload: table.read("offload", |place| place.parsed("auto or off"))?,
        labels: table.read("labels", labels)?.unwrap_or_default(),
    };
    table.finish(|_| None)?;
    Ok(network)
}

fn driver(place: &Place<'_>) -> Result<(), Fault> {
    match place.text()?.as_str() {
        "bridge" => Ok(()),
        other => Err(place.fault(format!("{}: expected bridge", other.escape_default()))),
    }
}

/// Options of the driver, by their names in Docker.
fn options(place: &Place<'_>) -> Result<Vec<(String, String)>, Fault> {
    let value = |(name, value): (String, Option<String>)| (name, value.unwrap_or_default());
    Ok(place.pairs('=')?.into_iter().map(value).collect())
}

fn ipam(place: &Place<'_>) -> Result<Ipam, Fault> {
    let mut table = place.table()?;
    let found = table.read("config", |place| match &place.list()?[..] {
        [] => Ok(Ipam::default()),
        [one] => subnet(one),
        [_, second, ..] => Err(second.fault("a network has one subnet")),
    })?;
    table.finish(|_| None)?;
    Ok(found.unwrap_or_default())
}

fn subnet(place: &Place<'_>) -> Result<Ipam, Fault> {
    let mut table = place.table()?;
    let reserved = |place: &Place<'_>| {
        let entry = |(name, place): &(&str, Place<'_>)| Ok(((*name).to_owned(), address(place)?));
        place.entries()?.iter().map(entry).collect()
    };
    let found = Ipam {
        subnet: table.read("subnet", Place::text)?,
        gateway: table.read("gateway", address)?,
        ip_range: table.read("ip_range", Place::text)?,
        aux_addresses: table.read("aux_addresses", reserved)?.unwrap_or_default(),
    };
    table.finish(|_| None)?;
    Ok(found)
}
