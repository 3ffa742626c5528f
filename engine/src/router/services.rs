//! What is sent to the gateway itself.

use pontoon_packet::build::tcp_reset;
use pontoon_packet::parse::tcp_flags::SYN;
use pontoon_packet::{Facts, Frame, Ip, L4, Offload, icmp, rewrite};

use super::{Arrival, Failure};
use crate::datapath::{Datapath, Transmit};
use crate::drop::DropReason;
use crate::route::InterfaceId;

/// The port of the gateway's name server (RFC 1035 §4.2).
const NAME_SERVER: u16 = 53;

impl Datapath {
    /// A query to the gateway's name server, which answers on every network, internal ones included.
    pub(super) fn asks_for_names(&self, from: InterfaceId, ip: &Ip) -> bool {
        let port = match ip.l4 {
            L4::Tcp(header) => header.dst_port,
            L4::Udp(header) => header.dst_port,
            L4::Icmp(_) | L4::Fragment | L4::Other => return false,
        };
        port == NAME_SERVER && self.user_port.is_some() && self.is_gateway(from, ip.dst)
    }

    /// What is addressed to the gateway or to an uplink and translated to nobody.
    pub(super) fn serve(
        &mut self,
        arrival: Arrival,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), Failure> {
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted.into());
        };
        if self.is_left_to_kernel(arrival.interface) {
            return Err(DropReason::LeftToKernel.into());
        }
        if self.host_port(arrival.interface).is_some() && self.is_gateway(arrival.interface, ip.dst)
        {
            return Ok(self.pass_to_host(arrival.interface, arrival.ingress, frame, out)?);
        }
        match ip.l4 {
            L4::Icmp(header) if header.kind == icmp::kind::ECHO && header.code == 0 => {
                self.counters.echo_answered += 1;
                icmp::echo_reply(frame, facts);
                let size = self.mtu_of(arrival.interface).min(arrival.fragment_to);
                self.transmit(arrival.interface, facts.src_mac, size, frame, out)?;
                Ok(())
            }
            L4::Icmp(_) => Err(DropReason::NoService.into()),
            L4::Tcp(header) if header.flags & SYN == 0 => {
                self.reset(arrival, frame, facts, ip, out);
                Err(DropReason::NoService.into())
            }
            L4::Tcp(_) | L4::Udp(_) => Err(Failure::reported(
                DropReason::NoService,
                icmp::Error::PortUnreachable,
            )),
            L4::Fragment | L4::Other => Err(Failure::reported(
                DropReason::NoService,
                icmp::Error::ProtocolUnreachable,
            )),
        }
    }

    /// Answers a segment of a connection that there is not, or not any more. It would take an ICMP error
    /// for something that may pass.
    fn reset(
        &mut self,
        arrival: Arrival,
        frame: &Frame<'_>,
        facts: &Facts,
        ip: &Ip,
        out: &mut impl Transmit,
    ) {
        let datagram = &frame.bytes[usize::from(ip.start)..ip.end()];
        if let (Some(mut bytes), Some(mac)) = (tcp_reset(datagram), self.mac_of(arrival.interface))
        {
            let mut reset = Frame {
                bytes: &mut bytes,
                offload: Offload::NONE,
            };
            rewrite::set_macs(&mut reset, facts.src_mac, mac);
            self.emit(arrival.ingress, reset.bytes, Offload::NONE, out);
        }
    }
}
