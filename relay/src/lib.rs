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
//! It does no I/O and reads no clock: time is an argument, the buffers are the caller's, and the
//! initial sequence number comes from a seed.
#![forbid(unsafe_code)]

mod arena;
mod connection;
mod segment;
mod wire;

pub use arena::{Arena, ETHERNET};
pub use connection::{Buffers, Connection, Incoming, Setup};
pub use wire::Emit;
