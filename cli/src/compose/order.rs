//! What comes before what.

/// Orders things so that each comes after those it needs, and otherwise as they were given. A need that
/// is not among them is none.
///
/// # Errors
/// Some need each other: these, in a circle.
pub(super) fn order<'a>(things: &[(&'a str, Vec<&'a str>)]) -> Result<Vec<usize>, Vec<&'a str>> {
    let mut left: Vec<usize> = (0..things.len()).collect();
    let mut ordered = Vec::with_capacity(things.len());
    while !left.is_empty() {
        let is_left = |name: &&str| left.iter().any(|nth| things[*nth].0 == *name);
        let is_ready = |nth: &usize| !things[*nth].1.iter().any(&is_left);
        let Some(place) = left.iter().position(is_ready) else {
            return Err(circle(things, left[0], is_left));
        };
        ordered.push(left.remove(place));
    }
    Ok(ordered)
}

/// Follows needs that are left until one comes again.
fn circle<'a>(
    things: &[(&'a str, Vec<&'a str>)],
    first: usize,
    is_left: impl Fn(&&str) -> bool,
) -> Vec<&'a str> {
    let mut path = vec![things[first].0];
    loop {
        let last = path[path.len() - 1];
        let needs = things.iter().find(|(name, _)| *name == last);
        let need = needs.and_then(|(_, needs)| needs.iter().find(|need| is_left(need)));
        let Some(need) = need.copied() else {
            return path;
        };
        if let Some(begin) = path.iter().position(|name| *name == need) {
            return path.split_off(begin);
        }
        path.push(need);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn needs_come_first_and_the_rest_stays_as_given() {
        let things = [
            ("web", vec!["db", "cache"]),
            ("mail", vec![]),
            ("cache", vec!["db"]),
            ("db", vec!["elsewhere"]),
        ];
        assert_eq!(order(&things), Ok(vec![1, 3, 2, 0]));
    }

    #[test]
    fn a_circle_is_named_without_what_leads_to_it() {
        let things = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["b"])];
        assert_eq!(order(&things), Err(vec!["b", "c"]));
        assert_eq!(order(&[("a", vec!["a"])]), Err(vec!["a"]));
    }

    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    proptest! {
        #[test]
        fn an_order_keeps_all_needs_and_a_circle_is_one(
            needs in prop::collection::vec(prop::collection::vec(0_usize..6, 0..3), 6),
        ) {
            let things: Vec<_> = needs.iter().enumerate()
                .map(|(nth, needs)| (NAMES[nth], needs.iter().map(|n| NAMES[*n]).collect::<Vec<_>>()))
                .collect();
            match order(&things) {
                Ok(ordered) => {
                    let place = |nth: usize| ordered.iter().position(|other| *other == nth).unwrap();
                    for (nth, needs) in needs.iter().enumerate() {
                        prop_assert!(needs.iter().all(|need| place(*need) < place(nth)));
                    }
                }
                Err(circle) => {
                    let next = circle.iter().cycle().skip(1);
                    for (name, need) in circle.iter().zip(next) {
                        let (_, needs) = things.iter().find(|(other, _)| other == name).unwrap();
                        prop_assert!(needs.contains(need), "{circle:?}");
                    }
                }
            }
        }
    }
}
