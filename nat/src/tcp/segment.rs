//! The numbers of a segment.

use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, SYN};
use pontoon_packet::{Frame, Ip, Tcp};

use super::state::{Kind, kind};

/// Largest window scale (RFC 7323 §2.3).
pub(super) const MAX_SCALE: u8 = 14;

/// The numbers of one segment.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) kind: Kind,
    pub(super) seq: u32,
    pub(super) end: u32,
    pub(super) ack: u32,
    pub(super) window: u32,
    pub(super) has_ack: bool,
    pub(super) has_syn: bool,
    pub(super) scale: Option<u8>,
}

impl Segment {
    /// Reads the header, and the window scale of one that opens. `None` when the flags are none that
    /// some implementation sends.
    pub(super) fn of(frame: &Frame<'_>, ip: &Ip, header: &Tcp) -> Option<Self> {
        let kind = kind(header.flags & !PSH)?;
        let payload = ip.payload_len() - usize::from(header.header_len);
        let has_syn = header.flags & SYN != 0;
        let length = payload as u32 + u32::from(has_syn) + u32::from(header.flags & FIN != 0);
        Some(Self {
            kind,
            seq: header.seq,
            end: header.seq.wrapping_add(length),
            ack: header.ack,
            window: u32::from(header.window),
            has_ack: header.flags & ACK != 0,
            has_syn,
            scale: if has_syn {
                window_scale(frame, ip, header)
            } else {
                None
            },
        })
    }
}

/// The window scale option (RFC 7323 §2.2), if the segment carries one.
fn window_scale(frame: &Frame<'_>, ip: &Ip, header: &Tcp) -> Option<u8> {
    let start = ip.l4_start();
    let mut options = &frame.bytes[start + 20..start + usize::from(header.header_len)];
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            0 => return None,
            1 => options = rest,
            _ => {
                let length = usize::from(*rest.first()?);
                let option = options.get(..length).filter(|_| length >= 2)?;
                if let (3, [_, _, scale]) = (kind, option) {
                    return Some((*scale).min(MAX_SCALE));
                }
                options = &options[length..];
            }
        }
    }
    None
}
