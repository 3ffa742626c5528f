//! A container's TCP connection, terminated here.
//!
//! # Theory of operation
//!
//! A container that speaks to the world through the host's own sockets does so over two connections:
//! its own, which ends in a [`Connection`], and one of the host's kernel. The bytes are joined in
//! between by whoever owns both:
//!
//! ```text
//! container ──TCP──► Connection ──take──► host socket ──TCP──► server
//!           ◄──TCP──            ◄──put───             ◄──TCP──
//! ```
//!
//! A connection is one small smoltcp: an interface with one address (the server's, as the container
//! sees it) and one socket. Frames come and go as IP datagrams; those that go may be longer than the
//! MTU and are then cut by the receiver's kernel (`gso`). Checksums are not computed here: what came
//! in has been verified, and what goes out is finished by the kernel.
//!
//! Back-pressure needs no code: bytes that the host socket does not take stay in the receive buffer,
//! which closes the container's window; a send buffer that is full takes nothing from the host socket.
//!
//! # Loss
//!
//! smoltcp 0.14 as a sender resends one segment when an acknowledgement was repeated twice, goes back
//! to the first byte that was not acknowledged when its timer of a second or more expires, and does
//! not know what the receiver holds (RFC 2018). So what it has sent again passes a sieve, and its
//! timer is another's:
//!
//! ```text
//! container ──ack, ranges held──► Recovery ──ack──► smoltcp
//!           ◄──new, lost───────── Recovery ◄──all── smoltcp, gone back
//! ```
//!
//! * `Recovery` (RFC 8985 with rounds instead of a time for each segment) notes what was sent, what
//!   was acknowledged and which ranges the container holds. Bytes that later ones have overtaken count
//!   as lost after a round trip. When nothing is heard for two of them, the last segment is sent again,
//!   for what is answered tells what is missing; after that, everything.
//! * A round puts smoltcp's clock forward, so that its timer expires and it goes back. Of what it then
//!   sends, only what is new and what counts as lost goes on the wire, a super-frame's worth a round.
//! * Repeated acknowledgements reach smoltcp with a window one unit smaller, and are no repetition
//!   to it. Only rounds make it go back, and an end that was lost is sent again as bytes are.
//! * There is no congestion window: a path to a container is one link without a queue, which the
//!   receiver's own window keeps from being overrun. Rounds without progress are twice as far apart
//!   each time.
//! * What a container claims to hold is believed for six rounds without progress. One that lies, or
//!   forgets, makes its own connection slow; what is remembered of its claims is bounded.
//!
//! It does no I/O and reads no clock: time is an argument, the buffers are the caller's, and the
//! initial sequence number is the caller's.
#![forbid(unsafe_code)]

mod arena;
mod clock;
mod connection;
mod held;
mod isn;
mod recovery;
mod segment;
mod wire;

pub use arena::{Arena, ETHERNET};
pub use connection::{Buffers, Connection, Incoming, Setup};
pub use wire::Emit;
