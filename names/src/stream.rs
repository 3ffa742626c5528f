//! Messages in a stream: each with two bytes of length in front (RFC 1035 §4.2.2, RFC 7766 §8).

use core::fmt;

/// Bytes of the length.
const PREFIX: usize = 2;

/// Cuts the bytes of a connection into messages. Holds at most the one that has begun, and no more
/// memory for it than has arrived.
#[derive(Debug)]
pub struct StreamDecoder {
    buffer: Vec<u8>,
    longest: usize,
}

/// A message longer than it may be. The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageTooLong {
    /// Bytes of the message.
    pub len: usize,
    /// Bytes it may have.
    pub longest: usize,
}

impl fmt::Display for MessageTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, longest } = self;
        write!(
            f,
            "a DNS message of {len} bytes on a connection that takes {longest}; close it"
        )
    }
}

impl core::error::Error for MessageTooLong {}

impl StreamDecoder {
    /// A decoder at the begin of a connection whose messages have up to `longest` bytes:
    /// [`MAX_QUERY`](crate::MAX_QUERY) from clients, 65 535 from upstreams.
    pub fn new(longest: u16) -> Self {
        Self {
            buffer: Vec::new(),
            longest: usize::from(longest),
        }
    }

    /// The next message, if `bytes` end it. Takes from `bytes` what belongs to it; call again with
    /// the rest until there is none.
    pub fn next_message(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, MessageTooLong> {
        self.take(bytes, PREFIX);
        let Some(&prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(prefix));
        if len > self.longest {
            return Err(MessageTooLong {
                len,
                longest: self.longest,
            });
        }
        self.take(bytes, PREFIX + len);
        if self.buffer.len() < PREFIX + len {
            return Ok(None);
        }
        Ok(Some(core::mem::take(&mut self.buffer).split_off(PREFIX)))
    }

    /// Bytes held: of the message that has begun.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Fills the buffer up to `len` bytes, as far as `bytes` go.
    fn take(&mut self, bytes: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.buffer.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.buffer.extend_from_slice(taken);
        *bytes = rest;
    }
}

/// `message` as it is sent in a stream.
pub fn frame(message: &[u8]) -> Result<Vec<u8>, MessageTooLong> {
    let len = u16::try_from(message.len()).map_err(|_| MessageTooLong {
        len: message.len(),
        longest: usize::from(u16::MAX),
    })?;
    Ok([&len.to_be_bytes(), message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decoder: &mut StreamDecoder, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        core::iter::from_fn(|| decoder.next_message(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn messages_come_out_however_the_stream_is_cut() {
        let stream = b"\0\x03abc\0\0\0\x02de\0";
        for cut in 0..stream.len() {
            let mut decoder = StreamDecoder::new(100);
            let (one, two) = stream.split_at(cut);

            let messages = [all(&mut decoder, one), all(&mut decoder, two)].concat();

            assert_eq!(messages, [&b"abc"[..], b"", b"de"], "cut at {cut}");
            assert_eq!(decoder.held(), 1);
        }
    }

    #[test]
    fn a_long_message_is_refused_by_its_length_alone() {
        let error = StreamDecoder::new(1232).next_message(&mut &b"\xff\xff"[..]);

        let too_long = MessageTooLong {
            len: 65_535,
            longest: 1232,
        };
        assert_eq!(error, Err(too_long));
    }

    #[test]
    fn what_is_announced_takes_no_memory() {
        let mut decoder = StreamDecoder::new(u16::MAX);

        assert_eq!(decoder.next_message(&mut &b"\xff\xff"[..]), Ok(None));

        assert!(decoder.buffer.capacity() < 100);
    }

    #[test]
    fn what_is_framed_comes_out_again() {
        let framed = frame(b"abc").unwrap();

        assert_eq!(framed, b"\0\x03abc");
        assert_eq!(all(&mut StreamDecoder::new(3), &framed), [b"abc"]);
        assert!(frame(&[0; 65_536]).is_err());
    }
}
