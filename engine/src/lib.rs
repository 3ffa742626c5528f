//! The engine of Pontoon: one datapath, and the shell that feeds it.
//!
//! The core decides, the shell does. Everything outside [`io`] is a pure state machine: it does no
//! I/O, reads no clock and takes no lock, and is built alone with
//! `cargo check -p pontoon-engine --no-default-features`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`datapath`] | [`Datapath::process`]: the one place that chains the stages |
//! | `ahead` | what the frames of a batch will need, fetched side by side |
//! | `router` | the network layer: checks, translation, route, time to live, size |
//! | `output` | the way out: next hop, fragmentation, hardware addresses |
//! | `report` | ICMP errors, their limits, and echo replies |
//! | [`neighbour`] | who has which address (ARP) |
//! | [`route`] | routes by longest prefix |
//! | `flow_cache` | established flows in compiled form, under an epoch |
//! | `setup` | adding and removing networks, ports, uplinks, published ports |
//! | `show` | snapshots: FDB, neighbours, flows, statistics |
//! | [`control`] | the control plane's state: what users asked for, addresses, names |
//! | [`io`] | packet sockets, worker thread, keeper process, control socket |
//!
//! What a frame goes through:
//!
//! ```text
//! parse → guard → bridge → LOCAL: checks → nat.lookup → route → nat.admit → rewrite → neighbour → send
//!            └ Unicast/Flood → send
//! ```
#![deny(unsafe_code)]

mod ahead;
pub mod carried;
pub mod config;
pub mod control;
mod counters;
pub mod datapath;
mod drop;
mod flow_cache;
mod interface;
#[cfg(feature = "io")]
pub mod io;
pub mod neighbour;
mod output;
mod policy;
mod rate;
mod report;
mod resume;
pub mod route;
mod router;
mod setup;
mod show;
pub mod view;

pub use config::PortId;
pub use datapath::{Datapath, Seeds, Transmit};
pub use drop::DropReason;
