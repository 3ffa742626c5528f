//! Far ends that follow a script where there would be host sockets.

use pontoon_relay::{Connection, Incoming};

use super::guest::{self, Said};

/// Bytes of one far end's turn.
const TURN: usize = 32 << 10;

/// What a far end does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Far {
    /// What becomes of the connect.
    pub(super) answer: Answer,
    /// Bytes that it will still take.
    pub(super) takes: u32,
    /// Bytes that it will still say.
    pub(super) says: u32,
    /// It finishes when it has said everything.
    pub(super) finishes: bool,
    /// It resets the connection.
    pub(super) resets: bool,
    /// It has said that.
    pub(super) said: Said,
    /// Bytes that it has taken.
    pub(super) taken: u32,
    /// The stream that these have to be.
    pub(super) expects: Option<u16>,
    /// It has heard the container's end.
    pub(super) heard_end: bool,
}

/// What becomes of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepts,
    Refuses,
    Unreachable,
    /// Nothing, until it is woken.
    Silent,
}

impl Far {
    /// The far end behind a port. Its stream bears the port's number.
    pub(super) const fn at(port: u16) -> Self {
        let plain = Self {
            answer: Answer::Accepts,
            takes: u32::MAX,
            says: 0,
            finishes: false,
            resets: false,
            said: Said {
                salt: port,
                bytes: 0,
                finished: false,
            },
            taken: 0,
            expects: None,
            heard_end: false,
        };
        let answer = match port % 8 {
            1 => Answer::Refuses,
            2 => Answer::Unreachable,
            3 => Answer::Silent,
            _ => Answer::Accepts,
        };
        let (takes, says, finishes) = match port % 8 {
            4 => (u32::MAX, 20_000, true),
            5 => (0, 0, false),
            6 => (0, u32::MAX, false),
            7 => (5000, 5000, true),
            _ => (u32::MAX, 0, false),
        };
        Self {
            answer,
            takes,
            says,
            finishes,
            ..plain
        }
    }
}

impl Far {
    /// One that expects a certain stream has got all of it, and said all of its own.
    pub(super) fn check_end(&self) {
        let whole = self.heard_end && self.said.finished;
        assert!(self.expects.is_none() || whole, "{self:?} is cut off");
    }

    /// From the container to the far end.
    pub(super) fn push(&mut self, connection: &mut Connection) {
        let mut left = TURN.min(self.takes as usize);
        while left > 0 {
            let (expects, at) = (self.expects, self.taken);
            let taken = connection.take(|bytes| {
                let count = bytes.len().min(left);
                let right = expects.is_none_or(|salt| guest::is_part(salt, at, &bytes[..count]));
                assert!(right, "not what the container has sent at {at}");
                (count, count)
            });
            let Some(count) = taken else { break };
            self.taken += count as u32;
            self.takes = self.takes.saturating_sub(count as u32);
            left -= count;
        }
        self.heard_end |= connection.incoming() == Incoming::Finished;
    }

    /// From the far end to the container.
    pub(super) fn pull(&mut self, connection: &mut Connection) {
        let mut left = TURN.min(self.says as usize);
        while left > 0 {
            let said = self.said;
            let put = connection.put(|room| {
                let count = room.len().min(left);
                for (place, at) in room[..count].iter_mut().zip(said.bytes..) {
                    *place = guest::byte(said.salt, at);
                }
                (count, count)
            });
            let Some(count) = put else { break };
            self.said.bytes += count as u32;
            self.says -= count as u32;
            left -= count;
        }
        let last = self.finishes && self.says == 0 && !self.said.finished;
        if last && connection.put(|_| (0, ())).is_some() {
            self.said.finished = true;
            connection.finish();
        }
    }
}
