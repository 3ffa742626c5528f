//! Networks, and the host's place on them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Control, Outcome, broken, random, unexpected, unix_time};
use crate::carried::Reach;
use crate::config::{ConfigError, NetworkConfig, Outside, PortId};
use crate::control::Invalid;
use crate::control::api::{NetworkSpec, PruneFilter, Reply};
use crate::control::naming;
use crate::control::state::{DEFAULT_NETWORK, HostPort, Network, UplinkSpec};
use crate::io::keeper::protocol::{Key, Plug, ReplyBody, RequestBody};
use crate::io::wire::{SocketId, TAP_INDEX};

impl Control {
    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Outcome<Reply> {
        let (reply, _) = self
            .keeper
            .request(RequestBody::HostRoutes, &[])
            .map_err(broken)?;
        let ReplyBody::HostRoutes(routes) = reply else {
            return Err(unexpected());
        };
        let created = unix_time().as_nanos();
        let created = u64::try_from(created).map_err(broken)?;
        let network = self
            .state
            .create_network(spec, &routes, created, random()?)?
            .clone();
        let made = self.make_network(&network);
        if let Err(error) = made {
            self.unmake_network(&network);
            let _ = self.state.remove_network(&network.name);
            return Err(error);
        }
        Ok(Reply::Network(self.state.network_view(&network)))
    }

    pub(super) fn make_network(&mut self, network: &Network) -> Outcome<()> {
        self.lay_out(network)?;
        match network.host_port {
            None => Ok(()),
            Some(HostPort::Veth) => self.plug_host(network),
            Some(HostPort::Tap) => self.plug_host_tap(network),
        }
    }

    /// Makes a network without the host's port.
    pub(super) fn lay_out(&mut self, network: &Network) -> Outcome<()> {
        let outside = match &network.uplink {
            UplinkSpec::None => Outside::Nowhere,
            UplinkSpec::Device(interface) => Outside::Uplink(self.use_uplink(interface)?),
            UplinkSpec::User => Outside::User,
        };
        let config = NetworkConfig {
            id: network.number,
            subnet: network.subnet.into(),
            gateway: network.gateway.into(),
            gateway_mac: network.gateway_mac(),
            mtu: network.mtu,
            outside,
            egress: network.egress,
            isolation: network.driver.isolation,
            offload: network.offload,
            host_loopback: network.host_loopback.map(IpAddr::V4),
        };
        let zone = naming::zone(network, random()?)?;
        let zone_id = naming::zone_id(network);
        self.ask(move |w, _| {
            let (gateway, loopback) = (config.gateway, config.host_loopback);
            w.datapath().add_network(config)?;
            w.names().open(gateway, zone_id, zone);
            if let Some(address) = loopback {
                w.open_loopback(address);
            }
            Ok(())
        })?
        .map_err(|error: ConfigError| broken(error))?;
        if let UplinkSpec::Device(interface) = &network.uplink {
            self.shield_untranslated(network, interface);
        }
        Ok(())
    }

    pub(super) fn unmake_network(&mut self, network: &Network) {
        if let Some(port) = self.host_ports.remove(&network.name) {
            self.unplug(port);
        }
        let (number, loopback) = (network.number, network.host_loopback);
        let zone = naming::zone_id(network);
        let _ = self.worker.call(move |w, _| {
            w.names().close(zone);
            if let Some(address) = loopback {
                w.close_loopback(address.into());
            }
            w.datapath().remove_network(number)
        });
        if let UplinkSpec::Device(interface) = &network.uplink {
            self.shield_untranslated(network, interface);
            self.leave_uplink(interface);
        }
    }

    pub(super) fn remove_network(&mut self, name: &str) -> Outcome<Reply> {
        if self.state.network(name)?.name == DEFAULT_NETWORK {
            let name = DEFAULT_NETWORK;
            let what = format!("{name} is a pre-defined network and cannot be removed");
            return Err(Invalid::conflict("", what));
        }
        let network = self.state.remove_network(name)?;
        self.unmake_network(&network);
        Ok(Reply::Done)
    }

    pub(super) fn prune_networks(&mut self, filter: &PruneFilter) -> Outcome<Reply> {
        let names = self.state.unused_networks(filter);
        for name in &names {
            self.remove_network(name)?;
        }
        Ok(Reply::Names(names))
    }

    pub(super) fn plug_host(&mut self, network: &Network) -> Outcome<()> {
        let port = self.state.next_port();
        let request = RequestBody::PlugHost(host_plug(network)?);
        let (reply, fds) = self.keeper.request(request, &[]).map_err(broken)?;
        let place = self.place(port, reply, fds)?;
        let socket = *self.sockets.get(&place.sandbox).ok_or_else(unexpected)?;
        self.connect_host(network, port, socket, (place.ifindex, place.reach))
    }

    pub(super) fn plug_host_tap(&mut self, network: &Network) -> Outcome<()> {
        let port = self.state.next_port();
        let request = RequestBody::PlugHostTap(host_plug(network)?);
        let (_, fds) = self.keeper.request(request, &[]).map_err(broken)?;
        let tap = fds.into_iter().next().ok_or_else(unexpected)?;
        let kept = self.keeper.keep(Key::Tap(port.0), &[&tap]);
        kept.map_err(broken)?;
        let socket = self.ask(|w, _| w.add_tap(tap))?.map_err(broken)?;
        self.taps.insert(port, socket);
        self.connect_host(network, port, socket, (TAP_INDEX, Reach::Engine))
    }

    pub(super) fn connect_host(
        &mut self,
        network: &Network,
        port: PortId,
        socket: SocketId,
        (ifindex, reach): (u32, Reach),
    ) -> Outcome<()> {
        self.host_ports.insert(network.name.clone(), port);
        let (number, mtu) = (network.number, network.mtu);
        self.ask(move |w, _| {
            w.datapath().add_host_port(port, number, mtu)?;
            w.datapath().set_reach(port, reach);
            w.connect(port, socket, ifindex);
            Ok(())
        })?
        .map_err(|error: ConfigError| broken(error))
    }
}

/// The host's interface on a network: it has the gateway's addresses.
fn host_plug(network: &Network) -> Outcome<Plug> {
    let address = IpNet::new(network.gateway.into(), network.subnet.prefix_len());
    Ok(Plug {
        host_ifname: format!("pth{}", network.number.0),
        ifname: network.host_interface(),
        mac: network.gateway_mac().to_string(),
        addresses: vec![address.map_err(broken)?],
        gateway: None,
        mtu: network.mtu,
    })
}
