//! A container that keeps every rule, beside one that keeps none.

use pontoon_packet::{Ip, Tcp, Timestamp, parse};
use pontoon_relay::{Arena, Connection, ETHERNET, Incoming, Setup};

use super::guest;
use super::held::Held;
use super::shell::{ROOM, end};
use crate::lab::{SERVER, Sent, U2, addr};

/// Ports of the honest connection; the far end's is one that accepts.
const HONEST: (u16, u16) = (33_333, 9000);
/// Bytes of the honest connection each way, and how many of them go at each action.
pub(super) const STREAM: u32 = 30_000;
pub(super) const PACE: u32 = 300;
/// The container that keeps the rules: its end of the connection is another one of the relay's kind.
pub(super) struct Honest {
    pub(super) connection: Held,
    pub(super) arena: Arena,
    put: u32,
    taken: u32,
    /// How much it may have put by now.
    pub(super) pace: u32,
    /// It has heard the far end's last word.
    heard_end: bool,
}

impl Honest {
    pub(super) fn new(now: Timestamp) -> Self {
        let (own, far) = (end(addr(U2), HONEST.0), end(SERVER, HONEST.1));
        let connection = Held::new(ROOM, |buffers| {
            // Its own end is the far one, seen from there.
            let setup = Setup {
                container: far,
                far: own,
                mtu: 1500,
                isn: 77,
                buffers,
            };
            Connection::connect(now, setup)
        });
        Self {
            connection,
            arena: Arena::new(),
            put: 0,
            taken: 0,
            pace: PACE,
            heard_end: false,
        }
    }

    pub(super) fn serve(&mut self, now: Timestamp) {
        let (at, left) = (self.put, (self.pace - self.put) as usize);
        let put = self.connection.put(|room| {
            let count = room.len().min(left);
            for (place, at) in room[..count].iter_mut().zip(at..) {
                *place = guest::byte(HONEST.0, at);
            }
            (count, count)
        });
        self.put += put.unwrap_or(0) as u32;
        if put.is_some() && self.put == STREAM {
            self.connection.finish();
        }
        self.take();
        self.heard_end |= self.connection.incoming() == Incoming::Finished;
        self.connection.transmit(now, &mut self.arena);
    }

    fn take(&mut self) {
        loop {
            let at = self.taken;
            let taken = self.connection.take(|bytes| {
                let right = guest::is_part(HONEST.1, at, bytes);
                assert!(right, "not what the far end has said at {at}");
                (bytes.len(), bytes.len() as u32)
            });
            let Some(count) = taken else { return };
            self.taken += count;
        }
    }

    pub(super) fn hear(&mut self, now: Timestamp, sent: &Sent, ip: &Ip, tcp: &Tcp) {
        assert_eq!((tcp.dst_port, tcp.src_port), HONEST, "{sent:?}");
        assert_eq!(tcp.flags & parse::tcp_flags::RST, 0, "{sent:?}");
        let datagram = &sent.bytes[ETHERNET..ip.end()];
        self.connection.receive(now, datagram, &mut self.arena);
    }

    /// Everything was said and heard, both ends included.
    pub(super) fn is_done(&self) -> bool {
        let all = self.put == STREAM && self.taken == STREAM;
        all && self.heard_end && self.connection.is_idle()
    }
}
