//! What becomes of a kernel's refusals, each of them: on the other end of the socket there is one that answers as told.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::thread::{JoinHandle, spawn};

use super::*;
use crate::io::nftables::stand_in::{answer, hear, say, sockets};

/// Kinds of messages (`NFT_MSG_*` of the subsystem 10), and what asks for an answer.
const NEW_TABLE: u16 = 10 << 8;
const NEW_CHAIN: u16 = 10 << 8 | 3;
const NEW_RULE: u16 = 10 << 8 | 6;
const NEW_SET: u16 = 10 << 8 | 9;
const DELETE_CHAIN: u16 = 10 << 8 | 5;
pub(super) const NEW_ELEMENTS: u16 = 10 << 8 | 12;
const GET_ELEMENTS: u16 = 10 << 8 | 13;
pub(super) const DELETE_ELEMENTS: u16 = 10 << 8 | 14;
/// Set in the kind of a message that names no element: it is of the whole map.
pub(super) const WHOLE: u16 = 1 << 15;
const NLM_F_ACK: u16 = 4;

/// A kind of messages, which ones of that kind are refused (the first one is 1), and the error.
pub(super) type Refusal = (u16, Range<usize>, i32);

/// A kernel that answers each request as told, and knows of every element that it is asked for. Says what kinds of
/// messages it has seen.
pub(super) fn kernel(
    refusals: impl IntoIterator<Item = Refusal>,
) -> (OwnedFd, JoinHandle<Vec<u16>>) {
    let (ours, theirs) = sockets();
    let refusals: Vec<_> = refusals.into_iter().collect();
    let answering = spawn(move || {
        let (mut all, mut counts) = (Vec::new(), HashMap::new());
        while let Some(batch) = hear(&theirs) {
            for message in messages(&batch) {
                let (kind, flags, number) = header(message);
                if flags & NLM_F_ACK == 0 {
                    continue;
                }
                all.push(kind | if is_whole(kind, message) { WHOLE } else { 0 });
                let count: &mut usize = counts.entry(kind).or_default();
                *count += 1;
                let refused = |(k, which, _): &&Refusal| *k == kind && which.contains(count);
                let error = refusals
                    .iter()
                    .find(refused)
                    .map_or(0, |(.., error)| *error);
                if (kind, error) == (GET_ELEMENTS, 0) {
                    say(&theirs, &with_kind(message, NEW_ELEMENTS));
                }
                say(&theirs, &answer(number, error));
            }
        }
        all
    });
    (ours, answering)
}

/// How many of a kind there are among messages.
pub(super) fn count(seen: &[u16], kind: u16) -> usize {
    seen.iter().filter(|seen| **seen == kind).count()
}

fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(length) = bytes.first_chunk() {
        let (message, rest) = bytes.split_at(u32::from_ne_bytes(*length) as usize);
        all.push(message);
        bytes = rest;
    }
    all
}

/// Kind, flags and number of a message.
fn header(message: &[u8]) -> (u16, u16, u32) {
    let half = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
    let number = message[8..12].try_into().map(u32::from_ne_bytes);
    (half(4), half(6), number.unwrap())
}

/// With an element in it, a message is longer than with names alone.
fn is_whole(kind: u16, message: &[u8]) -> bool {
    kind == DELETE_ELEMENTS && message.len() < 64
}

fn with_kind(message: &[u8], kind: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message
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
        let (socket, answering) = kernel([(refuses, 1..2, error)]);
        let refusal = Carrier::raise(socket).err().unwrap();
        assert_eq!(refusal.kind(), kind, "{refusal}");
        assert!(refusal.to_string().contains("nf_tables"), "{refusal}");
        assert!(answering.join().unwrap().contains(&refuses));
    }
}

#[test]
fn an_interface_that_is_refused_takes_no_other_with_it() {
    // The table has two chains of its own, each interface one more.
    let (socket, answering) = kernel([(NEW_CHAIN, 4..5, libc::EPERM)]);
    let mut carrier = Carrier::raise(socket).unwrap();
    assert!(carrier.watch("a", 7).is_ok());
    assert!(carrier.watch("b", 8).is_err());
    assert!(carrier.watch("c", 9).is_ok());
    for ifindex in [7, 8, 9] {
        carrier.unwatch(ifindex);
    }
    drop(carrier);
    let seen = answering.join().unwrap();
    let counts = [NEW_CHAIN, DELETE_CHAIN].map(|kind| count(&seen, kind));
    assert_eq!(counts, [5, 3]);
}

/// A datagram of a flow that comes in by an interface.
pub(super) fn seen(ingress: u32, src_port: u16) -> Seen {
    Seen {
        ingress,
        dst_mac: [2, 0, 0, 0, 0, 1],
        src_mac: [2, 0, 0, 0, 0, 2],
        protocol: 17,
        src: Ipv4Addr::new(192, 0, 2, 254),
        dst: Ipv4Addr::new(192, 0, 2, 1),
        routed: Some(Numbers {
            ttl: 64,
            src_port,
            dst_port: 53,
        }),
    }
}

/// An interface, and a flow that comes in there, to be carried out of another one.
pub(super) const INGRESS: u32 = 7;

pub(super) fn flow(src_port: u16, egress: u32) -> (Seen, Carriage) {
    let rewritten = None;
    (seen(INGRESS, src_port), Carriage { egress, rewritten })
}

fn raised(refusals: impl IntoIterator<Item = Refusal>) -> (Carrier, JoinHandle<Vec<u16>>) {
    let (socket, answering) = kernel(refusals);
    (Carrier::raise(socket).unwrap(), answering)
}

#[test]
fn what_was_ordered_without_an_answer_is_left_before_anything_else() {
    let (mut carrier, answering) = raised([(NEW_ELEMENTS, 1..2, libc::ENOBUFS)]);
    assert!(carrier.change(0, &[], &[flow(1, 8)]).is_err());
    carrier.change(0, &[], &[flow(2, 8)]).unwrap();
    assert_eq!(carrier.carried.len(), 1);
    drop(carrier);
    let seen = answering.join().unwrap();
    assert_eq!(count(&seen, DELETE_ELEMENTS | WHOLE), 2);
}

#[test]
fn pages_are_of_those_that_were_carried_when_the_first_was_read_and_are_still() {
    let (mut carrier, answering) = raised([]);
    let flows: Vec<_> = (0..2 * PAGE as u16 + 1).map(|n| flow(n, 8)).collect();
    carrier.change(0, &[], &flows).unwrap();

    let (first, more) = carrier.carried(0).unwrap();
    assert_eq!((first.len(), more), (PAGE, true));
    let mut read: HashSet<Seen> = first.iter().map(|c| c.seen).collect();
    let all: HashSet<Seen> = flows.iter().map(|(seen, _)| *seen).collect();
    let left = *all.difference(&read).next().unwrap();
    carrier.change(0, &[left], &[flow(u16::MAX, 8)]).unwrap();
    for (page, more) in [(1, true), (2, false)] {
        let (carried, is_more) = carrier.carried(page).unwrap();
        assert_eq!(is_more, more);
        read.extend(carried.iter().map(|c| c.seen));
    }
    assert!(read.len() == all.len() - 1 && !read.contains(&left));
    assert_eq!(carrier.carried(3).unwrap(), (Vec::new(), false));
    drop(carrier);
    answering.join().unwrap();
}

#[test]
fn as_many_are_counted_when_all_are_left_as_somebody_can_wait_for() {
    let (mut carrier, answering) = raised([]);
    let flows: Vec<_> = (0..COUNTED as u16 + 1).map(|n| flow(n, 8)).collect();
    for some in flows.chunks(PAGE) {
        carrier.change(0, &[], some).unwrap();
    }
    carrier.leave_all(1).unwrap();
    let mut ended = 0;
    loop {
        let (page, more) = carrier.ended();
        ended += page.len();
        if !more {
            break;
        }
    }
    assert_eq!(ended, COUNTED);
    drop(carrier);
    answering.join().unwrap();
}

/// What becomes of flows that an emptying which was refused has left in the maps.
#[test]
fn what_could_not_be_emptied_goes_before_anything_else_is_carried() {
    let refused = [(DELETE_ELEMENTS, 1..2, libc::ENOMEM)];
    let ways: [fn(&mut Carrier); 3] = [
        |carrier| carrier.change(4, &[], &[flow(1, 9)]).unwrap(),
        |carrier| carrier.leave_all(4).unwrap(),
        |carrier| carrier.carried(0).map(drop).unwrap(),
    ];
    for go_on in ways {
        let (mut carrier, answering) = raised(refused.clone());
        carrier.change(3, &[], &[flow(1, 8), flow(2, 8)]).unwrap();
        assert!(carrier.leave_all(4).is_err());
        let late = carrier.change(3, &[], &[flow(3, 8)]).unwrap_err();
        assert!(late.to_string().contains("later plan"), "{late}");
        go_on(&mut carrier);
        assert!(!carrier.carried.contains(&flow(2, 8).0));
        drop(carrier);
        let seen = answering.join().unwrap();
        assert_eq!(count(&seen, DELETE_ELEMENTS | WHOLE), 4, "both maps, twice");
    }
}

#[test]
fn a_plan_that_nobody_has_begun_by_leaving_everything_begins_so() {
    let (mut carrier, answering) = raised([]);
    carrier.change(0, &[], &[flow(1, 8)]).unwrap();
    carrier.change(1, &[], &[flow(1, 9)]).unwrap();
    assert_eq!(carrier.carried.len(), 1);
    drop(carrier);
    let seen = answering.join().unwrap();
    assert_eq!(count(&seen, DELETE_ELEMENTS | WHOLE), 2);
    assert_eq!(
        count(&seen, NEW_ELEMENTS),
        2,
        "the other way out is in the map"
    );
}

#[test]
fn plans_count_from_the_beginning_even_if_what_was_before_stays_at_first() {
    let (mut carrier, answering) = raised([(DELETE_ELEMENTS, 1..2, libc::ENOMEM)]);
    carrier.change(3, &[], &[flow(1, 8)]).unwrap();
    assert!(carrier.begin_anew().is_err());
    carrier.change(0, &[], &[flow(2, 8)]).unwrap();
    assert_eq!(carrier.carried, [flow(2, 8).0].into());
    carrier.leave_all(1).unwrap();
    assert!(carrier.carried.is_empty());
    drop(carrier);
    answering.join().unwrap();
}

#[test]
fn what_was_to_be_left_and_could_not_is_left_the_next_time() {
    // The one, and the map of bridged flows.
    let (mut carrier, answering) = raised([(DELETE_ELEMENTS, 1..3, libc::ENOMEM)]);
    carrier.change(0, &[], &[flow(1, 8), flow(2, 8)]).unwrap();
    assert!(carrier.change(0, &[flow(1, 8).0], &[]).is_err());
    carrier.change(0, &[], &[flow(3, 8)]).unwrap();
    assert_eq!(carrier.carried, [flow(3, 8).0].into());
    drop(carrier);
    answering.join().unwrap();
}
