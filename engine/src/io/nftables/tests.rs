//! What a kernel says, and does not say.

use std::os::fd::AsRawFd;
use std::thread::spawn;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::*;

/// One end, and a kernel that answers the first batch it gets with these errors, each with a message's number.
fn kernel(errors: &'static [(u32, i32)]) -> Tables {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let tables = Tables::from_fd(ours);
    spawn(move || {
        let mut buffer = vec![0; LONGEST];
        recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        for (number, error) in errors {
            send(
                theirs.as_raw_fd(),
                &answer(*number, *error),
                MsgFlags::empty(),
            )
            .unwrap();
        }
        // It stays open: nobody is to take its end for an answer.
        let _ = recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty());
    });
    tables
}

/// `NLMSG_ERROR` of a request.
fn answer(number: u32, error: i32) -> Vec<u8> {
    let words = [20, u32::from(NLMSG_ERROR), number, 0, (-error) as u32];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
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
