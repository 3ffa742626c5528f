//! The names of containers, and everybody else's.
//!
//! # Theory of operation
//!
//! A container's resolver sends its queries to the gateway. [`Names::query`] takes one, as it came
//! from a datagram or was cut out of a stream ([`StreamDecoder`]), and says what is to be done:
//! answer, ask an upstream, or nothing.
//!
//! Each network has a [`Zone`]: the names of its containers, the addresses behind them, the way back
//! from address to name, and what its clients may ask beyond that. What the zone does not know is
//! forwarded as it came under an id of our own, one upstream after the other, until one answers
//! ([`Names::response`]), refuses ([`Names::failed`]) or time runs out ([`Names::handle_timeout`]).
//! Each query that is forwarded ends in exactly one [`Delivery`], SERVFAIL if need be. Nothing of an
//! internal network is ever forwarded. Nothing is cached: the host's resolver does that.
//!
//! Against forged answers (RFC 5452) stand the random id and, as long as the caller sends every
//! [`Forward`] from a socket of its own, the random source port. An answer counts only if it comes
//! from an upstream that was asked, with the id and the question that were sent, letter for letter.
//!
//! Time and randomness are arguments; there is no I/O, clock or lock.
#![forbid(unsafe_code)]

mod forwarder;
mod message;
mod names;
mod pending;
mod reply;
mod resolv_conf;
mod stream;
mod zone;

use core::net::SocketAddr;

pub use message::MAX_QUERY;
pub use names::Names;
pub use pending::Limits;
pub use reply::{MAX_UDP_ANSWER, TTL};
pub use resolv_conf::ResolvConf;
pub use stream::{MessageTooLong, StreamDecoder, frame};
pub use zone::{Discovery, Member, NameError, Reach, Zone};

/// The number of a zone, one for each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(pub u32);

/// Who asks: an endpoint in the network of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    /// The zone of the network the query came from.
    pub zone: ZoneId,
    /// The source of the datagram, or the far end of the connection.
    pub addr: SocketAddr,
}

/// What carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// One message a datagram; what does not fit is truncated.
    Udp,
    /// Messages with their length in front (RFC 7766 §8); see [`StreamDecoder`] and [`frame`].
    Tcp,
}

/// The number of a forwarded query. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) u64);

/// A query to be sent to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What the answer, or the upstream's refusal, is to be handed in under. The same for every
    /// upstream that is asked the same question.
    pub key: Key,
    /// Whom to ask.
    pub upstream: SocketAddr,
    /// How to ask: as the client did.
    pub transport: Transport,
    /// The message, without a length in front.
    pub bytes: Vec<u8>,
}

/// The end of a forwarded query: whatever was opened for it can be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which query ends.
    pub key: Key,
    /// Who gets the answer.
    pub client: Client,
    /// How the client gets it.
    pub transport: Transport,
    /// The message, without a length in front.
    pub bytes: Vec<u8>,
}

/// What to do with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this message back to the client.
    Answer(Vec<u8>),
    /// Ask an upstream.
    Forward {
        /// The query.
        forward: Forward,
        /// An older query that had to make room, answered with SERVFAIL.
        displaced: Option<Delivery>,
    },
    /// Nothing.
    Drop(DropReason),
}

/// What to do for a query that was forwarded before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the next upstream.
    Forward(Forward),
    /// Tell the client.
    Deliver(Delivery),
}

/// Why a query is left without any answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Shorter than a header (RFC 1035 §4.1.1): nobody knows what to answer.
    NoHeader,
    /// A response, sent to where queries go. To answer it could make a loop.
    NotAQuery,
    /// A retransmission of a query that is being asked already. The one answer will do for both.
    Retransmission,
    /// The client's network has no zone.
    NoZone,
}
