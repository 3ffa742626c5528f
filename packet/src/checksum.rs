//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and half-done sums.

use core::net::IpAddr;

use crate::{Frame, Ip, L4, Offload};

/// One's-complement sum of `bytes` added to `initial`, not folded. A trailing odd byte is padded
/// with zero on the right.
pub fn sum(bytes: &[u8], initial: u64) -> u64 {
    // Eight bytes at a time: the carry out of 64 bits is added back at the end of each step, which
    // one's-complement arithmetic allows in any width that is a multiple of 16 (RFC 1071 §2).
    let mut chunks = bytes.chunks_exact(8);
    let mut total = initial;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let (next, carry) = total.overflowing_add(u64::from_be_bytes(word));
        total = next + u64::from(carry);
    }
    let mut tail = [0; 8];
    let rest = chunks.remainder();
    if !rest.is_empty() {
        tail[..rest.len()].copy_from_slice(rest);
        let (next, carry) = total.overflowing_add(u64::from_be_bytes(tail));
        total = next + u64::from(carry);
    }
    total
}

/// Folds a sum to 16 bits, not complemented: what a half-done checksum field holds.
pub const fn fold(sum: u64) -> u16 {
    let mut sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    let mut sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum of `bytes`: folded and complemented. Zero over bytes that contain their own valid
/// checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// Sum of the pseudo-header (RFC 793 §3.1, RFC 8200 §8.1), not folded.
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, length: usize) -> u64 {
    address_sum(src) + address_sum(dst) + u64::from(protocol) + length as u64
}

/// Sum of the 16-bit words of an address, not folded.
pub fn address_sum(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(v4) => word_sum(&v4.octets()),
        IpAddr::V6(v6) => word_sum(&v6.octets()),
    }
}

fn word_sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks_exact(2)
        .map(|w| u64::from(u16::from_be_bytes([w[0], w[1]])))
        .sum()
}

/// What changed under a checksum: the difference new − old in one's-complement arithmetic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// Notes that a 16-bit word changed from `old` to `new`.
    #[must_use]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Notes that an address changed from `old` to `new`.
    #[must_use]
    pub fn address(self, old: IpAddr, new: IpAddr) -> Self {
        let removed = !fold(address_sum(old));
        Self(self.0 + u64::from(removed) + address_sum(new))
    }

    /// Both changes.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The updated value of a complete checksum field (RFC 1624 eqn. 3: HC' = ~(~HC + ~m + m')).
    pub fn apply(self, field: u16) -> u16 {
        !fold(u64::from(!field) + self.0)
    }

    /// The updated value of a half-done field, which holds an uncomplemented sum.
    pub fn apply_partial(self, field: u16) -> u16 {
        fold(u64::from(field) + self.0)
    }
}

/// Where the checksum field of a transport header lies, relative to that header.
pub const fn field_offset(l4: &L4) -> Option<u16> {
    match l4 {
        L4::Tcp(_) => Some(16),
        L4::Udp(_) => Some(6),
        L4::Icmp(_) => Some(2),
        L4::Fragment | L4::Other => None,
    }
}

/// The checksum field of the transport header is half done, and it is that field which the kernel
/// will complete (a sender may have named any place in the frame).
pub fn is_half_done(offload: Offload, ip: &Ip) -> bool {
    offload.is_partial()
        && usize::from(offload.csum_start) == ip.l4_start()
        && field_offset(&ip.l4) == Some(offload.csum_offset)
}

/// Whether the transport checksum of `frame` may be believed: half done, verified by the kernel,
/// absent (UDP over IPv4), or right. Fragments and unknown protocols carry none that can be checked.
/// One that is half done in another place than the protocol's own is not believed.
pub fn transport_is_valid(frame: &Frame<'_>, ip: &Ip) -> bool {
    if is_half_done(frame.offload, ip) {
        return true;
    }
    if frame.offload.is_partial() && field_offset(&ip.l4).is_some() {
        return false;
    }
    if frame.offload.is_verified() {
        return true;
    }
    let segment = &frame.bytes[ip.l4_start()..ip.end()];
    match ip.l4 {
        L4::Udp(udp) if udp.checksum == 0 && ip.src.is_ipv4() => true,
        L4::Icmp(_) if ip.src.is_ipv4() => checksum(segment) == 0,
        L4::Tcp(_) | L4::Udp(_) | L4::Icmp(_) => {
            let pseudo = pseudo_header(ip.src, ip.dst, ip.protocol, segment.len());
            fold(sum(segment, pseudo)) == 0xffff
        }
        L4::Fragment | L4::Other => true,
    }
}

/// Completes a half-done checksum in place, wherever its sender said it lies, for a path that
/// cannot carry it. Places outside the frame are left alone; the kernel refuses those as well.
pub fn complete(frame: &mut Frame<'_>) {
    if !frame.offload.is_partial() {
        return;
    }
    let start = usize::from(frame.offload.csum_start);
    let field = start + usize::from(frame.offload.csum_offset);
    if field + 2 <= frame.bytes.len() {
        let value = match checksum(&frame.bytes[start..]) {
            0 => 0xffff,
            value => value,
        };
        frame.bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }
    frame.offload = frame.offload.completed();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    proptest! {
        #[test]
        fn wide_sum_equals_the_textbook_sum(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(checksum(&bytes), reference(&bytes));
        }

        #[test]
        fn incremental_update_equals_a_full_recompute(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..60),
            at in 0usize..10, new in any::<u16>(),
        ) {
            let at = at * 2;
            prop_assume!(at != 16 && bytes.iter().any(|b| *b != 0));
            bytes[16..18].fill(0);
            let field = checksum(&bytes);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            let updated = Delta::default().word(old, new).apply(field);
            // 0x0000 and 0xffff are the two zeros of one's-complement arithmetic: compare by
            // verifying instead of by value.
            bytes[16..18].copy_from_slice(&updated.to_be_bytes());
            prop_assert!(matches!(fold(sum(&bytes, 0)), 0xffff | 0));
        }

        #[test]
        fn half_done_field_follows_the_pseudo_header(a in any::<u32>(), b in any::<u32>(), new in any::<u32>()) {
            let (a, b, new) = (IpAddr::V4(a.into()), IpAddr::V4(b.into()), IpAddr::V4(new.into()));
            let field = fold(pseudo_header(a, b, 6, 1000));
            let expected = fold(pseudo_header(new, b, 6, 1000));
            let updated = Delta::default().address(a, new).apply_partial(field);
            prop_assert_eq!(u32::from(updated) % 0xffff, u32::from(expected) % 0xffff);
        }
    }
}
