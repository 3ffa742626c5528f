//! The worker thread: poll, process, send.
//!
//! One thread owns the datapath and every packet socket. Others talk to it by [`WorkerHandle::call`]:
//! a closure that runs between two batches. The clock is read once per wake-up.
//!
//! Sleeping and waking costs more than handling a small frame, so after a wake-up that brought little
//! the worker looks at its rings for `LINGER` before it sleeps again (request/response traffic), and
//! after one that brought much it does not (bulk traffic, where the time belongs to the senders).

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pontoon_nat::{ConnId, Owner, Published, Resumable};
use pontoon_packet::{Facts, Frame, Offload, Timestamp, parse};

use super::alarm::{Alarm, Counts};
use super::carrier::{self, Carrier};
use super::journal::Journal;
use super::keeper::carrier::Carried;
use super::packet_socket::{Binding, RingSize};
use super::shared_rings::Hearing;
use super::user::{HostSocket, NameServer, Publication, UserUplink};
use super::wire::{BATCH, Consumer, Outbox, SocketCounters, SocketId, Wire};
use crate::carried::Reach;
use crate::{Datapath, PortId, Transmit};

/// How long rings are looked at before sleeping, when traffic is request and response.
const LINGER: Duration = Duration::from_micros(50);
/// Bytes relayed in one round from which on traffic counts as bulk.
const BULK: usize = 64 << 10;
/// Commands that may wait.
const COMMANDS: usize = 256;
/// How long a caller waits for the worker. It answers within a batch; more means that it is stuck.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const WAKE: Token = Token(usize::MAX);

type Command = Box<dyn FnOnce(&mut Worker, Timestamp) + Send>;

/// The worker does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerGone;

impl std::fmt::Display for WorkerGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the worker thread does not answer")
    }
}

impl std::error::Error for WorkerGone {}

/// How other threads reach the worker.
#[derive(Clone)]
pub struct WorkerHandle {
    commands: Sender<Command>,
    waker: std::sync::Arc<Waker>,
}

impl WorkerHandle {
    /// Runs `f` on the worker thread between two batches and returns its result.
    ///
    /// # Errors
    /// The worker has ended, or has not answered for ten seconds.
    pub fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Worker, Timestamp) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let (reply, answer) = bounded(1);
        let command: Command = Box::new(move |worker, now| {
            // The caller may have given up waiting; nobody else is interested then.
            let _ = reply.send(f(worker, now));
        });
        self.commands
            .send_timeout(command, CALL_TIMEOUT)
            .map_err(|_| WorkerGone)?;
        self.waker.wake().map_err(|_| WorkerGone)?;
        match answer.recv_timeout(CALL_TIMEOUT) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(WorkerGone),
        }
    }

    /// Ends the worker after the batch under way. Does not wait for it: a command that reaches a
    /// worker on its way out is never answered.
    pub fn stop(&self) {
        // A worker that has ended already needs no telling.
        let _ = self
            .commands
            .try_send(Box::new(|worker, _| worker.stopping = true));
        let _ = self.waker.wake();
    }
}

/// A worker that has panicked ends the process: an engine without one serves nobody, and is started again.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The worker's own state.
pub struct Worker {
    datapath: Datapath,
    wire: Wire,
    user: UserUplink,
    poll: Poll,
    commands: Receiver<Command>,
    alarm: Alarm,
    origin: Instant,
    journal: Option<Journal>,
    carrier: Option<Carrier>,
    stopping: bool,
}

impl Worker {
    /// Starts a worker thread for `datapath`.
    ///
    /// # Errors
    /// No thread, or no poll instance, can be made.
    pub fn spawn(datapath: Datapath) -> io::Result<(WorkerHandle, thread::JoinHandle<()>)> {
        let poll = Poll::new()?;
        let waker = std::sync::Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (sender, commands) = bounded(COMMANDS);
        let worker = Self {
            datapath,
            wire: Wire::new(),
            user: UserUplink::new(poll.registry().try_clone()?)?,
            poll,
            commands,
            alarm: Alarm::default(),
            origin: Instant::now(),
            journal: None,
            carrier: None,
            stopping: false,
        };
        let thread = thread::Builder::new()
            .name("pontoon-worker".to_owned())
            .spawn(|| {
                let _whole = EndsTheProcess;
                worker.run();
            })?;
        Ok((
            WorkerHandle {
                commands: sender,
                waker,
            },
            thread,
        ))
    }

    /// The datapath.
    pub fn datapath(&mut self) -> &mut Datapath {
        &mut self.datapath
    }

    /// From now on the kernel carries what is worth it.
    pub(super) fn carry_by(&mut self, carrier: Carrier) {
        self.datapath.carry_flows();
        self.carrier = Some(carrier);
    }

    /// Takes note of what the kernel had carried when it had obeyed the orders of that number.
    pub(super) fn carried(&mut self, now: Timestamp, orders: u64, carried: &[Carried]) {
        let counted = carrier::counted(&self.wire, carried);
        self.datapath.carried(now, orders, &counted);
    }

    /// Takes note of what it had carried in all of flows that it carries no more.
    pub(super) fn carried_to_the_end(&mut self, now: Timestamp, carried: &[Carried]) {
        let counted = carrier::counted(&self.wire, carried);
        self.datapath.carried_to_the_end(now, &counted);
    }

    /// Takes up the flows of an engine before, and writes down from now on what there is. Says how many
    /// were taken up.
    pub(super) fn resume(
        &mut self,
        now: Timestamp,
        flows: &[Resumable],
        journal: Journal,
    ) -> usize {
        self.journal = Some(journal);
        self.datapath.resume(now, flows.iter())
    }

    /// Every container that there is has been connected: ends what belongs to none, and makes those
    /// speak that have lost the other end of a relayed connection.
    pub(super) fn end_what_is_lost(&mut self, relayed: &[Resumable]) {
        let Self { wire, datapath, .. } = self;
        datapath.end_orphans();
        for flow in relayed {
            wire.send(|outbox| datapath.probe(flow, outbox));
        }
    }

    /// Starts to hear a packet socket, which was created with protocol 0.
    ///
    /// # Errors
    /// The kernel refuses the ring, the binding, or to wait for it.
    pub fn add_socket(
        &mut self,
        fd: OwnedFd,
        binding: Binding,
        size: RingSize,
    ) -> io::Result<SocketId> {
        let id = self.wire.add_socket(fd, binding, size)?;
        self.listen(id)
    }

    /// Starts to hear all interfaces of a namespace by packet sockets that are one.
    ///
    /// # Errors
    /// As for [`Wire::add_shared`], or the kernel refuses to wait for one of them.
    pub fn add_shared(&mut self, fds: Vec<OwnedFd>, hearing: Hearing) -> io::Result<SocketId> {
        let id = self.wire.add_shared(fds, hearing)?;
        self.listen(id)
    }

    /// Starts to hear a TAP interface; its port has the interface index `wire::TAP_INDEX`.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking or be waited for.
    pub fn add_tap(&mut self, fd: OwnedFd) -> io::Result<SocketId> {
        let id = self.wire.add_tap(fd)?;
        self.listen(id)
    }

    /// Starts to hear an uplink.
    ///
    /// # Errors
    /// As for [`Wire::add_uplink`], or the kernel refuses to wait for one of the sockets.
    pub fn add_uplink(&mut self, fds: Vec<OwnedFd>, ifindex: Option<u32>) -> io::Result<SocketId> {
        let id = self.wire.add_uplink(fds, ifindex)?;
        self.listen(id)
    }

    /// The kernel reaches a port that lies outside of the sandbox by this interface in it, or by none.
    pub(super) fn reach(&mut self, port: PortId, ifindex: Option<u32>) {
        self.wire.reach(port, ifindex);
        let reach = ifindex.map_or(Reach::Engine, |_| Reach::Kernel);
        self.datapath.set_reach(port, reach);
    }

    fn listen(&self, id: SocketId) -> io::Result<SocketId> {
        for fd in self.wire.raw_fds(id) {
            let registry = self.poll.registry();
            registry.register(&mut SourceFd(&fd), Token(id.0), Interest::READABLE)?;
        }
        Ok(id)
    }

    /// Closes a socket; its ports hear and say nothing more.
    pub fn remove_socket(&mut self, id: SocketId) {
        self.wire.remove_socket(id);
    }

    /// Connects a port of the datapath with an interface, and announces the gateway there.
    pub fn connect(&mut self, port: PortId, socket: SocketId, ifindex: u32) {
        self.wire.add_port(port, socket, ifindex);
        let Self { wire, datapath, .. } = self;
        wire.send(|outbox| datapath.announce(port, outbox));
    }

    /// Lets a port be another interface, which the same socket hears from now on.
    ///
    /// # Errors
    /// As for [`Wire::rebind`].
    pub fn rebind(&mut self, port: PortId, socket: SocketId, ifindex: u32) -> io::Result<()> {
        self.wire.rebind(port, socket, ifindex)
    }

    /// Takes a port off its interface.
    pub fn disconnect(&mut self, port: PortId) {
        self.wire.remove_port(port);
    }

    /// Waits for clients of containers at all of these ports of the host's, or at none.
    ///
    /// # Errors
    /// Somebody was faster at one of them, or the kernel refuses to wait for it.
    pub fn publish(&mut self, ports: Vec<(Publication, HostSocket)>) -> io::Result<()> {
        let inside: Vec<_> = ports.iter().filter_map(|(p, _)| p.at_gateway()).collect();
        self.user.publish(ports)?;
        for port in inside {
            // Who has the host's socket has the port at the gateway too: nobody is in the way.
            let _ = self.datapath.publish(port);
        }
        Ok(())
    }

    /// Lets clients of ports of the host's find somebody else there, and ends the flows that came by them. The
    /// ports are those that were published, in the same order, as they are to lead now.
    pub fn aim_elsewhere(&mut self, before: &[Publication], now: Vec<Publication>) {
        for port in before.iter().filter_map(Publication::at_gateway) {
            self.datapath.unpublish(&port);
        }
        for port in now.iter().filter_map(Publication::at_gateway) {
            // As in `publish`.
            let _ = self.datapath.publish(port);
        }
        for id in self.user.aim_elsewhere(before, now) {
            self.datapath.end(id);
        }
    }

    /// Stops to wait at these ports of the host's, and ends the flows that came by them.
    pub fn unpublish(&mut self, ports: &[Published]) {
        for id in self.user.unpublish(ports) {
            self.datapath.end(id);
        }
    }

    /// From now on containers reach the host's loopback by this address.
    pub fn open_loopback(&mut self, address: IpAddr) {
        self.user.open_loopback(address);
    }

    /// They no longer do.
    pub fn close_loopback(&mut self, address: IpAddr) {
        self.user.close_loopback(address);
    }

    /// Stops to wait on the ports of the host's that lead to a container.
    pub fn unpublish_all(&mut self, owner: Owner) {
        self.user.unpublish_all(owner);
    }

    /// The name server on the gateways.
    pub fn names(&mut self) -> &mut NameServer {
        self.user.names()
    }

    /// Counters of the sockets.
    pub fn socket_counters(&mut self) -> Vec<SocketCounters> {
        self.wire.counters()
    }

    /// Counters of the user uplink.
    pub fn user_counters(&self) -> Vec<(String, u64)> {
        self.user.counters()
    }

    /// Tells from now on by how much counters of limits have grown, once a second at most.
    pub fn tell_of_limits(&mut self, tell: impl Fn(Counts) + Send + 'static) {
        self.alarm.set(tell);
    }

    /// Looks for limits that were hit, when it is time to.
    fn look_for_limits(&mut self, now: Timestamp, frames: usize) {
        if frames > 0 {
            self.alarm.note();
        }
        if self.alarm.poll_timeout().is_some_and(|at| at <= now) {
            let mut counts = self.datapath.limits();
            let lost = self.wire.counters().iter().map(|socket| socket.lost).sum();
            counts.push(("ring.lost", lost));
            self.alarm.look(now, counts);
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut linger = false;
        while !self.stopping {
            self.wait(linger, &mut events);
            let now = self.now();
            self.run_commands(now);
            let told = events.iter().filter(|event| self.user.note(event)).count();
            events.clear();
            let frames = self.pump_all(now) + told;
            // Before host sockets are served, which lets go of the connections that end now.
            if self.datapath.poll_timeout().is_some_and(|at| at <= now) {
                let Self { datapath, wire, .. } = &mut self;
                wire.send(|outbox| datapath.handle_timeout(now, outbox));
            }
            let bytes = self.serve_user(now);
            self.write_journal();
            self.look_for_limits(now, frames);
            self.order_carriage();
            linger = frames > 0 && frames < BATCH / 4 && bytes < BULK;
        }
    }

    fn order_carriage(&mut self) {
        if let Some(carrier) = &self.carrier {
            let orders = self.datapath.carriage();
            if !orders.changes.is_empty() {
                let number = orders.number;
                let refused = carrier.order(orders, &self.wire);
                self.datapath.not_carried(number, &refused);
            }
        }
    }

    fn write_journal(&mut self) {
        if let Some(journal) = &self.journal {
            for (place, flow) in self.datapath.changes() {
                journal.write(place, flow.as_ref());
            }
        }
    }

    /// Waits until there is something to do: not at all when rings or flows are ready, briefly awake
    /// when traffic is request and response, asleep otherwise.
    fn wait(&mut self, linger: bool, events: &mut Events) {
        let ready =
            self.user.is_ready() || self.wire.is_ready() || (linger && self.wait_briefly(events));
        if !events.is_empty() || (ready && !self.user.is_used()) {
            return;
        }
        let timeout = if ready {
            Some(Duration::ZERO)
        } else {
            self.time_to_sleep()
        };
        // An interrupted wait is an early wake-up; there is nothing else that can fail here.
        let _ = self.poll.poll(events, timeout);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    fn time_to_sleep(&self) -> Option<Duration> {
        if !self.commands.is_empty() {
            return Some(Duration::ZERO);
        }
        let timers = [
            self.datapath.poll_timeout(),
            self.user.poll_timeout(),
            self.alarm.poll_timeout(),
        ];
        let due = timers.into_iter().flatten().min()?;
        // Rounded up to what epoll can wait for, so that a wake-up finds its timer due.
        Some(due.since(self.now()) + Duration::from_millis(1))
    }

    /// Looks at the rings and the host's sockets for a short while. Says whether something has come.
    fn wait_briefly(&mut self, events: &mut Events) -> bool {
        let end = Instant::now() + LINGER;
        while Instant::now() < end {
            if self.wire.is_ready() || !self.commands.is_empty() {
                return true;
            }
            if self.user.is_used() {
                // As in `run`: an interrupted look is none.
                let _ = self.poll.poll(events, Some(Duration::ZERO));
                if !events.is_empty() {
                    return true;
                }
            }
            std::hint::spin_loop();
        }
        false
    }

    fn run_commands(&mut self, now: Timestamp) {
        while let Ok(command) = self.commands.try_recv() {
            command(self, now);
        }
    }

    /// Moves what host sockets have, and lets go of those whose connections have ended. Says how many
    /// bytes were relayed.
    fn serve_user(&mut self, now: Timestamp) -> usize {
        let Self {
            datapath,
            wire,
            user,
            ..
        } = self;
        if let Some(port) = datapath.user_port() {
            for mut arrival in user.arrivals(now) {
                let Ok(facts) = parse(&arrival.frame) else {
                    continue;
                };
                let earlier = datapath.connection(now, &facts);
                if earlier.is_some_and(|id| user.is_early(id, &arrival)) {
                    user.postpone(now, arrival);
                    continue;
                }
                let mut frame = Frame {
                    bytes: &mut arrival.frame,
                    offload: arrival.offload,
                };
                wire.send(|wire| {
                    datapath.process(now, port, &mut frame, &mut Ends { now, wire, user });
                });
                match datapath.connection(now, &facts) {
                    Some(id) => user.settle(id, arrival),
                    None => user.abandon(arrival),
                }
            }
            user.serve(now);
        }
        if let (false, Some(port)) = (user.arena.is_empty(), datapath.user_port()) {
            let mut arena = std::mem::take(&mut user.arena);
            wire.send_arena(&mut arena, |frame, wire| {
                datapath.process(now, port, frame, &mut Ends { now, wire, user });
            });
            user.arena = arena;
        }
        for id in user.finished() {
            datapath.end(id);
        }
        for notice in user.notices() {
            wire.send(|outbox| {
                datapath.refuse(now, notice.port, &notice.quoted, notice.error, outbox);
            });
        }
        // Last, since all of the above can end connections and the worker may sleep after it.
        for id in datapath.ended() {
            user.end(id);
        }
        user.take_relayed_bytes()
    }

    /// Takes one batch from every socket. Says how many frames they held.
    fn pump_all(&mut self, now: Timestamp) -> usize {
        let Self {
            wire,
            datapath,
            user,
            ..
        } = self;
        let mut batch = Batch {
            now,
            datapath,
            user,
        };
        (0..wire.places())
            .map(|id| wire.pump(SocketId(id), &mut batch))
            .sum()
    }
}

/// Where frames of a batch go: out by the wire, or to the host's own sockets.
struct Ends<'a> {
    now: Timestamp,
    wire: &'a mut Outbox,
    user: &'a mut UserUplink,
}

impl Transmit for Ends<'_> {
    fn forward(&mut self, port: PortId, frame: &Frame<'_>) {
        self.wire.forward(port, frame);
    }

    fn emit(&mut self, port: PortId, bytes: &[u8], offload: Offload) {
        self.wire.emit(port, bytes, offload);
    }

    fn deliver(&mut self, id: ConnId, from: PortId, frame: &Frame<'_>, facts: &Facts) {
        self.user.receive(self.now, id, from, frame, facts);
    }
}

/// The datapath at one moment.
struct Batch<'a> {
    now: Timestamp,
    datapath: &'a mut Datapath,
    user: &'a mut UserUplink,
}

impl Consumer for Batch<'_> {
    fn take(&mut self, port: PortId, frame: &mut Frame<'_>, out: &mut Outbox) {
        let mut out = Ends {
            now: self.now,
            wire: out,
            user: self.user,
        };
        self.datapath.process(self.now, port, frame, &mut out);
    }

    fn anticipate<'a>(&mut self, upcoming: impl Iterator<Item = &'a [u8]>) {
        self.datapath.anticipate(upcoming);
    }
}
