//! Names of ends: hardware addresses and transport endpoints.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

/// One word instead of a slice and its length: half the time of a look-up.
impl Hash for MacAddr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.as_u64());
    }
}

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, never a valid source.
    pub const ZERO: Self = Self([0; 6]);

    /// The address Docker gives a container: `02:42` followed by the four bytes of its IPv4 address.
    pub const fn for_ipv4(addr: Ipv4Addr) -> Self {
        let [a, b, c, d] = addr.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// Multicast or broadcast (the group bit of the first octet, IEEE 802.3 3.2.3).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// All zero.
    pub const fn is_zero(self) -> bool {
        self.as_u64() == 0
    }

    /// May stand in the source field of a frame: neither a group address nor zero.
    pub const fn is_valid_source(self) -> bool {
        !self.is_group() && !self.is_zero()
    }

    /// `01-80-C2-00-00-00` … `-0F`, which a bridge never forwards (IEEE 802.1Q 8.6.3).
    pub const fn is_bridge_group(self) -> bool {
        self.as_u64() & !0xf == 0x0180_c200_0000
    }

    /// The address as the low 48 bits of an integer, for hashing and comparing.
    pub const fn as_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a hardware address of the form `02:42:ac:11:00:02`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMacAddr;

impl fmt::Display for InvalidMacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "invalid MAC address: expected six two-digit hexadecimal bytes separated by ':'",
        )
    }
}

impl core::error::Error for InvalidMacAddr {}

impl FromStr for MacAddr {
    type Err = InvalidMacAddr;

    fn from_str(text: &str) -> Result<Self, InvalidMacAddr> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|p| p.len() == 2)
                .ok_or(InvalidMacAddr)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| InvalidMacAddr)?;
        }
        if parts.next().is_some() {
            Err(InvalidMacAddr)
        } else {
            Ok(Self(bytes))
        }
    }
}

/// One end of a flow: an address and a port. For ICMP queries the port is the identifier, for
/// protocols without ports it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The network address, of either family.
    pub addr: IpAddr,
    /// The transport port or ICMP identifier, in host byte order.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint `addr:port`.
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::SocketAddr::new(self.addr, self.port).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_mac_is_02_42_and_the_address() {
        let mac = MacAddr::for_ipv4(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:ac:11:00:02".parse(), Ok(mac));
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:2",
            "zz:42:ac:11:00:02",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(InvalidMacAddr), "{text}");
        }
    }

    #[test]
    fn group_and_reserved_addresses_are_told_apart() {
        assert!(MacAddr::BROADCAST.is_group());
        assert!(!MacAddr::ZERO.is_valid_source());
        assert!(MacAddr([1, 0x80, 0xc2, 0, 0, 0x0f]).is_bridge_group());
        assert!(!MacAddr([1, 0x80, 0xc2, 0, 0, 0x10]).is_bridge_group());
    }
}
