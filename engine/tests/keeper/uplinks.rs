//! Uplinks, and the shield that keeps the kernel quiet on them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;
use std::{env, thread};

use nix::sched::{CloneFlags, setns};
use pontoon_engine::io::keeper::KeeperError;
use pontoon_engine::io::keeper::protocol::{ReplyBody, RequestBody, UplinkFacts};
use pontoon_engine::io::netlink::{Netlink, VethEnd, Watch};
use pontoon_engine::io::uplink_sockets::SOCKETS;

use crate::engine::Engine;
use crate::{PATIENCE, carrier, eventually, part};

/// The engine opens the uplink itself, and then has another keeper and its engine do the same.
pub(super) fn shared_uplink(engine: &Engine) {
    const AGAIN: &str = "PONTOON_TEST_AGAIN";
    let second = env::var_os(AGAIN).is_some();
    let outside = engine.container();
    if !second {
        wire(&outside);
    }
    let (facts, _fds) = open_uplink(engine, "up0");
    assert_eq!(facts.unshielded, None);
    if second {
        return;
    }
    let mut keeper = Command::new(env::current_exe().unwrap());
    let status = keeper.args(part("keeper_part")).env(AGAIN, "").status();
    assert!(status.unwrap().success(), "the second keeper");
    unwire();
}

pub(super) fn uplink_refused(engine: &Engine) {
    let body = RequestBody::OpenUplink {
        interface: "lo".to_owned(),
    };
    let error = engine.link.request(body, &[]).unwrap_err().to_string();
    assert!(
        error.contains("CAP_NET_RAW") && error.contains("unshare -Urn"),
        "{error}"
    );
}

const HOST: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.2";

/// Runs `f` on a thread in another network namespace.
fn inside<T: Send>(net: &OwnedFd, f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(net, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        thread.join().unwrap()
    })
}

fn dial(net: &OwnedFd, port: u16) -> io::Result<TcpStream> {
    let to = SocketAddr::new(HOST.parse::<IpAddr>().unwrap(), port);
    inside(net, || {
        TcpStream::connect_timeout(&to, Duration::from_secs(3))
    })
}

/// What comes back for a datagram to a port where nobody listens.
fn probe(net: &OwnedFd) -> io::ErrorKind {
    inside(net, || {
        let socket = UdpSocket::bind((OUTSIDE, 0)).unwrap();
        socket.connect((HOST, 9)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        socket.send(b"?").unwrap();
        socket.recv(&mut [0]).unwrap_err().kind()
    })
}

/// Ties this namespace to the one outside by `up0` and `out0`.
pub(super) fn wire(outside: &OwnedFd) {
    let mut here = Netlink::open(Watch::Nothing).unwrap();
    let (ours, theirs) = (
        VethEnd {
            name: "up0",
            mac: None,
        },
        VethEnd {
            name: "out0",
            mac: None,
        },
    );
    here.add_veth(ours, theirs, outside.as_fd(), 1500).unwrap();
    let up = |netlink: &mut Netlink, name: &str, address: &str| {
        let index = netlink.link(name).unwrap().index;
        netlink
            .add_address(index, format!("{address}/24").parse().unwrap())
            .unwrap();
        netlink.set_up(index).unwrap();
    };
    up(&mut here, "up0", HOST);
    inside(outside, || {
        up(&mut Netlink::open(Watch::Nothing).unwrap(), "out0", OUTSIDE)
    });
}

/// An uplink goes by itself: the interface that reached it is gone, and nothing looks at it any more.
pub(super) fn uplink_goes(engine: &Engine) {
    carrier::raise(engine);
    let outside = engine.container();
    wire(&outside);
    let (facts, _fds) = open_uplink(engine, "up0");
    assert!(facts.reached_by.is_some(), "{facts:?}");
    assert_eq!(carrier::chains(engine).len(), 3, "it is looked at");
    unwire();
    eventually("nobody to look at it any more", || {
        carrier::chains(engine) == ["carry", "arrive"]
    });
}

/// Takes away what [`wire`] has made.
pub(super) fn unwire() {
    let mut here = Netlink::open(Watch::Nothing).unwrap();
    let index = here.link("up0").unwrap().index;
    here.delete(index).unwrap();
}

pub(super) fn open_uplink(engine: &Engine, interface: &str) -> (UplinkFacts, Vec<OwnedFd>) {
    match try_to_open(engine, interface).unwrap() {
        (ReplyBody::Uplink(facts), fds) => (facts, fds),
        (other, _) => panic!("{other:?}"),
    }
}

pub(super) fn try_to_open(
    engine: &Engine,
    interface: &str,
) -> Result<(ReplyBody, Vec<OwnedFd>), KeeperError> {
    let interface = interface.to_owned();
    engine
        .link
        .request(RequestBody::OpenUplink { interface }, &[])
}

pub(super) fn close(engine: &Engine, interface: &str) {
    let interface = interface.to_owned();
    engine
        .link
        .request(RequestBody::CloseUplink { interface }, &[])
        .unwrap();
}

/// An uplink may bear the name of a chain of the keeper's table.
pub(super) fn uplink_named_carry(engine: &Engine) {
    carrier::raise(engine);
    let outside = engine.container();
    wire(&outside);
    let rename = |from, to| {
        for change in [["down", ""], ["name", to], ["up", ""]] {
            let name = if change[0] == "up" { to } else { from };
            let change = change.iter().filter(|word| !word.is_empty());
            let ip = Command::new("ip")
                .args(["link", "set", name])
                .args(change)
                .status();
            assert!(ip.unwrap().success(), "ip link set {name}");
        }
    };
    rename("up0", "carry");
    eventually("carrier", || {
        let mut netlink = Netlink::open(Watch::Nothing).unwrap();
        netlink.link("carry").unwrap().running
    });
    for _ in 0..2 {
        let (facts, _fds) = open_uplink(engine, "carry");
        assert!(facts.reached_by.is_some(), "{facts:?}");
        close(engine, "carry");
    }
    rename("carry", "up0");
    unwire();
}

fn exchange(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(b"x").unwrap();
    let mut byte = [0];
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    to.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

pub(super) fn await_carrier(outside: &OwnedFd) {
    let running = |name: &str| {
        let mut netlink = Netlink::open(Watch::Nothing).unwrap();
        netlink.link(name).unwrap().running
    };
    eventually("carrier", || {
        running("up0") && inside(outside, || running("out0"))
    });
}

pub(super) fn shield(engine: &Engine) {
    const UNCLAIMED: u16 = 4999;
    let outside = engine.container();
    wire(&outside);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    await_carrier(&outside);
    let before = dial(&outside, port).unwrap();
    let accepted = listener.accept().unwrap().0;
    assert_eq!(
        dial(&outside, UNCLAIMED).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    assert_eq!(probe(&outside), io::ErrorKind::ConnectionRefused);

    let (facts, fds) = open_uplink(engine, "up0");
    assert_eq!((facts.unshielded, fds.len()), (None, SOCKETS));
    assert_eq!(facts.addresses, ["192.0.2.1/24".parse().unwrap()]);

    assert_eq!(
        dial(&outside, UNCLAIMED).unwrap_err().kind(),
        io::ErrorKind::TimedOut
    );
    assert_eq!(
        probe(&outside),
        io::ErrorKind::WouldBlock,
        "no port unreachable"
    );
    exchange(&before, &accepted);
    exchange(&accepted, &before);
    let fresh = dial(&outside, port).unwrap();
    exchange(&fresh, &listener.accept().unwrap().0);
    let far = inside(&outside, || TcpListener::bind((OUTSIDE, 0)).unwrap());
    let out = TcpStream::connect(far.local_addr().unwrap()).unwrap();
    exchange(&far.accept().unwrap().0, &out);

    close(engine, "up0");
    eventually("the kernel answers again", || {
        dial(&outside, UNCLAIMED).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    });
    unwire();
}
