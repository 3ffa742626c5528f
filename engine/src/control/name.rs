//! Names and ids.

use std::hash::{BuildHasher, Hasher};

use super::Invalid;

/// Longest name, in bytes. Docker sets no limit; a DNS label has 63.
const MAX_NAME: usize = 63;

/// Checks a name of a container or network: Docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
///
/// # Errors
/// It is empty, too long, or holds something else. The error shows no more of it than can be printed.
pub fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && name.len() <= MAX_NAME {
        return Ok(());
    }
    let shown: String = name
        .chars()
        .take(32)
        .flat_map(char::escape_default)
        .collect();
    Err(Invalid::new(
        field,
        format!("invalid name \"{shown}\": up to {MAX_NAME} of [a-zA-Z0-9][a-zA-Z0-9_.-]"),
    ))
}

/// The 64-digit id that four random numbers make.
pub fn id(random: [u64; 4]) -> String {
    random.iter().map(|word| format!("{word:016x}")).collect()
}

/// An id that follows from another one and a number: the same for the same two.
pub fn derived_id(id: &str, number: u32) -> String {
    let word = |seed| {
        let mut hasher = ahash::RandomState::with_seeds(seed, 2, 3, 4).build_hasher();
        hasher.write(id.as_bytes());
        hasher.write_u32(number);
        hasher.finish()
    };
    self::id([5, 6, 7, 8].map(word))
}

/// The 12 digits of an id that are shown.
pub fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The name of an engine's end: at most 15 characters, from a hash of the whole id, since first letters
/// of ids can meet.
pub fn interface_name(id: &str) -> String {
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    hasher.write(id.as_bytes());
    format!("pt{:012x}", hasher.finish() & 0xffff_ffff_ffff)
}

/// A name for a container that was given none, as Docker makes them: an adjective and a noun.
pub fn generated(random: u64) -> String {
    const ADJECTIVES: [&str; 16] = [
        "afloat", "brisk", "calm", "drifting", "eager", "fluent", "gentle", "humble", "keen",
        "lively", "moored", "nimble", "quiet", "steady", "swift", "wide",
    ];
    const NOUNS: [&str; 16] = [
        "anchor", "barge", "beam", "buoy", "canal", "deck", "ferry", "girder", "harbour", "jetty",
        "lock", "mole", "pier", "quay", "raft", "span",
    ];
    let adjective = ADJECTIVES[(random & 15) as usize];
    let noun = NOUNS[(random >> 4 & 15) as usize];
    format!("{adjective}_{noun}_{:04x}", random >> 48)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_names_pass_and_others_are_named_in_the_error() {
        for good in ["web", "a", "Web-1.local_x", "0day"] {
            assert_eq!(check_name("name", good), Ok(()));
        }
        let long = "x".repeat(4096);
        for bad in [
            "",
            "-web",
            "../x",
            "a\nb",
            "a b",
            "naïve",
            "a\0",
            long.as_str(),
        ] {
            let error = check_name("name", bad).unwrap_err();
            assert_eq!(error.field, "name");
            assert!(error.to_string().len() < 250 && !error.to_string().contains('\n'));
        }
    }

    #[test]
    fn interface_names_fit_and_differ_for_ids_with_the_same_beginning() {
        let (a, b) = (id([1, 2, 3, 4]), id([1, 2, 3, 5]));
        assert!(interface_name(&a).len() <= 15);
        assert_ne!(interface_name(&a), interface_name(&b));
        assert_eq!(short_id(&a).len(), 12);
    }
}
