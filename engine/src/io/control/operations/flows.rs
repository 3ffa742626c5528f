//! Flows that outlive an engine.

use std::os::fd::{AsFd, OwnedFd};

use pontoon_nat::Resumable;

use super::{Control, Outcome, broken};
use crate::io::journal::Journal;
use crate::io::keeper::protocol::{Key, RequestBody};

/// From the moment at which flows are taken up until clients are served.
pub(super) struct Left {
    /// What an engine before has had.
    flows: Vec<Resumable>,
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
        let there = flows.clone();
        let resumed = self.ask(move |w, _| w.resume(&there, journal))?;
        if !flows.is_empty() {
            let translated = flows.iter().filter(|flow| !flow.relayed).count();
            log!("{resumed} of {translated} translated flows go on");
        }
        self.left = Some(Left {
            flows,
            journal: file,
        });
        Ok(())
    }

    /// Every container that there is has been connected.
    pub(super) fn leave_flows(&mut self) -> Outcome<()> {
        let Some(Left { flows, journal }) = self.left.take() else {
            return Ok(());
        };
        self.ask(move |w, _| w.end_what_is_lost(&flows))?;
        let kept = RequestBody::Keep(Key::Journal);
        let told = self.keeper.request(kept, &[journal.as_fd()]);
        told.map(drop).map_err(broken)
    }
}
