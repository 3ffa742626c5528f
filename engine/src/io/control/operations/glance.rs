//! Everything at a glance.

use super::{Control, Outcome};
use crate::control::api::{Process, Reply, StatusView};
use crate::control::state::Phase;
use crate::view::FlowEntry;

/// Places of the table of connections that the worker looks at in one go. It takes some ten microseconds.
const PART: usize = 256;

impl Control {
    pub(super) fn stats(&self) -> Outcome<Reply> {
        let (mut stats, sockets, user) =
            self.ask(|w, _| (w.datapath().stats(), w.socket_counters(), w.user_counters()))?;
        stats.counters.extend(user);
        let sum = |of: fn(&crate::io::wire::SocketCounters) -> u64| sockets.iter().map(of).sum();
        let mut add = |name: &str, value: u64| stats.counters.push((name.to_owned(), value));
        add("ring.lost", sum(|s| s.lost));
        add("ring.truncated", sum(|s| s.truncated));
        add("ring.unheard", sum(|s| s.unheard));
        for (errno, count) in sockets.iter().flat_map(|s| &s.refused) {
            add(
                &format!("send.refused.{}", nix::Error::from_raw(*errno)),
                *count,
            );
        }
        Ok(Reply::Stats(stats))
    }

    /// Every tracked connection, a part of the table at a time: frames pass between two parts.
    pub(super) fn flows(&self) -> Outcome<Vec<FlowEntry>> {
        let mut all = Vec::new();
        for first in (0..).step_by(PART) {
            let part = self.ask(move |w, now| w.datapath().flows_at(now, first..first + PART))?;
            let Some(part) = part else {
                break;
            };
            all.extend(part.into_iter().map(FlowEntry::from));
        }
        Ok(all)
    }

    pub(super) fn status(&self) -> Outcome<Reply> {
        let ring_bytes = self.ask(|w, _| w.socket_counters().iter().map(|s| s.ring_bytes).sum())?;
        let running = self
            .state
            .containers()
            .filter(|c| c.phase == Phase::Running);
        let ports: Outcome<Vec<_>> = running.map(|c| self.state.container_view(c)).collect();
        Ok(Reply::Status(Box::new(StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: Process {
                pid: std::process::id(),
            },
            keeper: Process {
                pid: std::os::unix::process::parent_id(),
            },
            uptime: self.started.elapsed().as_secs(),
            restarts: self.lives.restarts,
            last_end: self.lives.last_end.clone(),
            trouble: self.store.trouble().map(str::to_owned),
            unprivileged: self.sandbox.user.is_some(),
            ring_bytes,
            offload: self.offload.clone(),
            networks: self
                .state
                .networks()
                .map(|n| self.state.network_view(n))
                .collect(),
            ports: ports?,
        })))
    }
}
