//! What clients can ask of the engine, and what it answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::labels::LabelFilter;
use super::publish::{PublishRange, PublishSpec};
use crate::config::OffloadMode;
use crate::view::{FdbEntry, FlowEntry, NeighbourEntry, Stats};

/// What a client wants.
#[derive(Clone, Debug)]
pub enum Request {
    /// Nothing but an answer: whether the engine serves, and stays while the connection lasts.
    Hello,
    /// The sandbox's user and host network namespaces, as descriptors.
    Namespaces,
    /// Plug a namespace in. Descriptors: its network namespace, and when the container is one of `run`'s,
    /// its mount namespace and pidfds of its first process and its monitor; only these two when it is
    /// where the user is.
    Attach(AttachSpec),
    /// Pull a namespace that was attached out and forget it.
    Detach {
        /// Its name.
        name: String,
    },
    /// The first process of a container has ended. Who tells knows the status best.
    Exited {
        /// The container's id.
        id: String,
        /// Its exit status, as a shell would see it.
        status: i32,
    },
    /// All containers.
    Containers,
    /// One container, by name or the beginning of its id.
    Container {
        /// Which.
        name: String,
    },
    /// End a container's first process: SIGTERM, and SIGKILL after so many seconds.
    Stop {
        /// Which.
        name: String,
        /// How long to wait in between.
        seconds: u64,
    },
    /// Forget a container that has ended; end it first when forced.
    Remove {
        /// Which.
        name: String,
        /// Whether it may still run.
        mode: RemoveMode,
    },
    /// Publish ports of a container that runs, all of them or none.
    Publish {
        /// Which container.
        name: String,
        /// Which ports.
        ports: Vec<PublishRange>,
    },
    /// Take published ports of a container back, all of them or none. An address or a port of the host's
    /// that is not given stands for every one.
    Unpublish {
        /// Which container.
        name: String,
        /// Which ports.
        ports: Vec<PublishRange>,
    },
    /// Let a container that runs join one more network.
    Connect {
        /// Which container.
        name: String,
        /// Which network, and as what.
        endpoint: EndpointSpec,
    },
    /// Let a container leave a network.
    Disconnect {
        /// Which container.
        name: String,
        /// Which network.
        network: String,
    },
    /// Make a network.
    CreateNetwork(NetworkSpec),
    /// All networks.
    Networks,
    /// One network, by name or the beginning of its id.
    Network {
        /// Which.
        name: String,
    },
    /// Take an empty network away.
    RemoveNetwork {
        /// Its name.
        name: String,
    },
    /// Take all networks away that nobody uses, but for the default one.
    PruneNetworks(PruneFilter),
    /// Forwarding databases.
    Fdb,
    /// Neighbour tables.
    Neighbours,
    /// Tracked connections.
    Flows,
    /// Counters.
    Stats,
    /// Processes, version, uptime, networks, ports.
    Status,
    /// Swap the engine's program: the engine ends, and its keeper starts this one in its place, which takes
    /// over.
    Upgrade {
        /// Its path.
        program: PathBuf,
    },
    /// End everything.
    ShutDown,
}

impl Request {
    /// Whether it changes nothing.
    pub const fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Hello
                | Self::Namespaces
                | Self::Containers
                | Self::Container { .. }
                | Self::Networks
                | Self::Network { .. }
                | Self::Fdb
                | Self::Neighbours
                | Self::Flows
                | Self::Stats
                | Self::Status
        )
    }

    /// How long the answer may take.
    pub fn patience(&self) -> Duration {
        /// Longest operation that waits for nothing but the kernel and the keeper.
        const WORK: Duration = Duration::from_secs(120);
        match self {
            Self::Stop { seconds, .. } => WORK.saturating_add(Duration::from_secs(*seconds)),
            _ => WORK,
        }
    }
}

/// What `rm` does with a container that still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveMode {
    /// Refuses.
    Stopped,
    /// Ends it (`-f`).
    Force,
}

/// A namespace to plug in.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachSpec {
    /// Its name; generated when it has none.
    pub name: Option<String>,
    /// In which network namespace it is.
    #[serde(default)]
    pub mode: NetworkMode,
    /// The networks that it joins, in the order of its interfaces.
    pub networks: Vec<EndpointSpec>,
    /// Ports to publish.
    #[serde(default)]
    pub publish: Vec<PublishRange>,
    /// What `ps` shows as its command; empty for namespaces that others made.
    #[serde(default)]
    pub command: String,
    /// Its first process, when it is one of `run`'s.
    pub pid: Option<i32>,
    /// Its monitor, when it is one of `run`'s: its files are named after it.
    pub monitor: Option<u32>,
    /// Forget it when it ends.
    #[serde(default)]
    pub remove: bool,
    /// Do not check what it sends.
    #[serde(default)]
    pub unguarded: bool,
    /// What it is called, and whom it asks for names.
    #[serde(default)]
    pub naming: Naming,
    /// What its maker notes about it.
    #[serde(default)]
    pub labels: Labels,
}

/// Notes of whoever made a thing, by their names.
pub type Labels = BTreeMap<String, String>;

/// In which network namespace a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkMode {
    /// One of its own, with its places on networks, if it has any.
    #[default]
    Own,
    /// The user's.
    Host,
    /// That of another container.
    Container {
        /// Which.
        name: String,
    },
}

/// A place on a network that a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Name of the network.
    pub network: String,
    /// Name of the interface inside; the first of `eth0`, `eth1` … that is free when there is none.
    #[serde(default)]
    pub ifname: Option<String>,
    /// The address asked for.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// The hardware address asked for.
    #[serde(default)]
    pub mac: Option<String>,
    /// Names by which others of the network find it, besides its own.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// A container's part in its networks' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Naming {
    /// What it calls itself; the digits of its id that are shown when it is not told.
    pub hostname: Option<String>,
    /// Whom the name server asks for it instead of the host's resolvers.
    pub servers: Vec<IpAddr>,
}

/// A network to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its subnet; the next free pool when there is none.
    pub subnet: Option<String>,
    /// Where addresses are taken from that nobody asks for by number; the whole subnet when there is
    /// none. Like a gateway and auxiliary addresses it takes a subnet.
    #[serde(default)]
    pub ip_range: Option<String>,
    /// The gateway's address; the first of the range when there is none.
    pub gateway: Option<IpAddr>,
    /// Addresses that no container gets, by a name for each.
    #[serde(default)]
    pub aux_addresses: BTreeMap<String, IpAddr>,
    /// `user` (which it is when nothing is given), `dev:IFACE` or `none`.
    pub uplink: Option<String>,
    /// Nothing that its containers begin leaves it (`--internal`); its published ports are reached.
    #[serde(default)]
    pub internal: bool,
    /// Whether its containers reach the host's loopback.
    #[serde(default)]
    pub host_loopback: HostLoopback,
    /// Largest datagram, in bytes.
    pub mtu: Option<u32>,
    /// `veth` or `tap`: give the host a port.
    pub host_port: Option<String>,
    /// Whether the kernel may carry its flows, as far as the engine has it carry any.
    #[serde(default)]
    pub offload: OffloadMode,
    /// What its maker notes about it.
    #[serde(default)]
    pub labels: Labels,
    /// Options of Docker's bridge driver, by their names there
    /// ([`DriverOptions`](super::driver_options::DriverOptions)).
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Which of the networks that nobody uses go.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneFilter {
    /// What is asked of their labels, all of it.
    #[serde(default)]
    pub labels: Vec<LabelFilter>,
    /// Only those that were made before this, in nanoseconds of Unix time.
    #[serde(default)]
    pub created_before_nanos: Option<u64>,
}

/// Whether containers reach what listens on the host's loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostLoopback {
    /// Nobody does.
    #[default]
    Closed,
    /// By an address of their network that stands for it.
    Open,
}

/// A container as it is shown. Where it has several networks, what belongs to one is the first's; what
/// there is none of is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerView {
    /// 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it calls itself.
    pub hostname: String,
    /// What runs in it; empty for namespaces that others made.
    pub command: String,
    /// Its first process, while it runs.
    pub pid: Option<i32>,
    /// `running`, `attached` or `exited`.
    pub state: String,
    /// Exit status, once it has ended.
    pub exit_status: Option<i32>,
    /// Unix time, in seconds.
    pub created: u64,
    /// Name of its network; `none` where it has none, `host`, or `container:` and an id.
    pub network: String,
    /// Interface inside.
    pub ifname: Option<String>,
    /// Address with prefix.
    #[schemars(with = "Option<String>")]
    pub address: Option<IpNet>,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// The address that stands for the host's loopback, where that is open.
    pub host_loopback: Option<IpAddr>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Largest datagram, in bytes.
    pub mtu: Option<u16>,
    /// Published ports.
    pub publish: Vec<PublishSpec>,
    /// Number of its port in `fdb`, `flows` and `stats`.
    pub port: Option<u32>,
    /// Its places on all networks, in the order of its interfaces.
    pub networks: Vec<EndpointView>,
    /// The process that waits for its first process, when it is one of `run`'s: its files are named
    /// after it.
    pub monitor: Option<u32>,
    /// What its maker notes about it.
    pub labels: Labels,
}

/// A container's place on a network, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointView {
    /// 64 digits.
    pub id: String,
    /// Name of the network.
    pub network: String,
    /// The network's 64 digits.
    pub network_id: String,
    /// Interface inside.
    pub ifname: String,
    /// Address with prefix.
    #[schemars(with = "String")]
    pub address: IpNet,
    /// The network's gateway.
    pub gateway: IpAddr,
    /// Whether the container's default route and published ports lead this way.
    pub leads: bool,
    /// The address that stands for the host's loopback, where that is open.
    pub host_loopback: Option<IpAddr>,
    /// Hardware address.
    pub mac: String,
    /// Largest datagram, in bytes.
    pub mtu: u16,
    /// Names by which others of the network find it, besides its own.
    pub aliases: Vec<String>,
    /// Ports that lead here.
    pub publish: Vec<PublishSpec>,
    /// Number of its port in `fdb`, `flows` and `stats`.
    pub port: u32,
}

/// A network as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkView {
    /// 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Number in `fdb` and `arp`.
    pub number: u32,
    /// Unix time, in nanoseconds.
    pub created_nanos: u64,
    /// Its subnet.
    #[schemars(with = "String")]
    pub subnet: IpNet,
    /// Where addresses are taken from that nobody asks for by number, if not the whole subnet.
    #[schemars(with = "Option<String>")]
    pub ip_range: Option<IpNet>,
    /// The gateway's address.
    pub gateway: IpAddr,
    /// Addresses that no container gets.
    pub aux_addresses: BTreeMap<String, IpAddr>,
    /// `user`, `dev:IFACE` or `none`.
    pub uplink: String,
    /// Nothing that its containers begin leaves it.
    pub internal: bool,
    /// The address that stands for the host's loopback, where that is open.
    pub host_loopback: Option<IpAddr>,
    /// Largest datagram, in bytes.
    pub mtu: u16,
    /// Name of the host's interface, where there is one.
    pub host_interface: Option<String>,
    /// Whether the kernel may carry its flows. An engine that does not say has none carried.
    #[serde(default)]
    pub offload: OffloadMode,
    /// Names of its containers that run.
    pub containers: Vec<String>,
    /// What its maker notes about it.
    pub labels: Labels,
    /// Options of its driver, as they were given.
    pub options: BTreeMap<String, String>,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its number.
    pub pid: u32,
}

/// Whether the kernel carries established flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OffloadView {
    /// What the engine was told when it was started.
    pub mode: OffloadMode,
    /// Flows are carried.
    pub active: bool,
    /// What the kernel refuses, where it was asked in vain.
    pub why: Option<String>,
}

/// Everything at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Version of the engine.
    pub version: String,
    /// The engine's process.
    pub engine: Process,
    /// The keeper's process.
    pub keeper: Process,
    /// Seconds since the engine started.
    pub uptime: u64,
    /// How many engines have ended before this one under its keeper.
    pub restarts: u32,
    /// What the last one ended of.
    pub last_end: Option<String>,
    /// Why an engine after this one would not know what it is to know.
    pub trouble: Option<String>,
    /// A user namespace had to be made.
    pub unprivileged: bool,
    /// Memory of all receive rings, in bytes.
    pub ring_bytes: usize,
    /// Whether the kernel carries flows. An engine that does not say has none carried.
    #[serde(default)]
    pub offload: OffloadView,
    /// Networks.
    pub networks: Vec<NetworkView>,
    /// Containers that run.
    pub ports: Vec<ContainerView>,
}

/// What the engine answers. As JSON each is just what it holds.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// It is done.
    Done,
    /// Descriptors came along: the user namespace, if one was made, and the host's network namespace.
    Namespaces {
        /// A user namespace was made.
        unprivileged: bool,
    },
    /// One container.
    Container(ContainerView),
    /// Containers.
    Containers(Vec<ContainerView>),
    /// Published ports, host ports chosen.
    Ports(Vec<PublishSpec>),
    /// One network.
    Network(NetworkView),
    /// Networks.
    Networks(Vec<NetworkView>),
    /// Names of what went.
    Names(Vec<String>),
    /// Forwarding databases.
    Fdb(Vec<FdbEntry>),
    /// Neighbour tables.
    Neighbours(Vec<NeighbourEntry>),
    /// Connections.
    Flows(Vec<FlowEntry>),
    /// Counters.
    Stats(Stats),
    /// Everything at a glance.
    Status(Box<StatusView>),
}

/// The answer to a request, or why there is none.
pub type Answer = Result<Reply, Invalid>;
