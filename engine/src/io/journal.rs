//! Established connections where the next engine finds them: a file in memory that the keeper holds too.
//!
//! A record for each place of the connections' table, at that place; of all zero where there is none. One
//! is written by one system call, so that an engine that is killed leaves it as it was or as it is to be.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use pontoon_nat::Resumable;

const LEN: usize = Resumable::LEN;

/// The file of the engine that runs.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    /// A file without records.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn new() -> io::Result<Self> {
        let fd = memfd_create(c"pontoon-flows", MFdFlags::MFD_CLOEXEC)?;
        Ok(Self(fd.into()))
    }

    /// Writes down how the connection at a place stands; memory that is short loses the record.
    pub(super) fn write(&self, place: u32, flow: Option<&Resumable>) {
        let record = flow.and_then(Resumable::to_bytes).unwrap_or([0; LEN]);
        let _ = self.0.write_all_at(&record, u64::from(place) * LEN as u64);
    }

    /// What an engine has left.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(left: OwnedFd) -> io::Result<Vec<Resumable>> {
        let file = File::from(left);
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let (records, _) = bytes.as_chunks::<LEN>();
        Ok(records.iter().filter_map(Resumable::from_bytes).collect())
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use pontoon_nat::{Owner, TcpState, Tuple};
    use pontoon_packet::Endpoint;

    use super::*;

    fn flow(port: u16) -> Resumable {
        let end = |address: &str, port| Endpoint::new(address.parse().unwrap(), port);
        let tuple = |src, dst| Tuple {
            src,
            dst,
            protocol: 6,
        };
        let (inside, far) = (end("172.17.0.2", port), end("192.0.2.1", 80));
        Resumable {
            original: tuple(inside, far),
            reply: tuple(far, end("198.51.100.1", port)),
            owner: Owner(3),
            state: TcpState::Established,
            masqueraded: true,
            relayed: false,
        }
    }

    #[test]
    fn what_was_written_last_at_a_place_is_read() {
        let journal = Journal::new().unwrap();
        journal.write(0, Some(&flow(1)));
        journal.write(70_000, Some(&flow(2)));
        journal.write(5, Some(&flow(3)));
        journal.write(5, Some(&flow(4)));
        journal.write(0, None);
        let left = journal.as_fd().try_clone_to_owned().unwrap();
        drop(journal);
        assert_eq!(Journal::read(left).unwrap(), [flow(4), flow(2)]);
    }

    #[test]
    fn a_journal_that_was_cut_short_is_read_as_far_as_it_goes() {
        let journal = Journal::new().unwrap();
        journal.write(0, Some(&flow(1)));
        journal.write(1, Some(&flow(2)));
        journal.0.set_len(LEN as u64 + 7).unwrap();
        let left = journal.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(Journal::read(left).unwrap(), [flow(1)]);
    }
}
