//! Whether a live report and its replay are the same.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Compares two reports apart from `generated_at`; gives their length.
pub(crate) fn compare(live: &str, replayed: &str) -> Result<usize> {
    let without_time = |text: &str, which: &str| -> Result<Value> {
        let mut report: Value =
            serde_json::from_str(text).with_context(|| format!("the {which} report is no JSON"))?;
        let fields = report
            .as_object_mut()
            .with_context(|| format!("the {which} report"))?;
        ensure!(
            fields.shift_remove("generated_at").is_some(),
            "the {which} report has no generated_at"
        );
        Ok(report)
    };
    let (live, replayed) = (
        without_time(live, "live")?,
        without_time(replayed, "replayed")?,
    );
    let incidents = live
        .pointer("/data/incidents")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    ensure!(
        incidents == 1,
        "the live report has {incidents} incidents instead of one"
    );
    let (live_text, replayed_text) = (live.to_string(), replayed.to_string());
    if live_text != replayed_text {
        let place = difference(&live, &replayed, "");
        bail!(
            "live report and replay differ at {}",
            place.unwrap_or_else(|| "their order".to_owned())
        );
    }
    Ok(live_text.len())
}

/// Where two values differ first, with both.
fn difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let names = left
                .keys()
                .chain(right.keys().filter(|name| !left.contains_key(*name)));
            names.into_iter().find_map(|name| {
                let null = Value::Null;
                let (a, b) = (left.get(name), right.get(name));
                let at = format!("{at}/{name}");
                if a.is_some() != b.is_some() {
                    return Some(format!("{at} (only in one)"));
                }
                difference(a.unwrap_or(&null), b.unwrap_or(&null), &at)
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => (0..)
            .zip(left.iter().zip(right))
            .find_map(|(index, (a, b)): (usize, _)| difference(a, b, &format!("{at}/{index}"))),
        (Value::Array(left), Value::Array(right)) => {
            Some(format!("{at}: {} and {} elements", left.len(), right.len()))
        }
        _ => (a != b).then(|| format!("{at}: {a} and {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(generated_at: &str, rss: u32) -> String {
        format!(
            r#"{{"schema":"aiops.trace-oom/1","generated_at":"{generated_at}","data":{{"incidents":[{{"rss":{rss}}}]}}}}"#
        )
    }

    #[test]
    fn only_the_time_may_differ() {
        let same = compare(&report("a", 1), &report("b", 1)).expect("apart from the time");
        assert_eq!(
            same,
            r#"{"schema":"aiops.trace-oom/1","data":{"incidents":[{"rss":1}]}}"#.len()
        );
        let error = compare(&report("a", 1), &report("a", 2)).expect_err("another value");
        assert!(
            error.to_string().contains("/data/incidents/0/rss: 1 and 2"),
            "{error}"
        );
    }

    #[test]
    fn a_report_without_its_incident_is_refused() {
        let empty = r#"{"generated_at":"a","data":{"incidents":[]}}"#;
        assert!(compare(empty, empty).is_err());
        assert!(compare("not JSON", empty).is_err());
        assert!(compare(r#"{"data":{}}"#, empty).is_err());
    }

    #[test]
    fn order_counts() {
        let a = r#"{"generated_at":"t","data":{"incidents":[{}],"a":1,"b":2}}"#;
        let b = r#"{"generated_at":"t","data":{"incidents":[{}],"b":2,"a":1}}"#;
        assert!(compare(a, b).is_err());
    }
}
