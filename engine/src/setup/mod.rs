//! Adding and taking away: networks, ports, uplinks, published ports.
//!
//! Each operation checks everything it depends on before it changes anything, and bumps the flow
//! cache's epoch when a compiled path could be affected.

mod flows;
mod networks;
mod ports;
mod uplinks;
