//! Reading published ports, in compose's short form and its long one.

use pontoon_engine::control::publish;

use super::fields::Place;
use super::yaml::Fault;

/// Reads a list of ports. Returns them as `-p` takes them.
pub(super) fn ports(place: &Place<'_>) -> Result<Vec<String>, Fault> {
    place.list()?.iter().map(port).collect()
}

/// A port in the short form, or in compose's long one.
fn port(place: &Place<'_>) -> Result<String, Fault> {
    let text = if place.is_map() {
        long_port(place)?
    } else {
        place.text()?
    };
    publish::parse(&text).map_err(|error| place.fault(error.reason))?;
    Ok(text)
}

fn long_port(place: &Place<'_>) -> Result<String, Fault> {
    let mut table = place.table()?;
    let (target, published) = (
        table.read("target", Place::text)?,
        table.read("published", Place::text)?,
    );
    let (address, protocol) = (
        table.read("host_ip", Place::text)?,
        table.read("protocol", Place::text)?,
    );
    // Compose's `host` and `ingress` are the same on one machine.
    let _ = (table.take("mode"), table.take("name"));
    table.finish(|_| None)?;
    let target = target.ok_or_else(|| place.fault("expected target: the container's port"))?;
    let front = match (address, published) {
        (Some(address), published) => format!("{address}:{}:", published.unwrap_or_default()),
        (None, Some(published)) => format!("{published}:"),
        (None, None) => String::new(),
    };
    let protocol = protocol.map_or_else(String::new, |name| format!("/{name}"));
    Ok(format!("{front}{target}{protocol}"))
}
