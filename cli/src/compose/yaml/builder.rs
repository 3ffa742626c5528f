//! The parser's events, put together as a tree.

use std::collections::HashMap;

use saphyr_parser::{Event, ScalarStyle, Span};

use super::{Fault, Node, Value};

/// Most nodes, those of aliases included.
const MAX_NODES: usize = 20_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// The key whose value's entries become the mapping's own, unless it has them.
const MERGE: &str = "<<";

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// A mapping's name that waits for its value.
    name: Option<(usize, String)>,
    /// What a mapping has unless it says otherwise.
    merged: Vec<(String, Node)>,
}

/// Puts the parser's events together.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    /// The whole, once every event was taken; `None` of a file without any node.
    pub(super) fn root(self) -> Option<Node> {
        self.root
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        let tag = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, tag)
            | Event::MappingStart(_, tag) => tag,
            _ => &None,
        };
        if tag.is_some() {
            return Err(Fault::new(line, "", "tags (!) are not supported"));
        }
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Fault::new(line, "", "a second document; expected one"))
            }
            Event::Scalar(text, style, anchor, _) => {
                let value = scalar(&text, style);
                self.bound(line, 1)?;
                self.put(Node { line, value }, anchor)
            }
            Event::Alias(anchor) => {
                let unknown = || Fault::new(line, "", "an alias to what it is part of");
                let target = self.anchors.get(&anchor).ok_or_else(unknown)?;
                let (size, target) = (count(target), target.clone());
                self.bound(line, size)?;
                self.put(target, 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(line, anchor, Value::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(line, anchor, Value::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, value: Value) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            let what = format!("nested more than {MAX_DEPTH} deep");
            return Err(Fault::new(line, "", what));
        }
        self.bound(line, 1)?;
        self.open.push(Open {
            node: Node { line, value },
            anchor,
            name: None,
            merged: Vec::new(),
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        match self.open.pop() {
            Some(open) => {
                let anchor = open.anchor;
                self.put(open.whole(), anchor)
            }
            None => Ok(()),
        }
    }

    fn bound(&mut self, line: usize, more: usize) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let what = format!("more than {MAX_NODES} values, those of aliases included");
        Err(Fault::new(line, "", what))
    }

    /// A node is whole: it goes into the collection that is open.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(open) => open.put(node)?,
        }
        Ok(())
    }
}

impl Open {
    /// A mapping's values are found in the lines of their names.
    fn put(&mut self, mut node: Node) -> Result<(), Fault> {
        if let Some((line, _)) = &self.name {
            node.line = *line;
        }
        match (&mut self.node.value, self.name.take()) {
            (Value::List(list), _) => list.push(node),
            (Value::Map(_), None) => self.name = Some(name(node)?),
            (Value::Map(_), Some((line, name))) if name == MERGE => {
                merge(&mut self.merged, line, node)?;
            }
            (Value::Map(entries), Some((_, name))) => enter(entries, name, node)?,
            (Value::Null | Value::Text(_), _) => {}
        }
        Ok(())
    }

    fn whole(mut self) -> Node {
        if let Value::Map(entries) = &mut self.node.value {
            for (name, node) in self.merged {
                if entries.iter().all(|(other, _)| *other != name) {
                    entries.push((name, node));
                }
            }
        }
        self.node
    }
}

/// How many nodes there are in one.
fn count(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Text(_) => 1,
        Value::List(list) => 1 + list.iter().map(count).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Value::Null,
        text => Value::Text(text.to_owned()),
    }
}

fn name(node: Node) -> Result<(usize, String), Fault> {
    match node.value {
        Value::Text(text) => Ok((node.line, text)),
        _ => Err(Fault::new(
            node.line,
            "",
            "expected a name before the colon",
        )),
    }
}

fn enter(entries: &mut Vec<(String, Node)>, name: String, node: Node) -> Result<(), Fault> {
    if entries.iter().any(|(other, _)| *other == name) {
        let what = format!("{} is there twice", name.escape_default());
        return Err(Fault::new(node.line, "", what));
    }
    entries.push((name, node));
    Ok(())
}

fn merge(merged: &mut Vec<(String, Node)>, line: usize, node: Node) -> Result<(), Fault> {
    match node.value {
        Value::Map(more) => {
            merged.extend(more);
            Ok(())
        }
        Value::List(list) => list
            .into_iter()
            .try_for_each(|node| merge(merged, line, node)),
        Value::Null | Value::Text(_) => {
            let what = "<< takes a mapping or a list of mappings";
            Err(Fault::new(line, "", what))
        }
    }
}
