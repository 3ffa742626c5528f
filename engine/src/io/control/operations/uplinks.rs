//! Uplinks: interfaces shared by the networks that leave through them.

use pontoon_switch::LinkState;

use super::{Control, OpenUplink, Outcome, broken, unexpected};
use crate::config::{AddressOwner, Egress, PortId, UplinkConfig, UplinkId};
use crate::control::Invalid;
use crate::control::event::Event;
use crate::control::fault::FaultKind;
use crate::control::state::{Network, UplinkSpec};
use crate::io::keeper::protocol::{ReplyBody, RequestBody, UplinkFacts};

impl Control {
    pub(super) fn use_uplink(&mut self, interface: &str) -> Outcome<UplinkId> {
        if let Some(open) = self.uplinks.get_mut(interface) {
            open.users += 1;
            return Ok(open.id);
        }
        let request = RequestBody::OpenUplink {
            interface: interface.to_owned(),
        };
        let (reply, fds) = self
            .keeper
            .request(request, &[])
            .map_err(|error| Invalid::new("uplink", error.0))?;
        let ReplyBody::Uplink(facts) = reply else {
            return Err(unexpected());
        };
        self.last_uplink += 1;
        let (id, port) = (UplinkId(self.last_uplink), self.state.next_port());
        let config = uplink_config(id, port, &facts)?;
        let (ifindex, reached_by) = (facts.ifindex, facts.reached_by);
        let socket = self
            .ask(move |w, _| {
                let socket = w.add_uplink(fds, ifindex)?;
                if let Err(error) = w.datapath().add_uplink(config) {
                    w.remove_socket(socket);
                    return Err(std::io::Error::other(error));
                }
                if let Some(ifindex) = ifindex {
                    w.connect(port, socket, ifindex);
                }
                w.reach(port, reached_by);
                Ok(socket)
            })?
            .map_err(broken);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                let close = RequestBody::CloseUplink {
                    interface: interface.to_owned(),
                };
                let _ = self.keeper.request(close, &[]);
                return Err(error);
            }
        };
        self.tell_of_uplink(Some(true), &facts);
        self.uplinks.insert(
            interface.to_owned(),
            OpenUplink {
                id,
                port,
                socket,
                users: 1,
                running: stands(&facts),
            },
        );
        Ok(id)
    }

    /// A network whose addresses may leave an interface as they are has come or goes: the kernel is not to
    /// forward what comes back for it.
    pub(super) fn shield_untranslated(&self, network: &Network, interface: &str) {
        if network.egress != Egress::Untranslated {
            return;
        }
        let leaves = |n: &&Network| {
            let by_it = matches!(&n.uplink, UplinkSpec::Device(other) if other == interface);
            by_it && n.egress == Egress::Untranslated
        };
        let subnets = self.state.networks().filter(leaves);
        let request = RequestBody::LeaveUntranslated {
            interface: interface.to_owned(),
            subnets: subnets.map(|n| n.subnet.into()).collect(),
        };
        if let Err(error) = self.keeper.request(request, &[]) {
            log!(
                "uplink dev:{interface}: a kernel that forwards may send on what is for {}: {error}",
                network.name
            );
        }
    }

    pub(super) fn leave_uplink(&mut self, interface: &str) {
        let Some(open) = self.uplinks.get_mut(interface) else {
            return;
        };
        open.users -= 1;
        if open.users > 0 {
            return;
        }
        let (id, port, socket) = (open.id, open.port, open.socket);
        self.uplinks.remove(interface);
        let _ = self.worker.call(move |w, _| {
            w.disconnect(port);
            w.reach(port, None);
            let _ = w.datapath().remove_uplink(id);
            w.remove_socket(socket);
        });
        let close = RequestBody::CloseUplink {
            interface: interface.to_owned(),
        };
        let _ = self.keeper.request(close, &[]);
    }

    /// What its users should know of an uplink that was opened, or stands otherwise than before.
    fn tell_of_uplink(&mut self, before: Option<bool>, facts: &UplinkFacts) {
        let interface = &facts.interface;
        match change(interface, before, stands(facts)) {
            Some(Event::Fault { kind, what }) => self.fault(kind, what),
            other => self.untold.extend(other),
        }
        if let Some(why) = &facts.unshielded {
            log!("uplink dev:{interface}: the kernel may answer for translated flows: {why}");
        }
    }

    pub(super) fn uplink_changed(&mut self, facts: &UplinkFacts) {
        let Some(open) = self.uplinks.get_mut(&facts.interface) else {
            return;
        };
        let (id, port, socket) = (open.id, open.port, open.socket);
        let before = std::mem::replace(&mut open.running, stands(facts));
        self.tell_of_uplink(before, facts);
        let state = if facts.running {
            LinkState::Up
        } else {
            LinkState::Down
        };
        let Some(ifindex) = facts.ifindex else {
            let _ = self.worker.call(move |w, _| {
                w.disconnect(port);
                w.reach(port, None);
                w.datapath().set_link(port, state)
            });
            return;
        };
        let Ok(config) = uplink_config(id, port, facts) else {
            return;
        };
        let reached_by = facts.reached_by;
        let heard = self.ask(move |w, _| {
            let updated = w.datapath().update_uplink(config);
            let _ = updated.and_then(|()| w.datapath().set_link(port, state));
            w.reach(port, reached_by);
            w.rebind(port, socket, ifindex)
        });
        if let Err(error) = heard.and_then(|heard| heard.map_err(broken)) {
            let interface = &facts.interface;
            let what = format!("the uplink {interface} is not heard: {error}");
            self.fault(FaultKind::UplinkUnheard, what);
        }
    }
}

/// Whether an uplink's interface runs; `None` when it is gone.
fn stands(facts: &UplinkFacts) -> Option<bool> {
    facts.ifindex.map(|_| facts.running)
}

/// What those who watch are told of an uplink's interface, which runs, does not, or is not there.
fn change(interface: &str, before: Option<bool>, now: Option<bool>) -> Option<Event> {
    let fault = |kind, how| {
        let what = format!("the uplink {interface} is {how}");
        Some(Event::Fault { kind, what })
    };
    match (before, now) {
        (before, now) if before == now => None,
        (_, None) => fault(FaultKind::UplinkGone, "gone"),
        (_, Some(false)) => fault(FaultKind::UplinkDown, "down"),
        (before, Some(true)) => {
            let kind = before.map_or(FaultKind::UplinkGone, |_| FaultKind::UplinkDown);
            let what = format!("the uplink {interface} is up");
            Some(Event::Mended { kind, what })
        }
    }
}

fn uplink_config(id: UplinkId, port: PortId, facts: &UplinkFacts) -> Outcome<UplinkConfig> {
    Ok(UplinkConfig {
        id,
        port,
        mac: facts.mac.parse().map_err(broken)?,
        addresses: facts.addresses.clone(),
        gateway: facts.gateway,
        mtu: facts.mtu,
        address_owner: AddressOwner::Kernel,
    })
}
