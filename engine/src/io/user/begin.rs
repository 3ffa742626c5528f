//! How flows of containers begin, and what a container is told when one cannot.

use std::io;
use std::net::Ipv4Addr;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::errno::Errno;
use pontoon_nat::ConnId;
use pontoon_packet::build::tcp_reset;
use pontoon_packet::parse::tcp_flags;
use pontoon_packet::{Endpoint, Ip, L4, Timestamp, icmp};

use super::datagram::DatagramFlow;
use super::tcp::{self, Ends, Step, TcpFlow};
use super::{Carrier, FIRST_TOKEN, Flow, Notice, UserUplink};
use crate::PortId;

impl UserUplink {
    pub(super) fn open(
        &mut self,
        now: Timestamp,
        id: ConnId,
        from: PortId,
        datagram: &[u8],
        ip: &Ip,
    ) {
        let Some(ends) = ends(ip) else { return };
        if let Some(asker) = self.names.asker(ends) {
            return self.open_query(now, id, from, asker, datagram, ip);
        }
        let to = self.host_end(ends.far);
        let carrier = match ip.l4 {
            L4::Tcp(_) if begins(ip) => match TcpFlow::connect(ends, to, datagram) {
                Ok(flow) => Carrier::Tcp(Box::new(flow)),
                Err(error) => {
                    self.refused += 1;
                    return self.tell(from, datagram, tcp::refusal(&error));
                }
            },
            // A connection that is not known any more.
            L4::Tcp(_) => return self.reset(datagram),
            _ => match DatagramFlow::open(ip, ends, to) {
                Some(Ok(flow)) => Carrier::Datagram(Box::new(flow)),
                Some(Err(errno)) => return self.tell_no_socket(from, datagram, ip, errno),
                None => return,
            },
        };
        self.place(id, from, carrier, None);
    }

    /// What the host calls an endpoint of which a container speaks.
    fn host_end(&self, far: Endpoint) -> Endpoint {
        if self.loopbacks.contains(&far.addr) {
            Endpoint::new(Ipv4Addr::LOCALHOST.into(), far.port)
        } else {
            far
        }
    }

    pub(super) fn place(
        &mut self,
        id: ConnId,
        from: PortId,
        mut carrier: Carrier,
        listener: Option<usize>,
    ) {
        let slot = id.slot as usize;
        if self.flows.len() <= slot {
            self.flows.resize_with(slot + 1, || None);
        }
        // Whoever was there before has ended, even if that has not been heard of yet.
        if let Some(flow) = self.flows[slot].take() {
            self.close(flow);
        }
        let token = Token(FIRST_TOKEN + slot);
        let registered = match &mut carrier {
            Carrier::Tcp(flow) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.registry.register(flow.source(), token, both)
            }
            Carrier::Datagram(flow) => {
                let mut source = SourceFd(&flow.raw_fd());
                self.registry
                    .register(&mut source, token, Interest::READABLE)
            }
            Carrier::Published(_) | Carrier::Query(_) | Carrier::Stream(_) => Ok(()),
        };
        if registered.is_err() {
            return;
        }
        self.open += 1;
        self.most = self.most.max(self.open);
        if matches!(carrier, Carrier::Tcp(_)) {
            *self.relayed.entry(from).or_insert(0) += 1;
        }
        self.flows[slot] = Some(Flow {
            id,
            from,
            carrier,
            listener,
            touched: false,
            alarm: None,
        });
    }

    /// Tells a container why its connection was not made.
    pub(super) fn tell(&mut self, port: PortId, datagram: &[u8], step: Step) {
        match step {
            Step::Refused => self.reset(datagram),
            Step::Unreachable(error) => self.notices.push(Notice {
                port,
                quoted: datagram.to_vec(),
                error,
            }),
            Step::Goes { .. } | Step::Over | Step::Broken => {}
        }
    }

    fn tell_no_socket(&mut self, port: PortId, datagram: &[u8], ip: &Ip, errno: Errno) {
        self.refused += 1;
        let forbidden = matches!(errno, Errno::EACCES | Errno::EPERM);
        let ping = matches!(ip.l4, L4::Icmp(_));
        if forbidden && ping && !std::mem::replace(&mut self.pings_refused, true) {
            log!(
                "pings through the user uplink are refused: this user's group is not in \
                 net.ipv4.ping_group_range"
            );
        }
        let error = match tcp::refusal(&io::Error::from(errno)) {
            Step::Unreachable(error) => error,
            // Short of descriptors, memory or ports (RFC 5508 REQ-8).
            _ => icmp::Error::AdministrativelyProhibited,
        };
        self.tell(port, datagram, Step::Unreachable(error));
    }

    /// Answers a segment of a connection that there is not.
    pub(super) fn reset(&mut self, datagram: &[u8]) {
        if let Some(frame) = tcp_reset(datagram) {
            self.arena.copy(&frame);
        }
    }
}

/// A reset, by which a connection is given up.
pub(super) fn resets(ip: &Ip) -> bool {
    matches!(ip.l4, L4::Tcp(tcp) if tcp.flags & tcp_flags::RST != 0)
}

/// A SYN, which begins a connection.
pub(super) fn begins(ip: &Ip) -> bool {
    let both = tcp_flags::SYN | tcp_flags::ACK;
    matches!(ip.l4, L4::Tcp(tcp) if tcp.flags & both == tcp_flags::SYN)
}

pub(super) fn ends(ip: &Ip) -> Option<Ends> {
    let (container, far) = match ip.l4 {
        L4::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
        L4::Udp(udp) => (udp.src_port, udp.dst_port),
        L4::Icmp(header) => (header.id, 0),
        L4::Fragment | L4::Other => return None,
    };
    Some(Ends {
        container: Endpoint::new(ip.src, container),
        far: Endpoint::new(ip.dst, far),
    })
}
