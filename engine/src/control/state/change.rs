//! What is new since a snapshot was made, so that writing down a change costs little among many containers.

use serde::{Deserialize, Serialize};

use super::{Container, Network, Snapshot, State};

/// What there is at most one of with each key.
pub trait Keyed {
    /// Tells them apart.
    type Key: Ord + Clone;

    /// Its own.
    fn key(&self) -> &Self::Key;
}

impl Keyed for Network {
    type Key = String;

    fn key(&self) -> &String {
        &self.name
    }
}

impl Keyed for Container {
    type Key = String;

    fn key(&self) -> &String {
        &self.name
    }
}

/// The difference between two collections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference<K, V> {
    set: Vec<V>,
    gone: Vec<K>,
}

impl<V: Keyed + PartialEq + Clone> Difference<V::Key, V> {
    /// What makes `before` of `now`; both are in the order of their keys.
    pub fn between<'a>(before: &'a [V], now: impl Iterator<Item = &'a V>) -> Self {
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        let mut before = before.iter().peekable();
        for new in now {
            while let Some(old) = before.next_if(|old| old.key() < new.key()) {
                gone.push(old.key().clone());
            }
            if before.next_if(|old| old.key() == new.key()) != Some(new) {
                set.push(new.clone());
            }
        }
        gone.extend(before.map(|old| old.key().clone()));
        Self { set, gone }
    }

    /// Carries the difference out. The order stays that of the keys.
    pub fn apply(self, all: &mut Vec<V>) {
        all.retain(|old| !self.gone.contains(old.key()));
        for new in self.set {
            let place = all.iter().position(|old| old.key() >= new.key());
            match place {
                Some(place) if all[place].key() == new.key() => all[place] = new,
                place => all.insert(place.unwrap_or(all.len()), new),
            }
        }
    }
}

impl Difference<String, Container> {
    /// What makes `before`, which is in the order of names, of what is now, given those that may have changed.
    fn of_touched<'a>(
        before: &[Container],
        touched: impl Iterator<Item = (&'a String, Option<&'a Container>)>,
    ) -> Self {
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        for (name, now) in touched {
            let place = before.binary_search_by(|old| old.name.cmp(name));
            let old = place.ok().map(|place| &before[place]);
            match (old, now) {
                (Some(_), None) => gone.push(name.clone()),
                (old, Some(now)) if old != Some(now) => set.push(now.clone()),
                _ => {}
            }
        }
        Self { set, gone }
    }
}

impl<K, V> Difference<K, V> {
    /// There is none.
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty() && self.gone.is_empty()
    }
}

/// What makes one snapshot of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    networks: Difference<String, Network>,
    containers: Difference<String, Container>,
    /// The last numbers of a network, a container and a port, if they are others.
    last: Option<[u32; 3]>,
}

impl Change {
    /// Nothing is different.
    pub const fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.containers.is_empty() && self.last.is_none()
    }
}

impl State {
    /// What has changed since `before`, which was the state when [`State::settle`] was last called.
    pub fn change_since(&self, before: &Snapshot) -> Change {
        let last = [self.last_network, self.last_container, self.last_port];
        let known = [before.last_network, before.last_container, before.last_port];
        Change {
            networks: Difference::between(&before.networks, self.networks.values()),
            containers: Difference::of_touched(&before.containers, self.containers.touched()),
            last: (last != known).then_some(last),
        }
    }

    /// What has changed so far is known.
    pub fn settle(&mut self) {
        self.containers.settle();
    }
}

impl Snapshot {
    /// Makes it the one after a change.
    pub fn apply(&mut self, change: Change) {
        change.networks.apply(&mut self.networks);
        change.containers.apply(&mut self.containers);
        if let Some([network, container, port]) = change.last {
            self.last_network = network;
            self.last_container = container;
            self.last_port = port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Thing(u8, char);

    impl Keyed for Thing {
        type Key = u8;

        fn key(&self) -> &u8 {
            &self.0
        }
    }

    #[test]
    fn a_difference_makes_one_of_the_other() {
        let things = |text: &str| -> Vec<Thing> {
            let all = text.split(' ').filter(|word| !word.is_empty());
            let thing = |word: &str| {
                let mut chars = word.chars();
                let key = chars.next().unwrap() as u8;
                Thing(key, chars.next().unwrap())
            };
            all.map(thing).collect()
        };
        let all = ["", "2a", "1a 2a 4a", "1a 2b 3a", "0a 5a", "1a 2a 3a 4a 5a"].map(things);
        for before in &all {
            for after in &all {
                let difference = Difference::between(before, after.iter());
                assert_eq!(difference.is_empty(), before == after);
                let mut made = before.clone();
                difference.apply(&mut made);
                assert_eq!(made, *after);
            }
        }
    }
}
