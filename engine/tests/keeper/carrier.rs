//! Flows that the kernel carries while nobody else is there to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use pontoon_engine::io::keeper::carrier::{Carriage, Numbers, Rewritten, Seen};
use pontoon_engine::io::keeper::protocol::{
    CarrierRequest, Plug, ReplyBody, RequestBody, SandboxId,
};
use pontoon_engine::io::namespace::{Inside, enter, in_child, owner_of};
use pontoon_packet::MacAddr;
use pontoon_packet::parse::protocol::UDP;

use crate::engine::Engine;
use crate::eventually;
use crate::plugs::spec;

/// Neither interface has a neighbour that answers: everything goes to this address.
const GATEWAY_MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 1];
const MACS: [[u8; 6]; 2] = [[2, 0x42, 0xac, 0x11, 0, 2], [2, 0x42, 0xac, 0x11, 0, 3]];
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::new(172, 17, 0, 3)];

pub(super) fn carried_by_root(engine: &Engine) {
    assert!(!engine.unprivileged);
    carried_flows(engine);
}

pub(super) fn carried_flows(engine: &Engine) {
    ask(engine, RequestBody::Carrier(CarrierRequest::Raise));
    ask(engine, RequestBody::Carrier(CarrierRequest::Raise));
    let places = [0, 1].map(|at| place(engine, at));
    let sockets = [0, 1].map(|at| socket(engine, &places[at].0));
    let [first, second] = &sockets;
    let to = |at: usize, port| SocketAddr::from((ADDRESSES[at], port));
    let silent = |from: &UdpSocket, at: &UdpSocket, what| {
        from.send_to(b"unheard", what).unwrap();
        assert!(at.recv(&mut [0; 16]).is_err(), "nobody carries it");
    };
    silent(first, second, to(1, 5000));

    let there = bridged(&places, 0);
    change(engine, 0, &[], &[there, bridged(&places, 1)]);
    for (from, at, name) in [(first, second, 1), (second, first, 0)] {
        from.send_to(b"hello", to(name, 5000)).unwrap();
        let mut buffer = [0; 16];
        let (length, peer) = at.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], peer),
            (&b"hello"[..], to(1 - name, 5000))
        );
    }
    let ReplyBody::Carried {
        carried,
        more: false,
    } = ask(
        engine,
        RequestBody::Carrier(CarrierRequest::Read { page: 0 }),
    )
    else {
        panic!("something else");
    };
    let mut counted: Vec<_> = carried
        .iter()
        .map(|c| (c.seen, c.packets, c.bytes))
        .collect();
    counted.sort();
    let mut expected = [0, 1].map(|at| (bridged(&places, at).0, 1, 33));
    expected.sort();
    assert_eq!(counted, expected);

    change(engine, 0, &[there.0], &[]);
    silent(first, second, to(1, 5000));
    ask(
        engine,
        RequestBody::Carrier(CarrierRequest::LeaveAll { plan: 1 }),
    );
    silent(second, first, to(0, 5000));
    translated(engine, &places, &sockets);
    left_twice(engine, &places, &sockets);
}

/// Two threads say that a plan has left everything; what it has carried in between stays.
fn left_twice(engine: &Engine, places: &[(OwnedFd, u32); 2], [first, second]: &[UdpSocket; 2]) {
    let leave_all = |plan| {
        ask(
            engine,
            RequestBody::Carrier(CarrierRequest::LeaveAll { plan }),
        )
    };
    let to = SocketAddr::from((ADDRESSES[1], 5000));
    leave_all(1);
    change(engine, 1, &[], &[bridged(places, 0)]);
    leave_all(1);
    first.send_to(b"still", to).unwrap();
    assert_eq!(second.recv(&mut [0; 16]).unwrap(), 5);
    leave_all(2);
    first.send_to(b"no more", to).unwrap();
    assert!(second.recv(&mut [0; 16]).is_err(), "nobody carries it");
}

/// Interfaces of the same names come again and again, whether or not it was noticed that those before have gone: each
/// is looked at, and nothing is left of the others.
pub(super) fn interfaces_again(engine: &Engine) {
    raise(engine);
    for _ in 0..10 {
        let places = [0, 1].map(|at| place(engine, at));
        let [first, second] = [0, 1].map(|at| socket(engine, &places[at].0));
        let there = bridged(&places, 0);
        change(engine, 0, &[], &[there]);
        // A link that has just come up may not send yet.
        eventually("what is sent to be carried", || {
            first.send_to(b"hello", (ADDRESSES[1], 5000)).unwrap();
            second.recv(&mut [0; 16]).is_ok()
        });
        change(engine, 0, &[there.0], &[]);
        for (_, ifindex) in places {
            engine.unplug(SandboxId::SHARED, ifindex);
        }
    }
    eventually("no chain of an interface is left", || {
        chains(engine) == ["carry", "arrive"]
    });
}

/// Has the keeper raise its table.
pub(super) fn raise(engine: &Engine) {
    ask(engine, RequestBody::Carrier(CarrierRequest::Raise));
}

/// An interface at which the kernel takes no chain more is refused: its tagged frames would be heard twice. Chains
/// wait for their interface, which takes Linux 6.16.
pub(super) fn interface_refused(engine: &Engine) {
    /// `MAX_HOOK_COUNT` of the kernel.
    const MOST: usize = 1024;
    raise(engine);
    let one = |n| format!("chain c{n} {{ type filter hook ingress device p0 priority 0; }}\n");
    let chains: String = (0..MOST).map(one).collect();
    nft(engine, &format!("table netdev others {{\n{chains}}}"));
    let net = engine.container();
    let refusal = engine.plug(&net, spec("p0")).unwrap_err();
    assert!(
        refusal.contains("nf_tables") && refusal.contains("p0"),
        "{refusal}"
    );
    for net in [&engine.net, &net] {
        assert_eq!(engine.names(net), ["lo"], "nothing is left");
    }
    engine.plug(&net, spec("p1")).unwrap();
}

/// The chains in the sandbox.
pub(super) fn chains(engine: &Engine) -> Vec<String> {
    let listed = nft(engine, "list chains");
    let names = listed.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("chain ")?;
        Some(name.trim_end_matches(" {").to_owned())
    });
    names.collect()
}

/// What `nft` answers in the sandbox.
fn nft(engine: &Engine, command: &str) -> String {
    let owner = engine
        .unprivileged
        .then(|| owner_of(engine.net.as_fd()).unwrap());
    let (answer, _) = in_child(|| {
        let user = owner.as_ref().map(AsFd::as_fd);
        let net = Some(engine.net.as_fd());
        enter(Inside { user, net })?;
        let nft = Command::new("nft").arg(command).output()?;
        assert!(nft.status.success(), "{nft:?}");
        Ok((
            String::from_utf8_lossy(&nft.stdout).into_owned(),
            Vec::new(),
        ))
    })
    .unwrap();
    answer
}

/// What is sent to one address arrives at another, by another name, and comes back; with full checksums and
/// with those that are left to the hardware.
fn translated(engine: &Engine, places: &[(OwnedFd, u32); 2], [first, second]: &[UdpSocket; 2]) {
    let outside = SocketAddr::from(([198, 51, 100, 9], 53));
    let client = SocketAddr::from(([192, 0, 2, 1], 40_001));
    change(engine, 1, &[], &[there(places), back(places)]);
    for offload in ["on", "off"] {
        for (net, _) in places {
            inside(engine, net, || {
                let tool = Command::new("ethtool")
                    .args(["-K", "eth0", "tx", offload])
                    .output();
                assert!(tool.unwrap().status.success(), "ethtool");
                Vec::new()
            });
        }
        let mut buffer = [0; 16];
        first.send_to(b"query", outside).unwrap();
        let (length, peer) = second.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], peer),
            (&b"query"[..], client),
            "tx {offload}"
        );
        second.send_to(b"answer", client).unwrap();
        let (length, peer) = first.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], peer),
            (&b"answer"[..], outside),
            "tx {offload}"
        );
    }
}

fn there(places: &[(OwnedFd, u32); 2]) -> (Seen, Carriage) {
    let seen = Seen {
        dst: Ipv4Addr::new(198, 51, 100, 9),
        dst_mac: GATEWAY_MAC,
        routed: Some(Numbers {
            ttl: 64,
            src_port: 5000,
            dst_port: 53,
        }),
        ..bridged(places, 0).0
    };
    let rewritten = Rewritten {
        dst_mac: MACS[1],
        src_mac: GATEWAY_MAC,
        src: Ipv4Addr::new(192, 0, 2, 1),
        dst: ADDRESSES[1],
        numbers: Numbers {
            ttl: 63,
            src_port: 40_001,
            dst_port: 5000,
        },
    };
    (
        seen,
        Carriage {
            egress: places[1].1,
            rewritten: Some(rewritten),
        },
    )
}

fn back(places: &[(OwnedFd, u32); 2]) -> (Seen, Carriage) {
    let seen = Seen {
        dst: Ipv4Addr::new(192, 0, 2, 1),
        dst_mac: GATEWAY_MAC,
        routed: Some(Numbers {
            ttl: 64,
            src_port: 5000,
            dst_port: 40_001,
        }),
        ..bridged(places, 1).0
    };
    let rewritten = Rewritten {
        dst_mac: MACS[0],
        src_mac: GATEWAY_MAC,
        src: Ipv4Addr::new(198, 51, 100, 9),
        dst: ADDRESSES[0],
        numbers: Numbers {
            ttl: 63,
            src_port: 53,
            dst_port: 5000,
        },
    };
    (
        seen,
        Carriage {
            egress: places[0].1,
            rewritten: Some(rewritten),
        },
    )
}

/// What is sent by one of them to the other.
fn bridged(places: &[(OwnedFd, u32); 2], from: usize) -> (Seen, Carriage) {
    let to = 1 - from;
    let seen = Seen {
        ingress: places[from].1,
        dst_mac: MACS[to],
        src_mac: MACS[from],
        protocol: UDP,
        src: ADDRESSES[from],
        dst: ADDRESSES[to],
        routed: None,
    };
    (
        seen,
        Carriage {
            egress: places[to].1,
            rewritten: None,
        },
    )
}

fn ask(engine: &Engine, body: RequestBody) -> ReplyBody {
    engine.link.request(body, &[]).unwrap().0
}

fn change(engine: &Engine, plan: u64, leave: &[Seen], carry: &[(Seen, Carriage)]) {
    let (leave, carry) = (leave.to_vec(), carry.to_vec());
    ask(
        engine,
        RequestBody::Carrier(CarrierRequest::Change { plan, leave, carry }),
    );
}

fn place(engine: &Engine, at: usize) -> (OwnedFd, u32) {
    let net = engine.container();
    let plug = Plug {
        mac: MacAddr(MACS[at]).to_string(),
        addresses: vec![format!("{}/16", ADDRESSES[at]).parse().unwrap()],
        ..spec(&format!("p{at}"))
    };
    let (_, ifindex, _) = engine.plug(&net, plug).unwrap();
    inside(engine, &net, || {
        let other = (
            ADDRESSES[1 - at].to_string(),
            MacAddr(MACS[1 - at]).to_string(),
        );
        let gateway = ("172.17.0.1".to_owned(), MacAddr(GATEWAY_MAC).to_string());
        for (address, mac) in [other, gateway] {
            let arguments = ["neigh", "add", &address, "lladdr", &mac, "dev", "eth0"];
            assert!(
                Command::new("ip")
                    .args(arguments)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        Vec::new()
    });
    (net, ifindex)
}

fn socket(engine: &Engine, net: &OwnedFd) -> UdpSocket {
    let mut fds = inside(engine, net, || {
        let socket = UdpSocket::bind((IpAddr::from([0; 4]), 5000)).unwrap();
        let patience = Some(Duration::from_millis(300));
        socket.set_read_timeout(patience).unwrap();
        vec![socket.into()]
    });
    fds.remove(0).into()
}

/// Does something in a namespace, as its owner.
fn inside(engine: &Engine, net: &OwnedFd, f: impl FnOnce() -> Vec<OwnedFd>) -> Vec<OwnedFd> {
    let owner = engine.unprivileged.then(|| owner_of(net.as_fd()).unwrap());
    let ((), fds) = in_child(|| {
        let user = owner.as_ref().map(AsFd::as_fd);
        let net = Some(net.as_fd());
        enter(Inside { user, net })?;
        Ok(((), f()))
    })
    .unwrap();
    fds
}
