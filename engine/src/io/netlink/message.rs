//! Messages and attributes as bytes.

use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;

/// A netlink attribute: length, kind, value, padded to four bytes.
pub(in crate::io) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The messages of a datagram. One that the crate cannot read is left out; those after it are not.
pub(super) fn messages(bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
            if length == 0 {
                return None;
            }
            let message = rest.get(..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = NetlinkMessage::deserialize(message) {
                return Some(message);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkPayload;

    use super::*;

    #[test]
    fn a_message_that_cannot_be_read_hides_no_other() {
        const NLMSG_DONE: u16 = 3;
        const RTM_NEWLINK: u16 = 16;
        let message = |kind: u16, body: &[u8]| {
            let mut bytes = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&[0; 10]);
            bytes.extend_from_slice(body);
            bytes
        };
        let unreadable = message(RTM_NEWLINK, &[0; 4]);
        let done = message(NLMSG_DONE, &[0; 4]);
        let read: Vec<_> = messages(&[unreadable, done].concat()).collect();
        assert_eq!(read.len(), 1);
        assert!(matches!(read[0].payload, NetlinkPayload::Done(_)));
    }
}
