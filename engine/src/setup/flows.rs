//! Connections that are ended from outside, and published ports.

use pontoon_nat::{ConnId, Published};
use pontoon_packet::{Facts, Timestamp};

use crate::config::ConfigError;
use crate::datapath::Datapath;

impl Datapath {
    /// The connection that a datagram with these facts belongs to.
    pub fn connection(&self, now: Timestamp, facts: &Facts) -> Option<ConnId> {
        let (id, _) = self.nat.find(now, facts.ip()?)?;
        Some(id)
    }

    /// Connections of the user uplink that have ended since the last call: in time, by eviction, or
    /// with their container.
    pub fn ended(&mut self) -> Vec<ConnId> {
        self.nat.ended()
    }

    /// Ends a connection that needs its place no longer.
    pub fn end(&mut self, id: ConnId) {
        self.nat.end(id);
    }

    /// Publishes a container's port.
    ///
    /// # Errors
    /// The address, port and protocol are published already; the error names the holder.
    pub fn publish(&mut self, published: Published) -> Result<(), ConfigError> {
        self.nat.publish(published).map_err(ConfigError::Publish)?;
        self.begin_epoch();
        Ok(())
    }

    /// Takes a published port back, and ends the flows that came by it. Does nothing when it is not
    /// published.
    pub fn unpublish(&mut self, published: &Published) {
        self.nat.unpublish(published);
        self.begin_epoch();
    }
}
