//! The command line. Docker's words where Docker has them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use pontoon_engine::config::{OffloadMode, UnknownOffload};
use pontoon_engine::control::Invalid;
use pontoon_engine::control::api::{EndpointSpec, NetworkMode};
use pontoon_engine::control::name::check_name;
use pontoon_engine::control::place;
use pontoon_engine::control::publish::{self, PublishRange};
use pontoon_engine::io::control::transport::{INSTANCE, OFFLOAD};

/// Containers' networks without root: bridge, NAT and published ports in userspace.
#[derive(Debug, Parser)]
#[command(name = "pontoon", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Which of the user's engines: each has networks, containers and a directory of its own
    #[arg(long, env = INSTANCE, value_name = "NAME", value_parser = instance, global = true)]
    pub(crate) instance: Option<String>,
    /// Whether the kernel carries flows of an engine that this command starts: auto or off
    #[arg(long, env = OFFLOAD, value_name = "MODE", value_parser = offload)]
    pub(crate) offload: Option<OffloadMode>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Checks the name of an instance, which becomes part of a path.
fn instance(name: &str) -> Result<String, Invalid> {
    if !name.is_empty() {
        check_name("--instance", name)?;
    }
    Ok(name.to_owned())
}

/// What the variable says; nothing when it is empty.
fn offload(text: &str) -> Result<OffloadMode, UnknownOffload> {
    match text {
        "" => Ok(OffloadMode::default()),
        text => text.parse(),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a network namespace of its own
    Run(Run),
    /// Run a command in a container's namespaces
    Exec(Exec),
    /// List containers
    Ps(Ps),
    /// Stop containers: SIGTERM, and SIGKILL after some seconds
    Stop {
        /// Names of containers
        #[arg(required = true)]
        names: Vec<String>,
        /// Seconds to wait before SIGKILL
        #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=86_400))]
        time: u64,
    },
    /// Remove containers
    Rm {
        /// Names of containers
        #[arg(required = true)]
        names: Vec<String>,
        /// End those that run
        #[arg(short, long)]
        force: bool,
    },
    /// Publish ports of a container that runs, all of them or none
    Publish(Ports),
    /// Take published ports back, with the connections that came by them
    Unpublish(Ports),
    /// List a container's published ports, or where one of them is
    Port {
        /// Name of the container
        name: String,
        /// The container's port: PORT[/tcp|udp]
        port: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show containers as JSON
    Inspect {
        /// Names of containers
        #[arg(required = true)]
        names: Vec<String>,
        /// As text: json, or with `{{.Field}}` and `{{json .Field}}`
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
    },
    /// Manage networks
    #[command(subcommand)]
    Network(Network),
    /// Make networks and containers as a file describes them
    Up(Up),
    /// Take away what `up` has made
    Down(Down),
    /// Plug an existing network namespace in
    Attach(Attach),
    /// Pull a namespace out
    Detach {
        /// Name of the container
        name: String,
    },
    /// Show the forwarding databases
    Fdb(Listing),
    /// Show the neighbour tables
    Arp(Listing),
    /// Show tracked connections
    Flows(Listing),
    /// Show counters
    Stats(Listing),
    /// Show what happens, as it happens
    Events(Listing),
    /// Show processes, networks and containers
    Status(Listing),
    /// Run a command where the host's ports are
    Host(Host),
    /// End all containers, the engine and its keeper
    Shutdown,
    /// Swap the engine's program; containers run on
    Upgrade {
        /// The new program; the one that runs this command when there is none
        program: Option<PathBuf>,
    },
    /// Show the four scenarios with real traffic
    Demo {
        #[arg(long, hide = true)]
        inside: bool,
    },
    #[command(hide = true)]
    Keeper {
        #[arg(long)]
        leave: bool,
    },
    #[command(hide = true)]
    Engine {
        #[arg(long)]
        leave: bool,
        /// Say which version of the keeper's protocol this program speaks, and nothing else
        #[arg(long)]
        protocol: bool,
    },
}

/// A topology file and its project.
#[derive(Debug, Args)]
pub(crate) struct Topology {
    /// The file; pontoon.yaml or compose.yaml unless named
    #[arg(value_name = "FILE")]
    pub(crate) positional: Option<PathBuf>,
    /// The file
    #[arg(short, long, conflicts_with = "positional")]
    pub(crate) file: Option<PathBuf>,
    /// Name of the project, before the names of its networks and containers
    #[arg(short, long, value_name = "NAME", visible_alias = "project-name")]
    pub(crate) project: Option<String>,
}

impl Topology {
    /// The file that was named.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_deref().or(self.positional.as_deref())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) topology: Topology,
    /// Leave the containers in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove containers of services that the file has no longer
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// Print as JSON what was done
    #[arg(long, requires = "detach")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) topology: Topology,
}

/// Ports of a container.
#[derive(Debug, Args)]
pub(crate) struct Ports {
    /// Name of the container
    pub(crate) name: String,
    /// Ports: `[[IP:][HOST]:]CONTAINER[/tcp|udp]`, ranges as 8000-8010:80-90
    #[arg(required = true, value_name = "PORT")]
    pub(crate) ports: Vec<String>,
}

/// Where a container joins.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// Networks to join, the first one first: NAME, or name=NAME,alias=A,ip=ADDRESS,mac-address=M;
    /// none, host or container:NAME instead
    #[arg(long, visible_alias = "net", default_value = "bridge")]
    pub(crate) network: Vec<String>,
    /// Address on the first network
    #[arg(long)]
    pub(crate) ip: Option<IpAddr>,
    /// Hardware address on the first network
    #[arg(long)]
    pub(crate) mac_address: Option<String>,
    /// Publish ports: `[[IP:][HOST]:]CONTAINER[/tcp|udp]`, ranges as 8000-8010:80-90
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Add a name by which others of the first network find the container
    #[arg(long, value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// Ask this name server instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<IpAddr>,
    /// Note something about the container: NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Do not check the container's source addresses
    #[arg(long, hide = true)]
    pub(crate) no_guard: bool,
}

impl Join {
    /// The places that are asked for; the interface of the first may have a name of its own.
    pub(crate) fn places(
        &self,
        ifname: Option<String>,
    ) -> Result<(NetworkMode, Vec<EndpointSpec>), Invalid> {
        let first = EndpointSpec {
            network: String::new(),
            ifname,
            ip: self.ip,
            mac: self.mac_address.clone(),
            aliases: self.network_alias.clone(),
        };
        place::join(&self.network, first)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Forget the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Add a line to /etc/hosts: NAME:ADDRESS, or NAME:host-gateway for the host's
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// What the container calls itself
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Try this domain behind short names; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Set an option of resolv.conf(5)
    #[arg(long, value_name = "OPTION", visible_alias = "dns-opt")]
    pub(crate) dns_option: Vec<String>,
    /// Set an environment variable: NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(short, long)]
    pub(crate) workdir: Option<PathBuf>,
    /// The command
    #[arg(trailing_var_arg = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Name of the container
    pub(crate) name: String,
    /// The command
    #[arg(trailing_var_arg = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Host {
    /// The command
    #[arg(trailing_var_arg = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Also those that have ended
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Args)]
pub(crate) struct Listing {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Path of a network namespace
    #[arg(long, conflicts_with = "pid")]
    pub(crate) netns: Option<PathBuf>,
    /// A process in the network namespace
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Name of the container
    #[arg(long)]
    pub(crate) name: String,
    /// Name of the interface inside; eth0 unless the network has another prefix
    #[arg(long)]
    pub(crate) ifname: Option<String>,
    #[command(flatten)]
    pub(crate) join: Join,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Make a network
    Create(Box<CreateNetwork>),
    /// List networks
    Ls(ListNetworks),
    /// Show networks as JSON
    Inspect {
        /// Names or ids of networks
        #[arg(required = true)]
        names: Vec<String>,
        /// Show `json` on one line, or this text with {{.Field}} and {{json .Field}} filled in
        #[arg(short, long)]
        format: Option<String>,
    },
    /// Let a container that runs join one more network
    Connect(Connect),
    /// Let a container leave a network
    Disconnect {
        /// Accepted as Docker's: no place on a network outlives its container
        #[arg(short, long)]
        force: bool,
        /// Name of the network
        network: String,
        /// Name of the container
        container: String,
    },
    /// Remove networks
    Rm {
        /// Names or ids of networks
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove all networks that no container uses
    Prune(PruneNetworks),
}

#[derive(Debug, Args)]
pub(crate) struct ListNetworks {
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Ids in full
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only those with name=, id=, driver=, scope=, type= or label=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Show `json`, or this text with {{.Field}} filled in, in columns behind `table`
    #[arg(long)]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Args)]
pub(crate) struct PruneNetworks {
    /// Do not ask first
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only those with label=, label!= or made before until=
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Address on the network
    #[arg(long)]
    pub(crate) ip: Option<IpAddr>,
    /// Add a name by which others of the network find the container
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Vec<String>,
    /// Name of the network
    pub(crate) network: String,
    /// Name of the container
    pub(crate) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateNetwork {
    /// Name of the network
    pub(crate) name: String,
    /// Driver: bridge
    #[arg(short, long, default_value = "bridge", value_parser = ["bridge"])]
    pub(crate) driver: String,
    /// Subnet, as 172.20.0.0/16
    #[arg(long, value_name = "CIDR")]
    pub(crate) subnet: Option<String>,
    /// Take containers' addresses from this part of the subnet
    #[arg(long, value_name = "CIDR")]
    pub(crate) ip_range: Option<String>,
    /// Address of the gateway
    #[arg(long)]
    pub(crate) gateway: Option<IpAddr>,
    /// Give this address to no container: NAME=ADDRESS
    #[arg(long, value_name = "NAME=IP", value_parser = aux_address)]
    pub(crate) aux_address: Vec<(String, IpAddr)>,
    /// Way out: user (the host's own sockets), dev:INTERFACE or none
    #[arg(long, default_value = "user")]
    pub(crate) uplink: String,
    /// Let nothing out that containers begin; their published ports are reached all the same
    #[arg(long)]
    pub(crate) internal: bool,
    /// Let containers reach the host's loopback as host.pontoon.internal
    #[arg(long)]
    pub(crate) host_loopback: bool,
    /// Largest datagram, in bytes
    #[arg(long)]
    pub(crate) mtu: Option<u32>,
    /// Give the host an interface on the network: veth or tap
    #[arg(long)]
    pub(crate) host_port: Option<String>,
    /// Whether the kernel carries flows of the network: auto or off
    #[arg(long, value_name = "MODE", default_value_t)]
    pub(crate) offload: OffloadMode,
    /// Note something about the network: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Set an option of the driver, as com.docker.network.driver.mtu=1400
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) opt: Vec<(String, String)>,
}

/// `NAME=VALUE`; the value is empty where there is none.
fn pair(text: &str) -> Result<(String, String), Infallible> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((name.to_owned(), value.to_owned()))
}

fn aux_address(text: &str) -> Result<(String, IpAddr), String> {
    let expected = || "expected NAME=ADDRESS".to_owned();
    let (name, address) = text.split_once('=').ok_or_else(expected)?;
    let address = address.parse().map_err(|_| expected())?;
    Ok((name.to_owned(), address))
}

/// Reads all `-p` arguments.
pub(crate) fn publish(arguments: &[String]) -> Result<Vec<PublishRange>, Invalid> {
    arguments.iter().map(|text| publish::parse(text)).collect()
}
