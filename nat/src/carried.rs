//! Connections whose packets are carried by somebody else, who says how many there were.
//!
//! Their sequence numbers are not followed meanwhile. What is seen of them nevertheless, and what comes afterwards,
//! is taken up as in the middle of a connection, and not refused for its numbers ([`Tracker`]). A reset among it may be forged, and cannot be held against a
//! window: it passes, since its receiver knows, and only puts the connection in doubt, until both sides are heard
//! again, and its sender first. Numbers are not held against anything in the meantime, so that a new connection
//! between the same ends can begin.
//!
//! Whoever carries them has to stop when a connection ends, by whatever cause, and when a segment comes that finishes
//! or resets it: [`Nat::released`] says which.

use pontoon_packet::parse::tcp_flags::{FIN, RST, SYN};
use pontoon_packet::{Ip, L4, Timestamp};

use crate::nat::{Nat, timeout};
use crate::table::{Followed, Kind, deadline};
use crate::tcp::{State, Tracker};
use crate::{ConnId, Direction};

impl Nat {
    /// Its packets need not be followed one by one: both sides of TCP have agreed to it, and it is not over; UDP
    /// may have one side only. Relayed ones end here.
    pub fn may_be_carried(&self, id: ConnId) -> bool {
        let Some(connection) = self.table.get(id) else {
            return false;
        };
        let goes_on = match connection.tcp.state {
            State::None => true,
            State::Established => connection.assured,
            _ => false,
        };
        goes_on && connection.kind != Kind::Relayed
    }

    /// From now on its packets are carried elsewhere.
    pub fn hand_over(&mut self, id: ConnId) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.followed = Followed::Elsewhere;
        }
    }

    /// They come here again.
    pub fn take_back(&mut self, id: ConnId) {
        if let Some(connection) = self.table.get_mut(id)
            && connection.followed == Followed::Elsewhere
        {
            connection.followed = Followed::Closely;
            connection.tcp = Tracker::in_the_middle(connection.tcp.state);
        }
    }

    /// Connections that are not to be carried elsewhere any more, since the last call; each once.
    pub fn released(&mut self) -> Vec<ConnId> {
        core::mem::take(&mut self.table.released)
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
            connection.count(direction, packets, bytes);
            if connection.followed == Followed::Elsewhere {
                connection.expires = deadline(now, timeout(&profile, connection));
            }
        }
    }

    /// A packet of a connection whose numbers are not followed. Says whether it was a reset, of which everything
    /// is said with that.
    pub(crate) fn hear_apart(
        &mut self,
        now: Timestamp,
        id: ConnId,
        direction: Direction,
        ip: &Ip,
    ) -> bool {
        let (Some(connection), L4::Tcp(header)) = (self.table.get_mut(id), ip.l4) else {
            return false;
        };
        let closes = header.flags & (FIN | RST) != 0;
        let goes_on = !closes && header.flags & SYN == 0;
        if connection.followed == Followed::Unconfirmed {
            if goes_on && direction == Direction::Original {
                connection.followed = Followed::Closely;
            }
            return false;
        }
        connection.tcp = Tracker::in_the_middle(connection.tcp.state);
        let was = connection.followed;
        if was == Followed::Elsewhere && closes {
            connection.followed = Followed::Closely;
            self.table.released.push(id);
        } else if was == Followed::InDoubt(direction) && goes_on {
            connection.followed = match direction {
                Direction::Original => Followed::Closely,
                Direction::Reply => Followed::Unconfirmed,
            };
        }
        let reset = header.flags & RST != 0;
        if reset {
            self.doubt(now, id, direction, ip);
        }
        reset
    }

    /// A reset that may be forged: unless both sides are heard again, the connection ends soon, and before others.
    pub(crate) fn doubt(&mut self, now: Timestamp, id: ConnId, direction: Direction, ip: &Ip) {
        let profile = self.profile;
        if let Some(connection) = self.table.get_mut(id) {
            connection.count(direction, 1, ip.total_len.into());
            connection.replied = false;
            connection.followed = Followed::InDoubt(direction);
            connection.expires = deadline(now, timeout(&profile, connection));
            self.table.hasten(id.slot);
            self.table.unassure(id.slot);
        }
    }
}
