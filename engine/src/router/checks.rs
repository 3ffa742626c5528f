//! What may be routed, and who may have sent it.

use core::net::{IpAddr, Ipv4Addr};

use pontoon_packet::{Frame, Ip, icmp};

use super::{Arrival, Failure, fits};
use crate::datapath::Datapath;
use crate::drop::DropReason;
use crate::output::Hop;
use crate::route::InterfaceId;

impl Datapath {
    /// Time to live and size, before anything is edited.
    pub(super) fn check_transit(
        &self,
        arrival: Arrival,
        hop: &Hop,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Failure> {
        if ip.ttl <= 1 {
            return Err(Failure::reported(
                DropReason::TtlExceeded,
                icmp::Error::TtlExceeded,
            ));
        }
        let mtu = self.mtu_of(hop.interface);
        let size = arrival.fragment_to.min(mtu);
        let whole = fits(frame, ip, mtu) || (arrival.fragment_to <= mtu && size > 0);
        if whole || !ip.dont_fragment {
            return Ok(());
        }
        let error = icmp::Error::FragmentationNeeded { mtu };
        Err(Failure::reported(DropReason::FragmentationNeeded, error))
    }

    /// RFC 1812 §5.3.7, and that a source belongs where it claims to be.
    pub(super) fn check_addresses(
        &self,
        interface: InterfaceId,
        ip: &Ip,
    ) -> Result<(), DropReason> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else {
            return Err(DropReason::NotRouted);
        };
        if is_martian(src) || src.is_multicast() || src.is_broadcast() || src == dst {
            return Err(DropReason::Martian);
        }
        if is_martian(dst) || dst.is_link_local() {
            return Err(DropReason::Martian);
        }
        if dst.is_multicast()
            || dst.is_broadcast()
            || self.is_subnet_broadcast(interface, dst.into())
        {
            return Err(DropReason::NotUnicast);
        }
        self.check_source(interface, ip.src)
    }

    pub(super) fn check_source(
        &self,
        interface: InterfaceId,
        src: IpAddr,
    ) -> Result<(), DropReason> {
        if self.is_local(interface, src) {
            let from_host = self.host_port(interface).is_some();
            return if from_host {
                Ok(())
            } else {
                Err(DropReason::Martian)
            };
        }
        let home = self.connected.lookup(src).map(|(_, route)| route.interface);
        match interface {
            InterfaceId::Network(_) if home == Some(interface) => Ok(()),
            InterfaceId::Uplink(_) if home.is_none() => Ok(()),
            // What the engine's own sockets say is its own doing.
            InterfaceId::User => Ok(()),
            _ => Err(DropReason::ForeignSource),
        }
    }
}

/// Loose (131) or strict (137) source routing among the IPv4 options (RFC 791 §3.1).
pub(super) fn has_source_route(frame: &Frame<'_>, ip: &Ip) -> bool {
    let mut options = &frame.bytes[usize::from(ip.start) + 20..ip.l4_start()];
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            0 => return false,
            1 => options = rest,
            131 | 137 => return true,
            _ => match rest.first() {
                Some(&len) if len >= 2 && usize::from(len) <= options.len() => {
                    options = &options[usize::from(len)..];
                }
                _ => return false,
            },
        }
    }
    false
}

/// `0/8` and `127/8`, which must not be seen on a wire (RFC 1812 §4.2.2.11).
const fn is_martian(addr: Ipv4Addr) -> bool {
    addr.octets()[0] == 0 || addr.is_loopback()
}
