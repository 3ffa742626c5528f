//! Messages of one transaction.

use std::ops::Range;

use super::{NESTED, attribute, number, text};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const DELETE_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const GET_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Elements of one message: an attribute is no longer than 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// What kind of packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Family {
    /// IP of both versions, in the network stack.
    Inet = 1,
    /// Frames of an interface, in front of it.
    Netdev = 5,
}

/// Where a chain begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct ChainHook<'a> {
    /// Number of the hook.
    pub(in crate::io) number: u32,
    /// Smaller is earlier.
    pub(in crate::io) priority: i32,
    /// The interface, in [`Family::Netdev`].
    pub(in crate::io) interface: Option<&'a str>,
}

/// A map whose elements count who finds them.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Map<'a> {
    /// Its name.
    pub(in crate::io) name: &'a str,
    /// Length of keys, in bytes.
    pub(in crate::io) key: u32,
    /// Length of data, in bytes.
    pub(in crate::io) data: u32,
    /// Most elements.
    pub(in crate::io) size: u32,
    /// Tells the maps of one batch apart.
    pub(in crate::io) id: u32,
}

/// Messages that are carried out together or not at all.
#[derive(Debug)]
pub(in crate::io) struct Batch {
    family: Family,
    /// Kind, flags and attributes of each message.
    messages: Vec<(u16, u16, Vec<u8>)>,
}

impl Batch {
    /// An empty one for tables of a family.
    pub(in crate::io) fn begin(family: Family) -> Self {
        Self {
            family,
            messages: Vec::new(),
        }
    }

    /// All of it, with these numbers from the first one on.
    pub(super) fn end(self, first: u32) -> (Vec<u8>, Range<u32>) {
        let mut bytes = Vec::new();
        let mut number = first;
        let mut append = |kind, flags, family, resource, attributes: &[u8]| {
            append(
                &mut bytes,
                (kind, flags, number),
                (family, resource),
                attributes,
            );
            number = number.wrapping_add(1);
        };
        append(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
        for (kind, flags, attributes) in &self.messages {
            let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
            append(*kind, flags, self.family as u8, 0, attributes);
        }
        append(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
        (bytes, first..number)
    }

    fn message(&mut self, kind: u16, flags: u16, attributes: &[u8]) {
        self.messages.push((kind, flags, attributes.to_vec()));
    }

    /// A table, which with this flag belongs to the socket that makes it and vanishes with it.
    pub(in crate::io) fn owned_table(&mut self, name: &str) {
        const NAME: u16 = 1;
        const FLAGS: u16 = 2;
        const OWNER: u32 = 2;
        let attributes = [text(NAME, name), number(FLAGS, OWNER)].concat();
        self.message(NEW_TABLE, NLM_F_CREATE, &attributes);
    }

    /// A chain to jump to, or one that begins at a hook.
    pub(in crate::io) fn chain(&mut self, table: &str, name: &str, hook: Option<ChainHook<'_>>) {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const TYPE: u16 = 7;
        let mut attributes = [text(TABLE, table), text(NAME, name)].concat();
        if let Some(hook) = hook {
            attributes.extend(attribute(HOOK | NESTED, &place(hook)));
            attributes.extend(text(TYPE, "filter"));
        }
        self.message(NEW_CHAIN, NLM_F_CREATE, &attributes);
    }

    /// Takes a chain away, with its rules. One that is not there is refused, with the whole batch.
    pub(in crate::io) fn delete_chain(&mut self, table: &str, name: &str) {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        let attributes = [text(TABLE, table), text(NAME, name)].concat();
        self.message(DELETE_CHAIN, 0, &attributes);
    }

    /// A rule behind those that the chain has.
    pub(in crate::io) fn rule(&mut self, table: &str, chain: &str, expressions: &[Vec<u8>]) {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        const ELEMENT: u16 = 1;
        let list = expressions.iter();
        let list: Vec<u8> = list.flat_map(|e| attribute(ELEMENT | NESTED, e)).collect();
        let attributes = [
            text(TABLE, table),
            text(CHAIN, chain),
            attribute(EXPRESSIONS | NESTED, &list),
        ];
        self.message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, &attributes.concat());
    }

    /// A map.
    pub(in crate::io) fn map(&mut self, table: &str, map: Map<'_>) {
        const TABLE: u16 = 1;
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LENGTH: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LENGTH: u16 = 7;
        const DESCRIPTION: u16 = 9;
        const DESCRIPTION_SIZE: u16 = 1;
        const ID: u16 = 10;
        const EXPRESSION: u16 = 17;
        const IS_MAP: u32 = 8;
        let attributes = [
            text(TABLE, table),
            text(NAME, map.name),
            number(FLAGS, IS_MAP),
            // What the numbers mean is nobody's business but ours.
            number(KEY_TYPE, 0),
            number(KEY_LENGTH, map.key),
            number(DATA_TYPE, 0),
            number(DATA_LENGTH, map.data),
            attribute(DESCRIPTION | NESTED, &number(DESCRIPTION_SIZE, map.size)),
            number(ID, map.id),
            attribute(EXPRESSION | NESTED, &super::expression::counter()),
        ];
        self.message(NEW_SET, NLM_F_CREATE, &attributes.concat());
    }

    /// Elements of a map, each with its data.
    pub(in crate::io) fn add<'a>(
        &mut self,
        table: &str,
        map: &str,
        elements: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        let elements = elements
            .map(|(key, data)| [value(KEY, key), value(DATA, data)].concat())
            .collect::<Vec<_>>();
        self.elements(NEW_ELEMENTS, NLM_F_CREATE, table, map, &elements);
    }

    /// Takes elements out of a map. One that is not there is refused, with the whole batch.
    pub(in crate::io) fn remove<'a>(
        &mut self,
        table: &str,
        map: &str,
        keys: impl Iterator<Item = &'a [u8]>,
    ) {
        const KEY: u16 = 1;
        let elements: Vec<_> = keys.map(|key| value(KEY, key)).collect();
        self.elements(DELETE_ELEMENTS, 0, table, map, &elements);
    }

    /// Empties a map.
    pub(in crate::io) fn empty(&mut self, table: &str, map: &str) {
        self.message(DELETE_ELEMENTS, 0, &named(table, map));
    }

    fn elements(&mut self, kind: u16, flags: u16, table: &str, map: &str, elements: &[Vec<u8>]) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(kind, flags, &listed(table, map, some));
        }
    }
}

fn listed(table: &str, map: &str, elements: &[Vec<u8>]) -> Vec<u8> {
    const ELEMENTS: u16 = 3;
    const ELEMENT: u16 = 1;
    let list = elements.iter();
    let list: Vec<u8> = list.flat_map(|e| attribute(ELEMENT | NESTED, e)).collect();
    let mut attributes = named(table, map);
    attributes.extend(attribute(ELEMENTS | NESTED, &list));
    attributes
}

/// A message that asks for some elements of a map.
pub(super) fn look_up<'a>(
    number: u32,
    family: Family,
    table: &str,
    map: &str,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    const KEY: u16 = 1;
    let elements: Vec<_> = keys.map(|key| value(KEY, key)).collect();
    let mut bytes = Vec::new();
    let parts = (GET_ELEMENTS, NLM_F_REQUEST | NLM_F_ACK, number);
    let attributes = listed(table, map, &elements);
    append(&mut bytes, parts, (family as u8, 0), &attributes);
    bytes
}

fn named(table: &str, map: &str) -> Vec<u8> {
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    [text(TABLE, table), text(SET, map)].concat()
}

fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    const VALUE: u16 = 1;
    attribute(kind | NESTED, &attribute(VALUE, bytes))
}

fn place(hook: ChainHook<'_>) -> Vec<u8> {
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const INTERFACE: u16 = 3;
    let mut attributes = [
        number(NUMBER, hook.number),
        attribute(PRIORITY, &hook.priority.to_be_bytes()),
    ]
    .concat();
    attributes.extend(
        hook.interface
            .map(|name| text(INTERFACE, name))
            .unwrap_or_default(),
    );
    attributes
}

fn append(
    bytes: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    (family, resource): (u8, u16),
    attributes: &[u8],
) {
    let length = (16 + 4 + attributes.len()) as u32;
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(attributes);
}
