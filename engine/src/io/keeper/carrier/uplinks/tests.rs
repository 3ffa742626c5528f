//! Two tables that have to agree, when one of them refuses.

use super::super::tests::{
    DELETE_ELEMENTS, INGRESS, NEW_ELEMENTS, WHOLE, count, flow, kernel, seen,
};
use super::super::{Carriage, Carrier};
use super::*;

const MACVLAN: u32 = 9;

/// An uplink that is reached.
fn uplinks(tables: Tables) -> Uplinks {
    let macvlan = Macvlan {
        uplink: 3,
        uplink_mac: [2, 0, 0, 0, 0, 1],
        ifindex: MACVLAN,
        mac: [2, 0, 0, 0, 0, 9],
    };
    Uplinks {
        reached: [("up0".to_owned(), macvlan)].into(),
        outside: Some(Outside {
            tables,
            name: "pontoon-1".to_owned(),
        }),
        ..Uplinks::new()
    }
}

#[test]
fn what_an_uplink_s_table_refuses_is_in_neither_and_nothing_else_is_left() {
    let then = Carriage {
        egress: INGRESS,
        rewritten: None,
    };
    let before = flow(4000, MACVLAN);
    // The flow that needs no uplink is of the same order.
    let order = [flow(4001, MACVLAN), (seen(MACVLAN, 4001), then)];
    let (inside, sandbox) = kernel([]);
    let (outside, host) = kernel([
        (NEW_ELEMENTS, 1..2, libc::ENOSPC),
        (DELETE_ELEMENTS, 1..2, libc::ENOENT),
    ]);
    let mut carrier = Carrier::raise(inside).unwrap();
    carrier.uplinks = uplinks(Tables::from_fd(outside));

    carrier.change(0, &[], &[before]).unwrap();
    assert!(carrier.change(0, &[], &order).is_err());
    assert_eq!(carrier.carried, [before.0].into());
    // Nothing is in the way of the next attempt.
    carrier.change(0, &[], &order).unwrap();
    assert_eq!(carrier.carried.len(), 3);

    drop(carrier);
    let (sandbox, host) = (sandbox.join().unwrap(), host.join().unwrap());
    let counts =
        [NEW_ELEMENTS, DELETE_ELEMENTS, DELETE_ELEMENTS | WHOLE].map(|kind| count(&sandbox, kind));
    assert_eq!(counts, [3, 1, 0]);
    assert_eq!(count(&host, NEW_ELEMENTS), 2);
}

#[test]
fn what_cannot_be_left_alone_is_left_with_everything() {
    let (inside, sandbox) = kernel([(DELETE_ELEMENTS, 1..2, libc::ENOENT)]);
    let mut carrier = Carrier::raise(inside).unwrap();
    let flows = [4000, 4001].map(|src_port| flow(src_port, MACVLAN));
    carrier.change(0, &[], &flows).unwrap();

    carrier.change(0, &[flows[0].0], &[]).unwrap();
    assert!(carrier.carried.is_empty());
    drop(carrier);
    let seen = sandbox.join().unwrap();
    let counts = [DELETE_ELEMENTS, DELETE_ELEMENTS | WHOLE].map(|kind| count(&seen, kind));
    assert_eq!(counts, [1, 2], "the one, and then both maps");
}
