//! `demo`: the four scenarios with real traffic.

use crate::client::Failure;

/// Runs the demo.
pub(crate) fn run() -> Result<u8, Failure> {
    Err(Failure::own("demo", "not built yet"))
}
