//! A checked change message of Sequin.
//!
//! A [`Message`] has an action, a table and a record. A value that lacks one of them gets a
//! [`MessageFault`] and becomes a dead letter. The record's values are not checked here: the
//! destination's types decide what they can be.

#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use crate::civil;
use crate::json::{Json, JsonFault, StringFault};

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The row was inserted.
    Insert,
    /// The row was updated.
    Update,
    /// The row was deleted.
    Delete,
    /// A backfill read the row.
    Read,
}

impl Action {
    /// The action's word in a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Insert => "insert",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::Read => "read",
        }
    }
}

/// The place of a change among all changes of one source database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `commit_lsn`: where the transaction committed; below 2^63.
    pub lsn: u64,
    /// `commit_idx`: which change of the transaction; below 2^31. Sequin 0.6.77 to 0.8.15 sends none: then a
    /// fingerprint of the change, with the highest bit set, which is negative as an `integer`.
    pub idx: u32,
}

/// The bit of [`Version::idx`] that is set where the message has no `commit_idx`.
const UNINDEXED: u32 = 1 << 31;

/// The bit that is also set if such a message has an idempotency key.
const NAMED: u32 = 1 << 30;

impl Version {
    /// The version of a message without `commit_idx`. `named`: whether the fingerprint includes an idempotency
    /// key.
    pub fn unindexed(lsn: u64, fingerprint: u64, named: bool) -> Version {
        let folded = (fingerprint ^ fingerprint >> 32) as u32 & (NAMED - 1);
        Version {
            lsn,
            idx: UNINDEXED | folded | if named { NAMED } else { 0 },
        }
    }

    /// `commit_idx`, if the message had one.
    pub fn index(self) -> Option<u32> {
        (self.idx & UNINDEXED == 0).then_some(self.idx)
    }

    /// Whether an equal version is surely the same change again: it has an index or an idempotency key.
    pub fn is_named(self) -> bool {
        self.idx & UNINDEXED == 0 || self.idx & NAMED != 0
    }

    /// Whether the change is surely older than the other.
    pub fn is_before(self, other: Version) -> bool {
        (self.lsn, self.index()) < (other.lsn, other.index())
    }

    /// Whether the change is older than, the same as or newer than one that is known already. Positions without
    /// index are not ordered within a transaction: another change counts as newer than the known one.
    pub fn compare(self, known: Version) -> Ordering {
        let (index, known_index) = (self.index(), known.index());
        let order = (self.lsn, index).cmp(&(known.lsn, known_index));
        match order {
            Ordering::Equal if self.idx != known.idx => Ordering::Greater,
            order => order,
        }
    }
}

/// A member of a record.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The source column.
    pub key: &'a str,
    /// The column's value.
    pub value: Json<'a>,
}

/// A change of one row.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The message's position among the received ones, counted from 0, dead ones included.
    pub position: usize,
    /// What happened to the row.
    pub action: Action,
    /// `metadata.table_schema`
    pub schema: &'a str,
    /// `metadata.table_name`
    pub table: &'a str,
    /// `metadata.database.id`
    pub database_id: Option<&'a str>,
    /// `metadata.database.name`, or in older messages `metadata.database_name`
    pub database_name: Option<&'a str>,
    /// The change's version in the source; `None` without a `commit_lsn`, as in reads and in messages
    /// that Sequin sent before March 2025.
    pub version: Option<Version>,
    /// `metadata.commit_timestamp`, in microseconds since 1970
    pub committed_at: Option<i64>,
    /// The row, an object.
    pub record: Json<'a>,
    /// The former values of the columns that an update changed: an object.
    pub changes: Option<Json<'a>>,
    /// The metadata, an object.
    pub metadata: Json<'a>,
    /// Where the record's members stand among the batch's fields.
    pub(crate) fields: Range<usize>,
    /// The message as it came.
    pub whole: Json<'a>,
}

impl<'a> Message<'a> {
    /// The source database. The versions of two messages can be compared if their sources are equal.
    pub fn source(&self) -> &'a str {
        self.database_id.or(self.database_name).unwrap_or("")
    }
}

/// Why a received value is not a message that can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageFault {
    /// The value is a number, a text or a list, not a JSON object.
    NotAnObject,
    /// There is no `action`: a bare record, or Sequin's former "record" kind.
    NoAction,
    /// The `action` is not one of the four.
    UnknownAction(String),
    /// `metadata.table_schema` or `metadata.table_name` is missing or not a string.
    NoTable,
    /// `record` is missing or not an object.
    NoRecord,
    /// `changes` is neither an object nor null.
    BadChanges,
    /// `metadata.commit_lsn` is not an integer from 0 to 2^63 - 1.
    BadLsn,
    /// `metadata.commit_idx` is not an integer from 0 to 2^31 - 1.
    BadIdx,
    /// `metadata.commit_timestamp` is not a point in time of the years 1 to 9999.
    BadTimestamp,
    /// A required string cannot be stored as PostgreSQL's `text`.
    BadString(StringFault),
    /// The body that should hold a message is not JSON.
    NotJson(JsonFault),
    /// A line of JSON lines is not JSON.
    LineNotJson(JsonFault),
    /// A payload, as a broker gave it, is not JSON.
    PayloadNotJson(JsonFault),
    /// A payload is null.
    NullPayload,
    /// The body that should hold a message is not base64.
    NotBase64,
    /// The body that should hold a message is base64, but not of UTF-8 text.
    NotUtf8,
    /// The body that should hold a message is compressed, by this program, and in base64.
    Compressed(&'static str),
    /// The value is nested in too many envelopes.
    TooDeep,
    /// SNS asks to confirm a subscription. This is not a message from Sequin.
    SubscriptionConfirmation,
}

impl MessageFault {
    /// Whether the text in place of the message is not JSON.
    pub fn is_not_json(&self) -> bool {
        matches!(
            self,
            MessageFault::NotJson(_)
                | MessageFault::LineNotJson(_)
                | MessageFault::PayloadNotJson(_)
                | MessageFault::NullPayload
        )
    }
}

impl fmt::Display for MessageFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            MessageFault::NotAnObject => "message is not a JSON object",
            MessageFault::NoAction => "message has no action",
            MessageFault::UnknownAction(action) => {
                return write!(out, "message has unknown action {action}");
            }
            MessageFault::NoTable => "message has no table_schema and table_name in its metadata",
            MessageFault::NoRecord => "message has no record that is a JSON object",
            MessageFault::BadChanges => "changes of message is not a JSON object",
            MessageFault::BadLsn => "commit_lsn of message is not an integer from 0 to 2^63 - 1",
            MessageFault::BadIdx => "commit_idx of message is not an integer from 0 to 2^31 - 1",
            MessageFault::BadTimestamp => "commit_timestamp of message is not a point in time",
            MessageFault::BadString(fault) => return write!(out, "message is not text: {fault}"),
            MessageFault::NotJson(fault) => return write!(out, "body is not JSON: {fault}"),
            MessageFault::LineNotJson(fault) => return write!(out, "line is not JSON: {fault}"),
            MessageFault::PayloadNotJson(fault) => {
                return write!(out, "payload is not JSON: {fault}");
            }
            MessageFault::NullPayload => "payload is null",
            MessageFault::NotBase64 => "body is neither JSON nor base64",
            MessageFault::NotUtf8 => "body is base64, but not of UTF-8 text",
            MessageFault::Compressed(by) => return write!(out, "body is compressed ({by})"),
            MessageFault::TooDeep => "message is in too many envelopes",
            MessageFault::SubscriptionConfirmation => "SNS asks to confirm a subscription",
        })
    }
}

impl From<StringFault> for MessageFault {
    fn from(fault: StringFault) -> MessageFault {
        MessageFault::BadString(fault)
    }
}

/// The action that the value of `action` names.
pub(crate) fn action(value: Option<Json<'_>>) -> Result<Action, MessageFault> {
    let value = value
        .filter(|value| !value.is_null())
        .ok_or(MessageFault::NoAction)?;
    [Action::Insert, Action::Update, Action::Delete, Action::Read]
        .into_iter()
        .find(|action| value.is_string(action.as_str()))
        // a wrong action can be of any length
        .ok_or_else(|| MessageFault::UnknownAction(value.text().chars().take(60).collect()))
}

/// The version from `commit_lsn` and `commit_idx`. `unindexed` makes a version without index.
pub(crate) fn version(
    lsn: Option<Json<'_>>,
    idx: Option<Json<'_>>,
    unindexed: impl FnOnce(u64) -> Version,
) -> Result<Option<Version>, MessageFault> {
    let idx = integer(idx, i32::MAX as u64).ok_or(MessageFault::BadIdx)?;
    let lsn = integer(lsn, i64::MAX as u64).ok_or(MessageFault::BadLsn)?;
    Ok(lsn.map(|lsn| match idx {
        Some(idx) => Version {
            lsn,
            idx: idx as u32,
        },
        None => unindexed(lsn),
    }))
}

/// A whole number up to `max`, as a number or as a string: `Some(None)` if the value is absent or null,
/// `None` if it is anything else.
fn integer(value: Option<Json<'_>>, max: u64) -> Option<Option<u64>> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Some(None);
    };
    let digits = match value.number() {
        Some(digits) => digits,
        None => value.string()?.ok()?,
    };
    // `parse` would also take "+1"
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    (number <= max).then_some(Some(number))
}

/// Microseconds since 1970 of the first moment of the year 1 and of the last of the year 9999.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Microseconds since 1970 of a `commit_timestamp`: ISO 8601, or microseconds since 1970 with the sink option
/// `timestamp_format: unix_microsecond`.
pub(crate) fn timestamp(value: Option<Json<'_>>) -> Result<Option<i64>, MessageFault> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let micros = match value.number() {
        Some(digits) => digits.parse().ok(),
        None => value.string().and_then(|string| iso_8601(&string.ok()?)),
    };
    micros
        .filter(|micros| YEARS.contains(micros))
        .map(Some)
        .ok_or(MessageFault::BadTimestamp)
}

/// Microseconds since 1970 of `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh[[:]mm])`.
fn iso_8601(text: &str) -> Option<i64> {
    let (day, rest) = text.as_bytes().split_at_checked(10)?;
    let (time, rest) = rest.split_at_checked(9)?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *day else {
        return None;
    };
    let [b'T' | b't' | b' ', h0, h1, b':', i0, i1, b':', s0, s1] = *time else {
        return None;
    };
    let (year, month) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?);
    let day = civil::day(year, month, number(&[d0, d1])?)?;
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?);
    // 60 is a leap second; like PostgreSQL, we read it as the first second of the next minute
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(rest)?;
    let seconds = i64::from(day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some((seconds - offset(zone)?) * 1_000_000 + fraction)
}

/// The microseconds of `.123456789`, further digits cut off, and the text after the digits.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let micros = (0..6).fold(0, |micros, place| {
        let digit = text[..len].get(place).map_or(0, |digit| digit - b'0');
        micros * 10 + i64::from(digit)
    });
    Some((micros, &text[len..]))
}

/// Seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, zone) = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', zone @ ..] => (1, zone),
        [b'-', zone @ ..] => (-1, zone),
        _ => return None,
    };
    let (hours, minutes) = match zone {
        [_, _] => (number(zone)?, 0),
        [_, _, b':', minutes @ ..] | [_, _, minutes @ ..] if minutes.len() == 2 => {
            (number(&zone[..2])?, number(minutes)?)
        }
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

/// The number of at most four digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some(number * 10 + digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Option<Json<'_>> {
        Some(Json::parse(text).unwrap())
    }

    #[test]
    fn versions_without_index_are_fingerprints() {
        let version = Version::unindexed(9, 0x1234_5678_9abc_def0, false);
        assert_eq!(version.lsn, 9);
        // the two halves of the fingerprint, below the two marks
        let folded = (0x1234_5678 ^ 0x9abc_def0) & 0x3fff_ffff;
        assert_eq!(version.idx, 0x8000_0000 | folded);
        let named = Version::unindexed(9, 0x1234_5678_9abc_def0, true);
        assert_eq!(named.idx, 0xc000_0000 | folded);
        for bit in 0..64 {
            let one = Version::unindexed(9, 1 << bit, false).idx;
            assert_eq!(one & 0x3fff_ffff, 1 << (bit % 32) & 0x3fff_ffff, "{bit}");
        }
        assert_eq!((version.index(), named.index()), (None, None));
        assert_eq!((version.is_named(), named.is_named()), (false, true));
        for idx in [0, 1, 0x7fff_ffff] {
            let indexed = Version { lsn: 9, idx };
            assert_eq!(indexed.index(), Some(idx));
            assert!(indexed.is_named());
        }
    }

    #[test]
    fn versions_have_an_order() {
        let at = |lsn, idx| Version { lsn, idx };
        assert!(at(1, 7).is_before(at(2, 0)));
        assert!(at(2, 0).is_before(at(2, 1)));
        assert!(!at(2, 1).is_before(at(2, 1)));
        assert!(!at(2, 1).is_before(at(2, 0)));
        assert!(!at(3, 0).is_before(at(2, 1)));
    }

    #[test]
    fn faults_of_text_that_is_not_json() {
        let fault = || Json::parse("x").unwrap_err();
        assert!(MessageFault::NotJson(fault()).is_not_json());
        assert!(MessageFault::LineNotJson(fault()).is_not_json());
        assert!(MessageFault::PayloadNotJson(fault()).is_not_json());
        assert!(MessageFault::NullPayload.is_not_json());
        assert!(!MessageFault::NotAnObject.is_not_json());
        assert!(!MessageFault::NoAction.is_not_json());
    }

    #[test]
    fn timestamps() {
        let good = [
            ("\"1970-01-01T00:00:00Z\"", 0),
            ("\"2026-11-22T11:56:05.440935Z\"", 1_795_348_565_440_935),
            ("\"2026-11-22T11:56:05.4Z\"", 1_795_348_565_400_000),
            ("\"2026-11-22T11:56:05.440935999Z\"", 1_795_348_565_440_935),
            (
                "\"2026-11-22T12:56:05.440935+01:00\"",
                1_795_348_565_440_935,
            ),
            ("\"2026-11-22T06:26:05.440935-0530\"", 1_795_348_565_440_935),
            ("\"2026-11-22 12:56:05.440935+01\"", 1_795_348_565_440_935),
            ("\"2024-02-29T23:59:60z\"", 1_709_251_200_000_000),
            ("\"1969-12-31T23:59:59.999999Z\"", -1),
            ("\"0001-01-01T00:00:00Z\"", *YEARS.start()),
            ("\"9999-12-31T23:59:59.999999Z\"", *YEARS.end()),
            ("1730151421127470", 1_730_151_421_127_470),
            ("-5", -5),
        ];
        for (text, micros) in good {
            assert_eq!(timestamp(json(text)), Ok(Some(micros)), "{text}");
        }
        let bad = [
            "\"2026-11-22T11:56:05\"",
            "\"2026-11-22T11:56:05.Z\"",
            "\"2026-11-22T11:56:05.1234567890Z\"",
            "\"2023-02-29T00:00:00Z\"",
            "\"2023-13-01T00:00:00Z\"",
            "\"2023-00-01T00:00:00Z\"",
            "\"2023-01-00T00:00:00Z\"",
            "\"2023-01-01T24:00:00Z\"",
            "\"2023-01-01T00:60:00Z\"",
            "\"2023-01-01T00:00:61Z\"",
            "\"0000-12-31T00:00:00Z\"",
            "\"2023-01-01T00:00:00+1\"",
            "\"2023-01-01T00:00:00+01:\"",
            "\"2023-01-01T00:00:00+01:0\"",
            "\"2023-01-01T00:00:00+24:00\"",
            "\"2023-01-01T00:00:00+01:60\"",
            "\"2023-01-01T00:00:00ZZ\"",
            "\"2023-01-01TÄ0:00:00Z\"",
            "\"2023-1-1\"",
            "\"infinity\"",
            "\"\"",
            "1.5",
            "9223372036854775807",
            "99999999999999999999",
            "true",
            "{}",
        ];
        for text in bad {
            assert_eq!(
                timestamp(json(text)),
                Err(MessageFault::BadTimestamp),
                "{text}"
            );
        }
        assert_eq!(timestamp(json("null")), Ok(None));
        assert_eq!(timestamp(None), Ok(None));
    }

    #[test]
    fn versions() {
        let version = |lsn, idx| version(lsn, idx, |lsn| Version::unindexed(lsn, 7, false));
        let at = |lsn, idx| Ok(Some(Version { lsn, idx }));
        assert_eq!(version(json("31673752"), json("3")), at(31_673_752, 3));
        assert_eq!(
            version(json("0"), None),
            Ok(Some(Version::unindexed(0, 7, false)))
        );
        assert_eq!(
            version(json("9223372036854775807"), json("2147483647")),
            at(i64::MAX as u64, i32::MAX as u32)
        );
        assert_eq!(
            version(json("\"9007199254740993\""), json("\"1\"")),
            at(9_007_199_254_740_993, 1)
        );
        assert_eq!(version(json("null"), json("null")), Ok(None));
        assert_eq!(version(None, json("1")), Ok(None));
        for lsn in [
            "9223372036854775808",
            "-1",
            "1.0",
            "1e3",
            "\"\"",
            "\"+1\"",
            "\"0/1\"",
            "[]",
        ] {
            assert_eq!(version(json(lsn), None), Err(MessageFault::BadLsn), "{lsn}");
        }
        for idx in ["2147483648", "-1", "true"] {
            assert_eq!(
                version(json("1"), json(idx)),
                Err(MessageFault::BadIdx),
                "{idx}"
            );
        }
    }

    #[test]
    fn an_unknown_action_is_told_up_to_60_characters() {
        let value = format!("\"{}\"", "ä".repeat(100));
        let told = format!("\"{}", "ä".repeat(59));
        let fault = MessageFault::UnknownAction(told);
        assert_eq!(action(json(&value)), Err(fault));
    }

    #[test]
    fn versions_compare_by_lsn_first() {
        let version = |lsn, idx| Version { lsn, idx };
        assert_eq!(version(1, 9).compare(version(2, 0)), Ordering::Less);
        assert_eq!(version(2, 1).compare(version(2, 0)), Ordering::Greater);
        assert_eq!(version(2, 1).compare(version(2, 1)), Ordering::Equal);
    }

    #[test]
    fn without_an_index_another_change_of_the_transaction_is_newer() {
        let (one, two) = (
            Version::unindexed(2, 1, true),
            Version::unindexed(2, 2, true),
        );
        assert_eq!(one.compare(two), Ordering::Greater);
        assert_eq!(two.compare(one), Ordering::Greater);
        assert_eq!(one.compare(one), Ordering::Equal);
        assert_eq!(one.compare(Version { lsn: 2, idx: 0 }), Ordering::Less);
        assert_eq!(Version { lsn: 2, idx: 0 }.compare(one), Ordering::Greater);
        assert_eq!(one.compare(Version { lsn: 3, idx: 0 }), Ordering::Less);
        assert_eq!(one.compare(Version { lsn: 1, idx: 9 }), Ordering::Greater);
        assert_eq!(one.index(), None);
        assert!(one.is_named() && !Version::unindexed(2, 1, false).is_named());
    }

    #[test]
    fn actions() {
        assert_eq!(action(json("\"insert\"")), Ok(Action::Insert));
        assert_eq!(action(json("\"\\u0072ead\"")), Ok(Action::Read));
        assert_eq!(action(json("null")), Err(MessageFault::NoAction));
        assert_eq!(action(None), Err(MessageFault::NoAction));
        for text in ["\"frobnicate\"", "\"INSERT\"", "42", "{}"] {
            let fault = MessageFault::UnknownAction(text.to_owned());
            assert_eq!(action(json(text)), Err(fault));
        }
    }
}
