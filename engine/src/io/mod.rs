//! The shell: sockets, namespaces, threads and clocks.

pub mod netlink;
pub mod packet_socket;
mod transmit;
pub mod wire;
pub mod worker;
