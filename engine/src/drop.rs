//! Why a frame went no further.

use pontoon_packet::Malformed;

/// Every way in which a frame ends here. A drop is a value: it is returned by the stage that
/// decided it, counted once, and named as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The bytes cannot be what they claim.
    Malformed(Malformed),
    /// The bridge refused it: guard, reserved address, nowhere to go.
    Bridge(pontoon_switch::Refusal),
    /// Connection tracking or translation refused it.
    Nat(pontoon_nat::Refusal),
    /// It came from a port that is not, or no longer, there.
    UnknownPort,
    /// A super-frame that stands for more segments than any sender makes of one.
    TooManySegments,
    /// A checksum that is to be completed in front of the transport header: whoever completes it would
    /// change addresses that have been checked.
    MisplacedChecksum,
    /// On an uplink: not addressed to the interface, or tagged.
    NotForUs,
    /// Longer than the port it should leave by can take.
    TooLong,
    /// A protocol that the gateway does not speak (anything but ARP and IPv4).
    NotRouted,
    /// An IP source or destination that must not be seen on a wire (RFC 1812 §5.3.7).
    Martian,
    /// The source address does not belong to the network it came from.
    ForeignSource,
    /// Source routing (RFC 7126 §4.3.5 recommends dropping it).
    SourceRoute,
    /// The transport checksum is wrong.
    BadChecksum,
    /// Broadcast or multicast, which is never routed.
    NotUnicast,
    /// The time to live ran out.
    TtlExceeded,
    /// No route to the destination.
    NoRoute,
    /// Between networks, or from outside to an address that is not published.
    Isolated,
    /// Larger than the next hop's MTU, and must not be fragmented.
    FragmentationNeeded,
    /// Nothing listens on the gateway's own address.
    NoService,
    /// For the kernel that owns the uplink's address, which has it already.
    LeftToKernel,
    /// No room to wait for the next hop's hardware address.
    NeighbourQueueFull,
    /// Nobody answers for the next hop's address.
    NeighbourFailed,
}

impl From<Malformed> for DropReason {
    fn from(reason: Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl From<pontoon_switch::Refusal> for DropReason {
    fn from(reason: pontoon_switch::Refusal) -> Self {
        Self::Bridge(reason)
    }
}

impl From<pontoon_nat::Refusal> for DropReason {
    fn from(reason: pontoon_nat::Refusal) -> Self {
        Self::Nat(reason)
    }
}

impl DropReason {
    /// The name under which it is counted and shown.
    pub fn name(self) -> String {
        match self {
            Self::Malformed(inner) => format!("malformed.{inner:?}"),
            Self::Bridge(inner) => format!("bridge.{inner:?}"),
            Self::Nat(inner) => format!("nat.{inner:?}"),
            other => format!("route.{other:?}"),
        }
    }
}
