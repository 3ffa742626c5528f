//! The router outside, as far as it speaks for itself.

use pontoon_packet::checksum::complete;
use pontoon_packet::{Frame, Offload, build, icmp, parse};

use crate::lab::{EXTERNAL_MAC, ROUTER, ROUTER_MAC};

/// What the router says about a frame that the hop behind it, with an MTU of `mtu` bytes, cannot take;
/// nothing when it can.
pub(super) fn too_big(mtu: u16, bytes: &[u8], offload: Offload) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let mut frame = Frame {
        bytes: &mut bytes,
        offload,
    };
    complete(&mut frame);
    let facts = parse(frame.bytes).ok()?;
    let ip = facts.ip()?;
    let error = icmp::Error::FragmentationNeeded { mtu };
    let macs = (ROUTER_MAC, EXTERNAL_MAC);
    (ip.total_len > u32::from(mtu))
        .then(|| build::icmp_error(&frame, &facts, error, ROUTER.into(), macs))?
}
