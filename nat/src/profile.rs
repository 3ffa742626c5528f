//! How long things live and how many there may be.

use core::time::Duration;

use crate::tcp::State;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Timeouts of tracked connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    tcp_syn_sent: Duration,
    tcp_syn_recv: Duration,
    tcp_established: Duration,
    tcp_fin_wait: Duration,
    tcp_close_wait: Duration,
    tcp_last_ack: Duration,
    tcp_time_wait: Duration,
    tcp_close: Duration,
    /// An established flow picked up in the middle that has not been answered.
    pub(crate) tcp_unanswered: Duration,
    /// A half-closed flow whose other end is a socket of the engine's.
    pub(crate) tcp_relayed_half_closed: Duration,
    /// A UDP flow that has not been answered.
    pub(crate) udp_unreplied: Duration,
    /// A UDP flow that has.
    pub(crate) udp_stream: Duration,
    /// An ICMP query.
    pub(crate) icmp: Duration,
    /// Any other protocol.
    pub(crate) generic: Duration,
}

impl Default for Profile {
    fn default() -> Self {
        Self::docker0()
    }
}

impl Profile {
    /// What containers behind docker0 get: the defaults of Linux (`nf_conntrack_proto_tcp.c`,
    /// `nf_conntrack_proto_udp.c`, `nf_conntrack_proto_generic.c`), but 60 s for ICMP queries, which
    /// RFC 5508 REQ-2 asks for and Linux (30 s) does not give; and 2 h 4 min for half-closed
    /// connections that end in the engine's own TCP (RFC 5382 REQ-5), which knows when they are over
    /// while a middlebox can only guess.
    pub const fn docker0() -> Self {
        Self {
            tcp_syn_sent: secs(120),
            tcp_syn_recv: secs(60),
            tcp_established: secs(432_000),
            tcp_fin_wait: secs(120),
            tcp_close_wait: secs(60),
            tcp_last_ack: secs(30),
            tcp_time_wait: secs(120),
            tcp_close: secs(10),
            tcp_unanswered: secs(300),
            tcp_relayed_half_closed: secs(7_440),
            udp_unreplied: secs(30),
            udp_stream: secs(120),
            icmp: secs(60),
            generic: secs(600),
        }
    }

    /// What the RFCs ask for: 4 minutes for transitory TCP states (RFC 5382 REQ-5, RFC 7857 §2),
    /// 2 and 5 minutes for UDP (RFC 4787 REQ-5).
    pub const fn rfc() -> Self {
        Self {
            tcp_syn_sent: secs(240),
            tcp_syn_recv: secs(240),
            tcp_fin_wait: secs(240),
            tcp_close_wait: secs(240),
            tcp_last_ack: secs(240),
            tcp_time_wait: secs(240),
            tcp_close: secs(240),
            udp_unreplied: secs(120),
            udp_stream: secs(300),
            ..Self::docker0()
        }
    }

    /// How long a TCP connection in `state` lives without another segment.
    pub const fn tcp(&self, state: State) -> Duration {
        match state {
            State::SynSent | State::SynSent2 => self.tcp_syn_sent,
            State::SynRecv => self.tcp_syn_recv,
            State::Established => self.tcp_established,
            State::FinWait => self.tcp_fin_wait,
            State::CloseWait => self.tcp_close_wait,
            State::LastAck => self.tcp_last_ack,
            State::TimeWait => self.tcp_time_wait,
            State::None | State::Close => self.tcp_close,
        }
    }
}

/// How many there may be. The figures are our choice: far above what a container needs, far below
/// what would hurt a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows in all.
    pub flows: usize,
    /// Flows of one owner.
    pub flows_per_owner: usize,
    /// TCP handshakes of one owner under way.
    pub half_open_per_owner: usize,
    /// Bytes of fragments in all; Linux `ipfrag_high_thresh`.
    pub fragment_bytes: usize,
    /// Bytes of fragments of one owner.
    pub fragment_bytes_per_owner: usize,
    /// Incomplete datagrams of one owner.
    pub fragment_queues_per_owner: usize,
    /// How long an incomplete datagram waits; Linux `ipfrag_time`.
    pub fragment_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 65_536,
            flows_per_owner: 16_384,
            half_open_per_owner: 1024,
            fragment_bytes: 4 << 20,
            fragment_bytes_per_owner: 1 << 20,
            fragment_queues_per_owner: 64,
            fragment_timeout: secs(30),
        }
    }
}
