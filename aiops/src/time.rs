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

#[cfg(test)]
mod tests {
    use super::*;

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
