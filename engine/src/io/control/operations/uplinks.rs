//! Uplinks: interfaces shared by the networks that leave through them.

use pontoon_switch::LinkState;

use super::{Control, OpenUplink, Outcome, broken, unexpected};
use crate::config::{AddressOwner, PortId, UplinkConfig, UplinkId};
use crate::control::Invalid;
use crate::io::keeper::protocol::{ReplyBody, RequestBody, UplinkFacts};
use crate::io::packet_socket::{Binding, RingSize};

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
        let (ReplyBody::Uplink(facts), Some(packet)) = (reply, fds.into_iter().next()) else {
            return Err(unexpected());
        };
        self.last_uplink += 1;
        let (id, port) = (UplinkId(self.last_uplink), self.state.next_port());
        let config = uplink_config(id, port, &facts)?;
        let ifindex = facts.ifindex;
        let socket = self
            .ask(move |w, _| {
                let size = RingSize::LARGE;
                let socket = w.add_socket(packet, Binding::Interface(ifindex), size)?;
                if let Err(error) = w.datapath().add_uplink(config) {
                    w.remove_socket(socket);
                    return Err(std::io::Error::other(error));
                }
                w.connect(port, socket, ifindex);
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
        if let Some(why) = &facts.unshielded {
            eprintln!("uplink dev:{interface}: the kernel may answer for translated flows: {why}");
        }
        self.uplinks.insert(
            interface.to_owned(),
            OpenUplink {
                id,
                port,
                socket,
                users: 1,
            },
        );
        Ok(id)
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
            let _ = w.datapath().remove_uplink(id);
            w.remove_socket(socket);
        });
        let close = RequestBody::CloseUplink {
            interface: interface.to_owned(),
        };
        let _ = self.keeper.request(close, &[]);
    }

    pub(super) fn uplink_changed(&mut self, interface: &str, facts: Option<UplinkFacts>) {
        let Some(open) = self.uplinks.get(interface) else {
            return;
        };
        let (id, port) = (open.id, open.port);
        let Some(facts) = facts else {
            let _ = self
                .worker
                .call(move |w, _| w.datapath().set_link(port, LinkState::Down));
            return;
        };
        let state = if facts.running {
            LinkState::Up
        } else {
            LinkState::Down
        };
        if let Ok(config) = uplink_config(id, port, &facts) {
            let _ = self.worker.call(move |w, _| {
                let updated = w.datapath().update_uplink(config);
                updated.and_then(|()| w.datapath().set_link(port, state))
            });
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
