//! Flows that outlive an engine.

use std::os::fd::{AsFd, OwnedFd};

use pontoon_nat::Resumable;

use super::{Control, Outcome, broken};
use crate::io::journal::Journal;
use crate::io::keeper::protocol::Key;

/// From the moment at which flows are taken up until clients are served.
pub(super) struct Left {
    /// Connections of the engine before that ended at its sockets.
    relayed: Vec<Resumable>,
    /// Where it is written down from now on. An engine that dies before it serves leaves the old one.
    journal: OwnedFd,
}

impl Control {
    /// Takes up the flows of the engine before. Networks and uplinks are there, containers are not
    /// connected yet.
    pub(super) fn take_up_flows(&mut self) -> Outcome<()> {
        let left = self.fetch(Key::Journal)?.into_iter().next();
        let flows = left.map_or(Ok(Vec::new()), Journal::read);
        let flows = flows.unwrap_or_else(|error| {
            log!("the flows of the engine before cannot be read: {error}");
            Vec::new()
        });
        let journal = Journal::new().map_err(broken)?;
        let file = journal.as_fd().try_clone_to_owned().map_err(broken)?;
        let (relayed, translated): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|flow| flow.relayed);
        let there = translated.len();
        let resumed = self.ask(move |w, now| w.resume(now, &translated, journal))?;
        if there > 0 {
            log!("{resumed} of {there} translated flows go on");
        }
        self.left = Some(Left {
            relayed,
            journal: file,
        });
        Ok(())
    }

    /// Every container that there is has been connected.
    pub(super) fn leave_flows(&mut self) -> Outcome<()> {
        let Some(Left { relayed, journal }) = self.left.take() else {
            return Ok(());
        };
        self.ask(move |w, _| w.end_what_is_lost(&relayed))?;
        let kept = self.keeper.keep(Key::Journal, &[&journal]);
        kept.map_err(broken)
    }
}
