//! The sockets of all published ports: which of them have clients, and what is done without
//! descriptors for those.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pontoon_nat::Published;
use pontoon_packet::Timestamp;

use super::listener::{Arrived, HostSocket, Listener, Next, Publication};
use super::tcp::reset_when_dropped;
use crate::io::spare::Spare;

/// Tokens of listeners are this plus their place.
pub(super) const FIRST_LISTENER: usize = 1 << 40;
/// How long after clients could not be taken that is tried again. Our choice: unnoticed by whoever
/// connects, and ten wake-ups a second at most.
const RETRY: Duration = Duration::from_millis(100);

/// Sockets by place.
#[derive(Debug)]
pub(super) struct Listeners {
    places: Vec<Option<Listener>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    /// Places of those whose clients could not be taken, and when that is tried again.
    short: Vec<usize>,
    retry: Option<Timestamp>,
    /// Given up to take a client when there is no other descriptor, and so refuse it. Without it,
    /// clients wait instead.
    spare: Spare,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            short: Vec::new(),
            retry: None,
            spare: Spare::keep(1),
        }
    }

    /// Waits for clients at all of these ports, or at none.
    pub(super) fn open(
        &mut self,
        registry: &Registry,
        ports: Vec<(Publication, HostSocket)>,
    ) -> io::Result<()> {
        let opened: io::Result<Vec<_>> = ports
            .into_iter()
            .map(|(port, socket)| {
                let Published {
                    addr, port: number, ..
                } = port.published;
                Listener::open(port, socket).map_err(|error| {
                    let what = format!("Bind for {addr}:{number} failed: {error}");
                    io::Error::new(error.kind(), what)
                })
            })
            .collect();
        let mut placed = Vec::new();
        for listener in opened? {
            match self.place(registry, listener) {
                Ok(at) => placed.push(at),
                Err(error) => {
                    placed.into_iter().for_each(|at| self.close(registry, at));
                    return Err(error);
                }
            }
        }
        self.spare.fill();
        Ok(())
    }

    fn place(&mut self, registry: &Registry, listener: Listener) -> io::Result<usize> {
        let at = self.free.pop().unwrap_or(self.places.len());
        if at == self.places.len() {
            self.places.push(None);
        }
        let token = Token(FIRST_LISTENER + at);
        let mut source = SourceFd(&listener.raw_fd());
        let registered = registry.register(&mut source, token, Interest::READABLE);
        match registered {
            Ok(()) => self.places[at] = Some(listener),
            Err(_) => self.free.push(at),
        }
        registered.map(|()| at)
    }

    /// Lets ports lead elsewhere: each of `before` as what stands in the same place of `now`. Returns the
    /// places of their sockets.
    pub(super) fn aim_elsewhere(
        &mut self,
        before: &[Publication],
        now: Vec<Publication>,
    ) -> Vec<usize> {
        let mut moved = Vec::new();
        for (before, now) in before.iter().zip(now) {
            let is_it = |listener: &Listener| listener.port.published == before.published;
            let mut places = self.places.iter_mut();
            if let Some(at) = places.position(|l| l.as_ref().is_some_and(is_it))
                && let Some(listener) = &mut self.places[at]
            {
                listener.port = now;
                moved.push(at);
            }
        }
        moved
    }

    /// Closes the sockets of the ports of which `goes` says so. Returns their places.
    pub(super) fn close_where(
        &mut self,
        registry: &Registry,
        goes: impl Fn(&Publication) -> bool,
    ) -> Vec<usize> {
        let gone = |at: &usize| self.get(*at).is_some_and(|listener| goes(&listener.port));
        let gone: Vec<_> = (0..self.places.len()).filter(gone).collect();
        for at in &gone {
            self.close(registry, *at);
        }
        gone
    }

    fn close(&mut self, registry: &Registry, at: usize) {
        if let Some(listener) = self.places[at].take() {
            // A socket that is closed is not waited for any more, whatever this says.
            let _ = registry.deregister(&mut SourceFd(&listener.raw_fd()));
            self.ready.retain(|place| *place != at);
            self.short.retain(|place| *place != at);
            self.free.push(at);
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<&Listener> {
        self.places.get(at)?.as_ref()
    }

    /// How many sockets there are.
    pub(super) const fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Clients wait that have not been looked at.
    pub(super) fn has_clients(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When clients that could not be taken are looked at again.
    pub(super) const fn poll_timeout(&self) -> Option<Timestamp> {
        self.retry
    }

    /// Clients wait at this place.
    pub(super) fn note(&mut self, at: usize) {
        if let Some(Some(listener)) = self.places.get_mut(at)
            && !std::mem::replace(&mut listener.ready, true)
        {
            self.ready.push_back(at);
        }
    }

    /// Places at which clients may wait, those included that have waited long enough. One that was not
    /// emptied is to be [noted](Self::note) again.
    pub(super) fn ready(&mut self, now: Timestamp) -> Vec<usize> {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.spare.fill();
            for at in std::mem::take(&mut self.short) {
                self.note(at);
            }
        }
        let ready = std::mem::take(&mut self.ready);
        for at in &ready {
            if let Some(Some(listener)) = self.places.get_mut(*at) {
                listener.ready = false;
            }
        }
        ready.into()
    }

    /// The next client of a TCP port. When there is no descriptor for it, it is refused.
    pub(super) fn accept(&mut self, now: Timestamp, at: usize) -> Next<(TcpStream, SocketAddr)> {
        let next = self.get(at).map_or(Next::Nobody, Listener::accept);
        if !matches!(next, Next::Short) {
            return next;
        }
        // Another thread may take the place that this makes: then it is tried again later.
        self.spare.give_up();
        let next = self.get(at).map_or(Next::Nobody, Listener::accept);
        let next = match next {
            Next::Client((stream, _)) => {
                reset_when_dropped(&stream);
                Next::Gone
            }
            other => other,
        };
        self.spare.fill();
        if matches!(next, Next::Short) {
            self.wait(now, at);
        }
        next
    }

    /// The next datagram at a UDP port, read into `room`.
    pub(super) fn receive(&mut self, now: Timestamp, at: usize, room: &mut [u8]) -> Next<Arrived> {
        let next = self.get(at).map_or(Next::Nobody, |l| l.receive(room));
        if matches!(next, Next::Short) {
            self.wait(now, at);
        }
        next
    }

    /// The poll tells of new clients only: those that wait already are looked at again by the clock.
    fn wait(&mut self, now: Timestamp, at: usize) {
        self.short.push(at);
        self.retry.get_or_insert(now + RETRY);
    }
}
