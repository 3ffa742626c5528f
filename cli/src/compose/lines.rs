//! What comes in pieces, as whole lines behind a prefix.

use std::io::{self, Write};

/// Longest line that is waited for, in bytes; a longer one is cut.
const MAX_LINE: usize = 64 << 10;

/// The lines of one speaker.
#[derive(Debug)]
pub(super) struct Lines {
    prefix: String,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    /// Lines behind this prefix.
    pub(super) fn after(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            begun: Vec::new(),
        }
    }

    /// Takes a piece, and writes the lines that are whole.
    pub(super) fn take(&mut self, piece: &[u8], out: &mut impl Write) -> io::Result<()> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.begun.pop();
                self.write(out)?;
            } else if self.begun.len() >= MAX_LINE {
                self.write(out)?;
            }
        }
        Ok(())
    }

    /// Writes what has no end of its own.
    pub(super) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.begun.is_empty() {
            return Ok(());
        }
        self.write(out)
    }

    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.prefix.as_bytes())?;
        out.write_all(&self.begun)?;
        out.write_all(b"\n")?;
        self.begun.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_whole_however_they_come(
            pieces in prop::collection::vec("[ab\n]{0,5}", 0..10),
        ) {
            let mut lines = Lines::after("c | ");
            let mut out = Vec::new();
            for piece in &pieces {
                lines.take(piece.as_bytes(), &mut out).unwrap();
            }
            lines.finish(&mut out).unwrap();
            let expected: String = pieces.concat().lines().map(|line| format!("c | {line}\n")).collect();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut lines = Lines::after("");
        let mut out = Vec::new();
        for _ in 0..100 {
            lines.take(&[b'x'; 4096], &mut out).unwrap();
            assert!(lines.begun.len() < MAX_LINE);
        }
        assert!(out.len() > 300_000);
    }
}
