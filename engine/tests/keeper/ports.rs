//! Ports of the host's that the keeper binds.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::{Backlog, listen};
use pontoon_engine::control::state::{Stopped, Unclaimed};
use pontoon_engine::io::fdpass::MAX_FDS;
use pontoon_engine::io::keeper::protocol::{HostEndpoint, ReplyBody, RequestBody};
use pontoon_packet::parse::protocol;

use crate::engine::Engine;

fn port(number: u16, protocol: u8) -> HostEndpoint {
    HostEndpoint {
        address: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number),
        protocol,
    }
}

pub(super) fn bind(engine: &Engine, ports: &[HostEndpoint]) -> (Vec<OwnedFd>, Option<Stopped>) {
    let request = RequestBody::Bind(ports.to_vec());
    match engine.link.request(request, &[]).unwrap() {
        (ReplyBody::Bound(stopped), fds) => (fds, stopped),
        (other, _) => panic!("{other:?}"),
    }
}

pub(super) fn unbind(engine: &Engine, ports: &[HostEndpoint]) {
    let request = RequestBody::Unbind(ports.to_vec());
    engine.link.request(request, &[]).unwrap();
}

/// Ports that everybody may have, at an address of the loopback that is this process's alone.
pub(super) fn ports(count: usize) -> Vec<HostEndpoint> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let at = |number| HostEndpoint {
        address: SocketAddrV4::new(Ipv4Addr::new(127, high, low, 1), number),
        protocol: protocol::UDP,
    };
    (20_000..).take(count).map(at).collect()
}

/// Root's keeper binds what takes a right in the namespace where it stands, and frees it when it is told.
pub(super) fn privileged_ports(engine: &Engine) {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert_eq!(first.trim(), "1024");
    let wanted = [port(80, protocol::TCP), port(53, protocol::UDP)];
    for _ in 0..2 {
        let (fds, stopped) = bind(engine, &wanted);
        assert_eq!((fds.len(), stopped), (2, None));
        listen(&fds[0], Backlog::MAXCONN).unwrap();
        unbind(engine, &wanted);
    }
}

pub(super) fn taken_ports(engine: &Engine) {
    let tcp = TcpListener::bind("0.0.0.0:20001").unwrap();
    let _udp = UdpSocket::bind("0.0.0.0:20002").unwrap();
    let own = format!("process {} (", std::process::id());
    for (number, protocol) in [(20_001, protocol::TCP), (20_002, protocol::UDP)] {
        let wanted = [number - 1, number, number + 1].map(|n| port(n, protocol));
        let (fds, stopped) = bind(engine, &wanted);
        let why = Unclaimed::Taken;
        assert_eq!((fds.len(), stopped), (1, Some(Stopped { at: 1, why })));
        let holder = holder(engine, wanted[1]).unwrap();
        assert!(holder.starts_with(&own), "{holder}");
    }
    drop(tcp);
    assert_eq!(bind(engine, &[port(20_001, protocol::TCP)]).1, None);
    assert_eq!(holder(engine, port(20_001, protocol::TCP)), None);
}

fn holder(engine: &Engine, port: HostEndpoint) -> Option<String> {
    let request = RequestBody::Holder(port);
    match engine.link.request(request, &[]).unwrap() {
        (ReplyBody::Holder(holder), _) => holder,
        (other, _) => panic!("{other:?}"),
    }
}

pub(super) fn many_ports(engine: &Engine) {
    let (fds, stopped) = bind(engine, &ports(MAX_FDS));
    assert_eq!((fds.len(), stopped), (MAX_FDS, None));
    drop(fds);
    unbind(engine, &ports(MAX_FDS));
    let request = RequestBody::Bind(ports(MAX_FDS + 1));
    let error = engine.link.request(request, &[]).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
    assert_eq!(bind(engine, &ports(MAX_FDS)).1, None, "nothing was left");
}
