//! What becomes of a kernel's refusals, each of them: on the other end of the socket there is one that answers as told.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::{JoinHandle, spawn};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::*;

/// Kinds of messages (`NFT_MSG_*` of the subsystem 10), and what asks for an answer.
const NEW_TABLE: u16 = 10 << 8;
const NEW_CHAIN: u16 = 10 << 8 | 3;
const NEW_RULE: u16 = 10 << 8 | 6;
const NEW_SET: u16 = 10 << 8 | 9;
const DELETE_CHAIN: u16 = 10 << 8 | 5;
pub(super) const NEW_ELEMENTS: u16 = 10 << 8 | 12;
pub(super) const DELETE_ELEMENTS: u16 = 10 << 8 | 14;
const NLM_F_ACK: u16 = 4;

/// A kernel that answers each batch: it refuses the `nth` message of a kind, when there are so many in it. Says what
/// kinds it has seen.
pub(super) fn kernel(refuses: u16, nth: usize, error: i32) -> (OwnedFd, JoinHandle<Vec<u16>>) {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let answering = spawn(move || {
        let (mut all, mut count, mut buffer) = (Vec::new(), 0, vec![0; 1 << 17]);
        while let Ok(length @ 1..) = recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            for (kind, flags, number) in headers(&buffer[..length]) {
                if flags & NLM_F_ACK == 0 {
                    continue;
                }
                all.push(kind);
                count += usize::from(kind == refuses);
                let refused = kind == refuses && count == nth;
                let answer = answer(number, if refused { error } else { 0 });
                send(theirs.as_raw_fd(), &answer, MsgFlags::empty()).unwrap();
            }
        }
        all
    });
    (ours, answering)
}

/// Kind, flags and number of each message.
fn headers(mut bytes: &[u8]) -> Vec<(u16, u16, u32)> {
    let mut all = Vec::new();
    while let Some(header) = bytes.first_chunk::<16>() {
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let word = |at: usize| {
            header[at..at + 4]
                .try_into()
                .map(u32::from_ne_bytes)
                .unwrap()
        };
        all.push((half(4), half(6), word(8)));
        bytes = bytes
            .get(word(0).next_multiple_of(4) as usize..)
            .unwrap_or_default();
    }
    all
}

/// `NLMSG_ERROR` of a request.
fn answer(number: u32, error: i32) -> Vec<u8> {
    let mut bytes = 20_u32.to_ne_bytes().to_vec();
    bytes.extend(2_u16.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend((-error).to_ne_bytes());
    bytes
}

#[test]
fn a_kernel_that_refuses_a_part_carries_nothing_and_says_what_it_was_asked_for() {
    for (refuses, error, kind) in [
        (NEW_TABLE, libc::EPERM, ErrorKind::PermissionDenied),
        (NEW_TABLE, libc::EOPNOTSUPP, ErrorKind::Unsupported),
        (NEW_SET, libc::EOPNOTSUPP, ErrorKind::Unsupported),
        (NEW_RULE, libc::ENOENT, ErrorKind::NotFound),
        (NEW_CHAIN, libc::ENOMEM, ErrorKind::OutOfMemory),
    ] {
        let (socket, answering) = kernel(refuses, 1, error);
        let refusal = Carrier::raise(socket).err().unwrap();
        assert_eq!(refusal.kind(), kind, "{refusal}");
        assert!(refusal.to_string().contains("nf_tables"), "{refusal}");
        assert!(answering.join().unwrap().contains(&refuses));
    }
}

#[test]
fn an_interface_that_is_refused_takes_no_other_with_it() {
    // The table has two chains of its own, each interface one more.
    let (socket, answering) = kernel(NEW_CHAIN, 4, libc::EPERM);
    let mut carrier = Carrier::raise(socket).unwrap();
    assert!(carrier.watch("a", 7).is_ok());
    assert!(carrier.watch("b", 8).is_err());
    assert!(carrier.watch("c", 9).is_ok());
    for ifindex in [7, 8, 9] {
        carrier.unwatch(ifindex);
    }
    drop(carrier);
    let seen = answering.join().unwrap();
    let count = |kind| seen.iter().filter(|seen| **seen == kind).count();
    assert_eq!((count(NEW_CHAIN), count(DELETE_CHAIN)), (5, 3));
}
