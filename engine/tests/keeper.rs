//! The keeper against a real kernel: sandbox, plugs, uplinks, and what is left afterwards.
//!
//! This program plays all parts. A test starts it again as keeper ([`keeper_part`]), which starts it
//! again as engine ([`engine_part`]), which carries a scenario out over the link.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crossbeam_channel::Receiver;
use nix::sched::{CloneFlags, setns};
use pontoon_engine::io::fdpass::Channel;
use pontoon_engine::io::keeper::protocol::{Event, Plug, ReplyBody, RequestBody, SandboxId};
use pontoon_engine::io::keeper::{self, KeeperLink};
use pontoon_engine::io::namespace::{
    Inside, become_root_of_new_user_namespace, enter, in_child, new_network_namespace, owner_of,
};
use pontoon_engine::io::netlink::{Netlink, VethEnd, Watch};

const SCENARIO: &str = "PONTOON_TEST_SCENARIO";
const NOBODY: &str = "65534";
const PATIENCE: Duration = Duration::from_secs(10);
const MAC: &str = "02:42:ac:11:00:02";

/// As whom the keeper runs.
#[derive(Clone, Copy)]
enum As {
    /// Without any capability.
    Ordinary,
    /// As root of a network namespace.
    Administrator,
}

/// Runs a scenario in a keeper and an engine of its own.
fn run(scenario: &str, who: As) {
    let directory =
        env::temp_dir().join(format!("pontoon-keeper-{}-{scenario}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("keeper-test");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let root = nix::unistd::geteuid().is_root();
    let mut command = match who {
        As::Ordinary if root => wrapped(
            "setpriv",
            &["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"],
        ),
        As::Ordinary => Command::new("env"),
        As::Administrator if root => wrapped("unshare", &["--net", "--"]),
        As::Administrator => wrapped("unshare", &["--user", "--map-root-user", "--net", "--"]),
    };
    // The keeper has one thread; the test harness has another, which must not take its signals.
    command.args(["env", "--block-signal=TERM"]);
    command.arg(&program).args(part("keeper_part"));
    let output = command
        .env(SCENARIO, scenario)
        .current_dir("/")
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {stdout}{stderr}");
    assert!(
        stdout.contains("1 passed"),
        "{scenario} did not run: {stdout}"
    );
}

fn wrapped(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn part(name: &str) -> [&str; 5] {
    [
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]
}

macro_rules! scenarios {
    ($($test:ident: $scenario:ident as $who:ident;)*) => {
        $(#[test] fn $test() { run(stringify!($scenario), As::$who); })*

        #[test]
        #[ignore = "started by the other tests"]
        fn engine_part() {
            let scenario = env::var(SCENARIO).expect("started by another test");
            match scenario.as_str() {
                $(stringify!($scenario) => $scenario(&Engine::open()),)*
                _ => panic!("no scenario {scenario}"),
            }
        }
    };
}

scenarios! {
    a_namespace_is_plugged_and_unplugged: plug_and_unplug as Ordinary;
    a_namespace_is_plugged_and_unplugged_by_root: plug_and_unplug_ as Administrator;
    a_name_that_is_taken_is_refused_and_leaves_nothing: taken_name as Ordinary;
    a_namespace_of_another_user_namespace_gets_a_socket_of_its_own: foreign as Ordinary;
    a_namespace_without_rights_is_refused_with_the_reason: start_namespace as Ordinary;
    two_keepers_share_an_uplink: shared_uplink as Administrator;
    a_namespace_that_dies_is_told: death as Ordinary;
    namespaces_that_die_all_at_once_are_all_told: many_deaths as Ordinary;
    the_host_port_of_an_ordinary_user_is_apart: host_port as Ordinary;
    the_host_port_of_root_is_where_the_keeper_was_started: host_port_ as Administrator;
    an_uplink_needs_rights: uplink_refused as Ordinary;
    the_shield_silences_the_kernel_only_where_nobody_listens: shield as Administrator;
    a_signal_is_told_to_the_engine: signal as Ordinary;
    a_keeper_that_is_short_of_files_refuses_and_goes_on: short_keeper as Ordinary;
    an_engine_that_is_short_of_files_keeps_its_keeper: short_engine as Ordinary;
    what_is_left_in_a_namespace_is_ended_and_nothing_else: leftovers as Ordinary;
    what_is_left_in_a_namespace_is_ended_by_root: leftovers_ as Administrator;
}

#[test]
#[ignore = "started by the other tests"]
fn keeper_part() {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let links = || {
        let links = Netlink::open(Watch::Nothing).unwrap().links().unwrap();
        links.into_iter().map(|l| l.name).collect::<BTreeSet<_>>()
    };
    let (fds, names) = (open(), links());
    let engine = match env::var(SCENARIO).unwrap().as_str() {
        DEAF => deaf_engine(),
        _ => {
            let mut engine = Command::new(env::current_exe().unwrap());
            engine.args(part("engine_part"));
            engine
        }
    };
    let status = keeper::run(engine).unwrap();
    assert!(status.success(), "the engine's part failed");
    assert_eq!(open(), fds, "no descriptor is left");
    eventually("no interface is left", || links() == names);
}

const DEAF: &str = "deaf";

/// Ends while the keeper's word that it was told to end waits to be read.
fn deaf_engine() -> Command {
    wrapped("sh", &["-c", "kill -TERM $PPID; sleep 0.3"])
}

#[test]
fn an_engine_that_ends_without_listening_is_an_end() {
    run(DEAF, As::Ordinary);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The engine's part: the link, and what the keeper told of the sandbox.
struct Engine {
    link: KeeperLink,
    events: Receiver<Event>,
    unprivileged: bool,
    net: OwnedFd,
    user: Option<OwnedFd>,
    host_net: Option<OwnedFd>,
}

impl Engine {
    #[allow(unsafe_code, reason = "the descriptor is inherited")]
    fn open() -> Self {
        use std::os::fd::FromRawFd;
        // SAFETY: the keeper has put the pair's end there, and nobody else takes it.
        let fd = unsafe { OwnedFd::from_raw_fd(keeper::ENGINE_FD) };
        let (link, events) = KeeperLink::open(Channel::from_fd(fd)).unwrap();
        let (reply, fds) = link.request(RequestBody::Sandbox, &[]).unwrap();
        let ReplyBody::Sandbox { unprivileged } = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(fds.len(), if unprivileged { 4 } else { 2 });
        let mut fds = fds.into_iter().skip(1);
        let net = fds.next().unwrap();
        Self {
            link,
            events,
            unprivileged,
            net,
            user: fds.next(),
            host_net: fds.next(),
        }
    }

    /// A namespace that belongs to the sandbox's user namespace, as a container's does.
    fn container(&self) -> OwnedFd {
        let ((), mut fds) = in_child(|| {
            if let Some(user) = &self.user {
                enter(Inside {
                    user: Some(user.as_fd()),
                    net: None,
                })?;
                become_root_of_new_user_namespace()?;
            }
            new_network_namespace()?;
            Ok(((), vec![own_network()?]))
        })
        .unwrap();
        fds.remove(0)
    }

    fn plug(&self, target: &OwnedFd, spec: Plug) -> Result<(SandboxId, u32, usize), String> {
        let reply = self
            .link
            .request(RequestBody::Plug(spec), &[target.as_fd()]);
        match reply.map_err(|e| e.to_string())? {
            (ReplyBody::Plugged { sandbox, ifindex }, fds) => Ok((sandbox, ifindex, fds.len())),
            (other, _) => panic!("{other:?}"),
        }
    }

    fn unplug(&self, sandbox: SandboxId, ifindex: u32) {
        let body = RequestBody::Unplug { sandbox, ifindex };
        self.link.request(body, &[]).unwrap();
    }

    /// Names of the interfaces of a namespace.
    fn names(&self, net: &OwnedFd) -> Vec<String> {
        self.look(net, |netlink| {
            netlink
                .links()
                .unwrap()
                .into_iter()
                .map(|l| l.name)
                .collect::<Vec<_>>()
        })
    }

    fn look<T>(&self, net: &OwnedFd, f: impl FnOnce(&mut Netlink) -> T) -> T
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let owner = self.unprivileged.then(|| owner_of(net.as_fd()).unwrap());
        let (seen, _) = in_child(|| {
            let user = owner.as_ref().map(AsFd::as_fd);
            enter(Inside {
                user,
                net: Some(net.as_fd()),
            })?;
            Ok((f(&mut Netlink::open(Watch::Nothing).unwrap()), Vec::new()))
        })
        .unwrap();
        seen
    }

    fn wait_gone(&self, mut wanted: BTreeSet<u32>) {
        let end = Instant::now() + PATIENCE;
        while !wanted.is_empty() {
            match self.events.recv_deadline(end) {
                Ok(Event::LinkGone {
                    sandbox: SandboxId::SHARED,
                    ifindex,
                }) => {
                    wanted.remove(&ifindex);
                }
                Ok(_) => {}
                Err(_) => panic!("{} links went without a word", wanted.len()),
            }
        }
    }
}

fn own_network() -> io::Result<OwnedFd> {
    Ok(fs::File::open("/proc/self/ns/net")?.into())
}

fn spec(host_ifname: &str) -> Plug {
    Plug {
        host_ifname: host_ifname.to_owned(),
        ifname: "eth0".to_owned(),
        mac: MAC.to_owned(),
        addresses: vec!["172.17.0.2/16".parse().unwrap()],
        gateway: Some("172.17.0.1".parse().unwrap()),
        mtu: 1400,
    }
}

fn plug_and_unplug_(engine: &Engine) {
    assert!(!engine.unprivileged);
    plug_and_unplug(engine);
}

fn plug_and_unplug(engine: &Engine) {
    let target = engine.container();
    let (sandbox, ifindex, fds) = engine.plug(&target, spec("p1")).unwrap();
    assert_eq!((sandbox, fds), (SandboxId::SHARED, 0));

    let (mac, mtu, addresses, gateway) = engine.look(&target, |netlink| {
        let link = netlink.link("eth0").unwrap();
        let addresses = netlink.addresses(link.index).unwrap();
        let default = |r: &pontoon_engine::io::netlink::HostRoute| r.prefix.prefix_len() == 0;
        let gateway = netlink
            .routes()
            .unwrap()
            .into_iter()
            .find(default)
            .unwrap()
            .gateway;
        assert!(link.running && netlink.link("lo").unwrap().running);
        (link.mac.to_string(), link.mtu, addresses, gateway)
    });
    assert_eq!((mac.as_str(), mtu), (MAC, 1400));
    assert_eq!(
        addresses,
        spec("p1").addresses,
        "no link-local address beside it"
    );
    assert_eq!(gateway, spec("p1").gateway);
    let ours = engine.look(&engine.net, |n| n.link("p1").unwrap().mac.to_string());
    assert_ne!(ours, MAC, "the engine's end has an address of its own");

    engine.unplug(sandbox, ifindex);
    assert_eq!(engine.names(&target), ["lo"]);
    engine.unplug(sandbox, ifindex);
}

fn taken_name(engine: &Engine) {
    let target = engine.container();
    engine.plug(&target, spec("p1")).unwrap();
    let error = engine.plug(&target, spec("p2")).unwrap_err();
    assert!(error.contains("exists already"), "{error}");
    let mut unreachable = spec("p3");
    unreachable.ifname = "eth1".to_owned();
    unreachable.gateway = Some("192.0.2.9".parse().unwrap());
    let error = engine.plug(&target, unreachable).unwrap_err();
    assert!(error.contains("default route"), "{error}");
    assert_eq!(engine.names(&engine.net), ["lo", "p1"]);
    assert_eq!(engine.names(&target), ["lo", "eth0"]);
}

fn foreign(engine: &Engine) {
    let ((), mut fds) = in_child(|| {
        become_root_of_new_user_namespace()?;
        new_network_namespace()?;
        Ok(((), vec![own_network()?]))
    })
    .unwrap();
    let target = fds.remove(0);
    let (sandbox, ifindex, sockets) = engine.plug(&target, spec("p1")).unwrap();
    assert_ne!(sandbox, SandboxId::SHARED);
    assert_eq!(sockets, 1);
    assert_eq!(engine.names(&engine.net), ["lo"], "not in the sandbox");
    assert_eq!(engine.names(&target), ["lo", "eth0"]);
    engine.unplug(sandbox, ifindex);
    assert_eq!(engine.names(&target), ["lo"]);
}

fn start_namespace(engine: &Engine) {
    let error = engine
        .plug(&own_network().unwrap(), spec("p1"))
        .unwrap_err();
    assert!(error.contains("no rights"), "{error}");
}

/// The engine opens the uplink itself, and then has another keeper and its engine do the same.
fn shared_uplink(engine: &Engine) {
    const AGAIN: &str = "PONTOON_TEST_AGAIN";
    let second = env::var_os(AGAIN).is_some();
    let outside = engine.container();
    if !second {
        wire(&outside);
    }
    let body = RequestBody::OpenUplink {
        interface: "up0".to_owned(),
    };
    let (reply, _fds) = engine.link.request(body, &[]).unwrap();
    let ReplyBody::Uplink(facts) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(facts.unshielded, None);
    if second {
        return;
    }
    let mut keeper = Command::new(env::current_exe().unwrap());
    let status = keeper.args(part("keeper_part")).env(AGAIN, "").status();
    assert!(status.unwrap().success(), "the second keeper");
    let mut here = Netlink::open(Watch::Nothing).unwrap();
    let index = here.link("up0").unwrap().index;
    here.delete(index).unwrap();
}

fn death(engine: &Engine) {
    let target = engine.container();
    let (_, ifindex, _) = engine.plug(&target, spec("p1")).unwrap();
    drop(target);
    engine.wait_gone([ifindex].into());
}

fn many_deaths(engine: &Engine) {
    const CONTAINERS: u32 = 300;
    let (mut targets, mut links) = (Vec::new(), BTreeSet::new());
    for i in 0..CONTAINERS {
        let target = engine.container();
        links.insert(engine.plug(&target, spec(&format!("p{i}"))).unwrap().1);
        targets.push(target);
    }
    // A keeper that is busy meanwhile hears of more than its socket holds.
    let keeper = nix::unistd::getppid();
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGSTOP).unwrap();
    drop(targets);
    eventually("all are gone", || engine.names(&engine.net) == ["lo"]);
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGCONT).unwrap();
    engine.wait_gone(links);
}

fn host_port_(engine: &Engine) {
    assert!(!engine.unprivileged);
    host_port(engine);
}

fn host_port(engine: &Engine) {
    let mut port = spec("hp");
    port.ifname = "pontoon0".to_owned();
    port.gateway = None;
    let (reply, _) = engine
        .link
        .request(RequestBody::PlugHost(port), &[])
        .unwrap();
    let ReplyBody::Plugged { sandbox, ifindex } = reply else {
        panic!("{reply:?}");
    };
    let own = own_network().unwrap();
    let place = engine.host_net.as_ref().unwrap_or(&own);
    assert_eq!(engine.names(place), ["lo", "pontoon0"]);
    assert_eq!(
        engine.names(&engine.net),
        ["lo", "hp"],
        "apart from the engine's ends"
    );
    engine.unplug(sandbox, ifindex);
    assert_eq!(engine.names(place), ["lo"]);
}

fn uplink_refused(engine: &Engine) {
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
        TcpStream::connect_timeout(&to, Duration::from_millis(500))
    })
}

/// What comes back for a datagram to a port where nobody listens.
fn probe(net: &OwnedFd) -> io::ErrorKind {
    inside(net, || {
        let socket = UdpSocket::bind((OUTSIDE, 0)).unwrap();
        socket.connect((HOST, 9)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        socket.send(b"?").unwrap();
        socket.recv(&mut [0]).unwrap_err().kind()
    })
}

fn wire(outside: &OwnedFd) {
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

fn exchange(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(b"x").unwrap();
    let mut byte = [0];
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    to.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

fn shield(engine: &Engine) {
    const UNCLAIMED: u16 = 4999;
    let outside = engine.container();
    wire(&outside);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let running = |name: &str| {
        Netlink::open(Watch::Nothing)
            .unwrap()
            .link(name)
            .unwrap()
            .running
    };
    eventually("carrier", || {
        running("up0") && inside(&outside, || running("out0"))
    });
    let before = dial(&outside, port).unwrap();
    let accepted = listener.accept().unwrap().0;
    assert_eq!(
        dial(&outside, UNCLAIMED).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    assert_eq!(probe(&outside), io::ErrorKind::ConnectionRefused);

    let body = RequestBody::OpenUplink {
        interface: "up0".to_owned(),
    };
    let (reply, fds) = engine.link.request(body, &[]).unwrap();
    let ReplyBody::Uplink(facts) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!((facts.unshielded, fds.len()), (None, 1));
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

    let body = RequestBody::CloseUplink {
        interface: "up0".to_owned(),
    };
    engine.link.request(body, &[]).unwrap();
    eventually("the kernel answers again", || {
        dial(&outside, UNCLAIMED).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    });
    let mut here = Netlink::open(Watch::Nothing).unwrap();
    let index = here.link("up0").unwrap().index;
    here.delete(index).unwrap();
}

fn signal(engine: &Engine) {
    let keeper = nix::unistd::getppid();
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGTERM).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        match engine.events.recv_deadline(end) {
            Ok(Event::ShutDown) => return,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The lowest number that a process has no file for.
fn free_number(pid: &str) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = open.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let taken: BTreeSet<u64> = names.map(|name| name.parse().unwrap()).collect();
    (0..).find(|number| !taken.contains(number)).unwrap()
}

fn short_keeper(engine: &Engine) {
    let keeper = nix::unistd::getppid().to_string();
    let limit = |files: u64| {
        let soft = format!("--nofile={files}:");
        let done = wrapped("prlimit", &["--pid", &keeper, &soft]).status();
        assert!(done.unwrap().success());
    };
    let target = engine.container();
    limit(free_number(&keeper));
    let error = engine.plug(&target, spec("p1")).unwrap_err();
    assert!(error.contains("too many files"), "{error}");
    let error = engine.link.request(RequestBody::HostRoutes, &[]);
    assert!(error.is_err(), "no descriptor was free");
    limit(1024);
    let (sandbox, ifindex, _) = engine.plug(&target, spec("p1")).unwrap();
    engine.unplug(sandbox, ifindex);
}

fn short_engine(engine: &Engine) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = |files| setrlimit(Resource::RLIMIT_NOFILE, files, hard).unwrap();
    let free = free_number("self");
    limit(free);
    let (_, fds) = engine.link.request(RequestBody::Sandbox, &[]).unwrap();
    limit(soft);
    assert_eq!(fds.len(), 0, "the answer came without descriptors");
    let (_, fds) = engine.link.request(RequestBody::Sandbox, &[]).unwrap();
    assert!(fds.len() >= 2);
}

fn leftovers_(engine: &Engine) {
    leftovers(engine);
}

fn leftovers(engine: &Engine) {
    // Each holder makes a namespace, says so, and has a child that stays when its parent has gone.
    const HOLD: &str = "sleep 60 & echo ready; wait";
    let hold = || {
        let user = if engine.unprivileged {
            &["--user", "--map-root-user", "--net"][..]
        } else {
            &["--net"]
        };
        let mut holder = wrapped("unshare", user);
        let holder = holder
            .args(["sh", "-c", HOLD])
            .stdout(std::process::Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = [0; 6];
        holder
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        let net: OwnedFd = fs::File::open(format!("/proc/{}/ns/net", holder.id()))
            .unwrap()
            .into();
        (holder, net)
    };
    let ((mut first, net), (mut other, _)) = (hold(), hold());
    let inside = |net: &OwnedFd| {
        let wanted = nix::sys::stat::fstat(net).unwrap().st_ino;
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let there = |path: std::path::PathBuf| {
            fs::metadata(path).is_ok_and(|m| std::os::unix::fs::MetadataExt::ino(&m) == wanted)
        };
        processes
            .filter(|entry| there(entry.path().join("ns/net")))
            .count()
    };
    assert_eq!(inside(&net), 2, "the shell and what it has started");
    let end = |net: &OwnedFd| {
        engine
            .link
            .request(RequestBody::EndProcesses, &[net.as_fd()])
    };
    end(&net).unwrap();
    assert_eq!(inside(&net), 0);
    assert!(!first.wait().unwrap().success());
    assert!(other.try_wait().unwrap().is_none(), "it runs on");
    end(&net).unwrap();
    let error = end(&own_network().unwrap()).unwrap_err().to_string();
    assert!(error.contains("the keeper's own"), "{error}");
    let net = fs::File::open(format!("/proc/{}/ns/net", other.id()))
        .unwrap()
        .into();
    end(&net).unwrap();
    other.wait().unwrap();
}
