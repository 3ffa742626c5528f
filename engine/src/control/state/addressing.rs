//! A network's addresses: subnet, range, gateway, and those that nobody gets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::control::Invalid;
use crate::control::address::{Allocator, free_pool, overlaps, parse_subnet};
use crate::control::api::NetworkSpec;
use crate::control::name::check_name;

/// Which addresses a network has, and what is left of them.
#[derive(Clone, Debug)]
pub(super) struct Addressing {
    pub(super) subnet: Ipv4Net,
    pub(super) range: Option<Ipv4Net>,
    pub(super) gateway: Ipv4Addr,
    pub(super) auxiliary: BTreeMap<String, Ipv4Addr>,
    pub(super) free: Allocator,
}

impl Addressing {
    /// What `spec` asks for; its subnet must not share addresses with what is `taken`.
    ///
    /// # Errors
    /// A field is wrong, or collides with another one or with what is taken.
    pub(super) fn plan(spec: &NetworkSpec, taken: &[IpNet]) -> Result<Self, Invalid> {
        check_subnet_is_given(spec)?;
        let subnet = choose_subnet(spec.subnet.as_deref(), taken)?;
        let range = spec
            .ip_range
            .as_deref()
            .map(|text| parse_range(text, subnet));
        let range = range.transpose()?;
        let mut free = Allocator::new(subnet, range.unwrap_or(subnet));
        let gateway = match spec.gateway {
            None => free.allocate_gateway()?,
            Some(address) => reserve(&mut free, subnet, ("gateway", "gateway"), address)?,
        };
        let mut auxiliary = BTreeMap::new();
        for (name, address) in &spec.aux_addresses {
            check_name("aux_addresses", name)?;
            let field = ("aux_addresses", "aux-address");
            let address = reserve(&mut free, subnet, field, *address)?;
            auxiliary.insert(name.clone(), address);
        }
        Ok(Self {
            subnet,
            range,
            gateway,
            auxiliary,
            free,
        })
    }
}

/// Addresses that are given take the subnet that they are from.
fn check_subnet_is_given(spec: &NetworkSpec) -> Result<(), Invalid> {
    if spec.subnet.is_some() {
        return Ok(());
    }
    let given = [
        ("ip_range", spec.ip_range.is_some()),
        ("gateway", spec.gateway.is_some()),
        ("aux_addresses", !spec.aux_addresses.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => {
            let what = "every ip-range, gateway or aux-address must have a corresponding subnet; give \
                        one";
            Err(Invalid::new(field, what))
        }
    }
}

fn choose_subnet(wanted: Option<&str>, taken: &[IpNet]) -> Result<Ipv4Net, Invalid> {
    let Some(text) = wanted else {
        return free_pool(taken);
    };
    let subnet = parse_subnet(text)?;
    let clash = taken
        .iter()
        .find(|other| overlaps(&IpNet::V4(subnet), other));
    match clash {
        None => Ok(subnet),
        Some(other) => {
            let what = format!(
                "Pool overlaps with other one on this address space: {subnet} overlaps with {other}, which \
                 is in use"
            );
            Err(Invalid::conflict("subnet", what))
        }
    }
}

fn parse_range(text: &str, subnet: Ipv4Net) -> Result<Ipv4Net, Invalid> {
    let invalid = |why: String| Invalid::new("ip_range", why);
    let shown = text.escape_default();
    let range: Ipv4Net = text
        .parse()
        .map_err(|_| invalid(format!("{shown}: expected ADDRESS/LENGTH")))?;
    if range.addr() != range.network() {
        let what = format!(
            "{range}: it has host bits set; did you mean {}?",
            range.trunc()
        );
        return Err(invalid(what));
    }
    if !subnet.contains(&range) {
        let what =
            format!("no matching subnet for range {range}: it is not in the subnet {subnet}");
        return Err(invalid(what));
    }
    Ok(range)
}

/// Takes an address that the user names, for something that is no container: a field, and its word.
fn reserve(
    free: &mut Allocator,
    subnet: Ipv4Net,
    (field, word): (&str, &str),
    address: IpAddr,
) -> Result<Ipv4Addr, Invalid> {
    let inside = matches!(address, IpAddr::V4(address) if subnet.contains(&address));
    if !inside {
        let what =
            format!("no matching subnet for {word} {address}: it is not in the subnet {subnet}");
        return Err(Invalid::new(field, what));
    }
    free.take(address).map_err(|error| error.of(field))
}
