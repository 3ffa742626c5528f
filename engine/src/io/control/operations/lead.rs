//! Published ports go where a container's networks lead.

use super::ports::{Claims, opening, publication, published};
use super::{Control, Outcome};
use crate::control::publish::PublishSpec;
use crate::control::state::{Container, Endpoint, Network, UplinkSpec};
use crate::io::user::Publication;

impl Control {
    /// Lets all published ports of a container lead by the place that leads now, those of a place that it is
    /// about to lose included. Ports that nobody could reach there wait, closed.
    ///
    /// # Errors
    /// Some cannot be had again, and wait.
    pub(super) fn lead_ports(&mut self, name: &str, gone: Option<&Endpoint>) -> Outcome<()> {
        let container = self.state.container(name)?.clone();
        let to = self.state.reached(&container).cloned();
        let mut led = Ok(());
        for from in places_with_ports(&container, gone) {
            if to.as_ref().is_none_or(|to| to.port != from.port) {
                led = led.and(self.lead_elsewhere(name, from, to.as_ref()));
            }
        }
        if let Some(to) = to.filter(|_| !container.waiting.is_empty()) {
            led = led.and(self.wait_no_more(name, &container.waiting, &to));
        }
        led
    }

    fn lead_elsewhere(
        &mut self,
        name: &str,
        from: &Endpoint,
        to: Option<&Endpoint>,
    ) -> Outcome<()> {
        let ports = &from.publish;
        self.state.retract(name, |port| ports.contains(port));
        let by_sockets = |network: &Network| network.uplink == UplinkSpec::User;
        let before = by_sockets(self.state.network(&from.network)?);
        let moved = match to {
            Some(to) if before && by_sockets(self.state.network(&to.network)?) => {
                self.aim_elsewhere(from, to)
            }
            _ => {
                self.shut(from, ports)?;
                if before {
                    self.free_ports(ports);
                }
                to.map_or(Ok(()), |to| self.open_again(ports, to))
            }
        };
        let place = to.filter(|_| moved.is_ok()).map(|to| to.port);
        self.state.put_ports(name, place, ports);
        moved
    }

    fn wait_no_more(&mut self, name: &str, ports: &[PublishSpec], to: &Endpoint) -> Outcome<()> {
        self.open_again(ports, to)?;
        self.state.retract(name, |port| ports.contains(port));
        self.state.put_ports(name, Some(to.port), ports);
        Ok(())
    }

    /// Serves clients of ports that are closed.
    fn open_again(&self, ports: &[PublishSpec], to: &Endpoint) -> Outcome<()> {
        let network = self.state.network(&to.network)?;
        let mut claims = Claims::none(Some(network), &self.keeper);
        let claimed = self.state.claim_again(ports, &mut claims);
        // Nobody has asked for it here.
        claimed.map_err(|error| error.of(""))?;
        let opening = opening(to, network, ports, claims);
        let opened = self.ask(|w, _| opening.carry_out(w)).and_then(|done| done);
        opened.inspect_err(|_| self.free_ports(ports))
    }

    /// Lets sockets that clients find open all the time lead elsewhere.
    fn aim_elsewhere(&self, from: &Endpoint, to: &Endpoint) -> Outcome<()> {
        let publications = |endpoint: &Endpoint| -> Outcome<Vec<Publication>> {
            let network = self.state.network(&endpoint.network)?;
            let published = published(endpoint, &from.publish);
            Ok(published.map(|port| publication(network, port)).collect())
        };
        let (before, now) = (publications(from)?, publications(to)?);
        self.ask(move |w, _| w.aim_elsewhere(&before, now))
    }
}

fn places_with_ports<'a>(
    container: &'a Container,
    gone: Option<&'a Endpoint>,
) -> impl Iterator<Item = &'a Endpoint> {
    let all = container.endpoints.iter().chain(gone);
    all.filter(|endpoint| !endpoint.publish.is_empty())
}
