//! Published ports of containers: publishing them, taking them back, listing them.

use std::net::SocketAddr;

use pontoon_engine::control::api::{Reply, Request};
use pontoon_engine::control::publish::{PublishSpec, protocol_name};

use crate::args::{self, Listing, Ports};
use crate::client::{Client, Failure};
use crate::{is_json, show};

/// `publish`.
pub(crate) fn publish(args: Ports) -> Result<u8, Failure> {
    let request = Request::Publish {
        ports: args::publish(&args.ports)?,
        name: args.name,
    };
    let Reply::Ports(chosen) = Client::open()?.ask(&request)? else {
        return Err(Failure::unexpected());
    };
    list(&chosen);
    Ok(0)
}

/// `port`: all that are published, or where one of them is.
pub(crate) fn port(name: String, wanted: Option<&str>, listing: &Listing) -> Result<u8, Failure> {
    let wanted = wanted.map(parse).transpose()?;
    let Reply::Container(mut container) = Client::open()?.ask(&Request::Container { name })? else {
        return Err(Failure::unexpected());
    };
    let ports = &mut container.publish;
    if let Some((port, protocol)) = wanted {
        ports.retain(|spec| (spec.container, protocol_name(spec.protocol)) == (port, protocol));
        if ports.is_empty() {
            let what = format!(
                "No public port '{port}/{protocol}' published for {}",
                container.name
            );
            return Err(Failure::plain(&what));
        }
    }
    ports.sort_by_key(|spec| (spec.container, spec.protocol, spec.address, spec.host));
    if is_json(listing) {
        return show::json(&container.publish);
    }
    match wanted {
        None => list(&container.publish),
        Some(_) => container
            .publish
            .iter()
            .for_each(|spec| println!("{}", host(spec))),
    }
    Ok(0)
}

/// Reads `PORT[/PROTOCOL]`.
fn parse(text: &str) -> Result<(u16, &'static str), Failure> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = ["tcp", "udp"]
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(protocol));
    let wrong = || Failure::own(text, "expected PORT, PORT/tcp or PORT/udp");
    let port = port.parse().map_err(|_| wrong())?;
    Ok((port, protocol.ok_or_else(wrong)?))
}

/// As Docker's `port` prints them.
fn list(ports: &[PublishSpec]) {
    for spec in ports {
        let protocol = protocol_name(spec.protocol);
        println!("{}/{protocol} -> {}", spec.container, host(spec));
    }
}

/// Where clients find a port.
fn host(spec: &PublishSpec) -> SocketAddr {
    SocketAddr::new(spec.address, spec.host.unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_tcp_unless_it_says_otherwise() {
        assert_eq!(parse("80").unwrap(), (80, "tcp"));
        assert_eq!(parse("53/UDP").unwrap(), (53, "udp"));
        for wrong in ["", "http", "80/", "80/sctp", "65536", "-1", "80/tcp/udp"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
