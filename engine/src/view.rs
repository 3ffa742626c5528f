//! What the datapath shows of itself: snapshots for `fdb`, `arp`, `flows` and `stats`.
//!
//! Plain owned values, made on request and never kept; machines read them as JSON.

use core::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{NetworkId, UplinkId};

/// One line of a forwarding database, as `bridge fdb` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FdbEntry {
    /// Network number.
    pub network: u32,
    /// Hardware address.
    pub mac: String,
    /// Port number; `None` for the gateway's own entry.
    pub port: Option<u32>,
    /// Bound at attach, or the gateway's own: never moves and never ages.
    pub permanent: bool,
    /// Seconds since the address was last seen as a source; zero for permanent entries.
    pub age: f64,
}

/// One line of a neighbour table, as `ip neigh` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NeighbourEntry {
    /// Network number, when the interface is a network's gateway.
    pub network: Option<u32>,
    /// Uplink number, when the interface is an uplink.
    pub uplink: Option<u32>,
    /// Network address.
    pub address: IpAddr,
    /// Hardware address, once known.
    pub mac: Option<String>,
    /// State as Linux names it: PERMANENT, REACHABLE, STALE, DELAY, PROBE, INCOMPLETE, FAILED.
    pub state: String,
    /// Datagrams that wait for the answer.
    pub queued: usize,
}

/// One tracked connection, as `conntrack -L` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowEntry {
    /// `tcp`, `udp`, `icmp` or a protocol number.
    pub protocol: String,
    /// State, as conntrack names it; empty for protocols without.
    pub state: String,
    /// Source and destination of the first packet, as it came.
    pub original: [String; 2],
    /// Source and destination expected of replies.
    pub reply: [String; 2],
    /// Seconds until it expires when nothing more comes.
    pub expires: u64,
    /// Both directions have been seen.
    pub assured: bool,
    /// The kernel carries it, in one direction at least.
    pub offload: bool,
    /// Port whose share it counts to.
    pub owner: u32,
    /// Packets and bytes in the original direction.
    pub original_traffic: [u64; 2],
    /// Packets and bytes in the reply direction.
    pub reply_traffic: [u64; 2],
}

/// Frames and bytes through one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortCounters {
    /// Frames received from the port.
    pub rx_frames: u64,
    /// Bytes received from the port.
    pub rx_bytes: u64,
    /// Frames sent to the port.
    pub tx_frames: u64,
    /// Bytes sent to the port.
    pub tx_bytes: u64,
    /// Frames received from the port and dropped, for any reason.
    pub dropped: u64,
}

impl PortCounters {
    /// The kernel has carried so many datagrams that came from the port, of so many bytes.
    pub(crate) const fn carried_from(&mut self, packets: u64, bytes: u64) {
        self.rx_frames += packets;
        self.rx_bytes += bytes + packets * ETHERNET;
    }

    /// The kernel has carried so many datagrams to the port, of so many bytes.
    pub(crate) const fn carried_to(&mut self, packets: u64, bytes: u64) {
        self.tx_frames += packets;
        self.tx_bytes += bytes + packets * ETHERNET;
    }
}

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

/// Counters of the whole datapath.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Per port, in ascending order of number.
    pub ports: Vec<(u32, PortCounters)>,
    /// Drops by reason; reasons that never occurred are left out.
    pub drops: Vec<(String, u64)>,
    /// Other counters by name: table sizes, cap hits, moves, answers.
    pub counters: Vec<(String, u64)>,
}

impl From<NetworkId> for u32 {
    fn from(id: NetworkId) -> Self {
        id.0
    }
}

impl From<UplinkId> for u32 {
    fn from(id: UplinkId) -> Self {
        id.0
    }
}
