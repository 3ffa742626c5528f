//! Things by their names, and which of them may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// Things by their names; it knows whose values somebody has had in hand to change them since it was
/// [settled](Self::settle).
#[derive(Clone, Debug)]
pub(super) struct Tracked<T> {
    all: BTreeMap<String, T>,
    touched: BTreeSet<String>,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }
}

impl<T> Deref for Tracked<T> {
    type Target = BTreeMap<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<T> FromIterator<(String, T)> for Tracked<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(all: I) -> Self {
        Self {
            all: all.into_iter().collect(),
            touched: BTreeSet::new(),
        }
    }
}

impl<T> Tracked<T> {
    /// Adds one, unless that name is taken. Gives back the one of that name.
    pub(super) fn add(&mut self, name: String, value: T) -> &T {
        self.touched.insert(name.clone());
        self.all.entry(name).or_insert(value)
    }

    /// The one of that name, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let value = self.all.get_mut(name)?;
        self.touched.insert(name.to_owned());
        Some(value)
    }

    /// All of them, to be changed.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.touched.extend(self.all.keys().cloned());
        self.all.values_mut()
    }

    /// Takes the one of that name out.
    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        self.touched.insert(name.to_owned());
        self.all.remove(name)
    }

    /// Names of those that may have changed, and what they are now, if they are.
    pub(super) fn touched(&self) -> impl Iterator<Item = (&String, Option<&T>)> {
        self.touched.iter().map(|name| (name, self.all.get(name)))
    }

    /// What has changed is known.
    pub(super) fn settle(&mut self) {
        self.touched.clear();
    }
}
