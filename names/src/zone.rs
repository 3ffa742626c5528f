//! The names of one network.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use hickory_proto::rr::{LowerName, Name};
use ipnet::IpNet;

use crate::ZoneId;

/// Whose names these are: the number of a container's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(pub u32);

/// Whether the containers of a network find each other by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// They do: a network that somebody made.
    Containers,
    /// They do not, as on Docker's default `bridge`. Only extra names and addresses are known.
    Nothing,
}

/// How far the queries of a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What the zone does not know is forwarded.
    Outside,
    /// What the zone does not know does not exist (NXDOMAIN), and other networks' addresses are
    /// nobody's business (REFUSED). Nothing is forwarded.
    Internal,
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    /// What was given.
    pub name: String,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} cannot be a name in DNS: give labels of 1 to 63 ASCII characters, \
             separated by dots, with the network's name 253 characters in all",
            self.name
        )
    }
}

impl core::error::Error for NameError {}

/// What a zone knows about a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Addresses of any family, in the order they were added.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Pointer(&'a Name),
    /// There is no such name.
    Nothing,
    /// It is not told.
    Refused,
    /// Nothing: the upstreams may know.
    Elsewhere,
}

impl Found<'_> {
    /// Whether the zone has it.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self, Self::Addresses(_) | Self::Pointer(_))
    }
}

/// What one client sees besides.
#[derive(Debug, Default)]
struct View {
    extras: Vec<(LowerName, IpAddr)>,
    upstreams: Option<Arc<[SocketAddr]>>,
    zones: Vec<ZoneId>,
}

/// The names of one network: of its containers, and others that only its clients know.
///
/// A container is found by each of its names, with and without the network's behind it (`web`,
/// `web.backend`), whatever the case. Several containers may share a name; all addresses are given.
/// Filled by the control side only, so it needs no cap.
#[derive(Debug)]
pub struct Zone {
    suffix: Name,
    subnets: Vec<IpNet>,
    discovery: Discovery,
    reach: Reach,
    names: HashMap<LowerName, Vec<(Member, IpAddr)>, RandomState>,
    pointers: HashMap<IpAddr, (Member, Name), RandomState>,
    extras: Vec<(LowerName, IpAddr)>,
    views: HashMap<IpAddr, View, RandomState>,
}

impl Zone {
    /// A zone without names for the network called `network` with these subnets. `seeds` key its
    /// tables.
    pub fn new(
        network: &str,
        subnets: &[IpNet],
        discovery: Discovery,
        reach: Reach,
        seeds: [u64; 4],
    ) -> Result<Self, NameError> {
        let [a, b, c, d] = seeds;
        let hasher = RandomState::with_seeds(a, b, c, d);
        Ok(Self {
            suffix: parse(network)?,
            subnets: subnets.to_vec(),
            discovery,
            reach,
            names: HashMap::with_hasher(hasher.clone()),
            pointers: HashMap::with_hasher(hasher.clone()),
            extras: Vec::new(),
            views: HashMap::with_hasher(hasher),
        })
    }

    /// Makes `member` known under `names` (its own name first, then hostname and aliases) at `addrs`,
    /// and under nothing else. The first name is what its addresses resolve to.
    pub fn attach(
        &mut self,
        member: Member,
        names: &[&str],
        addrs: &[IpAddr],
    ) -> Result<(), NameError> {
        let names: Vec<(Name, Name)> = names
            .iter()
            .map(|name| Ok((parse(name)?, self.qualified(name)?)))
            .collect::<Result<_, NameError>>()?;
        self.detach(member);
        for (short, long) in &names {
            for key in [LowerName::new(short), LowerName::new(long)] {
                let holders = self.names.entry(key).or_default();
                for addr in addrs {
                    if !holders.contains(&(member, *addr)) {
                        holders.push((member, *addr));
                    }
                }
            }
        }
        if let Some((_, long)) = names.first() {
            for addr in addrs {
                self.pointers.insert(*addr, (member, long.clone()));
            }
        }
        Ok(())
    }

    /// Forgets the names and addresses of `member`.
    pub fn detach(&mut self, member: Member) {
        self.names.retain(|_, holders| {
            holders.retain(|(holder, _)| *holder != member);
            !holders.is_empty()
        });
        self.pointers.retain(|_, (holder, _)| *holder != member);
    }

    /// Adds a name that every client of the network sees, `host.pontoon.internal` for one. Given
    /// again, it has several addresses. It goes before containers of the same name.
    pub fn add_extra(&mut self, name: &str, addr: IpAddr) -> Result<(), NameError> {
        self.extras.push((LowerName::new(&parse(name)?), addr));
        Ok(())
    }

    /// Forgets a name that every client of the network sees.
    pub fn remove_extra(&mut self, name: &str) -> Result<(), NameError> {
        let name = LowerName::new(&parse(name)?);
        self.extras.retain(|(other, _)| *other != name);
        Ok(())
    }

    /// Adds a name that only `client` sees (`--add-host`). It goes before all others.
    pub fn add_client_extra(
        &mut self,
        client: IpAddr,
        name: &str,
        addr: IpAddr,
    ) -> Result<(), NameError> {
        let name = LowerName::new(&parse(name)?);
        let view = self.views.entry(client).or_default();
        view.extras.push((name, addr));
        Ok(())
    }

    /// Where the queries of `client` go instead of the common upstreams (`--dns`).
    pub fn set_client_upstreams(&mut self, client: IpAddr, upstreams: &[SocketAddr]) {
        self.views.entry(client).or_default().upstreams = Some(upstreams.into());
    }

    /// In which other zones `client` finds what this one does not have, in that order: those of its other
    /// networks.
    pub fn set_client_zones(&mut self, client: IpAddr, zones: &[ZoneId]) {
        self.views.entry(client).or_default().zones = zones.to_vec();
    }

    /// Forgets what only `client` sees.
    pub fn forget_client(&mut self, client: IpAddr) {
        self.views.remove(&client);
    }

    /// The other zones of that client.
    pub(crate) fn client_zones(&self, client: IpAddr) -> &[ZoneId] {
        self.views.get(&client).map_or(&[], |view| &view.zones)
    }

    /// The upstreams of that client alone.
    pub(crate) fn client_upstreams(&self, client: IpAddr) -> Option<Arc<[SocketAddr]>> {
        self.views.get(&client)?.upstreams.clone()
    }

    /// What `client` is to know about `name`.
    pub(crate) fn find(&self, client: IpAddr, name: &Name) -> Found<'_> {
        if let Some(addrs) = self.addresses(client, &LowerName::new(name)) {
            return Found::Addresses(addrs);
        }
        match (name.parse_arpa_name(), self.reach) {
            (Ok(asked), _) if self.is_own(asked) => self.pointer(asked.addr()),
            (Ok(_), Reach::Internal) => Found::Refused,
            (Err(_), Reach::Internal) => Found::Nothing,
            (_, Reach::Outside) => Found::Elsewhere,
        }
    }

    fn addresses(&self, client: IpAddr, name: &LowerName) -> Option<Vec<IpAddr>> {
        let extra = |extras: &[(LowerName, IpAddr)]| {
            let same = extras.iter().filter(|(other, _)| other == name);
            let addrs: Vec<IpAddr> = same.map(|(_, addr)| *addr).collect();
            (!addrs.is_empty()).then_some(addrs)
        };
        let view = self.views.get(&client);
        view.and_then(|view| extra(&view.extras))
            .or_else(|| extra(&self.extras))
            .or_else(|| self.containers(name))
    }

    fn containers(&self, name: &LowerName) -> Option<Vec<IpAddr>> {
        match self.discovery {
            Discovery::Nothing => None,
            Discovery::Containers => {
                let holders = self.names.get(name)?;
                Some(holders.iter().map(|(_, addr)| *addr).collect())
            }
        }
    }

    /// A whole address of the network's own.
    fn is_own(&self, asked: IpNet) -> bool {
        let whole = asked.prefix_len() == asked.max_prefix_len();
        whole && self.subnets.iter().any(|subnet| subnet.contains(&asked))
    }

    fn pointer(&self, addr: IpAddr) -> Found<'_> {
        match (self.discovery, self.pointers.get(&addr)) {
            (Discovery::Containers, Some((_, name))) => Found::Pointer(name),
            _ => Found::Nothing,
        }
    }

    fn qualified(&self, name: &str) -> Result<Name, NameError> {
        parse(name)?
            .append_domain(&self.suffix)
            .map_err(|_| NameError { name: name.into() })
    }
}

/// The name whose labels stand in `name`, with or without a dot at the end.
fn parse(name: &str) -> Result<Name, NameError> {
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let error = || NameError { name: name.into() };
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error());
    }
    Name::from_labels(labels.map(str::as_bytes)).map_err(|_| error())
}
