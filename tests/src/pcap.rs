//! Captures in the classic pcap format (microseconds, Ethernet), as `tcpdump -w` writes them.

use core::time::Duration;

use pontoon_packet::Timestamp;

/// Magic number of a file with microseconds, in the byte order of the rest of it.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
/// Longest frame: a super-frame of 64 KiB fits.
const SNAP_LENGTH: u32 = 262_144;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was seen.
    pub at: Timestamp,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads a little-endian capture of whole frames.
///
/// # Errors
/// What the file is instead, or where it ends too early.
pub fn read(file: &[u8]) -> Result<Vec<Record>, String> {
    let header = file.get(..FILE_HEADER).ok_or("shorter than its header")?;
    if (number(header, 0), number(header, 20)) != (MAGIC, ETHERNET) {
        return Err("not a little-endian Ethernet pcap with microseconds".to_owned());
    }
    let mut records = Vec::new();
    let mut rest = &file[FILE_HEADER..];
    while !rest.is_empty() {
        let (header, body) = rest
            .split_at_checked(RECORD_HEADER)
            .ok_or("cut in the header of a record")?;
        let length = number(header, 8);
        if length != number(header, 12) {
            return Err(format!("frame {} was cut when captured", records.len()));
        }
        let (bytes, next) = body
            .split_at_checked(length as usize)
            .ok_or("cut in a record")?;
        let micros = Duration::from_micros(u64::from(number(header, 4)));
        records.push(Record {
            at: Timestamp::from_secs(u64::from(number(header, 0))) + micros,
            bytes: bytes.to_vec(),
        });
        rest = next;
    }
    Ok(records)
}

/// Writes a capture.
pub fn write(records: &[Record]) -> Vec<u8> {
    let mut file = MAGIC.to_le_bytes().to_vec();
    file.extend(VERSION.map(u16::to_le_bytes).concat());
    file.extend([0; 8]);
    file.extend(SNAP_LENGTH.to_le_bytes());
    file.extend(ETHERNET.to_le_bytes());
    for record in records {
        let micros = record.at.as_nanos() / 1000;
        let length = record.bytes.len() as u32;
        let (second, micros) = ((micros / 1_000_000) as u32, (micros % 1_000_000) as u32);
        let header = [second, micros, length, length];
        file.extend(header.map(u32::to_le_bytes).concat());
        file.extend(&record.bytes);
    }
    file
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let record = |micros: u64, bytes: &[u8]| Record {
            at: Timestamp::from_nanos(micros * 1000),
            bytes: bytes.to_vec(),
        };
        let records = [record(1_000_000_001, b"one"), record(2_500_000_000, b"")];
        let file = write(&records);
        assert_eq!(read(&file).unwrap(), records);
        for length in 0..file.len() {
            let whole = read(&file[..length]).is_ok_and(|found| found == records);
            assert!(!whole, "{length}");
        }
    }
}
