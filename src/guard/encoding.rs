//! Stamps and departures as JSON, as `sequin.row_version` holds them in `gaps` and `gone`.

#![forbid(unsafe_code)]

use serde_json::{Value as JsonValue, json};

use crate::merge::{Gone, Stamp};
use crate::message::Version;

/// `[source, lsn, idx, committed_at]`, the time in microseconds since 1970.
pub fn write_stamp(stamp: &Stamp) -> JsonValue {
    json!([
        stamp.source,
        stamp.version.map(|v| v.lsn),
        stamp.version.map(|v| v.idx),
        stamp.committed_at
    ])
}

/// The stamp that [`write_stamp`] wrote; `None` for any other JSON.
pub fn read_stamp(value: &JsonValue) -> Option<Stamp> {
    let parts = value.as_array()?;
    let number = |i: usize| parts.get(i).and_then(JsonValue::as_i64);
    Some(Stamp {
        source: number(0)?,
        version: number(1).map(|lsn| Version {
            lsn: lsn as u64,
            idx: number(2).unwrap_or_default() as u32,
        }),
        committed_at: number(3),
    })
}

/// The stamp of a gap. It ends with `true` if the gap is there only because a read did not provide the column.
pub fn write_gap(stamp: &Stamp, lacked: bool) -> JsonValue {
    let mut value = write_stamp(stamp);
    if let Some(parts) = value.as_array_mut().filter(|_| lacked) {
        parts.push(JsonValue::Bool(true));
    }
    value
}

/// The gap that [`write_gap`] wrote; `None` for any other JSON.
pub fn read_gap(value: &JsonValue) -> Option<(Stamp, bool)> {
    let lacked = value.get(4).and_then(JsonValue::as_bool);
    Some((read_stamp(value)?, lacked.unwrap_or_default()))
}

/// A stamp, followed by the image of the row that left and the index at which this row was there.
pub fn write_gone(gone: &Gone) -> JsonValue {
    let mut value = write_stamp(&gone.stamp);
    if let Some(parts) = value.as_array_mut() {
        parts.push(json!(gone.image.map(|image| image as i64)));
        parts.push(json!(gone.matched));
    }
    value
}

/// The departure that [`write_gone`] wrote; `None` for any other JSON.
pub fn read_gone(value: &JsonValue) -> Option<Gone> {
    let part = |i: usize| value.as_array()?.get(i)?.as_i64();
    Some(Gone {
        stamp: read_stamp(value)?,
        image: part(4).map(|image| image as u64),
        matched: part(5).map(|matched| matched as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        let version = (0..1_u64 << 63, 0..1_u32 << 31).prop_map(|(lsn, idx)| Version { lsn, idx });
        let parts = (
            any::<i64>(),
            prop::option::of(version),
            any::<Option<i64>>(),
        );
        parts.prop_map(|(source, version, committed_at)| Stamp {
            source,
            version,
            committed_at,
        })
    }

    proptest! {
        #[test]
        fn departures_come_back(stamp in stamps(), image: Option<u64>, matched: Option<u32>) {
            let gone = Gone { stamp, image, matched };
            prop_assert_eq!(read_stamp(&write_stamp(&stamp)), Some(stamp));
            prop_assert_eq!(read_gone(&write_gone(&gone)), Some(gone));
            for lacked in [false, true] {
                prop_assert_eq!(read_gap(&write_gap(&stamp, lacked)), Some((stamp, lacked)));
            }
        }
    }
}
