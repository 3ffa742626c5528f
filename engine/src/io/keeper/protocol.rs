//! What engine and keeper say to each other.

use std::net::{IpAddr, SocketAddrV4};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::carrier::{Carriage, Carried, Seen};
use crate::carried::Reach;
use crate::control::state::Stopped;

/// Names a network namespace in which engine's ends of interfaces lie: the sandbox is 0, namespaces
/// made for foreign containers count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SandboxId(pub u32);

impl SandboxId {
    /// The sandbox.
    pub const SHARED: Self = Self(0);
}

/// Version of what is said here, and of the receive rings and the journal that an engine leaves to the
/// next one. Engines of another version cannot take over.
pub const VERSION: u32 = 3;

/// What the keeper keeps for the engine by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The lock on the runtime directory.
    Lock,
    /// The socket on which clients reach the engine.
    Clients,
    /// First process and monitor of the container with this number.
    Processes(u32),
    /// Its network namespace.
    Net(u32),
    /// Its mount namespace.
    Mount(u32),
    /// The host's TAP interface at the port with this number.
    Tap(u32),
    /// Established connections.
    Journal,
}

/// The lives of a keeper's engines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lives {
    /// Tells this keeper apart from all others.
    pub keeper: String,
    /// How many engines have ended before this one.
    pub restarts: u32,
    /// What the last one died of.
    pub last_end: Option<String>,
}

/// From the engine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Comes back with the reply.
    pub id: u64,
    /// What is wanted.
    pub body: RequestBody,
}

/// What the engine wants of the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub enum RequestBody {
    /// The sandbox's descriptors. Reply: [`ReplyBody::Sandbox`].
    Sandbox {
        /// What the engine understands ([`VERSION`]).
        version: u32,
    },
    /// Keep what comes with the request for an engine after this one, in place of what there is by this
    /// name. Reply: [`ReplyBody::Done`].
    Keep(Key),
    /// Hand out what was kept. Reply: [`ReplyBody::Done`], with the descriptors; with none when nothing
    /// is kept by this name.
    Fetch(Key),
    /// Let go of what was kept. Reply: [`ReplyBody::Done`].
    LetGo(Key),
    /// The engine serves clients. What an engine before it has had, and it has not asked for, is cleaned
    /// up: containers are ended, interfaces deleted, ports freed, uplinks closed. Reply:
    /// [`ReplyBody::Done`]. Events tell how the links stand.
    Serving,
    /// Start engines with this program from now on, if it understands this keeper. Reply:
    /// [`ReplyBody::Done`].
    Program(PathBuf),
    /// Plug a namespace in; its descriptor comes with the request. Reply: [`ReplyBody::Plugged`].
    Plug(Plug),
    /// Plug the host in: the namespace that the keeper was started from when it has the right, or
    /// the sandbox's own for the host. Reply: [`ReplyBody::Plugged`].
    PlugHost(Plug),
    /// Plug the host in as [`PlugHost`](Self::PlugHost) does, but by a TAP interface. Reply:
    /// [`ReplyBody::Done`], with the interface's descriptor.
    PlugHostTap(Plug),
    /// Let the default route of a network namespace, whose descriptor comes with the request, lead by one
    /// of its interfaces. Reply: [`ReplyBody::Done`].
    Route {
        /// The interface.
        ifname: String,
        /// The next hop.
        gateway: IpAddr,
    },
    /// End every process in a network or mount namespace, whose descriptor comes with the request. Reply:
    /// [`ReplyBody::Done`].
    EndProcesses,
    /// The engine's end of a veth pair that an engine before this one has had. Reply:
    /// [`ReplyBody::Plugged`].
    Replug {
        /// Where it lies.
        sandbox: SandboxId,
        /// Its index there.
        ifindex: u32,
    },
    /// End a process that another keeper's engine has left, and every other one in its mount namespace,
    /// unless it has ended and somebody else has its number. Reply: [`ReplyBody::Done`].
    EndLeftover {
        /// Its number.
        pid: i32,
        /// When it was started, in clock ticks since the machine was.
        since: u64,
    },
    /// Delete the engine's end of a veth pair. Reply: [`ReplyBody::Done`].
    Unplug {
        /// Where it lies.
        sandbox: SandboxId,
        /// Its index there.
        ifindex: u32,
    },
    /// Delete the engine's ends of all veth pairs in the sandbox. Reply: [`ReplyBody::Done`].
    UnplugAll,
    /// Open an interface of the namespace that the keeper was started from. Reply:
    /// [`ReplyBody::Uplink`], with its packet sockets.
    OpenUplink {
        /// Its name.
        interface: String,
    },
    /// Keep the kernel from forwarding what comes by an open interface for subnets whose addresses leave it
    /// untranslated: these and no others. Reply: [`ReplyBody::Done`].
    LeaveUntranslated {
        /// Its name.
        interface: String,
        /// The subnets.
        subnets: Vec<IpNet>,
    },
    /// Leave an interface to the kernel again. Reply: [`ReplyBody::Done`].
    CloseUplink {
        /// Its name.
        interface: String,
    },
    /// All prefixes that the namespace has routes for. Reply: [`ReplyBody::HostRoutes`].
    HostRoutes,
    /// Something of flows that the kernel carries.
    Carrier(CarrierRequest),
    /// Bind sockets at ports of the namespace that the keeper was started from, as many as one message
    /// has room for ([`MAX_FDS`](crate::io::fdpass::MAX_FDS)) at most. Reply: [`ReplyBody::Bound`],
    /// with the sockets. Ports that an engine before this one has had are had again, with everybody who
    /// waits there.
    Bind(Vec<HostEndpoint>),
    /// Leave ports to others again. Reply: [`ReplyBody::Done`].
    Unbind(Vec<HostEndpoint>),
    /// Who has a port that is taken. Reply: [`ReplyBody::Holder`].
    Holder(HostEndpoint),
}

/// What an engine asks of flows that the kernel carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CarrierRequest {
    /// Have flows carried, as far as the kernel can. Reply: [`ReplyBody::Done`].
    Raise,
    /// Leave some flows to the engine again, and carry others. Reply: [`ReplyBody::Done`].
    Change {
        /// Number of the plan that says so; refused once a later one has left everything. A later one that has not
        /// does so first.
        plan: u64,
        /// Those that are carried now.
        leave: Vec<Seen>,
        /// Those that are not.
        carry: Vec<(Seen, Carriage)>,
    },
    /// Leave all flows to the engine again. Reply: [`ReplyBody::Done`].
    LeaveAll {
        /// Number of the plan that says so.
        plan: u64,
    },
    /// What was carried of each flow. Reply: [`ReplyBody::Carried`].
    Read {
        /// As many as a message has room for; the first one, 0, reads them anew.
        page: usize,
    },
    /// What was carried in all of flows that were left since this was asked last, as many as a message has room
    /// for. Reply: [`ReplyBody::Carried`].
    Ended,
}

impl RequestBody {
    /// What takes back what was done, so that nothing stays that nobody knows of. `descriptors` came with
    /// the answer.
    pub(super) fn taken_back(self, answer: &ReplyBody, descriptors: usize) -> Option<Self> {
        match (self, answer) {
            (Self::Bind(mut ports), ReplyBody::Bound(_)) => {
                ports.truncate(descriptors);
                Some(Self::Unbind(ports))
            }
            (
                Self::Plug(_) | Self::PlugHost(_),
                ReplyBody::Plugged {
                    sandbox, ifindex, ..
                },
            ) => {
                let (sandbox, ifindex) = (*sandbox, *ifindex);
                Some(Self::Unplug { sandbox, ifindex })
            }
            (Self::OpenUplink { interface }, ReplyBody::Uplink(_)) => {
                Some(Self::CloseUplink { interface })
            }
            (Self::Carrier(request), ReplyBody::Done) => request.taken_back().map(Self::Carrier),
            _ => None,
        }
    }
}

impl CarrierRequest {
    fn taken_back(self) -> Option<Self> {
        let Self::Change { plan, carry, .. } = self else {
            return None;
        };
        let leave: Vec<_> = carry.into_iter().map(|(seen, _)| seen).collect();
        let carry = Vec::new();
        (!leave.is_empty()).then_some(Self::Change { plan, leave, carry })
    }
}

/// A port of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostEndpoint {
    /// The address, unspecified for every one, and the number.
    pub address: SocketAddrV4,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
}

/// A container's interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plug {
    /// Name of the engine's end.
    pub host_ifname: String,
    /// Name of the container's end.
    pub ifname: String,
    /// Hardware address of the container's end.
    pub mac: String,
    /// Addresses of the container's end, with their on-link prefixes.
    pub addresses: Vec<IpNet>,
    /// Default route.
    pub gateway: Option<IpAddr>,
    /// Largest datagram, in bytes.
    pub mtu: u16,
}

/// From the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The answer to a request.
    Reply {
        /// The request's number.
        id: u64,
        /// The answer, or what went wrong.
        body: Result<ReplyBody, String>,
    },
    /// Something happened.
    Event(Event),
}

/// Answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ReplyBody {
    /// Descriptors: the packet sockets, network namespace, then the user namespace and the host's
    /// network namespace where they were made.
    Sandbox {
        /// A user namespace was made; the last two descriptors are there.
        unprivileged: bool,
        /// What was before.
        lives: Lives,
    },
    /// The interface is there. With a packet socket of its own when `sandbox` is not the shared one.
    Plugged {
        /// Where the engine's end lies.
        sandbox: SandboxId,
        /// Its index there.
        ifindex: u32,
        /// Who can move frames from it and to it.
        reach: Reach,
    },
    /// The uplink, with its packet sockets.
    Uplink(UplinkFacts),
    /// Prefixes.
    HostRoutes(Vec<IpNet>),
    /// Sockets, in the order of the ports that were asked for: of all, or of those before the one that
    /// cannot be had. They do not block; nobody listens at them yet.
    Bound(Option<Stopped>),
    /// What was carried since it was installed.
    Carried {
        /// Of these flows.
        carried: Vec<Carried>,
        /// There is another page.
        more: bool,
    },
    /// The process; `None` when the keeper may not see it.
    Holder(Option<String>),
    /// It is done.
    Done,
}

/// An uplink's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkFacts {
    /// Its name.
    pub interface: String,
    /// Its index; `None` while it is gone.
    pub ifindex: Option<u32>,
    /// Its hardware address.
    pub mac: String,
    /// Its largest datagram, in bytes.
    pub mtu: u16,
    /// Up, and with carrier.
    pub running: bool,
    /// Its IPv4 addresses, with their on-link prefixes.
    pub addresses: Vec<IpNet>,
    /// The next hop of the default route through it.
    pub gateway: Option<IpAddr>,
    /// Why the kernel may answer for translated flows as well, when the shield could not be made.
    pub unshielded: Option<String>,
    /// Index of the interface of the sandbox by which the kernel carries flows from it and to it, if it does.
    pub reached_by: Option<u32>,
}

/// What happens without being asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The engine's end of an interface is gone, and with it the container's.
    LinkGone {
        /// Where it lay.
        sandbox: SandboxId,
        /// Its index there.
        ifindex: u32,
    },
    /// The engine's end of an interface has changed.
    LinkState {
        /// Where it lies.
        sandbox: SandboxId,
        /// Its index there.
        ifindex: u32,
        /// Both ends are up.
        running: bool,
        /// Largest datagram, in bytes.
        mtu: u16,
    },
    /// An uplink's interface has changed, is gone, or another one has come by its name.
    UplinkChanged(UplinkFacts),
    /// The keeper was asked to end.
    ShutDown,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd;

    use super::*;
    use crate::control::state::Unclaimed;
    use crate::io::fdpass::{Channel, MAX_FDS};

    #[test]
    fn as_many_ports_as_a_message_has_room_for_are_asked_for_and_answered() {
        let (engine, keeper) = Channel::pair().unwrap();
        let port = HostEndpoint {
            address: SocketAddrV4::new(Ipv4Addr::BROADCAST, u16::MAX),
            protocol: u8::MAX,
        };
        let body = RequestBody::Bind(vec![port; MAX_FDS]);
        engine.send(&Request { id: u64::MAX, body }, &[]).unwrap();
        let (request, _) = keeper.receive::<Request>().unwrap().unwrap();
        let RequestBody::Bind(ports) = request.body else {
            panic!("{request:?}");
        };
        assert_eq!(ports, [port; MAX_FDS]);

        let stopped = Stopped {
            at: 7,
            why: Unclaimed::Refused("\"quoted\"".to_owned()),
        };
        let body = Ok(ReplyBody::Bound(Some(stopped.clone())));
        let (id, fds) = (request.id, [keeper.as_fd(); 7]);
        keeper.send(&FromKeeper::Reply { id, body }, &fds).unwrap();
        let (reply, fds) = engine.receive::<FromKeeper>().unwrap().unwrap();
        let FromKeeper::Reply { id: u64::MAX, body } = reply else {
            panic!("{reply:?}");
        };
        let ReplyBody::Bound(answer) = body.unwrap() else {
            panic!("something else");
        };
        assert_eq!((answer, fds.len()), (Some(stopped), 7));
    }

    #[test]
    fn flows_that_are_carried_too_late_are_left_again() {
        let seen = Seen {
            ingress: 7,
            dst_mac: [2; 6],
            src_mac: [3; 6],
            protocol: 6,
            src: Ipv4Addr::LOCALHOST,
            dst: Ipv4Addr::BROADCAST,
            routed: None,
        };
        let then = Carriage {
            egress: 8,
            rewritten: None,
        };
        let order = |leave: &[Seen], carry: &[(Seen, Carriage)]| {
            RequestBody::Carrier(CarrierRequest::Change {
                plan: 5,
                leave: leave.to_vec(),
                carry: carry.to_vec(),
            })
        };
        let taken_back = order(&[], &[(seen, then)]).taken_back(&ReplyBody::Done, 0);
        let Some(RequestBody::Carrier(CarrierRequest::Change { plan, leave, carry })) = taken_back
        else {
            panic!("{taken_back:?}");
        };
        assert_eq!((plan, leave, carry), (5, vec![seen], vec![]));
        let left = order(&[seen], &[]).taken_back(&ReplyBody::Done, 0);
        assert!(left.is_none(), "{left:?}");
    }
}
