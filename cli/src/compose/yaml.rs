//! YAML as a tree that remembers its lines.
//!
//! Anchors, aliases and merge keys are resolved; tags and further documents are refused. Size, depth and
//! the number of nodes after aliases are bounded.

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Largest file, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Most nodes, those of aliases included.
const MAX_NODES: usize = 20_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// The key whose value's entries become the mapping's own, unless it has them.
const MERGE: &str = "<<";

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line, from 1.
    pub(super) line: usize,
    /// Path of the field, as `services.web.ports`; empty for the file as a whole.
    pub(super) field: String,
    /// What is wrong, and what to do.
    pub(super) what: String,
}

impl Fault {
    /// `field` in this line is wrong because of `what`.
    pub(super) fn new(line: usize, field: &str, what: impl Into<String>) -> Self {
        Self {
            line,
            field: field.to_owned(),
            what: what.into(),
        }
    }
}

/// Without the line, which stands beside the file's name.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.what),
            field => write!(f, "{field}: {}", self.what),
        }
    }
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Line, from 1.
    pub(super) line: usize,
    /// What it is.
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar, as it was written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, each name once.
    Map(Vec<(String, Node)>),
}

/// Reads the one document of a file.
///
/// # Errors
/// It is not YAML, has a name twice, or exceeds a bound.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        let what = format!("{} bytes: at most {MAX_BYTES}", text.len());
        return Err(Fault::new(1, "", what));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        builder.take(event, span)?;
    }
    let nothing = || Fault::new(1, "", "the file is empty; expected services:");
    builder.root.ok_or_else(nothing)
}

fn not_yaml(error: &ScanError) -> Fault {
    let what = format!("not YAML: {}", error.info());
    Fault::new(error.marker().line(), "", what)
}

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
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tree in one line, to compare.
    fn shown(node: &Node) -> String {
        let line = node.line;
        match &node.value {
            Value::Null => format!("{line}~"),
            Value::Text(text) => format!("{line}{text:?}"),
            Value::List(list) => {
                format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(" "))
            }
            Value::Map(entries) => {
                let entry = |(name, node): &(String, Node)| format!("{name}:{}", shown(node));
                let entries: Vec<_> = entries.iter().map(entry).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    #[test]
    fn values_know_their_lines_and_stay_as_they_were_written() {
        let text = "a: 022:80\nb:\n  - 'null'\n  - null\n  - {c: \"x\"}\n";
        let tree = parse(text).unwrap();
        assert_eq!(shown(&tree), "{a:1\"022:80\" b:[3\"null\" 4~ {c:5\"x\"}]}");
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let text = "x: &x {a: 1, b: 2}\ny:\n  b: 3\n  <<: *x\nz: *x\n";
        let tree = parse(text).unwrap();
        assert_eq!(
            shown(&tree),
            "{x:{a:1\"1\" b:1\"2\"} y:{b:3\"3\" a:1\"1\"} z:{a:1\"1\" b:1\"2\"}}"
        );
    }

    #[test]
    fn what_is_refused_is_refused_with_its_line() {
        let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        let laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
            + &(1..9)
                .map(|n| {
                    format!(
                        "a{n}: &a{n} [{}]\n",
                        vec![
                            format!(
                                "*a{}",
                                if n == 1 {
                                    String::new()
                                } else {
                                    (n - 1).to_string()
                                }
                            );
                            10
                        ]
                        .join(", ")
                    )
                })
                .collect::<String>();
        for (text, line, what) in [
            ("", 1, "empty"),
            ("a: 1\nb: 2\na: 3\n", 3, "a is there twice"),
            ("a: 1\nb: [\n", 3, "not YAML"),
            ("a: !x 1\n", 1, "tags"),
            ("a: 1\n---\nb: 1\n", 2, "second document"),
            ("a: 1\n[b]: 2\n", 2, "expected a name"),
            ("a:\n  <<: 3\n", 2, "<< takes"),
            (deep.as_str(), 1, "nested"),
            (laughs.as_str(), 5, "more than"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.what.contains(what), "{text}: {fault}");
            assert_eq!(fault.line, line, "{text}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a-c:&*<{}\\[\\]!'\"|> \n#,?%@`]{0,60}") {
            if let Err(fault) = parse(&text) {
                prop_assert!(fault.line <= text.lines().count() + 1, "{fault}");
            }
        }
    }
}
