//! Times as Docker writes and reads them. All are UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Nanoseconds of Unix time.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// As RFC 3339 with what there is of a fraction (Go's `RFC3339Nano`).
pub(crate) fn rfc3339(nanos: u64) -> String {
    let (date, time) = parts(nanos);
    format!("{date}T{time}Z")
}

/// As Go prints a time.
pub(super) fn go(nanos: u64) -> String {
    let (date, time) = parts(nanos);
    format!("{date} {time} +0000 UTC")
}

fn parts(nanos: u64) -> (String, String) {
    let (seconds, fraction) = (nanos / NANOS, nanos % NANOS);
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = match fraction {
        0 => String::new(),
        some => format!(".{some:09}").trim_end_matches('0').to_owned(),
    };
    let date = format!("{year:04}-{month:02}-{day:02}");
    (date, format!("{hour:02}:{minute:02}:{second:02}{fraction}"))
}

/// Year, month and day that so many days after 1970-01-01 are (H. Hinnant, *chrono-Compatible Low-Level Date
/// Algorithms*, `civil_from_days`).
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    (year + era * 400, month, day)
}

/// The inverse of [`civil`].
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads a point in time: a span before `now`, seconds of Unix time, or a date and perhaps a time of day.
pub(super) fn parse_until(text: &str, now: u64) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(NANOS);
    }
    if let Some(span) = parse_span(text) {
        return Some(now.saturating_sub(span));
    }
    let text = text.trim_end_matches('Z');
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid =
        (1970..=2500).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((days(year, month, day) * DAY + hour * 3600 + minute * 60 + second) * NANOS)
}

/// Go's spans of time: numbers with units, one behind the other.
fn parse_span(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let nanos = match &unit[..length] {
            "ms" => NANOS / 1000,
            "s" => NANOS,
            "m" => 60 * NANOS,
            "h" => 3600 * NANOS,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(nanos)?)?;
        rest = &unit[length..];
    }
    Some(total).filter(|_| !text.is_empty())
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text
        .split(separator)
        .map(|part| part.parse().ok())
        .collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        // date -u -d @1795227660
        let nanos = 1_795_227_660_512_000_000;
        assert_eq!(go(nanos), "2026-11-21 02:21:00.512 +0000 UTC");
        assert_eq!(rfc3339(nanos), "2026-11-21T02:21:00.512Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400 * NANOS), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn every_day_is_the_day_that_it_was_made_of() {
        for day in (0..200_000).step_by(13) {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day, "{y}-{m}-{d}");
        }
    }

    #[test]
    fn points_in_time_are_read_in_every_form() {
        let now = 10_000 * NANOS;
        assert_eq!(parse_until("1h30m5s", now), Some((10_000 - 5405) * NANOS));
        assert_eq!(parse_until("500ms", now), Some(now - NANOS / 2));
        assert_eq!(parse_until("77", now), Some(77 * NANOS));
        let date = Some(1_795_227_660 * NANOS);
        assert_eq!(parse_until("2026-11-21T02:21:00Z", now), date);
        assert_eq!(parse_until("1970-01-02", now), Some(DAY * NANOS));
        for wrong in [
            "",
            "x",
            "1y",
            "10",
            "2026-13-01",
            "h",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_until(wrong, now).is_some(), wrong == "10", "{wrong}");
        }
    }
}
