//! Which flows the kernel carries from port to port, so that their frames are not seen here any more.
//!
//! # Theory of operation
//!
//! Every decision is made here, frame by frame. Every [`EVERY`]th frame is *looked at*: if it is plain and went out of
//! one port, what was compared and what was done is a [`Flow`], exact in everything the decision
//! depended on. A flow that is met [`LOOKS`] times within [`WINDOW`] is worth carrying. The [`Planner`] gives that back as a
//! value ([`Change::Carry`]); the shell puts it into the kernel's maps, and reports what they have counted.
//!
//! What is compiled holds in one *epoch*, as in the flow cache: when somebody changes a rule, an uplink or a
//! network, everything is left to the engine again ([`Change::LeaveAll`]), and what is still worth it is carried again
//! after the next looks. What any container could change ends only what depends on it ([`Dependence`]): flows
//! from and to a hardware address that moves or is forgotten, flows whose next hop has another one or does not
//! answer, flows by a port whose link goes or comes. A flow of the connection table is left when its connection ends, or
//! a segment comes that finishes or resets it: the table notes which ([`Nat::released`](pontoon_nat::Nat::released)), whatever the cause.
//!
//! What the kernel counts is credited to connection and ports, and is a sign of life for what frames would have kept
//! alive: connection, sender's place, next hop.
//!
//! What is never carried: anything but TCP and UDP over IPv4; tags, options, fragments; of TCP anything but ACK and
//! PSH; DHCP and senders without an address, of which the guard asks more; what ends at a socket of the engine's; what would
//! have to be cut, or get another identification.
//!
//! Caps: [`CANDIDATES`] flows are watched, one for each place that its hash leads to; the last one to come has it. [`CARRIED`]
//! flows are carried at most, and [`OF_A_PORT`] of those that come by one port; a silent one is left after [`SILENCE`]. When
//! there is no room, the port with most flows gives one up for a port with fewer. One [`Orders`] is under way at a time: what
//! changes while the kernel obeys becomes the next. A direction of a connection changes its form once in [`STEADY`].

mod installed;
mod pending;
mod planner;
mod stages;

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use pontoon_nat::{ConnId, Direction};
use pontoon_packet::MacAddr;
use serde::{Deserialize, Serialize};

use crate::config::PortId;
pub use installed::Dependence;
pub use planner::{CARRIED, Counted, Credit, Planner};
pub(crate) use stages::Carrying;

/// Of so many frames one is looked at. A prime, so that none of several flows that take turns is missed.
pub const EVERY: u32 = 31;
/// How often a flow must be met to be worth carrying.
pub const LOOKS: u8 = 4;
/// Within this time: a flow of 1 240 frames a second is met often enough.
pub const WINDOW: Duration = Duration::from_millis(100);
/// Flows that are watched.
pub const CANDIDATES: usize = 1024;
/// Flows that are carried for one port at most.
pub const OF_A_PORT: u32 = 16_384;
/// How long a flow that carries nothing is kept.
pub const SILENCE: Duration = Duration::from_secs(10);

/// How long a direction of a connection that is carried is not carried in another form instead, by another port or with
/// another time to live.
pub const STEADY: Duration = Duration::from_secs(1);

/// Who can move frames to a port and from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// The engine alone: it lies somewhere else than the others, or is no interface.
    Engine,
    /// The kernel too.
    Kernel,
}

/// What frames of a flow look like: everything that the decision depended on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    /// The port by which they come.
    pub ingress: PortId,
    /// To whom.
    pub dst_mac: MacAddr,
    /// From whom.
    pub src_mac: MacAddr,
    /// TCP or UDP.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What else is compared of those that are routed.
    pub routed: Option<Numbers>,
}

/// Numbers of a datagram that is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbers {
    /// Time to live.
    pub ttl: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// What becomes of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carriage {
    /// The port by which they leave.
    pub egress: PortId,
    /// What is written into those that are routed.
    pub rewritten: Option<Rewritten>,
}

/// The new head of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The next hop.
    pub dst_mac: MacAddr,
    /// The leaving interface.
    pub src_mac: MacAddr,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live and ports.
    pub numbers: Numbers,
}

/// A flow that could be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What its frames look like.
    pub seen: Seen,
    /// What becomes of them.
    pub then: Carriage,
    /// The connection it is a direction of, if it is routed.
    pub connection: Option<(ConnId, Direction)>,
    /// The address of its next hop, if it is routed.
    pub next_hop: Option<IpAddr>,
}

/// What the shell is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leave every flow to the engine.
    LeaveAll,
    /// Leave this one.
    Leave(Seen),
    /// Carry this one.
    Carry(Seen, Carriage),
}

/// What the shell is to do, as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Number of the plan: how often everything was left.
    pub plan: u64,
    /// Number of these orders.
    pub number: u64,
    /// In this order, each flow once.
    pub changes: Vec<Change>,
}
