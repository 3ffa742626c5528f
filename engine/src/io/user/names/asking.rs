//! Queries under way: sockets are opened, read and closed as [`Names`](pontoon_names::Names) says.

use std::io;

use mio::{Interest, Token};
use pontoon_names::{Delivery, Forward, Key, Step};
use pontoon_nat::ConnId;
use pontoon_packet::Timestamp;

use super::upstream::Upstream;
use super::{Answer, FIRST_UPSTREAM, NameServer};

/// Messages taken from one upstream's socket before others get their turn.
const TURN: usize = 4;

impl NameServer {
    /// Takes what the poll has told of a socket.
    pub(in crate::io::user) fn note(&mut self, at: usize) {
        if let Some(Some(upstream)) = self.sockets.get_mut(at)
            && !std::mem::replace(&mut upstream.noted, true)
        {
            self.ready.push_back(at);
        }
    }

    /// Something waits that can be done at once.
    pub(in crate::io::user) fn is_ready(&self) -> bool {
        !self.ready.is_empty() || !self.answers.is_empty()
    }

    /// There are sockets.
    pub(in crate::io::user) fn is_used(&self) -> bool {
        !self.asked.is_empty()
    }

    /// When [`serve`](Self::serve) next has something to do.
    pub(in crate::io::user) fn poll_timeout(&self) -> Option<Timestamp> {
        self.names.poll_timeout()
    }

    /// Reads what upstreams have said, and goes on to others where one is silent.
    pub(in crate::io::user) fn serve(&mut self, now: Timestamp) {
        for step in self.names.handle_timeout(now) {
            self.carry_out(now, step);
        }
        for _ in 0..self.ready.len() {
            if let Some(at) = self.ready.pop_front() {
                self.hear(now, at);
            }
        }
    }

    fn hear(&mut self, now: Timestamp, at: usize) {
        for _ in 0..TURN {
            let Some(Some(upstream)) = self.sockets.get_mut(at) else {
                return;
            };
            upstream.noted = false;
            let (key, addr) = (upstream.key, upstream.addr);
            let step = match upstream.read(&mut self.room) {
                Ok(None) => return,
                Ok(Some(message)) => self.names.response(now, key, addr, &message),
                Err(_) => {
                    self.close_socket(key, at);
                    self.names.failed(now, key, addr)
                }
            };
            if let Some(step) = step {
                return self.carry_out(now, step);
            }
        }
        self.note(at);
    }

    /// Asks, and goes on to the next upstream at once where that fails, or tells the client.
    pub(super) fn carry_out(&mut self, now: Timestamp, step: Step) {
        let mut next = Some(step);
        while let Some(step) = next.take() {
            match step {
                Step::Deliver(delivery) => self.deliver(delivery),
                Step::Forward(forward) => {
                    if self.ask(&forward).is_err() {
                        next = self.names.failed(now, forward.key, forward.upstream);
                    }
                }
            }
        }
    }

    fn ask(&mut self, forward: &Forward) -> io::Result<()> {
        let Some(asked) = self.asked.get(&forward.key) else {
            return Ok(());
        };
        for at in &asked.sockets {
            if let Some(Some(upstream)) = self.sockets.get_mut(*at)
                && upstream.addr == forward.upstream
            {
                return upstream.ask_again(&forward.bytes);
            }
        }
        let mut upstream = Upstream::open(forward)?;
        let at = self.free.pop().unwrap_or(self.sockets.len());
        let both = Interest::READABLE | Interest::WRITABLE;
        let token = Token(FIRST_UPSTREAM + at);
        let registered = self.registry.register(upstream.source(), token, both);
        if at == self.sockets.len() {
            self.sockets.push(None);
        }
        if let Err(error) = registered {
            self.free.push(at);
            return Err(error);
        }
        self.sockets[at] = Some(upstream);
        if let Some(asked) = self.asked.get_mut(&forward.key) {
            asked.sockets.push(at);
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        if let Some(to) = self.forget(delivery.key) {
            let bytes = delivery.bytes;
            self.answers.push_back(Answer { to, bytes });
        }
    }

    /// Closes what was opened for a query. Says who asked.
    pub(super) fn forget(&mut self, key: Key) -> Option<ConnId> {
        let asked = self.asked.remove(&key)?;
        for at in asked.sockets {
            self.close_place(at);
        }
        Some(asked.by)
    }

    fn close_socket(&mut self, key: Key, at: usize) {
        if let Some(asked) = self.asked.get_mut(&key) {
            asked.sockets.retain(|other| *other != at);
        }
        self.close_place(at);
    }

    fn close_place(&mut self, at: usize) {
        if let Some(mut upstream) = self.sockets.get_mut(at).and_then(Option::take) {
            // A socket that is closed is not waited for any more, whatever this says.
            let _ = self.registry.deregister(upstream.source());
            self.free.push(at);
        }
    }
}
