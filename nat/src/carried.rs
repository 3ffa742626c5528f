//! Connections whose packets are carried by somebody else, who says how many there were.
//!
//! Their sequence numbers are not followed meanwhile. What is seen of them nevertheless, and what comes afterwards,
//! is taken up as in the middle of a connection. A reset among it may be forged, and cannot be held against a
//! window: it passes, since its receiver knows, and only puts the connection in doubt, until both sides are heard again.

use pontoon_packet::Timestamp;

use crate::nat::{Nat, timeout};
use crate::table::deadline;
use crate::tcp::{State, Tracker};
use crate::{ConnId, Direction};

impl Nat {
    /// Both sides have agreed to the connection, and it is not over.
    pub fn is_assured(&self, id: ConnId) -> bool {
        let established = |state| matches!(state, State::None | State::Established);
        let connection = self.table.get(id);
        connection.is_some_and(|c| c.assured && !c.relayed && established(c.tcp.state))
    }

    /// From now on its packets are carried elsewhere.
    pub fn hand_over(&mut self, id: ConnId) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.carried = true;
        }
    }

    /// They come here again.
    pub fn take_back(&mut self, id: ConnId) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.carried = false;
            connection.tcp = Tracker::in_the_middle(connection.tcp.state);
        }
    }

    /// So many packets were carried since the last time: it lives.
    pub fn credit(
        &mut self,
        now: Timestamp,
        id: ConnId,
        direction: Direction,
        packets: u64,
        bytes: u64,
    ) {
        let profile = self.profile;
        if let Some(connection) = self.table.get_mut(id) {
            let traffic = &mut connection.traffic[direction as usize];
            traffic.packets += packets;
            traffic.bytes += bytes;
            connection.expires = deadline(now, timeout(&profile, connection));
        }
    }
}
