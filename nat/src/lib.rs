//! Connections, and whose name they bear.
//!
//! # Theory of operation
//!
//! A datagram that is to be routed is looked up by its [`Tuple`]. A *known* one belongs to a
//! connection, in the original or the reply direction; the connection says whether it fits
//! ([`Nat::track`]) and what its ends become ([`Nat::translation`]). A *new* one comes back as a
//! [`Pending`]: its destination already replaced if it was sent to a published port, but in no table.
//! The engine routes and checks it, and only then admits it ([`Nat::admit`]), which chooses the
//! source it bears outside. A refused first packet leaves no trace.
//!
//! A connection holds two tuples: what the first packet looked like, and what a reply will look like.
//! The second is also where the translation is kept: a packet of the original direction leaves as the
//! inverse of the reply tuple, and the other way round.
//!
//! *Masquerade* follows RFC 4787 and RFC 5382: an external endpoint belongs to one inside endpoint at
//! a time, and all flows of that inside endpoint use it (endpoint-independent mapping, no port
//! overloading). Filtering is address and port dependent, since only tuples in the table pass.
//!
//! Every table is bounded ([`Limits`]), ages ([`Profile`]) and evicts as its type says.
#![forbid(unsafe_code)]

mod carried;
mod compact;
mod icmp_error;
mod nat;
mod profile;
mod publish;
mod reassembly;
mod resume;
mod table;
mod tcp;
mod tuple;
mod wheel;

pub use nat::{Lookup, Nat, Pending, SourceNat};
pub use profile::{Limits, Profile};
pub use publish::{PublishError, Published};
pub use reassembly::{Expired, Reassembled, Reassembler};
pub use resume::Resumable;
pub use table::{AHEAD, ConnId, FlowView, Traffic};
pub use tcp::State as TcpState;
pub use tuple::{Direction, Tuple};

/// Whose share a flow or a fragment counts to: the number of a container's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

/// Why a datagram is not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not a segment that could begin or belong to the connection: flags, state or window.
    InvalidTcp,
    /// An ICMP message that is neither a query nor an error about a known flow.
    InvalidIcmp,
    /// An ICMP error about nothing that is known.
    UnrelatedError,
    /// A checksum inside an ICMP error is wrong.
    BadErrorChecksum,
    /// The table is full of established flows.
    TableFull,
    /// The owner's share is full of established flows.
    ShareFull,
    /// The owner has too many handshakes under way.
    HalfOpenFull,
    /// No external port is free.
    PortsExhausted,
    /// The flow's tuples are in use by another.
    Clash,
    /// A fragment that overlaps another: the datagram is given up (RFC 5722's rule, kept for IPv4).
    FragmentOverlap,
    /// A first fragment too small to hold a transport header (RFC 1858).
    TinyFragment,
    /// Fragments that together are longer than IP allows.
    OversizedDatagram,
    /// No room for fragments.
    FragmentsFull,
}
