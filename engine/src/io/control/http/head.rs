//! Heads of messages (RFC 9112 §3–§5), and what their fields say of what follows.

use httparse::{EMPTY_HEADER, Error, Header, Status};

use super::body::Framing;
use super::wire::Fault;
use super::{MAX_FIELDS, MAX_HEAD};

/// What precedes the body of a request.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Fields,
}

/// What the fields of a message say.
#[derive(Debug, Default)]
pub(super) struct Fields {
    hosts: usize,
    length: Option<usize>,
    chunked: bool,
    /// Nothing comes after this message.
    pub(super) closes: bool,
    /// The other side waits for a word before it sends the body.
    pub(super) expects: bool,
    /// Type of the body.
    pub(super) media_type: Option<String>,
}

impl Fields {
    /// Where the body ends.
    pub(super) fn framing(&self) -> Framing {
        match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        }
    }

    /// Reads the fields of a message.
    fn read(fields: &[Header<'_>]) -> Result<Self, Fault> {
        let mut read = Self::default();
        for field in fields {
            let value = std::str::from_utf8(field.value)
                .map_err(|_| Fault::Wrong(400, "a header field is not UTF-8"))?;
            read.note(&field.name.to_ascii_lowercase(), value)?;
        }
        // Who sees the one and who sees the other would disagree about where it ends (RFC 9112 §6.1).
        if read.chunked && read.length.is_some() {
            let what = "Content-Length and Transfer-Encoding exclude each other";
            return Err(Fault::Wrong(400, what));
        }
        Ok(read)
    }

    fn note(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        match name {
            "host" => self.hosts += 1,
            "connection" => {
                let mut options = value.split(',');
                self.closes |= options.any(|option| option.trim().eq_ignore_ascii_case("close"));
            }
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let length = value.parse().ok().filter(|_| digits);
                let length = length.ok_or(Fault::Wrong(400, "Content-Length is not a length"))?;
                if self.length.replace(length).is_some_and(|l| l != length) {
                    return Err(Fault::Wrong(400, "there are two lengths"));
                }
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") && !self.chunked => {
                self.chunked = true;
            }
            "transfer-encoding" => {
                return Err(Fault::Wrong(
                    501,
                    "no Transfer-Encoding but chunked is known",
                ));
            }
            "expect" if value.eq_ignore_ascii_case("100-continue") => self.expects = true,
            "expect" => {
                return Err(Fault::Wrong(
                    417,
                    "nothing but 100-continue can be expected",
                ));
            }
            "content-type" => self.media_type = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

impl RequestHead {
    /// Reads a head, and says how many bytes it has; `None` when there must be more.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let Some(length) = whole(request.parse(bytes), bytes)? else {
            return Ok(None);
        };
        let mut fields = Fields::read(request.headers)?;
        let modern = request.version == Some(1);
        if modern && fields.hosts != 1 {
            return Err(Fault::Wrong(
                400,
                "there must be one Host field (RFC 9112 §3.2)",
            ));
        }
        if !modern && fields.chunked {
            return Err(Fault::Wrong(400, "HTTP/1.0 has no chunks"));
        }
        fields.closes |= !modern;
        let head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            fields,
        };
        Ok(Some((head, length)))
    }
}

/// Reads the head of a reply: its status and fields, and how many bytes it has.
pub(super) fn parse_reply(bytes: &[u8]) -> Result<Option<(u16, Fields, usize)>, Fault> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut reply = httparse::Response::new(&mut fields);
    match whole(reply.parse(bytes), bytes)? {
        None => Ok(None),
        Some(length) => {
            let fields = Fields::read(reply.headers)?;
            Ok(Some((reply.code.unwrap_or_default(), fields, length)))
        }
    }
}

/// Length of a head that is whole.
fn whole(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<Option<usize>, Fault> {
    const TOO_LONG: Fault = Fault::Wrong(431, "the header fields are too long, or too many");
    match parsed {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => Ok(Some(length)),
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => Ok(None),
        Ok(_) | Err(Error::TooManyHeaders) => Err(TOO_LONG),
        Err(Error::Version) => Err(Fault::Wrong(505, "only HTTP/1.1 and HTTP/1.0 are spoken")),
        Err(_) => Err(Fault::Wrong(400, "this is not HTTP/1.1")),
    }
}
