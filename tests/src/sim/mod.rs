//! Hosts with a TCP of their own around a datapath, on links that lose, repeat and reorder frames,
//! in virtual time. Everything random comes from one seed, so a failure can be replayed.

mod host;
mod link;
mod router;
mod talk;
mod world;

pub use host::Host;
pub use link::{Link, Random};
pub use talk::{End, Program, Talk};
pub use world::World;
