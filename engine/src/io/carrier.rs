//! Between the planner and the keeper: has the kernel carry flows, and reports what it has carried.
//!
//! A thread of its own: the worker hands over what is to be done and goes on. It has more done once that is obeyed
//! ([`settle`]), so that nothing waits behind more than one order. What one plan says is void once
//! another has left everything to the engine; the plans are numbered, and the keeper turns down what is
//! late.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::keeper::KeeperLink;
use super::keeper::carrier as kernel;
use super::keeper::protocol::{CarrierRequest, ReplyBody, RequestBody};
use super::wire::Wire;
use super::worker::WorkerHandle;
use crate::carried::{Carriage, Change, Counted, Orders, Seen};

/// How often the kernel's counters are read while anything is carried.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Flows in one message to the keeper.
const AT_ONCE: usize = 128;

/// What a plan changes.
struct Order {
    /// Number of the plan.
    plan: u64,
    /// Number of the order itself.
    number: u64,
    /// Everything is left to the engine, before the rest.
    leave_all: bool,
    leave: Vec<kernel::Seen>,
    /// What comes after that.
    carry: Vec<(Seen, kernel::Seen, kernel::Carriage)>,
}

/// How the worker gives orders.
pub(super) struct Carrier(Sender<Order>);

impl Carrier {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be made.
    pub(super) fn start(keeper: KeeperLink, worker: WorkerHandle) -> std::io::Result<Self> {
        let (orders, taken) = bounded(1);
        thread::Builder::new()
            .name("pontoon-carrier".to_owned())
            .spawn(move || serve(&keeper, &worker, &taken))?;
        Ok(Self(orders))
    }

    /// Hands changes over. Gives back the flows that cannot be carried, since an interface is gone.
    pub(super) fn order(&self, orders: Orders, wire: &Wire) -> Vec<Seen> {
        let mut order = Order {
            plan: orders.plan,
            number: orders.number,
            leave_all: false,
            leave: Vec::new(),
            carry: Vec::new(),
        };
        let refused = orders
            .changes
            .into_iter()
            .filter_map(|c| order.add(c, wire));
        let refused = refused.collect();
        // The thread ends with the process, and has taken the one before: that was obeyed.
        let _ = self.0.send(order);
        refused
    }
}

impl Order {
    /// Adds what comes next. Gives the flow back if it cannot be carried.
    fn add(&mut self, change: Change, wire: &Wire) -> Option<Seen> {
        match change {
            Change::LeaveAll => self.leave_all = true,
            Change::Leave(seen) => self.leave.extend(translate(wire, &seen)),
            Change::Carry(seen, then) => {
                let egress = wire.carriage_ifindex(then.egress);
                let Some((there, egress)) = translate(wire, &seen).zip(egress) else {
                    return Some(seen);
                };
                self.carry.push((seen, there, carriage(&then, egress)));
            }
        }
        None
    }
}

fn serve(keeper: &KeeperLink, worker: &WorkerHandle, orders: &Receiver<Order>) {
    let mut obeyed = 0;
    // When the counters are read next, as long as anything is carried; orders do not put it off.
    let mut next: Option<Instant> = None;
    loop {
        let order = match next {
            Some(at) => orders.recv_deadline(at),
            None => orders.recv().map_err(RecvTimeoutError::from),
        };
        match order {
            Ok(order) => {
                obeyed = order.number;
                obey(keeper, worker, &order);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let carries = settle(worker, obeyed);
        let due = next.is_some_and(|at| at <= Instant::now());
        if due {
            report(keeper, worker, obeyed);
        }
        let later = || Instant::now() + READ_EVERY;
        next = carries.then(|| next.filter(|_| !due).unwrap_or_else(later));
    }
}

/// Has the worker give its next orders. Says whether it has anything carried; if it does not answer it is told
/// again, as if it had.
fn settle(worker: &WorkerHandle, obeyed: u64) -> bool {
    let carries = worker.call(move |w, _| {
        w.datapath().carriage_settled(obeyed);
        w.datapath().carries()
    });
    carries.unwrap_or(true)
}

/// Reports what was carried of flows that an order has left.
fn report_ended(keeper: &KeeperLink, worker: &WorkerHandle) {
    loop {
        let reply = keeper.request(RequestBody::Carrier(CarrierRequest::Ended), &[]);
        let Ok((ReplyBody::Carried { carried, more }, _)) = reply else {
            break;
        };
        let noted = worker.call(move |w, now| w.carried_to_the_end(now, &carried));
        if noted.is_err() || !more {
            break;
        }
    }
}

/// An order that is refused was late, or the interface is gone: the engine does the work.
fn obey(keeper: &KeeperLink, worker: &WorkerHandle, order: &Order) {
    let (plan, number) = (order.plan, order.number);
    let ask = |request| keeper.request(RequestBody::Carrier(request), &[]).is_ok();
    if order.leave_all {
        ask(CarrierRequest::LeaveAll { plan });
    }
    for leave in order.leave.chunks(AT_ONCE) {
        let (leave, carry) = (leave.to_vec(), Vec::new());
        ask(CarrierRequest::Change { plan, leave, carry });
    }
    for some in order.carry.chunks(AT_ONCE) {
        let carry = some.iter().map(|(_, seen, then)| (*seen, *then)).collect();
        let leave = Vec::new();
        if !ask(CarrierRequest::Change { plan, leave, carry }) {
            let refused: Vec<_> = some.iter().map(|(seen, ..)| *seen).collect();
            let _ = worker.call(move |w, _| w.datapath().not_carried(number, &refused));
        }
    }
    if order.leave_all || !order.leave.is_empty() {
        report_ended(keeper, worker);
    }
}

/// Reports what was carried since the last time; what cannot be read now is read the next time.
fn report(keeper: &KeeperLink, worker: &WorkerHandle, obeyed: u64) {
    for page in 0.. {
        let reply = keeper.request(RequestBody::Carrier(CarrierRequest::Read { page }), &[]);
        let Ok((ReplyBody::Carried { carried, more }, _)) = reply else {
            return;
        };
        let noted = worker.call(move |w, now| w.carried(now, obeyed, &carried));
        if noted.is_err() {
            return;
        }
        if !more {
            break;
        }
    }
    // Whoever does not answer is asked again in a second.
    let _ = worker.call(|w, now| w.datapath().leave_silent(now));
}

/// What the kernel has counted, in terms of ports.
pub(super) fn counted(wire: &Wire, carried: &[kernel::Carried]) -> Vec<Counted> {
    let one = |c: &kernel::Carried| {
        Some(Counted {
            seen: Seen {
                ingress: wire.carriage_port(c.seen.ingress)?,
                dst_mac: pontoon_packet::MacAddr(c.seen.dst_mac),
                src_mac: pontoon_packet::MacAddr(c.seen.src_mac),
                protocol: c.seen.protocol,
                src: c.seen.src,
                dst: c.seen.dst,
                routed: c.seen.routed.map(|n| crate::carried::Numbers {
                    ttl: n.ttl,
                    src_port: n.src_port,
                    dst_port: n.dst_port,
                }),
            },
            packets: c.packets,
            bytes: c.bytes,
        })
    };
    carried.iter().filter_map(one).collect()
}

fn translate(wire: &Wire, seen: &Seen) -> Option<kernel::Seen> {
    Some(kernel::Seen {
        ingress: wire.carriage_ifindex(seen.ingress)?,
        dst_mac: seen.dst_mac.0,
        src_mac: seen.src_mac.0,
        protocol: seen.protocol,
        src: seen.src,
        dst: seen.dst,
        routed: seen.routed.map(numbers),
    })
}

fn carriage(then: &Carriage, egress: u32) -> kernel::Carriage {
    kernel::Carriage {
        egress,
        rewritten: then.rewritten.map(|new| kernel::Rewritten {
            dst_mac: new.dst_mac.0,
            src_mac: new.src_mac.0,
            src: new.src,
            dst: new.dst,
            numbers: numbers(new.numbers),
        }),
    }
}

const fn numbers(numbers: crate::carried::Numbers) -> kernel::Numbers {
    kernel::Numbers {
        ttl: numbers.ttl,
        src_port: numbers.src_port,
        dst_port: numbers.dst_port,
    }
}
