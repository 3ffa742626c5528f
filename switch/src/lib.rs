//! A learning bridge for one network.
//!
//! It decides and remembers, and does nothing else: [`Switch::forward`] says where a frame goes, the
//! datapath sends it. Per-port [`Guard`]s say what a port's owner may claim to be.
//!
//! The model is Linux' bridge without VLAN filtering and without STP (`net/bridge/br_input.c`,
//! `br_fdb.c`): learn the source, look up the destination, flood what is unknown, never back out of
//! the port a frame came in by. Tags and unknown EtherTypes are carried as they are.
#![forbid(unsafe_code)]

mod bridge;
mod fdb;
mod guard;

pub use bridge::{Forward, Isolation, LinkState, Switch};
pub use fdb::{FdbLimits, FdbView};
pub use guard::Guard;

/// A place on the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// Why the bridge or a guard refuses a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The source is a group address or zero (`br_input.c`: `is_valid_ether_addr`).
    InvalidSource,
    /// The source is the gateway's own address.
    GatewaySource,
    /// The source address is bound to another port.
    BoundElsewhere,
    /// The destination is reserved for bridges, or the frame is a PAUSE (IEEE 802.1Q 8.6.3).
    ReservedGroup,
    /// The destination is behind the port that the frame came from.
    SamePort,
    /// The ingress port is not plugged in, or its link is down.
    PortDown,
    /// The destination is behind another member of a bridge whose members do not reach each other, or behind
    /// nobody yet.
    Isolated,
    /// Tagged, and addressed to the gateway, which has no VLANs.
    TaggedForGateway,
    /// Guard: the source MAC address is not the port's.
    SpoofedMac,
    /// Guard: the source IP address is not the port's.
    SpoofedIp,
    /// Guard: the ARP sender is not the port's.
    SpoofedArp,
    /// Guard: neighbour discovery that claims an address, or names a hardware address, that is not the
    /// port's (RFC 4861).
    SpoofedNeighbour,
    /// Guard: only the gateway may send router advertisements (RFC 6105).
    RouterAdvertisement,
    /// Guard: only the gateway may answer DHCP.
    DhcpServer,
    /// Guard: IP or ARP behind an 802.2 SNAP header (RFC 1042), where it is not looked into.
    SnapEncapsulated,
}
