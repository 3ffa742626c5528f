//! What outlives an engine: kept up to date after every change, and taken over by the next one.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;

use super::ports::{Claims, opening};
use super::{Control, Held, Outcome, Place, broken, unexpected};
use crate::carried::Reach;
use crate::config::PortId;
use crate::control::state::{
    Container, Endpoint, HostPort, HostPorts, Network, Phase, SCHEMA, State, Stopped, UplinkSpec,
};
use crate::io::control::directory::container_files;
use crate::io::control::store::{FirstProcess, Record, Seat};
use crate::io::keeper::protocol::{CarrierRequest, Key, RequestBody};
use crate::io::process::{Process, started};
use crate::io::wire::TAP_INDEX;

impl Control {
    /// Writes down what an engine after this one has to know. Whoever asked for a change is answered
    /// after that.
    pub(in super::super) fn save(&mut self) {
        if self.ended {
            return;
        }
        self.settle_carriage();
        let line = self.store.written().map(|written| {
            let (places, processes) = (self.seats(), self.first_processes());
            written.line(&self.state, &places, &processes, self.host_port_numbers())
        });
        match line {
            Some(line) => self.store.append(line),
            None => {
                let record = self.record();
                self.store.replace(record);
            }
        }
        // What could not be written now is written with everything else.
        self.state.settle();
    }

    /// What the kernel carries by a plan that holds no longer is left before anybody is told that it does not.
    fn settle_carriage(&mut self) {
        let Ok(plan) = self.ask(|w, _| w.datapath().carriage_plan()) else {
            return;
        };
        if plan <= self.plan {
            return;
        }
        let request = RequestBody::Carrier(CarrierRequest::LeaveAll { plan });
        match self.keeper.request(request, &[]) {
            Ok(_) => self.plan = plan,
            // The next change tries it again.
            Err(error) => log!("what the kernel carries may not be what was decided: {error}"),
        }
    }

    fn record(&self) -> Record {
        Record {
            schema: SCHEMA,
            generation: 0,
            keeper: self.lives.keeper.clone(),
            state: self.state.snapshot(),
            places: self.seats(),
            host_ports: self.host_port_numbers(),
            processes: self.first_processes(),
        }
    }

    fn seats(&self) -> Vec<Seat> {
        let mut places: Vec<_> = self.places.iter().collect();
        places.sort_by_key(|(port, _)| port.0);
        let seat = |(port, place): (&PortId, &Place)| Seat {
            port: port.0,
            sandbox: place.sandbox,
            ifindex: place.ifindex,
        };
        places.into_iter().map(seat).collect()
    }

    fn host_port_numbers(&self) -> Vec<(String, u32)> {
        let hosts = self.host_ports.iter();
        let mut numbers: Vec<_> = hosts.map(|(name, port)| (name.clone(), port.0)).collect();
        numbers.sort();
        numbers
    }

    fn first_processes(&self) -> Vec<FirstProcess> {
        let held = self.held.keys();
        let held = held.filter_map(|name| self.state.container(name).ok());
        let mut all: Vec<_> = held.filter_map(|c| self.first_process(c)).collect();
        all.sort_by_key(|process| process.pid);
        all
    }

    fn first_process(&self, container: &Container) -> Option<FirstProcess> {
        Some(FirstProcess {
            pid: container.spec.pid?,
            since: self.held.get(&container.name)?.since,
            monitor: container.spec.monitor?,
        })
    }

    /// Takes over what the engine before this one has had.
    pub(super) fn take_over(&mut self, record: &Record, state: State) -> Outcome<()> {
        self.state = state;
        self.had_container = true;
        let seats = record.places.iter();
        let seats: HashMap<u32, Seat> = seats.map(|seat| (seat.port, *seat)).collect();
        let hosts: HashMap<_, _> = record.host_ports.iter().cloned().collect();
        self.open_user_uplink()?;
        for network in self.state.networks().cloned().collect::<Vec<_>>() {
            let host = hosts.get(&network.name).copied();
            self.take_over_network(&network, host, &seats)
                .map_err(|error| broken(format!("network {}: {error}", network.name)))?;
        }
        self.take_up_flows()?;
        for container in self.state.containers().cloned().collect::<Vec<_>>() {
            if container.phase == Phase::Running {
                self.take_over_container(&container, &seats);
            }
        }
        Ok(())
    }

    fn take_over_network(
        &mut self,
        network: &Network,
        host: Option<u32>,
        seats: &HashMap<u32, Seat>,
    ) -> Outcome<()> {
        if let Err(error) = self.lay_out(network) {
            let UplinkSpec::Device(interface) = &network.uplink else {
                return Err(error);
            };
            // Its addresses may be the network's own by now: nobody else is to go without an engine for that.
            let name = &network.name;
            log!("network {name} has no way out, dev:{interface} cannot be had: {error}");
            let mut closed = network.clone();
            closed.uplink = UplinkSpec::None;
            self.lay_out(&closed)?;
        }
        let Some((kind, port)) = network.host_port.zip(host.map(PortId)) else {
            return Ok(());
        };
        match kind {
            HostPort::Veth => {
                let place = self.seat_again(port, seats)?;
                let socket = *self.sockets.get(&place.sandbox).ok_or_else(unexpected)?;
                self.connect_host(network, port, socket, (place.ifindex, place.reach))
            }
            HostPort::Tap => {
                let tap = self.fetch(Key::Tap(port.0))?.into_iter().next();
                let tap = tap.ok_or_else(unexpected)?;
                let socket = self.ask(|w, _| w.add_tap(tap))?.map_err(broken)?;
                self.taps.insert(port, socket);
                self.connect_host(network, port, socket, (TAP_INDEX, Reach::Engine))
            }
        }
    }

    /// A container without its interfaces is still there as long as its first process is; one that was
    /// attached is not.
    fn take_over_container(&mut self, container: &Container, seats: &HashMap<u32, Seat>) {
        let mut plugged = 0;
        for endpoint in &container.endpoints {
            match self.plug_again(container, endpoint, seats) {
                Ok(()) => plugged += 1,
                Err(error) => {
                    let (name, network) = (&container.name, &endpoint.network);
                    log!("container {name} on {network} after a restart: {error}");
                    self.unplug(endpoint.port);
                    self.free_ports(&endpoint.publish);
                }
            }
        }
        if container.spec.pid.is_none() {
            if plugged == 0 {
                self.state.forget(&container.name);
            }
            return;
        }
        if let Err(error) = self.hold_again(container) {
            log!("container {} after a restart: {error}", container.name);
            self.exited(&container.id, super::UNKNOWN_STATUS);
        }
    }

    fn plug_again(
        &mut self,
        container: &Container,
        endpoint: &Endpoint,
        seats: &HashMap<u32, Seat>,
    ) -> Outcome<()> {
        let network = self.state.network(&endpoint.network)?.clone();
        let place = self.seat_again(endpoint.port, seats)?;
        let mut claims = Claims::none(Some(&network), &self.keeper);
        let had = claims.claim(&endpoint.publish);
        had.map_err(|Stopped { at, why }| broken(format!("{}: {why:?}", endpoint.publish[at])))?;
        let opening = opening(endpoint, &network, &endpoint.publish, claims);
        self.add_port(container, endpoint, &network, place, opening)
    }

    fn seat_again(&mut self, port: PortId, seats: &HashMap<u32, Seat>) -> Outcome<Place> {
        let seat = seats.get(&port.0);
        let seat = seat.ok_or_else(|| broken("its interface was gone already"))?;
        let request = RequestBody::Replug {
            sandbox: seat.sandbox,
            ifindex: seat.ifindex,
        };
        let (reply, fds) = self.keeper.request(request, &[]).map_err(broken)?;
        self.place(port, reply, fds)
    }

    fn hold_again(&mut self, container: &Container) -> Outcome<()> {
        let number = container.number.0;
        let fds = self.fetch(Key::Processes(number))?;
        let [process, monitor] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_| broken("its first process is not known any more"))?;
        let held = Held {
            process: Process::from_fd(process),
            monitor: Process::from_fd(monitor),
            net: self.fetch(Key::Net(number))?.pop(),
            mount: self.fetch(Key::Mount(number))?.pop(),
            since: container.spec.pid.map_or(Ok(0), started).unwrap_or(0),
        };
        self.watch_over(container, held)
    }

    pub(super) fn fetch(&self, key: Key) -> Outcome<Vec<OwnedFd>> {
        self.keeper.fetch(key).map_err(broken)
    }

    /// Ends what runs in containers of another keeper's, which has been killed together with its engine.
    pub(super) fn end_leftovers(&self, record: &Record) {
        let boot = |keeper: &str| keeper.get(..BOOT_ID).map(str::to_owned);
        let same_boot = boot(&record.keeper) == boot(&self.lives.keeper);
        for left in &record.processes {
            let request = RequestBody::EndLeftover {
                pid: left.pid,
                since: left.since,
            };
            if same_boot && let Err(error) = self.keeper.request(request, &[]) {
                log!("process {} of an engine that was killed: {error}", left.pid);
            }
            // Its monitor may have removed them.
            let _ = fs::remove_dir_all(container_files(&self.directory, left.monitor));
        }
    }
}

/// Characters of a boot's id, which a keeper's name begins with.
const BOOT_ID: usize = 36;
