//! Reading a tree's fields: every fault with its line and path, unknown names refused.

use std::io;

use super::interpolate::interpolate;
use super::yaml::{Fault, Node, Value};

/// What a file may refer to.
pub(super) trait Surroundings {
    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of another file, by its path from this one's directory.
    ///
    /// # Errors
    /// What stands in the way.
    fn file(&self, path: &str) -> io::Result<String>;
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Place<'a> {
    node: &'a Node,
    path: String,
    surroundings: &'a dyn Surroundings,
}

/// A mapping whose entries are taken one by one.
pub(super) struct Table<'a> {
    path: String,
    entries: Vec<(&'a str, Place<'a>)>,
}

impl<'a> Place<'a> {
    /// The whole file.
    pub(super) fn root(node: &'a Node, surroundings: &'a dyn Surroundings) -> Self {
        Self {
            node,
            path: String::new(),
            surroundings,
        }
    }

    /// Its line, from 1.
    pub(super) const fn line(&self) -> usize {
        self.node.line
    }

    /// What the file may refer to.
    pub(super) fn surroundings(&self) -> &'a dyn Surroundings {
        self.surroundings
    }

    /// What is wrong here.
    pub(super) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault::new(self.node.line, &self.path, what)
    }

    /// Whether nothing is there.
    pub(super) const fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Whether a list is there.
    pub(super) const fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Whether a mapping is there.
    pub(super) const fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// A text, its variables replaced.
    pub(super) fn text(&self) -> Result<String, Fault> {
        match &self.node.value {
            Value::Text(text) => interpolate(text, &|name| self.surroundings.variable(name))
                .map_err(|what| self.fault(what)),
            _ => Err(self.fault("expected a text")),
        }
    }

    /// A text that means something.
    pub(super) fn parsed<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Fault> {
        let text = self.text()?;
        let wrong = |_| self.fault(format!("{}: expected {expected}", text.escape_default()));
        text.parse().map_err(wrong)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Result<bool, Fault> {
        self.parsed("true or false")
    }

    /// A list's values.
    pub(super) fn list(&self) -> Result<Vec<Self>, Fault> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::List(list) => {
                let place = |(nth, node)| self.below(&format!("[{nth}]"), node);
                Ok(list.iter().enumerate().map(place).collect())
            }
            _ => Err(self.fault("expected a list")),
        }
    }

    /// One text, or a list of them.
    pub(super) fn texts(&self) -> Result<Vec<String>, Fault> {
        match self.node.value {
            Value::Text(_) => Ok(vec![self.text()?]),
            _ => self.list()?.iter().map(Place::text).collect(),
        }
    }

    /// A mapping's entries, in the order of the file.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>, Fault> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::Map(entries) => {
                let below = |name: &str, node| match self.path.as_str() {
                    "" => self.below(name, node),
                    _ => self.below(&format!(".{name}"), node),
                };
                let place = |(name, node): &'a (String, Node)| (name.as_str(), below(name, node));
                Ok(entries.iter().map(place).collect())
            }
            _ => Err(self.fault("expected names with values")),
        }
    }

    /// Names with values, as a mapping or as a list of `NAME=VALUE`; a name alone has no value.
    pub(super) fn pairs(&self, between: char) -> Result<Vec<(String, Option<String>)>, Fault> {
        if !self.is_list() {
            let value = |place: &Self| match place.is_null() {
                true => Ok(None),
                false => place.text().map(Some),
            };
            let entries = self.entries()?.into_iter();
            return entries
                .map(|(name, place)| Ok((name.to_owned(), value(&place)?)))
                .collect();
        }
        let split = |text: String| match text.split_once(between) {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text, None),
        };
        Ok(self.texts()?.into_iter().map(split).collect())
    }

    /// A mapping whose entries are known by name.
    pub(super) fn table(&self) -> Result<Table<'a>, Fault> {
        let mut entries = self.entries()?;
        // Compose's way to have room for whatever others read.
        entries.retain(|(name, _)| !name.starts_with("x-"));
        Ok(Table {
            path: self.path.clone(),
            entries,
        })
    }

    fn below(&self, step: &str, node: &'a Node) -> Self {
        Self {
            node,
            path: format!("{}{step}", self.path),
            surroundings: self.surroundings,
        }
    }
}

impl<'a> Table<'a> {
    /// Takes an entry out.
    pub(super) fn take(&mut self, name: &str) -> Option<Place<'a>> {
        let nth = self.entries.iter().position(|(other, _)| *other == name)?;
        let (_, place) = self.entries.remove(nth);
        Some(place)
    }

    /// Refuses entries with these names, because of `why`.
    pub(super) fn refuse(&self, names: &[&str], why: &str) -> Result<(), Fault> {
        let mut entries = self.entries.iter();
        match entries.find(|(name, _)| names.contains(name)) {
            Some((_, place)) => Err(place.fault(why)),
            None => Ok(()),
        }
    }

    /// Takes an entry out and reads it.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Place<'a>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.take(name).as_ref().map(read).transpose()
    }

    /// Refuses what nobody has taken; `known` tells of names that mean something elsewhere.
    pub(super) fn finish(self, known: impl Fn(&str) -> Option<&'static str>) -> Result<(), Fault> {
        let Some((name, place)) = self.entries.first() else {
            return Ok(());
        };
        let what = match known(name) {
            Some(why) => why.to_owned(),
            None => "unknown key".to_owned(),
        };
        let field = match self.path.as_str() {
            "" => name.escape_default().to_string(),
            path => format!("{path}.{}", name.escape_default()),
        };
        Err(Fault::new(place.line(), &field, what))
    }
}
