//! Namespaces and the host, plugged in and pulled out.

use std::collections::BTreeSet;

use pontoon_engine::io::keeper::protocol::{Plug, ReplyBody, RequestBody, SandboxId};
use pontoon_engine::io::namespace::{
    become_root_of_new_user_namespace, in_child, new_network_namespace,
};

use crate::engine::{Engine, own_network};
use crate::eventually;

const MAC: &str = "02:42:ac:11:00:02";

pub(super) fn spec(host_ifname: &str) -> Plug {
    Plug {
        host_ifname: host_ifname.to_owned(),
        ifname: "eth0".to_owned(),
        mac: MAC.to_owned(),
        addresses: vec!["172.17.0.2/16".parse().unwrap()],
        gateway: Some("172.17.0.1".parse().unwrap()),
        mtu: 1400,
    }
}

pub(super) fn plug_and_unplug_(engine: &Engine) {
    assert!(!engine.unprivileged);
    plug_and_unplug(engine);
}

pub(super) fn plug_and_unplug(engine: &Engine) {
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

pub(super) fn unplug_all(engine: &Engine) {
    let targets = [engine.container(), engine.container()];
    for (target, name) in targets.iter().zip(["p1", "p2"]) {
        engine.plug(target, spec(name)).unwrap();
    }
    for _ in 0..2 {
        engine.link.request(RequestBody::UnplugAll, &[]).unwrap();
        for net in targets.iter().chain([&engine.net]) {
            assert_eq!(engine.names(net), ["lo"]);
        }
    }
}

pub(super) fn taken_name(engine: &Engine) {
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

pub(super) fn foreign(engine: &Engine) {
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

pub(super) fn start_namespace(engine: &Engine) {
    let error = engine
        .plug(&own_network().unwrap(), spec("p1"))
        .unwrap_err();
    assert!(error.contains("no rights"), "{error}");
}

pub(super) fn death(engine: &Engine) {
    let target = engine.container();
    let (_, ifindex, _) = engine.plug(&target, spec("p1")).unwrap();
    drop(target);
    engine.wait_gone([ifindex].into());
}

pub(super) fn many_deaths(engine: &Engine) {
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

pub(super) fn host_port_(engine: &Engine) {
    assert!(!engine.unprivileged);
    host_port(engine);
}

pub(super) fn host_port(engine: &Engine) {
    let mut port = spec("hp");
    port.ifname = "pontoon0".to_owned();
    port.gateway = None;
    let (reply, _) = engine
        .link
        .request(RequestBody::PlugHost(port), &[])
        .unwrap();
    let ReplyBody::Plugged {
        sandbox, ifindex, ..
    } = reply
    else {
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
