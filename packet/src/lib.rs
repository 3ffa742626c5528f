//! Bytes and facts.
//!
//! A frame enters Pontoon once and leaves once, in the memory it was received in. This crate holds
//! what every other crate needs to talk about it, and nothing that remembers anything:
//!
//! * [`Frame`]: the bytes, with what the kernel said about them ([`Offload`]: a half-done
//!   checksum, a segment size). A frame may be a *super-frame* of up to 64 KiB that stands for many
//!   segments; nobody here cuts it.
//! * [`parse()`]: one pass, every length checked, into [`Facts`]. After it no accessor can fail:
//!   offsets in `Facts` lie inside the frame.
//! * [`rewrite`]: in-place edits (addresses, ports, ICMP id, TTL, MACs) with incremental checksums
//!   (RFC 1624), right for full *and* half-done sums. The branch between the two is in one place.
//! * [`checksum`], [`arp`], [`icmp`], [`fragment`]: the arithmetic and the small protocols.
//! * [`build`]: frames for the slow path and for tests. [`pretty`]: one line per frame, as tcpdump
//!   would print it.
//!
//! Nothing here does I/O, reads a clock, or allocates on the frame path.
#![forbid(unsafe_code)]

mod address;
pub mod arp;
pub mod build;
pub mod checksum;
mod facts;
pub mod fragment;
mod frame;
pub mod icmp;
pub mod parse;
pub mod pretty;
pub mod rewrite;
pub mod segment;
mod time;
mod transport;

pub use address::{Endpoint, MacAddr};
pub use frame::{Frame, Offload, Segments};
pub use parse::{Arp, Facts, Fragment, Icmp, Ip, L3, L4, Malformed, Tcp, Udp, parse};
pub use time::Timestamp;
