//! The shell: sockets, namespaces, threads and clocks.
//!
//! | module | what it holds |
//! |---|---|
//! | [`packet_socket`] | `AF_PACKET` with a receive ring |
//! | [`shared_rings`] | the packet sockets of a sandbox, and which of them hears what |
//! | `device`, `tap` | TAP interfaces, and what they have in common with packet sockets |
//! | `alarm` | tells of tables without room |
//! | `spare` | descriptors for when there are no others |
//! | `transmit` | send queues, `sendmmsg` |
//! | [`wire`] | ports ↔ sockets, batches |
//! | [`worker`] | the thread that owns the datapath |
//! | `user` | the user uplink: host sockets of containers' connections |
//! | [`netlink`], `nftables` | rtnetlink and nf_tables |
//! | `shield` | keeps the kernel quiet on an uplink |
//! | [`namespace`], [`fdpass`] | children inside namespaces, messages with descriptors |
//! | [`control`] | the engine process: clients, operations |
//! | `journal` | connections where the next engine finds them |
//! | [`keeper`] | the process that owns the sandbox |
#![deny(
    clippy::print_stderr,
    reason = "it panics when the log's disk is full; `log` does not"
)]

/// Writes a line to the log: the standard error of keeper and engine. One that cannot be written to, for lack of
/// room, is no reason to end; `eprintln!` would panic.
macro_rules! log {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod alarm;
mod carrier;
pub mod control;
mod device;
pub mod fdpass;
mod journal;
pub mod keeper;
pub mod namespace;
pub mod netlink;
mod nftables;
pub mod packet_socket;
pub mod process;
pub mod shared_rings;
mod shield;
mod spare;
mod tap;
mod transmit;
pub mod uplink_sockets;
pub mod user;
pub mod wire;
pub mod worker;
