//! What a segment may be made of, rules or not.

use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};

use super::guest::FIRST;
use super::input::Input;

pub(super) fn flags(input: &mut Input<'_>) -> u8 {
    let any = input.byte();
    match any {
        0..64 => ACK,
        64..112 => ACK | PSH,
        112..140 => ACK | FIN,
        140..156 => SYN,
        156..164 => SYN | ACK,
        164..172 => RST,
        172..180 => RST | ACK,
        180..184 => ACK | URG,
        184..188 => 0,
        _ => any & 63,
    }
}

pub(super) fn length(input: &mut Input<'_>) -> usize {
    let any = usize::from(input.byte());
    match any {
        0..80 => 0,
        80..160 => any - 79,
        160..220 => (any - 159) * 25,
        220..250 => (any - 219) * 500,
        _ => (any - 249) * 10_000,
    }
}

pub(super) fn options(taken: u32, input: &mut Input<'_>) -> Vec<u8> {
    let near = FIRST.wrapping_add(taken);
    match input.byte() {
        0..160 => Vec::new(),
        160..200 => syn_options(input),
        200..230 => {
            let mut edge = || {
                let base = input.one_of(&[near, 0, u32::MAX, 1 << 31]);
                base.wrapping_add(u32::from(input.byte()) * 16)
            };
            let mut block = vec![1, 1, 5, 10];
            block.extend(edge().to_be_bytes());
            block.extend(edge().to_be_bytes());
            block
        }
        any => input.bytes(usize::from(any - 229).min(40)).to_vec(),
    }
}

pub(super) fn syn_options(input: &mut Input<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    let mss = input.one_of(&[1460_u16, 0, 1, 48, 536, 65_535]);
    all.extend([2, 4]);
    all.extend(mss.to_be_bytes());
    let which = input.byte();
    if which & 1 == 0 {
        all.extend([1, 3, 3, input.one_of(&[7, 0, 1, 14, 15, 255])]);
    }
    if which & 2 == 0 {
        all.extend([1, 1, 4, 2]);
    }
    if which & 4 != 0 {
        all.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
    all
}
