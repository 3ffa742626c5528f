//! Reading messages.

use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode,
};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::DropReason;
use crate::reply;

/// Bytes of the longest query that is taken: a name, an OPT record and the padding of RFC 8467, with
/// room to spare. Longer ones are refused.
pub const MAX_QUERY: usize = 1232;

/// Bytes of a header (RFC 1035 §4.1.1).
pub(crate) const HEADER: usize = 12;
/// Bytes of type and class behind the name of a question (RFC 1035 §4.1.2).
const TYPE_AND_CLASS: usize = 4;

/// A query that can be answered or forwarded.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) header: Metadata,
    pub(crate) question: Question,
    /// What the client says of itself (RFC 6891), without options.
    pub(crate) edns: Option<Edns>,
}

/// A query that goes no further.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not answered.
    Drop(DropReason),
    /// It is answered with an error.
    Answer(Vec<u8>),
}

impl Query {
    /// The query in `bytes`, if it is one we serve.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let header = Header::read(&mut BinDecoder::new(bytes))
            .map_err(|_| Fault::Drop(DropReason::NoHeader))?;
        if header.message_type == MessageType::Response {
            return Err(Fault::Drop(DropReason::NotAQuery));
        }
        if header.op_code != OpCode::Query {
            return Err(bare(&header, ResponseCode::NotImp));
        }
        if bytes.len() > MAX_QUERY {
            return Err(bare(&header, ResponseCode::Refused));
        }
        // Counted before anything is read: memory is set aside for as many as are announced.
        if header.counts.queries != 1 {
            return Err(bare(&header, ResponseCode::FormErr));
        }
        let malformed = || bare(&header, ResponseCode::FormErr);
        let mut message = Message::from_vec(bytes).map_err(|_| malformed())?;
        let question = message.queries.pop().ok_or_else(malformed)?;
        let edns = message.edns.take().map(|mut edns| {
            *edns.options_mut() = Default::default();
            edns
        });
        let query = Self {
            header: header.metadata,
            question,
            edns,
        };
        query.check(bytes)
    }

    /// Only what we serve.
    fn check(self, bytes: &[u8]) -> Result<Self, Fault> {
        // A compressed name would refer to the header, whose id is to be replaced.
        let expected = self.name_len() + TYPE_AND_CLASS;
        if question_bytes(bytes).is_none_or(|raw| raw.len() != expected) {
            return Err(bare(&self.header, ResponseCode::FormErr));
        }
        let error = if self.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            ResponseCode::BADVERS
        } else if self.question.query_class != DNSClass::IN {
            ResponseCode::Refused
        } else if let RecordType::AXFR | RecordType::IXFR = self.question.query_type {
            ResponseCode::NotImp
        } else {
            return Ok(self);
        };
        Err(Fault::Answer(reply::error(&self, error)))
    }

    /// Bytes of the name asked for as it stands in a message, without pointers (RFC 1035 §3.1).
    pub(crate) fn name_len(&self) -> usize {
        let labels = self.question.name.iter();
        labels.map(|label| label.len() + 1).sum::<usize>() + 1
    }
}

/// An error under nothing but a header.
fn bare(header: &Metadata, code: ResponseCode) -> Fault {
    Fault::Answer(reply::bare_error(header, code))
}

/// The question as it stands in a message that has one.
pub(crate) fn question_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    if header.counts.queries != 1 {
        return None;
    }
    Question::read(&mut decoder).ok()?;
    bytes.get(HEADER..decoder.index())
}

/// The header of a response to a standard query.
pub(crate) fn response_header(bytes: &[u8]) -> Option<Metadata> {
    let header = Header::read(&mut BinDecoder::new(bytes)).ok()?;
    (header.message_type == MessageType::Response && header.op_code == OpCode::Query)
        .then_some(header.metadata)
}

/// Puts an id into a message that has a header.
pub(crate) fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `web`, A, IN, recursion desired.
    const WEB: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

    fn answer(bytes: &[u8]) -> Vec<u8> {
        match Query::read(bytes) {
            Err(Fault::Answer(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_is_read_with_its_case() {
        let mut bytes = WEB.to_vec();
        bytes[13] = b'W';

        let query = Query::read(&bytes).unwrap();

        assert_eq!(query.header.id, 0x1234);
        assert_eq!(query.question.name.to_ascii(), "Web.");
        assert!(query.edns.is_none());
        assert_eq!(question_bytes(&bytes), Some(&bytes[12..]));
    }

    #[test]
    fn a_question_that_points_into_the_header_is_malformed() {
        // The header would read as a name: id 0x0161 is the label "a", its flags end it.
        let bytes = b"\x01\x61\0\0\0\x01\0\0\0\0\0\0\xc0\0\0\x01\0\x01";

        assert_eq!(answer(bytes), b"\x01\x61\x80\x81\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn thousands_of_announced_questions_are_not_believed() {
        let mut bytes = WEB.to_vec();
        bytes[4] = 0xff;

        assert_eq!(answer(&bytes), b"\x12\x34\x81\x81\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_long_query_is_refused() {
        let mut bytes = WEB.to_vec();
        bytes.resize(MAX_QUERY + 1, 0);

        assert_eq!(answer(&bytes), b"\x12\x34\x81\x85\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_zone_transfer_is_not_implemented() {
        let mut bytes = WEB.to_vec();
        bytes[18] = 252;

        assert_eq!(answer(&bytes)[3], 0x84);
    }
}
