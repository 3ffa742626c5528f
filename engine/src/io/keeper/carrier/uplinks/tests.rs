//! Two tables that have to agree, when one of them refuses.

use std::net::Ipv4Addr;

use super::super::tests::{DELETE_ELEMENTS, NEW_ELEMENTS, kernel};
use super::super::{Carriage, Carrier, Numbers};
use super::*;

const MACVLAN: u32 = 9;
const EGRESS: u32 = 7;

/// A datagram of a flow that comes in by an interface.
fn seen(ingress: u32) -> Seen {
    Seen {
        ingress,
        dst_mac: [2, 0, 0, 0, 0, 1],
        src_mac: [2, 0, 0, 0, 0, 2],
        protocol: 17,
        src: Ipv4Addr::new(192, 0, 2, 254),
        dst: Ipv4Addr::new(192, 0, 2, 1),
        routed: Some(Numbers {
            ttl: 64,
            src_port: 4000,
            dst_port: 53,
        }),
    }
}

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
    }
}

#[test]
fn what_an_uplink_s_table_refuses_is_in_neither() {
    let then = Carriage {
        egress: EGRESS,
        rewritten: None,
    };
    // The flow that needs no uplink is of the same order.
    let order = [(seen(EGRESS), then), (seen(MACVLAN), then)];
    let (inside, sandbox) = kernel(0, 0, 0);
    let (outside, host) = kernel(NEW_ELEMENTS, 1, libc::ENOSPC);
    let mut carrier = Carrier::raise(inside).unwrap();
    carrier.uplinks = uplinks(Tables::from_fd(outside));

    assert!(carrier.change(0, &[], &order).is_err());
    assert!(carrier.carried.is_empty());
    // Nothing is in the way of the next attempt.
    carrier.change(0, &[], &order).unwrap();
    assert_eq!(carrier.carried.len(), 2);

    drop(carrier);
    let count = |seen: &[u16], kind| seen.iter().filter(|seen| **seen == kind).count();
    let (sandbox, host) = (sandbox.join().unwrap(), host.join().unwrap());
    assert_eq!(count(&sandbox, NEW_ELEMENTS), 2);
    assert_eq!(count(&sandbox, DELETE_ELEMENTS), 1);
    assert_eq!(count(&host, NEW_ELEMENTS), 2);
}

#[test]
fn what_cannot_be_left_alone_is_left_with_everything() {
    let then = Carriage {
        egress: EGRESS,
        rewritten: None,
    };
    let (inside, sandbox) = kernel(DELETE_ELEMENTS, 1, libc::ENOENT);
    let mut carrier = Carrier::raise(inside).unwrap();
    let flows = [4000, 4001].map(|src_port| {
        let mut flow = seen(EGRESS);
        flow.routed.as_mut().unwrap().src_port = src_port;
        flow
    });
    carrier
        .change(0, &[], &flows.map(|flow| (flow, then)))
        .unwrap();

    carrier.change(0, &flows[..1], &[]).unwrap();
    assert!(carrier.carried.is_empty());
    drop(carrier);
    let seen = sandbox.join().unwrap();
    // The one, and then both maps.
    assert_eq!(
        seen.iter().filter(|kind| **kind == DELETE_ELEMENTS).count(),
        3
    );
}
