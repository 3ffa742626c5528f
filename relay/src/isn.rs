//! Initial sequence numbers of the caller's choice, which smoltcp only draws at random.
//!
//! How often it draws before depends on its features: none of the workspace may turn on its IEEE 802.15.4.

/// Multiplier of smoltcp 0.14's generator (`rand.rs`).
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
/// Its increment.
const INCREMENT: u64 = 0x7590_ef39;
/// The multiplier's inverse modulo 2⁶⁴.
const INVERSE: u64 = inverse(MULTIPLIER);
/// Where the drawn number lies in a state whose three highest bits are zero.
const PLACE: u32 = 29;

/// The seed of an interface whose first connection begins with `isn`. The interface draws the id of its
/// first datagram before it, again and again until that is not zero, so a state is chosen which has
/// that behind it.
pub(crate) fn seed(isn: u32) -> u64 {
    let state = u64::from(isn) << PLACE;
    let second = previous(state);
    let identification = drawn(second);
    if (identification ^ identification >> 16) as u16 == 0 {
        return previous(previous(state | 1));
    }
    previous(second)
}

const fn previous(state: u64) -> u64 {
    state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE)
}

/// The number that smoltcp makes of a state.
const fn drawn(state: u64) -> u32 {
    (state >> (29 - (state >> 61))) as u32
}

/// Newton's iteration: each step doubles the bits that are right, of which an odd number has three at
/// first.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut bits = 3;
    while bits < 64 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use pontoon_packet::{Endpoint, L4, Timestamp, parse};

    use super::*;
    use crate::{Arena, Buffers, Connection, Setup};

    /// The sequence number that a connection opens with.
    fn opening(isn: u32) -> u32 {
        let end = |last| Endpoint::new([10, 0, 0, last].into(), 80);
        let setup = Setup {
            container: end(2),
            far: end(1),
            mtu: 1500,
            isn,
            buffers: Buffers {
                received: vec![0; 1024].leak(),
                unsent: vec![0; 1024].leak(),
            },
        };
        let mut arena = Arena::small();
        Connection::connect(Timestamp::ZERO, setup).transmit(Timestamp::ZERO, &mut arena);
        let facts = parse(arena.frames().next().unwrap().bytes).unwrap();
        let L4::Tcp(syn) = facts.ip().unwrap().l4 else {
            panic!("a segment");
        };
        syn.seq
    }

    #[test]
    fn a_connection_opens_with_the_number_that_was_asked_for() {
        for isn in [0, 1, 1 << 31, u32::MAX, 0xdead_beef] {
            assert_eq!(opening(isn), isn);
        }
        for n in 0..256_u32 {
            let isn = n.wrapping_mul(0x9e37_79b9);
            assert_eq!(opening(isn), isn);
        }
    }

    #[test]
    fn a_number_before_which_smoltcp_draws_twice_is_met_too() {
        let draws_twice = |isn: &u32| {
            let id = drawn(previous(u64::from(*isn) << PLACE));
            (id ^ id >> 16) as u16 == 0
        };
        let isn = (0..u32::MAX).find(draws_twice).unwrap();
        assert_eq!(opening(isn), isn);
    }
}
