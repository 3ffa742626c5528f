//! `demo`: the four scenarios with real traffic.
//!
//! Everything stands in namespaces of its own: a *host* with an uplink, on which Pontoon runs as on any
//! other; an *outside* host behind the uplink; two containers. Connections are made by sockets that
//! were opened in those namespaces, and what is printed is what the sockets report.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pontoon_engine::control::api::{
    AttachSpec, EndpointSpec, NetworkMode, NetworkSpec, Reply, Request,
};
use pontoon_engine::control::publish;
use pontoon_engine::io::namespace::{
    Inside, Privilege, become_root_of_new_user_namespace, bring_loopback_up, enter, in_child,
    new_network_namespace,
};
use pontoon_engine::io::netlink::{Netlink, VethEnd, Watch};

use crate::args::Listing;
use crate::client::{Client, Failure};
use crate::{show, start};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const C1: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
const C2: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 3);
const PORT: u16 = 80;
const PUBLISHED: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the demo in namespaces of its own.
pub(crate) fn run() -> Result<u8, Failure> {
    let directory = std::env::temp_dir().join(format!("pontoon-demo-{}", std::process::id()));
    std::fs::create_dir(&directory)
        .map_err(|e| Failure::own(&directory.display().to_string(), e))?;
    let status = in_own_namespaces(&directory);
    // What is left of it is of no use to anybody.
    let _ = std::fs::remove_dir_all(&directory);
    Ok(u8::from(!status?.success()))
}

#[allow(unsafe_code, reason = "pre_exec runs between fork and exec")]
fn in_own_namespaces(directory: &Path) -> Result<std::process::ExitStatus, Failure> {
    let privilege = Privilege::of_this_process()?;
    let mut inside = Command::new(std::env::current_exe()?);
    inside
        .args(["demo", "--inside"])
        .env("XDG_RUNTIME_DIR", directory);
    // SAFETY: this process has a single thread, so the child may do whatever it could.
    unsafe {
        inside.pre_exec(move || {
            if privilege == Privilege::Ordinary {
                become_root_of_new_user_namespace()?;
            }
            new_network_namespace()
        });
    }
    Ok(inside.status()?)
}

/// The namespaces of the demo.
struct Stage {
    client: Client,
    host: OwnedFd,
    outside: OwnedFd,
    c1: OwnedFd,
    c2: OwnedFd,
}

/// One connection to be made.
struct Scenario<'a> {
    title: &'a str,
    from: (&'a str, &'a OwnedFd),
    /// What the client connects to.
    to: SocketAddr,
    server: (&'a str, &'a OwnedFd, Ipv4Addr, u16),
    /// The address that the server must see.
    seen: Ipv4Addr,
}

/// Runs the demo where its host stands.
pub(crate) fn inside() -> Result<u8, Failure> {
    let stage = Stage::build()?;
    let held = stage.run_scenarios();
    let shown = stage.show_tables();
    start::shut_down()?;
    shown?;
    let (held, all) = held?;
    println!("\n{held} of {all} scenarios hold");
    Ok(u8::from(held != all))
}

impl Stage {
    fn build() -> Result<Self, Failure> {
        println!(
            "building: host {HOST} with uplink up0, outside {OUTSIDE}, containers {C1} and {C2}"
        );
        bring_loopback_up()?;
        let outside = namespace()?;
        join_by_cable(&outside)?;
        let client = start::engine_for_user()?;
        let network = NetworkSpec {
            name: "demo".to_owned(),
            subnet: Some("172.30.0.0/24".to_owned()),
            uplink: Some("dev:up0".to_owned()),
            host_port: Some("veth".to_owned()),
            ..NetworkSpec::default()
        };
        client.ask(&Request::CreateNetwork(network))?;
        let c1 = attach(&client, "c1", C1, &[])?;
        let c2 = attach(&client, "c2", C2, &[format!("{PUBLISHED}:{PORT}")])?;
        let host = File::open("/proc/self/ns/net")?.into();
        Ok(Self {
            client,
            host,
            outside,
            c1,
            c2,
        })
    }

    fn scenarios(&self) -> [Scenario<'_>; 4] {
        [
            Scenario {
                title: "container ↔ container, on one bridge",
                from: ("c1", &self.c1),
                to: (C2, PORT).into(),
                server: ("c2", &self.c2, C2, PORT),
                seen: C1,
            },
            Scenario {
                title: "host → container",
                from: ("host", &self.host),
                to: (C1, PORT).into(),
                server: ("c1", &self.c1, C1, PORT),
                seen: GATEWAY,
            },
            Scenario {
                title: "container → outside, by source NAT",
                from: ("c1", &self.c1),
                to: (OUTSIDE, PORT).into(),
                server: ("outside", &self.outside, OUTSIDE, PORT),
                seen: HOST,
            },
            Scenario {
                title: "outside → published port, by destination NAT, the client's address preserved",
                from: ("outside", &self.outside),
                to: (HOST, PUBLISHED).into(),
                server: ("c2", &self.c2, C2, PORT),
                seen: OUTSIDE,
            },
        ]
    }

    fn run_scenarios(&self) -> Result<(usize, usize), Failure> {
        let scenarios = self.scenarios();
        let mut held = 0;
        for (number, scenario) in scenarios.iter().enumerate() {
            println!("\n{}. {}", number + 1, scenario.title);
            match scenario.play() {
                Ok(true) => held += 1,
                Ok(false) => println!("   DOES NOT HOLD"),
                Err(error) => println!("   DOES NOT HOLD: {error}"),
            }
        }
        Ok((held, scenarios.len()))
    }

    fn show_tables(&self) -> Result<(), Failure> {
        let people = Listing { json: false };
        println!("\nforwarding database (pontoon fdb)");
        show::fdb(&self.client, &people)?;
        println!("\nneighbours (pontoon arp)");
        show::neighbours(&self.client, &people)?;
        println!("\nflows (pontoon flows)");
        show::flows(&self.client, &people)?;
        Ok(())
    }
}

impl Scenario<'_> {
    /// Makes the connection, sends a line there and another back, and compares.
    fn play(&self) -> io::Result<bool> {
        let (server_name, server, address, port) = self.server;
        let (client_name, client) = self.from;
        let listener = listen(server, (address, port).into())?;
        let mut near = connect(client, self.to)?;
        let (mut far, seen) = listener.accept()?;
        far.set_read_timeout(Some(PATIENCE))?;
        near.set_read_timeout(Some(PATIENCE))?;
        let question = format!("hello from {client_name}");
        let answer = format!("hello back from {server_name}");
        let (from, to) = (near.local_addr()?, self.to);
        println!("   {client_name:<8} {from} connects to {to} and sends \"{question}\"");
        near.write_all(question.as_bytes())?;
        let heard = read_exactly(&mut far, question.len())?;
        let at = far.local_addr()?;
        println!("   {server_name:<8} {at} hears \"{heard}\" from {seen}");
        far.write_all(answer.as_bytes())?;
        let returned = read_exactly(&mut near, answer.len())?;
        println!("   {client_name:<8} {from} hears \"{returned}\"");
        Ok(heard == question && returned == answer && seen.ip() == IpAddr::V4(self.seen))
    }
}

fn read_exactly(stream: &mut TcpStream, length: usize) -> io::Result<String> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// A network namespace with its loopback up.
fn namespace() -> Result<OwnedFd, Failure> {
    let ((), fds) = in_child(|| {
        new_network_namespace()?;
        bring_loopback_up()?;
        Ok(((), vec![File::open("/proc/self/ns/net")?.into()]))
    })?;
    fds.into_iter().next().ok_or_else(Failure::unexpected)
}

/// Joins the host's `up0` with the outside host's `eth0`.
fn join_by_cable(outside: &OwnedFd) -> Result<(), Failure> {
    let broken = |error| Failure::own("the outside host", error);
    let mut here = Netlink::open(Watch::Nothing).map_err(broken)?;
    let (near, far) = (
        VethEnd {
            name: "up0",
            mac: None,
        },
        VethEnd {
            name: "eth0",
            mac: None,
        },
    );
    here.add_veth(near, far, outside.as_fd(), 1500)
        .map_err(broken)?;
    configure(&mut here, "up0", HOST)?;
    let gateway = here
        .link("up0")
        .and_then(|link| here.add_default_route(link.index, OUTSIDE.into()));
    gateway.map_err(broken)?;
    in_child(|| {
        enter(Inside {
            user: None,
            net: Some(outside.as_fd()),
        })?;
        let mut there = Netlink::open(Watch::Nothing).map_err(io::Error::other)?;
        configure(&mut there, "eth0", OUTSIDE).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(((), Vec::new()))
    })?;
    Ok(())
}

fn configure(netlink: &mut Netlink, name: &str, address: Ipv4Addr) -> Result<(), Failure> {
    let broken = |error| Failure::own(name, error);
    let link = netlink.link(name).map_err(broken)?;
    let prefix = ipnet::IpNet::new(address.into(), 24).map_err(|e| Failure::own(name, e))?;
    netlink.add_address(link.index, prefix).map_err(broken)?;
    netlink.set_up(link.index).map_err(broken)
}

fn attach(
    client: &Client,
    name: &str,
    address: Ipv4Addr,
    published: &[String],
) -> Result<OwnedFd, Failure> {
    let target = namespace()?;
    let specs: Result<Vec<_>, _> = published.iter().map(|text| publish::parse(text)).collect();
    let spec = AttachSpec {
        name: Some(name.to_owned()),
        mode: NetworkMode::Own,
        networks: vec![EndpointSpec {
            network: "demo".to_owned(),
            ip: Some(address.into()),
            ..EndpointSpec::default()
        }],
        publish: specs?,
        command: String::new(),
        pid: None,
        monitor: None,
        remove: true,
        unguarded: false,
        naming: Default::default(),
        labels: Default::default(),
    };
    let (reply, _) = client.exchange(&Request::Attach(spec), &[target.as_fd()])?;
    match reply {
        Reply::Container(_) => Ok(target),
        _ => Err(Failure::unexpected()),
    }
}

/// A socket that listens in a namespace.
fn listen(namespace: &OwnedFd, at: SocketAddr) -> io::Result<TcpListener> {
    let fd = socket_of(namespace, || TcpListener::bind(at).map(OwnedFd::from))?;
    Ok(TcpListener::from(fd))
}

/// A socket of a namespace that is connected.
fn connect(namespace: &OwnedFd, to: SocketAddr) -> io::Result<TcpStream> {
    let fd = socket_of(namespace, || {
        TcpStream::connect_timeout(&to, PATIENCE).map(OwnedFd::from)
    })?;
    Ok(TcpStream::from(fd))
}

fn socket_of(
    namespace: &OwnedFd,
    open: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let ((), fds) = in_child(|| {
        enter(Inside {
            user: None,
            net: Some(namespace.as_fd()),
        })?;
        Ok(((), vec![open()?]))
    })?;
    fds.into_iter()
        .next()
        .ok_or_else(|| io::Error::other("no socket came back"))
}
