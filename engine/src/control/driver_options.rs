//! Options of a network's driver: the names of Docker's bridge driver, and what they mean here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::config::Isolation;

/// Before the name of each option of Docker's bridge driver.
const BRIDGE: &str = "com.docker.network.bridge.";
/// Largest datagram, in bytes (`--mtu`).
const MTU: &str = "com.docker.network.driver.mtu";
/// Whether containers of the network reach each other.
const ICC: &str = "com.docker.network.bridge.enable_icc";
/// Whether the network's addresses are translated on their way out.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Where ports are published whose address is not given.
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// What the names of containers' interfaces begin with.
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const KNOWN: [&str; 5] = [ICC, MASQUERADE, HOST_BINDING, MTU, INTERFACE_PREFIX];
/// Docker's names for interfaces inside.
const DEFAULT_PREFIX: &str = "eth";
/// So that a number of up to three digits has room behind it (`IFNAMSIZ` is 16, with its end).
const MAX_PREFIX: usize = 12;

/// Whether a network's addresses are translated on their way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Masquerading {
    /// To the uplink's.
    #[default]
    On,
    /// They stay as they are.
    Off,
}

/// What the options of a network's driver say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverOptions {
    /// Whether containers of the network reach each other.
    #[serde(with = "isolation")]
    pub isolation: Isolation,
    /// Whether the network's addresses are translated on their way out.
    pub masquerading: Masquerading,
    /// Where ports are published whose address is not given.
    pub host_binding: Ipv4Addr,
    /// Largest datagram, in bytes, when it was given this way.
    pub mtu: Option<u32>,
    /// What the names of containers' interfaces begin with; a number follows.
    pub interface_prefix: String,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::Off,
            masquerading: Masquerading::On,
            host_binding: Ipv4Addr::UNSPECIFIED,
            mtu: None,
            interface_prefix: DEFAULT_PREFIX.to_owned(),
        }
    }
}

impl DriverOptions {
    /// Reads options as Docker names and writes them.
    ///
    /// # Errors
    /// There is no such option, or its value is none.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut read = Self::default();
        for (name, value) in options {
            read.set(name, value)?;
        }
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Invalid> {
        let wrong = |expected: &str| {
            let value = value.escape_default();
            Invalid::new("options", format!("{name}={value}: expected {expected}"))
        };
        let on = || parse_bool(value).ok_or_else(|| wrong("true or false"));
        match name {
            ICC if on()? => self.isolation = Isolation::Off,
            ICC => self.isolation = Isolation::On,
            MASQUERADE if on()? => self.masquerading = Masquerading::On,
            MASQUERADE => self.masquerading = Masquerading::Off,
            HOST_BINDING => {
                self.host_binding = value.parse().map_err(|_| wrong("an IPv4 address"))?;
            }
            MTU => self.mtu = Some(value.parse().map_err(|_| wrong("a number of bytes"))?),
            INTERFACE_PREFIX if is_prefix(value) => self.interface_prefix = value.to_owned(),
            INTERFACE_PREFIX => {
                let what = format!("up to {MAX_PREFIX} letters, digits, - or _, a letter first");
                return Err(wrong(&what));
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

/// What Go's `strconv.ParseBool` takes, and so Docker does.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether a number behind it makes the name of an interface that Docker would allow.
fn is_prefix(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let rest = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    first && rest && text.len() <= MAX_PREFIX
}

fn unknown(name: &str) -> Invalid {
    let shown: String = name
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    let why = if name.starts_with(BRIDGE) {
        "of Docker's bridge driver, but means nothing here"
    } else {
        "unknown"
    };
    let known = KNOWN.join(", ");
    Invalid::new("options", format!("{shown}: {why}; there are {known}"))
}

/// Isolation, as whether there is any.
mod isolation {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::config::Isolation;

    pub(super) fn serialize<S: Serializer>(
        isolation: &Isolation,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*isolation == Isolation::On)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Isolation, D::Error> {
        bool::deserialize(from).map(|is_on| if is_on { Isolation::On } else { Isolation::Off })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<DriverOptions, Invalid> {
        DriverOptions::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn each_option_is_read() {
        let host = parse(HOST_BINDING, "127.0.0.1").unwrap().host_binding;
        assert_eq!(host, Ipv4Addr::LOCALHOST);
        assert_eq!(parse(MTU, "1400").unwrap().mtu, Some(1400));
        for (text, isolation, masquerading) in [
            ("true", Isolation::Off, Masquerading::On),
            ("False", Isolation::On, Masquerading::Off),
            ("0", Isolation::On, Masquerading::Off),
        ] {
            assert_eq!(parse(ICC, text).unwrap().isolation, isolation);
            assert_eq!(parse(MASQUERADE, text).unwrap().masquerading, masquerading);
        }
        let prefix = parse(INTERFACE_PREFIX, "net").unwrap().interface_prefix;
        assert_eq!(prefix, "net");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, value) in [
            (ICC, "no"),
            (MASQUERADE, ""),
            (HOST_BINDING, "::1"),
            (HOST_BINDING, ""),
            (MTU, "-1"),
            (MTU, "big"),
            (INTERFACE_PREFIX, "0eth"),
            (INTERFACE_PREFIX, "a/b"),
            (INTERFACE_PREFIX, "waytoolongprefix"),
            ("com.docker.network.bridge.name", "br7"),
            ("com.docker.network.nosuch", "1"),
        ] {
            let error = parse(name, value).unwrap_err();
            assert_eq!(error.field, "options");
            assert!(error.reason.starts_with(name), "{error}");
        }
        let error = parse("x\ny", "").unwrap_err().to_string();
        assert!(!error.contains('\n') && error.contains(MTU), "{error}");
    }
}
