//! What can be wrong with what networks rely on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::Event;

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The interface of an uplink is gone.
    UplinkGone,
    /// The interface of an uplink has no carrier, or was set down.
    UplinkDown,
    /// The interface of an uplink was made again, and cannot be heard.
    UplinkUnheard,
    /// A container that runs has lost an interface.
    InterfaceLost,
    /// The table of connections has no room.
    FlowsFull,
    /// A container has all the connections that it may have.
    ShareFull,
    /// A container has all the handshakes that it may have.
    HandshakesFull,
    /// No port of an uplink's address is free for a connection.
    PortsExhausted,
    /// A forwarding database has no room, or a port of it has all that it may have.
    ForwardingFull,
    /// Too much waits for hardware addresses.
    NeighboursFull,
    /// Fragments have no room.
    FragmentsFull,
    /// Frames came faster than they were taken.
    FramesLost,
}

/// Counters of what had no room, and what it means when they grow.
const LIMITS: &[(&str, FaultKind, &str)] = &[
    (
        "flows.table_full",
        FaultKind::FlowsFull,
        "the table of connections is full",
    ),
    (
        "flows.share_full",
        FaultKind::ShareFull,
        "a container has all the connections that it may have",
    ),
    (
        "flows.half_open_full",
        FaultKind::HandshakesFull,
        "a container has all the handshakes that it may have",
    ),
    (
        "flows.ports_exhausted",
        FaultKind::PortsExhausted,
        "no external port is free for a connection",
    ),
    (
        "fdb.full",
        FaultKind::ForwardingFull,
        "a hardware address finds no room in the forwarding database",
    ),
    (
        "neighbours.full",
        FaultKind::NeighboursFull,
        "datagrams find no room to wait for a hardware address",
    ),
    (
        "fragments.full",
        FaultKind::FragmentsFull,
        "fragments find no room",
    ),
    (
        "ring.lost",
        FaultKind::FramesLost,
        "frames came faster than they were taken, and were lost",
    ),
];

/// The fault that a counter tells of which has grown by so much; `None` for one that tells of none.
pub fn of_limit(counter: &str, times: u64) -> Option<Event> {
    let (_, kind, what) = LIMITS.iter().find(|(name, ..)| *name == counter)?;
    let what = match times {
        1 => (*what).to_owned(),
        times => format!("{what} ({times} times)"),
    };
    Some(Event::Fault { kind: *kind, what })
}
