//! Address resolution (RFC 826) for IPv4 over Ethernet: making packets.

use crate::parse::ethertype;
use crate::{Arp, MacAddr};

/// Operation code of a request.
pub const REQUEST: u16 = 1;
/// Operation code of a reply.
pub const REPLY: u16 = 2;
/// Bytes of a frame that carries an ARP packet: padded with zeros to the Ethernet minimum
/// (IEEE 802.3 §4.2.3.3 without the check sequence).
pub const FRAME_LEN: usize = 60;

/// The frame that carries `arp` from its sender to `dst`.
pub fn frame(dst: MacAddr, arp: &Arp) -> [u8; FRAME_LEN] {
    let mut f = [0; FRAME_LEN];
    f[..6].copy_from_slice(&dst.0);
    f[6..12].copy_from_slice(&arp.sender_mac.0);
    f[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
    f[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    f[20..22].copy_from_slice(&arp.operation.to_be_bytes());
    f[22..28].copy_from_slice(&arp.sender_mac.0);
    f[28..32].copy_from_slice(&arp.sender_ip.octets());
    f[32..38].copy_from_slice(&arp.target_mac.0);
    f[38..42].copy_from_slice(&arp.target_ip.octets());
    f
}

impl Arp {
    /// The answer to this request by the owner of `mac` and the address that was asked for.
    pub const fn answered_by(&self, mac: MacAddr) -> Self {
        Self {
            operation: REPLY,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}
