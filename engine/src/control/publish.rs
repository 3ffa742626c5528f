//! Docker's `-p` grammar: `[[IP:][HOST]:]CONTAINER[/tcp|udp]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use pontoon_packet::parse::protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;

const FIELD: &str = "publish";

/// One published port, with the host's port still to be chosen when it is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishSpec {
    /// The address clients use; unspecified for every one.
    pub address: IpAddr,
    /// The port clients use.
    pub host: Option<u16>,
    /// The container's port.
    pub container: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// What one `-p` argument stands for: ports that follow each other on both sides. As JSON it is that
/// argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishRange {
    /// The address clients use; unspecified for every one, and the network's own choice when there is
    /// none.
    pub address: Option<IpAddr>,
    /// The first port clients use; to be chosen for each when there is none.
    pub host: Option<u16>,
    /// The container's first port.
    pub container: u16,
    /// How many ports.
    pub count: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl PublishRange {
    /// Each of the ports, at `address` where none was given.
    pub fn ports(&self, address: Ipv4Addr) -> impl Iterator<Item = PublishSpec> + '_ {
        (0..self.count).map(move |nth| PublishSpec {
            address: self.address.unwrap_or(address.into()),
            host: self.host.map(|first| first.saturating_add(nth)),
            container: self.container.saturating_add(nth),
            protocol: self.protocol,
        })
    }
}

impl fmt::Display for PublishRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |first: u16| match self.count {
            0 | 1 => first.to_string(),
            count => format!("{first}-{}", first.saturating_add(count - 1)),
        };
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        if let Some(host) = self.host {
            f.write_str(&range(host))?;
        }
        if self.address.is_some() || self.host.is_some() {
            f.write_str(":")?;
        }
        let (container, name) = (range(self.container), protocol_name(self.protocol));
        write!(f, "{container}/{name}")
    }
}

impl From<PublishRange> for String {
    fn from(range: PublishRange) -> Self {
        range.to_string()
    }
}

impl TryFrom<String> for PublishRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(&text).map_err(|error| error.reason)
    }
}

impl JsonSchema for PublishRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublishRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Ports, as Docker's -p: [[IP:][HOST]:]CONTAINER[/tcp|udp], ranges as \
                            8000-8010:80-90. A host's port that is not given is chosen.",
            "type": "string",
        })
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.map_or_else(String::new, |port| port.to_string());
        let name = protocol_name(self.protocol);
        write!(f, "{}:{host}->{}/{name}", self.address, self.container)
    }
}

/// `tcp` or `udp`.
pub const fn protocol_name(number: u8) -> &'static str {
    if number == protocol::UDP {
        "udp"
    } else {
        "tcp"
    }
}

/// Reads one `-p` argument, which may stand for a range of ports.
///
/// # Errors
/// In Docker's words, naming the part that is wrong.
pub fn parse(text: &str) -> Result<PublishRange, Invalid> {
    let (ports, name) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = parse_protocol(name)?;
    let (front, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = match front.rsplit_once(':') {
        Some((address, host)) => (Some(parse_address(address)?), host),
        None => (None, front),
    };
    if container.is_empty() {
        let what = format!("No port specified: {}<empty>", text.escape_default());
        return Err(Invalid::new(FIELD, what));
    }
    let container = named_range("containerPort", container)?;
    let host = match host {
        "" => None,
        text => Some(named_range("hostPort", text)?),
    };
    if let Some(host) = host
        && host.1 - host.0 != container.1 - container.0
    {
        let what = format!(
            "Invalid ranges specified for container and host Ports: {}-{} and {}-{}",
            container.0, container.1, host.0, host.1
        );
        return Err(Invalid::new(FIELD, what));
    }
    Ok(PublishRange {
        address,
        host: host.map(|(first, _)| first),
        container: container.0,
        count: container.1 - container.0 + 1,
        protocol,
    })
}

fn parse_protocol(name: &str) -> Result<u8, Invalid> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok(protocol::TCP),
        "udp" => Ok(protocol::UDP),
        other => {
            let what = format!("Invalid proto: {}", other.escape_default());
            Err(Invalid::new(FIELD, what))
        }
    }
}

fn named_range(name: &str, text: &str) -> Result<(u16, u16), Invalid> {
    parse_range(text).ok_or_else(|| {
        let what = format!("Invalid {name}: {}", text.escape_default());
        Invalid::new(FIELD, what)
    })
}

fn parse_address(text: &str) -> Result<IpAddr, Invalid> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_err(|_| {
        Invalid::new(
            FIELD,
            format!("Invalid ip address: {}", text.escape_default()),
        )
    })
}

/// A port or a range of ports, in order, without 0.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((low, high)) => Some((port(low)?, port(high)?)).filter(|(low, high)| low <= high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let range = parse(text).unwrap();
        range
            .ports(Ipv4Addr::UNSPECIFIED)
            .map(|port| port.to_string())
            .collect()
    }

    #[test]
    fn every_form_of_the_grammar_is_understood() {
        assert_eq!(shown("8080:80"), ["0.0.0.0:8080->80/tcp"]);
        assert_eq!(shown("127.0.0.1:53:53/UDP"), ["127.0.0.1:53->53/udp"]);
        assert_eq!(shown("80"), ["0.0.0.0:->80/tcp"]);
        assert_eq!(shown("192.0.2.1::80"), ["192.0.2.1:->80/tcp"]);
        assert_eq!(shown("[::1]:8080:80"), ["::1:8080->80/tcp"]);
        assert_eq!(
            shown("9000-9001:80-81"),
            ["0.0.0.0:9000->80/tcp", "0.0.0.0:9001->81/tcp"]
        );
        assert_eq!(shown("80-81"), ["0.0.0.0:->80/tcp", "0.0.0.0:->81/tcp"]);
        assert_eq!(parse("1-65535:1-65535").unwrap().count, 65_535);
    }

    #[test]
    fn a_range_is_written_as_it_is_read() {
        for text in [
            "0.0.0.0::80/tcp",
            "80-81/udp",
            "8080:80/tcp",
            "127.0.0.1:8000-8010:80-90/udp",
            "[::1]:8080:80/tcp",
            "192.0.2.1::1-65535/tcp",
        ] {
            let range = parse(text).unwrap();
            assert_eq!(range.to_string(), text);
            assert_eq!(PublishRange::try_from(text.to_owned()), Ok(range));
        }
    }

    #[test]
    fn errors_are_in_dockers_words() {
        for (text, reason) in [
            ("8080-80", "Invalid containerPort: 8080-80"),
            ("-1:80", "Invalid hostPort: -1"),
            ("0:80", "Invalid hostPort: 0"),
            ("65536:80", "Invalid hostPort: 65536"),
            ("8080:0", "Invalid containerPort: 0"),
            ("8080:", "No port specified: 8080:<empty>"),
            ("x:8080:80", "Invalid ip address: x"),
            ("80/sctpx", "Invalid proto: sctpx"),
            ("+80:80", "Invalid hostPort: +80"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(
                (error.field.as_str(), error.reason.as_str()),
                (FIELD, reason),
                "{text}"
            );
        }
        assert!(
            parse("1-3:80-81")
                .unwrap_err()
                .reason
                .starts_with("Invalid ranges")
        );
    }
}
