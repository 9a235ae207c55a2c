//! Calendar time: the one home of the calendar library.

use jiff::Timestamp;
use jiff::tz::Offset;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970 UTC, now.
#[must_use]
pub fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Offset of the local zone from UTC at a moment, seconds east.
#[must_use]
pub fn local_offset_s(real_ns: i64) -> i32 {
    Timestamp::from_nanosecond(i128::from(real_ns))
        .map_or(0, |ts| TimeZone::system().to_offset(ts).seconds())
}

fn zoned(real_ns: i64, offset_s: i32) -> Option<jiff::Zoned> {
    let offset = Offset::from_seconds(offset_s).ok()?;
    let ts = Timestamp::from_nanosecond(i128::from(real_ns)).ok()?;
    Some(ts.to_zoned(TimeZone::fixed(offset)))
}

/// RFC 3339 with milliseconds and the offset: `2026-11-23T10:00:00.123+08:00`.
#[must_use]
pub fn rfc3339(real_ns: i64, offset_s: i32) -> Option<String> {
    let zoned = zoned(real_ns, offset_s)?;
    Some(zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string())
}

/// Nanoseconds since 1970 UTC of an RFC 3339 text.
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<i64> {
    let ts: Timestamp = text.parse().ok()?;
    i64::try_from(ts.as_nanosecond()).ok()
}

/// For people, local to the offset: `2026-11-23 10:00:00.123`.
#[must_use]
pub fn human(real_ns: i64, offset_s: i32) -> Option<String> {
    Some(
        zoned(real_ns, offset_s)?
            .strftime("%Y-%m-%d %H:%M:%S%.3f")
            .to_string(),
    )
}

/// Reads a moment of the contract, as the first or (`end`) the last of a range: RFC 3339, `2024-01-01`,
/// `2024-01-01 10:00[:00]`, `yesterday`, `today`, `now`, `-2h`; local unless a zone is given. A day as the
/// end is meant whole: the answer is the beginning of the next one. Nanoseconds since 1970 UTC.
///
/// # Errors
/// Says what is wrong with the text.
pub fn moment(text: &str, now_ns: i64, end: bool) -> Result<i64, String> {
    moment_in(text, now_ns, end, &TimeZone::system())
}

fn moment_in(text: &str, now_ns: i64, end: bool, zone: &TimeZone) -> Result<i64, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "'{text}' is no time: 2024-01-01, '2024-01-01 10:00', 2024-01-01T10:00:00+08:00, yesterday, -2h"
        )
    };
    let now = Timestamp::from_nanosecond(i128::from(now_ns)).map_err(|_| wrong())?;
    let today = || now.to_zoned(zone.clone()).date();
    let ns = |at: Timestamp| i64::try_from(at.as_nanosecond()).map_err(|_| wrong());
    let day = |date: jiff::civil::Date| {
        let date = if end { date.tomorrow() } else { Ok(date) };
        let begin = date.and_then(|date| date.to_zoned(zone.clone()));
        ns(begin.map_err(|_| wrong())?.timestamp())
    };
    match text {
        "now" => return Ok(now_ns),
        "today" => return day(today()),
        "yesterday" => return day(today().yesterday().map_err(|_| wrong())?),
        _ => {}
    }
    if let Some(back) = text.strip_prefix('-') {
        return Ok(now_ns.saturating_sub(span_ns(back).ok_or_else(wrong)?));
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == "2024-01-01".len()
    {
        return day(date);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return ns(at);
    }
    let at: jiff::civil::DateTime = text.parse().map_err(|_| wrong())?;
    ns(at.to_zoned(zone.clone()).map_err(|_| wrong())?.timestamp())
}

/// `2h`, `7d`, `1.5h`, `1h30m`, `0`: nanoseconds.
fn span_ns(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) = tail.split_at_checked(1)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        let span = std::time::Duration::try_from_secs_f64(number * f64::from(seconds)).ok()?;
        sum = sum.checked_add(i64::try_from(span.as_nanos()).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        // 2023-11-14 22:13:20 UTC is the 15th, 06:13:20, in the zone.
        let now = 1_700_000_000_000_000_000;
        let zone = TimeZone::fixed(Offset::from_hours(8).unwrap());
        let read = |text: &str, end: bool| {
            let ns = moment_in(text, now, end, &zone).unwrap();
            human(ns, 28_800).unwrap()
        };
        for (text, begin, end) in [
            (
                "-1h30m",
                "2023-11-15 04:43:20.000",
                "2023-11-15 04:43:20.000",
            ),
            ("-0", "2023-11-15 06:13:20.000", "2023-11-15 06:13:20.000"),
            ("now", "2023-11-15 06:13:20.000", "2023-11-15 06:13:20.000"),
            (
                "today",
                "2023-11-15 00:00:00.000",
                "2023-11-16 00:00:00.000",
            ),
            (
                "yesterday",
                "2023-11-14 00:00:00.000",
                "2023-11-15 00:00:00.000",
            ),
            ("-2h", "2023-11-15 04:13:20.000", "2023-11-15 04:13:20.000"),
            ("-7d", "2023-11-08 06:13:20.000", "2023-11-08 06:13:20.000"),
            (
                "-1.5h",
                "2023-11-15 04:43:20.000",
                "2023-11-15 04:43:20.000",
            ),
            (
                "2024-01-31",
                "2024-01-31 00:00:00.000",
                "2024-02-01 00:00:00.000",
            ),
            (
                "2024-01-01 10:00",
                "2024-01-01 10:00:00.000",
                "2024-01-01 10:00:00.000",
            ),
            (
                "2024-01-01 10:00:05",
                "2024-01-01 10:00:05.000",
                "2024-01-01 10:00:05.000",
            ),
            (
                "2024-01-01T10:00:00Z",
                "2024-01-01 18:00:00.000",
                "2024-01-01 18:00:00.000",
            ),
            (
                "2024-01-01T10:00:00.5+01:00",
                "2024-01-01 17:00:00.500",
                "2024-01-01 17:00:00.500",
            ),
        ] {
            assert_eq!(read(text, false), begin, "{text}");
            assert_eq!(read(text, true), end, "{text} as an end");
        }
        for text in [
            "",
            "-",
            "-2",
            "-2x",
            "2h",
            "2024-13-01",
            "2024-02-30",
            "tomorrowish",
            "10:00",
        ] {
            assert!(moment_in(text, now, false, &zone).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_have_one_text() {
        let ns = 1_700_000_000_123_456_789;
        assert_eq!(rfc3339(ns, 0).unwrap(), "2023-11-14T22:13:20.123+00:00");
        assert_eq!(
            rfc3339(ns, 28_800).unwrap(),
            "2023-11-15T06:13:20.123+08:00"
        );
        assert_eq!(
            from_rfc3339("2023-11-15T06:13:20.123+08:00"),
            Some(1_700_000_000_123_000_000)
        );
        assert_eq!(from_rfc3339("yesterday"), None);
        assert_eq!(human(ns, -12_600).unwrap(), "2023-11-14 18:43:20.123");
    }
}
