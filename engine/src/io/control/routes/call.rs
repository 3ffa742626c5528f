//! From a request's line to what it asks for.

use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Action, Route, VERSION, routes};
use crate::control::api::Request;
use crate::control::publish::{self, PublishRange};
use crate::control::{Invalid, Kind};
use crate::io::control::http::Received;

/// Why a request is not carried out.
#[derive(Debug)]
pub(in super::super) struct Refusal {
    /// Status code.
    pub(in super::super) status: u16,
    /// Field and reason.
    pub(in super::super) why: Invalid,
    /// The methods that would do.
    pub(in super::super) allow: Option<String>,
}

impl Refusal {
    /// `status`, because of `field`.
    pub(in super::super) fn new(status: u16, field: &str, reason: impl Into<String>) -> Self {
        Self {
            status,
            why: Invalid::new(field, reason),
            allow: None,
        }
    }
}

impl From<Invalid> for Refusal {
    fn from(why: Invalid) -> Self {
        let status = match why.kind {
            Kind::Wrong => 422,
            Kind::Missing => 404,
            Kind::Conflict => 409,
            Kind::Broken => 500,
        };
        Self {
            status,
            why,
            allow: None,
        }
    }
}

/// How serde begins to say that a number has a fraction, if only `.0`.
const FRACTION: &str = "invalid type: floating point";
/// How it begins to say that a value is not what the document describes. Other words are those of values
/// that were looked at more closely: ports.
const MISFITS: [&str; 8] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "invalid IP address",
];

/// What is to be done for a request.
pub(in super::super) enum Wanted {
    /// Carry it out, with the descriptors that came along, and answer with a status.
    Request(Box<Request>, Vec<OwnedFd>, u16),
    /// Send the document.
    Document,
    /// Send events as they happen.
    Events,
}

/// What stands for each `{…}` of a path.
type Segments = Vec<(&'static str, String)>;

/// A request of which the route is known.
pub(in super::super) struct Call<'a> {
    segments: Segments,
    query: Vec<(String, String)>,
    body: &'a [u8],
}

/// What a request asks for.
pub(in super::super) fn read(received: Received) -> Result<Wanted, Refusal> {
    let target = path_of(&received.target)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (route, segments) = find(&received.method, path)?;
    check_body(route, &received)?;
    let call = Call {
        segments,
        query: read_query(route, query)?,
        body: &received.body,
    };
    match route.action {
        Action::Describe => Ok(Wanted::Document),
        Action::Watch => Ok(Wanted::Events),
        Action::CarryOut(read) => {
            let request = read(&call)?;
            Ok(Wanted::Request(
                Box::new(request),
                received.fds,
                route.success,
            ))
        }
    }
}

/// The target without scheme and authority, which a client may give (RFC 9112 §3.2.2).
fn path_of(target: &str) -> Result<&str, Refusal> {
    let absolute = target.strip_prefix("http://");
    let path = match absolute {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(Refusal::new(400, "path", "expected /v1/…")),
    }
}

/// The route for a method and a path, and what stands for the `{…}` in it.
pub(in super::super) fn find(
    method: &str,
    path: &str,
) -> Result<(&'static Route, Segments), Refusal> {
    let below = path.strip_prefix(VERSION).unwrap_or_default();
    let mut others = Vec::new();
    for route in routes() {
        match segments_in(route.path, below)? {
            Some(segments) if route.method == method => return Ok((route, segments)),
            Some(_) => others.push(route.method),
            None => {}
        }
    }
    if others.is_empty() {
        let what = "there is nothing here; /v1/openapi.json says what there is";
        return Err(Refusal::new(404, "path", what));
    }
    let allow = others.join(", ");
    Err(Refusal {
        allow: Some(allow.clone()),
        ..Refusal::new(405, "method", format!("only {allow} will do here"))
    })
}

/// What stands for the `{…}` in `pattern`, if `path` is what it says.
fn segments_in(pattern: &'static str, path: &str) -> Result<Option<Segments>, Refusal> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut segments = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Ok(Some(segments)),
            (Some(wanted), Some(given)) => match variable(wanted) {
                Some(name) if !given.is_empty() => segments.push((name, decode(given)?)),
                None if wanted == given => {}
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
}

/// The name of a segment of a pattern that stands for any.
pub(super) fn variable(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn check_body(route: &Route, received: &Received) -> Result<(), Refusal> {
    match (route.body, received.body.is_empty()) {
        (None, true) => Ok(()),
        (None, false) => Err(Refusal::new(400, "body", "nothing is taken here")),
        (Some(_), true) => Err(Refusal::new(400, "body", "there must be a JSON object")),
        (Some(_), false) => {
            let kind = received.media_type.as_deref().unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            match kind.eq_ignore_ascii_case("application/json") {
                true => Ok(()),
                false => Err(Refusal::new(
                    415,
                    "Content-Type",
                    "expected application/json",
                )),
            }
        }
    }
}

/// Reads the parameters of a query, of which each must be one of the route's.
fn read_query(route: &Route, query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut read = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (
            decode(&name.replace('+', " "))?,
            decode(&value.replace('+', " "))?,
        );
        if !route.query.iter().any(|parameter| parameter.name == name) {
            let what = format!("unknown parameter {}", name.escape_default());
            return Err(Refusal::new(400, &name, what));
        }
        read.push((name, value));
    }
    Ok(read)
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decode(text: &str) -> Result<String, Refusal> {
    let wrong = || {
        Refusal::new(
            400,
            "path",
            format!("{}: not percent-encoded UTF-8", text.escape_default()),
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
            rest = after;
            let digits = std::str::from_utf8(digits)
                .ok()
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            digits
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(wrong)?
        } else {
            *first
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

impl Call<'_> {
    /// What stands for `{name}` in the path.
    pub(super) fn name(&self) -> String {
        self.segment("name")
    }

    /// What stands for `{variable}` in the path.
    pub(super) fn segment(&self, variable: &str) -> String {
        let mut segments = self.segments.iter();
        let found = segments.find(|(name, _)| *name == variable);
        found.map_or_else(String::new, |(_, text)| text.clone())
    }

    /// The body.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(self.body)
            .or_else(|error| match error.to_string().starts_with(FRACTION) {
                true => serde_json::from_slice(self.body).and_then(|mut value| {
                    make_whole(&mut value);
                    serde_json::from_value(value)
                }),
                false => Err(error),
            })
            .map_err(|error| misfit(&error))
    }

    /// Whether a parameter says `true`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::new(400, name, "expected true or false")),
        }
    }

    /// A parameter that is a number of at most `max`.
    pub(super) fn number(&self, name: &str, default: u64, max: u64) -> Result<u64, Refusal> {
        let Some(text) = self.one(name)? else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| *number <= max);
        number.ok_or_else(|| Refusal::new(400, name, format!("expected a number from 0 to {max}")))
    }

    /// Ports, one for each time that the parameter is given.
    pub(super) fn ports(&self, name: &str) -> Result<Vec<PublishRange>, Refusal> {
        let given = self.query.iter().filter(|(given, _)| given == name);
        let ports: Vec<_> = given
            .map(|(_, text)| publish::parse(text).map_err(|error| error.of(name)))
            .collect::<Result<_, _>>()?;
        match ports.is_empty() {
            true => Err(Refusal::new(400, name, "must be given")),
            false => Ok(ports),
        }
    }

    fn one(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut given = self.query.iter().filter(|(given, _)| given == name);
        match (given.next(), given.next()) {
            (_, Some(_)) => Err(Refusal::new(400, name, "given more than once")),
            (first, None) => Ok(first.map(|(_, text)| text.as_str())),
        }
    }
}

/// To JSON Schema a number without a fraction is an integer, however it is written.
fn make_whole(value: &mut Value) {
    /// Beyond it not every integer is a `f64`.
    const EXACT: f64 = (1_u64 << 53) as f64;
    match value {
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64();
            if let Some(whole) = number.filter(|n| n.fract() == 0.0 && n.abs() <= EXACT) {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}

/// Why a body is not taken, in serde's words or those of a value.
fn misfit(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    let status = match error.is_data() && !MISFITS.iter().any(|words| text.starts_with(words)) {
        true => 422,
        false => 400,
    };
    // serde names fields in back quotes: "unknown field `x`, expected …".
    let named = text
        .split("field `")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    Refusal::new(status, named.unwrap_or("body"), text.clone())
}
