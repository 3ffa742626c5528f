//! Who is being served: a bounded number of clients, and none once the engine has decided to leave.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

/// Clients that are served at once.
const MAX_CLIENTS: usize = 64;
/// How long a client may be silent while others wait for its place.
const GRACE: Duration = Duration::from_secs(1);
/// How long a client waits for a place.
const WAIT: Duration = Duration::from_secs(5);
/// How often places are looked at meanwhile: somebody's grace may have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a client gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The engine leaves.
    Closed,
    /// All others are being served.
    Full,
}

struct Seat {
    socket: Arc<OwnedFd>,
    /// Since when it has asked for nothing; `None` while something is being done for it.
    silent: Option<Instant>,
}

#[derive(Default)]
struct Inner {
    closed: bool,
    last: u64,
    taken: BTreeMap<u64, Seat>,
}

/// The places of all clients.
#[derive(Default)]
pub(super) struct Seats {
    inner: Mutex<Inner>,
    freed: Condvar,
}

impl Seats {
    /// Gives a client a place, if need be that of the one that has been silent for longest.
    pub(super) fn take(&self, socket: &Arc<OwnedFd>) -> Result<u64, Refused> {
        let end = Instant::now() + WAIT;
        let mut inner = self.lock();
        while !inner.closed && inner.taken.len() >= MAX_CLIENTS {
            let now = Instant::now();
            if let Some(id) = inner.most_silent(now) {
                if let Some(seat) = inner.taken.remove(&id) {
                    // Both sides read the end. The other may have gone already.
                    let _ = shutdown(seat.socket.as_raw_fd(), Shutdown::Both);
                }
            } else if now >= end {
                return Err(Refused::Full);
            } else {
                let waited = self.freed.wait_timeout(inner, LOOK_EVERY);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        if inner.closed {
            return Err(Refused::Closed);
        }
        inner.last += 1;
        let id = inner.last;
        let seat = Seat {
            socket: Arc::clone(socket),
            silent: Some(Instant::now()),
        };
        inner.taken.insert(id, seat);
        Ok(id)
    }

    /// A client has asked for something.
    pub(super) fn serve(&self, id: u64) {
        if let Some(seat) = self.lock().taken.get_mut(&id) {
            seat.silent = None;
        }
    }

    /// A client has its answer.
    pub(super) fn served(&self, id: u64) {
        if let Some(seat) = self.lock().taken.get_mut(&id) {
            seat.silent = Some(Instant::now());
        }
    }

    /// A client has gone.
    pub(super) fn leave(&self, id: u64) {
        self.lock().taken.remove(&id);
        self.freed.notify_one();
    }

    /// Gives nobody a place from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// The same, unless somebody has a place or there is another `reason_to_stay`. Nobody can come in
    /// between. Whether it was done.
    pub(super) fn close_unless(&self, reason_to_stay: impl FnOnce() -> bool) -> bool {
        let mut inner = self.lock();
        let leaves = inner.taken.is_empty() && !reason_to_stay();
        inner.closed |= leaves;
        leaves
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Who has been silent for longest, and for longer than its grace.
    fn most_silent(&self, now: Instant) -> Option<u64> {
        self.taken
            .iter()
            .filter_map(|(id, seat)| Some((seat.silent?, *id)))
            .min()
            .filter(|(since, _)| now.duration_since(*since) >= GRACE)
            .map(|(_, id)| id)
    }
}
