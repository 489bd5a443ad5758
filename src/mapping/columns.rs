//! The sources of the destination's columns.

#![forbid(unsafe_code)]

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::fault::Fault;
use crate::error::nearest::nearest;
use crate::error::{did_you_mean, list};

/// `destination column → source of its value`, in the order of the mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpecs {
    /// The columns that the mapping names.
    pub named: Vec<(String, ColumnSource)>,
    /// `"*": "record.*"`: every other column takes the value of the record's key of the same name.
    pub rest: bool,
}

/// The source of a column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// A value in the message.
    Path(Path),
    /// An SQL expression over `record`, `changes`, `metadata` and `action`.
    Sql(String),
    /// A constant, as the JSON text that the mapping has, so that a number keeps every digit.
    Value(String),
}

impl ColumnSource {
    /// Whether the value is the whole record.
    pub fn is_record(&self) -> bool {
        matches!(self, ColumnSource::Path(path) if path.root == Root::Record && path.keys.is_empty())
    }
}

/// A path to a value in the message, in Sequin's own syntax: keys, with dots between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    /// The part of the message.
    pub root: Root,
    /// The keys on the way to the value; without keys, the value is the whole part.
    pub keys: Vec<String>,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// The row.
    Record,
    /// The former values of changed columns.
    Changes,
    /// The table of the row, and the time of the change.
    Metadata,
    /// `insert`, `update`, `delete` or `read`.
    Action,
}

/// The keys of `metadata` in Sequin's messages.
const METADATA: [&str; 12] = [
    "commit_idx",
    "commit_lsn",
    "commit_timestamp",
    "consumer",
    "database",
    "database_name",
    "enrichment",
    "idempotency_key",
    "record_pks",
    "table_name",
    "table_schema",
    "transaction_annotations",
];

const FORMS: &str = "Use a path such as \"record.id\", {\"sql\": \"lower(record->>'email')\"} or \
                     {\"value\": 42}.";

impl ColumnSpecs {
    /// The meaning of `columns => null`: every column comes from the record.
    pub fn everything() -> ColumnSpecs {
        ColumnSpecs {
            named: Vec::new(),
            rest: true,
        }
    }

    /// The source that the mapping names for a column. `None`: the record's key of that name if
    /// [`ColumnSpecs::rest`], else none.
    pub fn source(&self, column: &str) -> Option<&ColumnSource> {
        self.named
            .iter()
            .find(|(name, _)| name == column)
            .map(|(_, source)| source)
    }

    /// The JSON object that [`ColumnSpecs::read`] reads.
    pub fn to_json(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let named = self.named.iter().map(|(name, source)| {
            let source = match source {
                ColumnSource::Path(path) => text(&path.to_string()),
                ColumnSource::Sql(sql) => format!("{{\"sql\": {}}}", text(sql)),
                ColumnSource::Value(json) => format!("{{\"value\": {json}}}"),
            };
            format!("{}: {source}", text(name))
        });
        let rest = self.rest.then(|| String::from("\"*\": \"record.*\""));
        let entries: Vec<String> = named.chain(rest).collect();
        format!("{{{}}}", entries.join(", "))
    }

    /// Reads the JSON object of a mapping, or returns all its faults.
    #[cfg(test)]
    pub fn parse(json: &str) -> Result<ColumnSpecs, Vec<Fault>> {
        let mut faults = Vec::new();
        let specs = ColumnSpecs::read(json, &mut faults);
        if faults.is_empty() {
            Ok(specs)
        } else {
            Err(faults)
        }
    }

    /// Reads the JSON object of a mapping as far as it can be read, and adds its faults to `faults`. A
    /// column whose source cannot be read gets the constant null.
    pub fn read(json: &str, faults: &mut Vec<Fault>) -> ColumnSpecs {
        let entries = match entries(json) {
            Ok(entries) if !entries.is_empty() => entries,
            Ok(_) => {
                faults.push(
                    Fault::value("columns is an empty object")
                        .detail("No column of the destination would be written.")
                        .hint("Use columns => null to take every column from the record."),
                );
                return ColumnSpecs::everything();
            }
            Err(fault) => {
                faults.push(fault);
                return ColumnSpecs::everything();
            }
        };
        let mut specs = ColumnSpecs {
            named: Vec::new(),
            rest: false,
        };
        for (column, raw) in entries {
            if specs.source(&column).is_some() || (column == "*" && specs.rest) {
                faults.push(
                    Fault::value(format!("columns has \"{column}\" twice"))
                        .hint("Name every column once."),
                );
            } else if column == "*" {
                specs.rest = true;
                if !serde_json::from_str::<String>(raw.get()).is_ok_and(|v| v == "record.*") {
                    faults.push(
                        Fault::value(format!("columns has {} for \"*\"", excerpt(raw.get())))
                            .detail("\"*\" stands for every column that is not named.")
                            .hint("Write \"*\": \"record.*\", the only form that it has."),
                    );
                }
            } else {
                let source = source(&column, raw.get()).unwrap_or_else(|fault| {
                    faults.push(fault);
                    ColumnSource::Value("null".to_owned())
                });
                specs.named.push((column, source));
            }
        }
        specs
    }
}

fn source(column: &str, json: &str) -> Result<ColumnSource, Fault> {
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json).map_err(|e| not_json(&e))?;
        return Path::parse(column, &text).map(ColumnSource::Path);
    }
    let wrong = |found: String| {
        Fault::value(format!(
            "column \"{column}\" has no source that can be used"
        ))
        .detail(format!(
            "Found {found}; expected a path, a \"sql\" or a \"value\"."
        ))
        .hint(FORMS)
    };
    if !json.starts_with('{') {
        return Err(wrong(excerpt(json)).hint(format!(
            "{FORMS} For this constant write {{\"value\": {}}}.",
            excerpt(json)
        )));
    }
    let entries = entries(json)?;
    match entries.as_slice() {
        [(kind, raw)] if kind == "sql" => match serde_json::from_str::<String>(raw.get()) {
            Ok(sql) if sql.trim().is_empty() => {
                Err(wrong("an empty expression".into()).hint("Write an SQL expression."))
            }
            Ok(sql) => Ok(ColumnSource::Sql(sql)),
            Err(_) => Err(wrong(format!("\"sql\": {}", excerpt(raw.get())))
                .hint("Write the SQL expression as a JSON string.")),
        },
        [(kind, raw)] if kind == "value" => Ok(ColumnSource::Value(raw.get().to_owned())),
        [] => Err(wrong("an empty object".into())),
        [(kind, _)] => Err(wrong(format!("the key \"{kind}\"")).maybe_hint(
            did_you_mean(&nearest(kind, ["sql", "value"])).map(|hint| format!("{hint} {FORMS}")),
        )),
        several => {
            let keys: Vec<_> = several
                .iter()
                .map(|(kind, _)| format!("\"{kind}\""))
                .collect();
            Err(wrong(format!("the keys {}", list(&keys, "and"))))
        }
    }
}

impl Path {
    /// Reads the path of a column.
    pub fn parse(column: &str, text: &str) -> Result<Path, Fault> {
        let fault = |detail: String, hint: String| {
            Fault::value(format!(
                "path \"{text}\" of column \"{column}\" leads nowhere"
            ))
            .detail(detail)
            .hint(hint)
        };
        let mut segments = text.split('.');
        let first = segments.next().unwrap_or_default();
        let root = match first {
            "record" => Root::Record,
            "changes" => Root::Changes,
            "metadata" => Root::Metadata,
            "action" => Root::Action,
            _ => {
                let roots = ["record", "changes", "metadata", "action"];
                let hint = match nearest(first, roots).as_slice() {
                    [] => format!(
                        "For the record's key write \"record.{text}\", for a constant {{\"value\": \
                         {}}}.",
                        serde_json::Value::from(text)
                    ),
                    near => did_you_mean(near).unwrap_or_default(),
                };
                return Err(fault(
                    "A path begins with record, changes, metadata or action.".into(),
                    hint,
                ));
            }
        };
        let keys: Vec<String> = segments.map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err(fault(
                "A key between its dots is empty.".into(),
                format!(
                    "A key that is empty or has a dot in it is reached by SQL, as in {{\"sql\": \
                     \"{first}->>'a.b'\"}}."
                ),
            ));
        }
        match (root, keys.as_slice()) {
            (Root::Action, [_, ..]) => Err(fault(
                "The action is a word: insert, update, delete or read.".into(),
                "Write \"action\".".into(),
            )),
            (_, [star]) if star == "*" => Err(fault(
                "Only \"*\" can come from a star.".into(),
                format!(
                    "Write \"*\": \"record.*\" to take every other column from the record, or \
                     \"{column}\": \"{first}\" for the whole object."
                ),
            )),
            (Root::Metadata, [key, ..]) if !METADATA.contains(&key.as_str()) => {
                let near = did_you_mean(&nearest(key, METADATA)).unwrap_or_else(|| {
                    format!("If your Sequin sends it, write {{\"sql\": \"metadata->>'{key}'\"}}.")
                });
                Err(fault(
                    format!("Sequin's metadata has {}.", list(&METADATA, "and")),
                    near,
                ))
            }
            _ => Ok(Path { root, keys }),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.root {
            Root::Record => "record",
            Root::Changes => "changes",
            Root::Metadata => "metadata",
            Root::Action => "action",
        })?;
        self.keys.iter().try_for_each(|key| write!(f, ".{key}"))
    }
}

/// The members of a JSON object, in order, with the text of their values. `serde_json` reads them: a map of
/// it would keep only one of two members of the same name.
fn entries(json: &str) -> Result<Vec<(String, Box<RawValue>)>, Fault> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    let json = json.trim();
    if !json.starts_with('{') {
        return Err(Fault::value(format!("columns is {}", excerpt(json)))
            .detail("Expected a JSON object: destination column, then where its value comes from.")
            .hint(
                "Use columns => null to take every column from the record, or for instance \
                   columns => '{\"product_id\": \"record.id\", \"*\": \"record.*\"}'.",
            ));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let entries = deserializer
        .deserialize_map(Entries)
        .map_err(|e| not_json(&e))?;
    deserializer.end().map_err(|e| not_json(&e))?;
    Ok(entries)
}

fn not_json(error: &serde_json::Error) -> Fault {
    Fault::value("columns is not a JSON object").detail(format!("The JSON parser says: {error}."))
}

/// JSON text, short enough for a message.
fn excerpt(json: &str) -> String {
    const MOST: usize = 60;
    match json.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_without_keys_is_the_whole_record() {
        let json = r#"{"a": "record", "b": "record.b", "c": "metadata", "d": {"sql": "record"}, "e": {"value": 1}}"#;
        let specs = ColumnSpecs::parse(json).unwrap();
        let whole = specs.named.iter().filter(|(_, source)| source.is_record());
        assert_eq!(whole.map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
    }
    use proptest::prelude::*;

    fn parse(json: &str) -> ColumnSpecs {
        ColumnSpecs::parse(json).unwrap_or_else(|f| panic!("{f:#?}"))
    }

    fn fault(json: &str) -> Fault {
        let mut faults = ColumnSpecs::parse(json).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults.remove(0)
    }

    #[test]
    fn the_forms() {
        let specs = parse(
            r#"{"product_id": "record.id", "city": "record.address.city", "doc": "record",
                "what": "action", "mail": {"sql": "lower(record->>'email')"},
                "n": {"value": 12345678901234567890.10}, "nil": {"value": null}, "*": "record.*"}"#,
        );
        assert!(specs.rest);
        let names: Vec<_> = specs.named.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            ["product_id", "city", "doc", "what", "mail", "n", "nil"]
        );
        let Some(ColumnSource::Path(city)) = specs.source("city") else {
            panic!()
        };
        assert_eq!((city.root, city.keys.len()), (Root::Record, 2));
        assert_eq!(
            specs.source("n"),
            Some(&ColumnSource::Value("12345678901234567890.10".into()))
        );
        assert_eq!(
            specs.source("nil"),
            Some(&ColumnSource::Value("null".into()))
        );
        assert_eq!(specs.source("zzz"), None);
    }

    #[test]
    fn without_a_star_nothing_else_is_taken() {
        assert!(!parse(r#"{"a": "record.a"}"#).rest);
        assert!(ColumnSpecs::everything().rest);
    }

    #[test]
    fn every_fault_is_found() {
        let faults = ColumnSpecs::parse(
            r#"{"a": "rec.a", "b": 5, "c": {"sqll": "1"}, "*": "changes.*", "d": {"sql": 1},
                "e": {"sql": "1", "value": 2}, "f": {}, "g": "record.*", "h": "record..x",
                "i": "action.x", "j": "metadata.tabel_name", "k": {"sql": " "}, "l": "record.ok"}"#,
        )
        .unwrap_err();
        assert_eq!(faults.len(), 12, "{faults:#?}");
        assert!(faults.iter().all(|f| f.hint.is_some()), "{faults:#?}");
    }

    #[test]
    fn hints_say_what_to_write() {
        let hint = |json: &str| fault(json).hint.clone().unwrap();
        assert!(hint(r#"{"a": 5}"#).ends_with("For this constant write {\"value\": 5}."));
        assert!(hint(r#"{"a": "records.id"}"#).contains("Did you mean \"record\"?"));
        assert!(hint(r#"{"a": "price"}"#).contains("\"record.price\""));
        assert!(hint(r#"{"a": "metadata.tabel_name"}"#).contains("\"table_name\""));
        assert!(hint(r#"{"*": "record"}"#).contains("\"*\": \"record.*\""));
        assert!(hint(r#"{"a": {"sqll": "1"}}"#).starts_with("Did you mean \"sql\"? "));
    }

    #[test]
    fn details_say_what_was_found() {
        let detail = |json: &str| fault(json).detail.clone().unwrap();
        for (source, found) in [
            ("{}", "Found an empty object; "),
            (r#"{"sqll": "1"}"#, "Found the key \"sqll\"; "),
            (
                r#"{"sql": "1", "value": 2}"#,
                "Found the keys \"sql\" and \"value\"; ",
            ),
            ("5", "Found 5; "),
        ] {
            let told = detail(&format!("{{\"a\": {source}}}"));
            assert!(told.starts_with(found), "{told}");
        }
    }

    #[test]
    fn only_objects() {
        assert_eq!(fault("[1]").message, "columns is [1]");
        assert_eq!(fault("null").message, "columns is null");
        assert_eq!(fault("{}").message, "columns is an empty object");
        assert_eq!(
            fault(r#"{"a": "record.a", "a": "record.b"}"#).message,
            "columns has \"a\" twice"
        );
        assert_eq!(
            fault(r#"{"*":"record.*","*":"record.*"}"#).message,
            "columns has \"*\" twice"
        );
        assert_eq!(fault(r#"{"a": }"#).message, "columns is not a JSON object");
        let more = r#"{"a": "record.a"} {}"#;
        assert_eq!(fault(more).message, "columns is not a JSON object");
    }

    #[test]
    fn json_goes_round() {
        for json in [
            r#"{"a b": "record.x", "\"": {"sql": "record->>'a' || \"b\""}, "n": {"value": 1.50}, "*": "record.*"}"#,
            r#"{"doc": "record", "what": "action"}"#,
            r#"{"*": "record.*"}"#,
        ] {
            assert_eq!(parse(json).to_json(), json);
        }
    }

    #[test]
    fn strings_are_unescaped() {
        let specs = parse(r#"{"a\u0062": "record.\u0061\"b"}"#);
        let Some(ColumnSource::Path(path)) = specs.source("ab") else {
            panic!()
        };
        assert_eq!(path.keys, ["a\"b"]);
    }

    proptest! {
        #[test]
        fn paths_go_round(root in "record|changes", keys in proptest::collection::vec("[a-z_ \"]{1,5}", 0..4)) {
            let text = std::iter::once(root).chain(keys).collect::<Vec<_>>().join(".");
            prop_assert_eq!(Path::parse("", &text).unwrap().to_string(), text);
        }

        #[test]
        fn parsing_never_panics(json in "\\PC{0,30}") {
            let _ = ColumnSpecs::parse(&json);
            let _ = ColumnSpecs::parse(&format!("{{\"a\": {json}}}"));
        }
    }
}
