//! Cutting an IPv4 datagram into pieces (RFC 791 §3.2, RFC 1812 §4.2.2.7).

use crate::checksum::{self, checksum};
use crate::{Facts, Frame, Ip};

/// Hands every piece of the datagram in `frame` to `emit`, in order: whole frames with the Ethernet
/// header of the original, whose IP datagrams are at most `mtu` bytes. A half-done transport
/// checksum is completed first, since no piece could carry it. Nothing is emitted for anything but
/// IPv4, or when `mtu` leaves no room for eight bytes of payload.
///
/// Whether the datagram *may* be fragmented is the caller's business.
pub fn fragments(frame: &mut Frame<'_>, facts: &Facts, mtu: u16, mut emit: impl FnMut(&[u8])) {
    let Some(ip) = facts.ip().filter(|ip| ip.src.is_ipv4()) else {
        return;
    };
    checksum::complete(frame);
    let start = usize::from(ip.start);
    let (front, payload) = frame.bytes[..ip.end()].split_at(ip.l4_start());
    let first_room = room(mtu, ip.header_len);
    let later_header = later_header(&front[start..]);
    let later_room = room(mtu, later_header.len() as u16);
    if first_room == 0 || later_room == 0 {
        return;
    }
    let mut piece = Vec::with_capacity(start + usize::from(mtu));
    let mut offset = 0;
    while offset < payload.len() {
        let (header, room) = if offset == 0 {
            (&front[start..], first_room)
        } else {
            (&later_header[..], later_room)
        };
        let end = payload.len().min(offset + room);
        piece.clear();
        piece.extend_from_slice(&front[..start]);
        piece.extend_from_slice(header);
        piece.extend_from_slice(&payload[offset..end]);
        fix_header(
            &mut piece[start..],
            header.len(),
            ip,
            offset,
            end < payload.len(),
        );
        emit(&piece);
        offset = end;
    }
}

/// Payload bytes that fit behind a header of `header_len`: a multiple of eight.
fn room(mtu: u16, header_len: u16) -> usize {
    usize::from(mtu.saturating_sub(header_len)) / 8 * 8
}

/// The header of every piece but the first: only options whose copied flag is set (RFC 791 §3.1).
fn later_header(header: &[u8]) -> Vec<u8> {
    let mut copied = header[..20].to_vec();
    let mut options = &header[20..];
    while let Some((&kind, rest)) = options.split_first() {
        let length = match (kind, rest.first()) {
            (0, _) => break,
            (1, _) => 1,
            (_, Some(&length)) if length >= 2 && usize::from(length) <= options.len() => {
                usize::from(length)
            }
            _ => break,
        };
        if kind & 0x80 != 0 {
            copied.extend_from_slice(&options[..length]);
        }
        options = &options[length..];
    }
    copied.resize(copied.len().next_multiple_of(4), 0);
    copied[0] = 0x40 | (copied.len() / 4) as u8;
    copied
}

fn fix_header(datagram: &mut [u8], header_len: usize, ip: &Ip, offset: usize, more: bool) {
    let total = datagram.len() as u16;
    datagram[2..4].copy_from_slice(&total.to_be_bytes());
    let base = ip.fragment.map_or(0, |f| usize::from(f.offset));
    let more = more || ip.fragment.is_some_and(|f| f.more);
    let dont_fragment = if ip.dont_fragment { 0x4000 } else { 0 };
    let flags = ((base + offset) / 8) as u16 | if more { 0x2000 } else { 0 } | dont_fragment;
    datagram[6..8].copy_from_slice(&flags.to_be_bytes());
    datagram[10..12].fill(0);
    let sum = checksum(&datagram[..header_len]);
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
}
