//! What a kernel says, and does not say.

use std::thread::spawn;

use super::stand_in::{answer, hear, say, sockets};
use super::*;

/// One end, and a kernel that answers the first batch it gets with these errors, each with a message's number.
fn kernel(errors: &'static [(u32, i32)]) -> Tables {
    let (ours, theirs) = sockets();
    spawn(move || {
        hear(&theirs);
        for (number, error) in errors {
            say(&theirs, &answer(*number, *error));
        }
        // It stays open: nobody is to take its end for an answer.
        hear(&theirs);
    });
    Tables::from_fd(ours)
}

fn three_messages() -> Batch {
    let mut batch = Batch::begin(Family::Netdev);
    batch.owned_table("t");
    batch.chain("t", "c", None);
    batch.delete_chain("t", "c");
    batch
}

/// So it does without the right to it, without nf_tables, or without memory: one answer, to the first message.
#[test]
fn a_batch_that_is_refused_as_a_whole_is_refused_with_the_reason() {
    for error in [libc::EPERM, libc::EOPNOTSUPP, libc::ENOMEM] {
        let errors: &[_] = Box::leak(Box::new([(1, error)]));
        let refusal = kernel(errors).commit(three_messages()).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(error));
    }
}

#[test]
fn the_first_refusal_is_the_answer() {
    let mut tables = kernel(&[(2, 0), (3, libc::ENOSPC), (4, libc::ENOENT)]);
    let refusal = tables.commit(three_messages()).unwrap_err();
    assert_eq!(refusal.raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn what_is_late_is_no_answer() {
    let mut tables = kernel(&[(77, libc::EPERM), (2, 0), (3, 0), (4, 0)]);
    tables.commit(three_messages()).unwrap();
}
