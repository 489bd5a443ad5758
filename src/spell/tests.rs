use super::*;
use crate::json::tests::{jsonb, pauses};
use crate::json::{Jsonb, STRETCH, StringFault};

fn shape(name: &str) -> Shape {
    if let Some(element) = name.strip_suffix("[]") {
        let delimiter = if element == "box" { ';' } else { ',' };
        return Shape::Array {
            element: Box::new(match shape(element) {
                Shape::Bytes => Shape::RawBytes,
                shape => shape,
            }),
            delimiter,
        };
    }
    match name.split('(').next().unwrap_or(name) {
        "json" | "jsonb" | "jsond" => Shape::Json,
        "jsondd" => Shape::JsonInString,
        "bool" => Shape::Bool,
        "int2" => Shape::Integer("smallint"),
        "int4" | "posint" | "dom2" => Shape::Integer("integer"),
        "int8" => Shape::Integer("bigint"),
        "oid" => Shape::Integer("oid"),
        "float4" | "float8" | "numeric" | "money_d" => Shape::Float,
        "date" => Shape::Date,
        "time" => Shape::Time("time"),
        "timetz" => Shape::Time("time with time zone"),
        "timestamp" => Shape::Timestamp("timestamp"),
        "timestamptz" | "tsd" => Shape::Timestamp("timestamp with time zone"),
        "interval" => Shape::Interval,
        "money" => Shape::Money,
        "bytea" => Shape::Bytes,
        "int4range" => Shape::Range("range"),
        "daterange" => Shape::DateRange,
        "int4multirange" => Shape::Range("multirange"),
        "inet" => Shape::Short,
        "tsvector" => Shape::TsVector,
        "box" => Shape::Box,
        "hstore" => Shape::Hstore,
        "vector" => Shape::Vector,
        "addr" => Shape::Composite(
            [("street", "text"), ("zip", "int4"), ("ok", "bool")]
                .map(|(name, of)| Field {
                    name: name.to_owned(),
                    shape: shape(of),
                })
                .into(),
        ),
        _ => Shape::Text,
    }
}

fn spelled(of: &str, json: &str) -> Result<String, Misfit> {
    let value = Json::parse(json).unwrap_or_else(|fault| panic!("{json}: {fault}"));
    let mut out = String::new();
    spell(value, &shape(of), &mut out).map(|()| out)
}

fn ok(of: &str, json: &str) -> String {
    spelled(of, json).unwrap_or_else(|misfit| panic!("{of} {json}: {misfit:?}"))
}

fn string(text: &str) -> String {
    format!("\"{text}\"")
}

fn fault(of: &str, json: &str) -> (&'static str, String) {
    let misfit = spelled(of, json).expect_err(json);
    (misfit.sqlstate(), misfit.message())
}

/// Compares the spelling of the JSON that Sequin sends for each type with `tests/types/spelled.tsv`, which
/// `UPDATE_GOLDEN=1 cargo test` writes anew. Tests in `cast` check that the server reads the spellings.
#[test]
fn what_sequin_sends_is_spelled() {
    let matrix = include_str!("../../tests/types/type_matrix.tsv");
    let mut found = String::new();
    for line in matrix.lines().filter(|line| line.contains("\tLIVE ")) {
        let columns: Vec<&str> = line.split('\t').collect();
        for sent in &columns[4..] {
            let (kind, json) = sent.split_once(' ').expect("LIVE or READ");
            let Ok(value) = Json::parse(json) else {
                let why = ["RAISE", "CAST-ERROR", "null   (column NOT SELECTED"];
                assert!(why.iter().any(|why| json.starts_with(why)), "{line}");
                continue;
            };
            if !value.is_null() {
                let text = ok(columns[0], json).escape_default().to_string();
                let _ = writeln!(found, "{}\t{kind} {json}\t{text}", columns[0]);
            }
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/types/spelled.tsv");
        std::fs::write(path, &found).expect("the golden file is written");
        return;
    }
    let golden = include_str!("../../tests/types/spelled.tsv");
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.lines().count(), golden.lines().count());
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    for (json, text) in [
        ("5.0", "5"),
        ("5e0", "5"),
        ("1.2e1", "12"),
        ("-1.50E1", "-15"),
        ("1200e-2", "12"),
        ("0e999999999999999999999", "0"),
        ("-0.000", "0"),
        ("0.0", "0"),
        ("100.00e-2", "1"),
        ("9223372036854775807.0", "9223372036854775807"),
        ("9223372036854775807", "9223372036854775807"),
        ("99999999999999999999", "99999999999999999999"),
        ("\"5.00\"", "5"),
        ("\"5e0\"", "5"),
        ("\"+5.\"", "5"),
        ("\" 5 \"", " 5 "),
        ("\"five\"", "five"),
        ("\".e\"", ".e"),
        ("\"1e\"", "1e"),
        ("\"1.2.3\"", "1.2.3"),
        ("\".5e1\"", "5"),
        ("\".\"", "."),
        ("\"1e1x\"", "1e1x"),
        ("\"1e\u{fc}\"", "1e\u{fc}"),
        ("\"00000000000000000000000001.0\"", "1"),
        // without a point or an exponent, the input function reads it
        ("\"007\"", "007"),
        ("\"+5\"", "+5"),
        ("1000000000000000000000000", "1000000000000000000000000"),
        ("\"\"", ""),
        ("true", "true"),
    ] {
        assert_eq!(ok("int8", json), text, "{json}");
    }
}

#[test]
fn a_fraction_is_no_integer() {
    let syntax = "invalid input syntax for type integer: ";
    for json in ["5.5", "1e-1", "1e-999999999999999999999", "0.10"] {
        assert_eq!(
            fault("int4", json),
            ("22P02", format!("{syntax}\"{json}\""))
        );
    }
    assert_eq!(
        fault("int4", "\"5.5\""),
        ("22P02", format!("{syntax}\"5.5\""))
    );
}

#[test]
fn a_huge_exponent_is_out_of_range_and_allocates_nothing() {
    for json in [
        "1e1000000000",
        "1e99999999999999999999999",
        "1e20",
        "123456789012345678901.0",
    ] {
        let message = format!("value \"{json}\" is out of range for type bigint");
        assert_eq!(fault("int8", json), ("22003", message));
    }
    assert_eq!(ok("int8", "1e19"), "10000000000000000000");
}

#[test]
fn numbers_are_no_booleans_and_no_dates() {
    let syntax = |of: &str| format!("invalid input syntax for type {of}: \"1\"");
    assert_eq!(fault("bool", "1"), ("22P02", syntax("boolean")));
    assert_eq!(fault("date", "1"), ("22007", syntax("date")));
    assert_eq!(fault("time", "1"), ("22007", syntax("time")));
    assert_eq!(
        fault("timetz", "1"),
        ("22007", syntax("time with time zone"))
    );
    assert_eq!(fault("interval", "1"), ("22007", syntax("interval")));
}

#[test]
fn a_timestamp_may_be_microseconds() {
    for (json, text) in [
        ("1730151421127470", "2024-10-28 21:37:01.127470"),
        ("1.73015142112747e15", "2024-10-28 21:37:01.127470"),
        ("0", "1970-01-01 00:00:00.000000"),
        ("-1", "1969-12-31 23:59:59.999999"),
        ("-62135596800000001", "0001-12-31 23:59:59.999999 BC"),
        ("-210866803200000000", "4714-11-24 00:00:00.000000 BC"),
        ("9224318015999999999", "294276-12-31 23:59:59.999999"),
        ("86399000000", "1970-01-01 23:59:59.000000"),
        ("82800000000", "1970-01-01 23:00:00.000000"),
        ("-62135596800000000", "0001-01-01 00:00:00.000000"),
    ] {
        assert_eq!(ok("timestamp", json), text);
    }
    assert_eq!(ok("timestamptz", "0"), "1970-01-01 00:00:00.000000+00");
    assert_eq!(
        ok("timestamptz", "-62135596800000001"),
        "0001-12-31 23:59:59.999999+00 BC"
    );
    assert_eq!(
        ok("timestamptz[]", "[0,null]"),
        "{\"1970-01-01 00:00:00.000000+00\",NULL}"
    );
    for json in ["9224318016000000000", "-210866803200000001", "1e1000000000"] {
        let message = format!("timestamp out of range: \"{json}\"");
        assert_eq!(fault("timestamp", json), ("22008", message));
    }
    assert_eq!(fault("timestamp", "0.5").0, "22007");
}

#[test]
fn microseconds_since_2000_are_those_since_1970_less_thirty_years() {
    assert_eq!(timestamp_of_unix("946684800000000"), Some(0));
    assert_eq!(timestamp_of_unix("946684800000000.0"), Some(0));
    assert_eq!(timestamp_of_unix("0"), Some(-946_684_800_000_000));
    for text in ["0.5", "now", "", "9224318016000000000", "1e40"] {
        assert_eq!(timestamp_of_unix(text), None, "{text}");
    }
}

#[test]
fn a_year_has_four_digits() {
    for text in ["-043-03-15", "-0043/03/15", "000-01-01"] {
        assert_eq!(ok("date", &string(text)), text);
    }
}

#[test]
fn an_array_in_an_array_can_be_one_of_its_elements() {
    let inner = |of: &str, json: &str| {
        let value = Json::parse(json).expect(json);
        is_dimension(value, &shape(of))
    };
    assert!(inner("int4", "[1]") && !inner("int4", "1"));
    assert!(!inner("tsvector", r#"[{"lexeme":"a"}]"#) && inner("tsvector", r#"[["a"]]"#));
    assert!(inner("tsvector", r#"[{"lexeme":"a"},1]"#));
    assert!(!inner("vector", "[1,2]") && inner("vector", "[[1],[2]]"));
    assert!(inner("vector", "[1,[2]]"));
    assert!(!inner("jsonb", "[1]") && !inner("int4[]", "[1]"));
}

#[test]
fn misfits_have_details() {
    let detail = |of: &str, json: &str| spelled(of, json).expect_err(json).detail();
    assert_eq!(
        detail("text", r#""\ud800""#),
        Some("Unicode low surrogate must follow a high surrogate.")
    );
    assert_eq!(
        detail("int4[]", r#"{"a":1}"#),
        Some("A JSON object is not an array.")
    );
    assert_eq!(
        detail("int4range", "1"),
        Some("Only a JSON string can be a range.")
    );
    assert_eq!(
        detail("addr", r#"{"a":1}"#),
        Some("No member of the JSON object is a field of the type.")
    );
    assert_eq!(detail("int4", "1.5"), None);
}

#[test]
fn years_before_christ() {
    for (text, read) in [
        ("-0043-03-15", "0044-03-15 BC"),
        ("0000-01-01", "0001-01-01 BC"),
        ("-12000-01-01", "12001-01-01 BC"),
        ("0044-03-15 BC", "0044-03-15 BC"),
        ("12024-01-01", "12024-01-01"),
        ("-43", "-43"),
        ("-4294967295-01-01", "-4294967295-01-01"),
        ("", ""),
        ("é", "é"),
    ] {
        assert_eq!(ok("date", &format!("\"{text}\"")), read);
    }
    let text = "\"-0043-03-15T04:05:06.789000Z\"";
    assert_eq!(ok("timestamptz", text), "0044-03-15T04:05:06.789000Z BC");
    assert_eq!(
        ok("daterange", "\"[-0043-03-15,inf)\""),
        "[0044-03-15 BC,infinity)"
    );
    assert_eq!(ok("daterange", "\"é\""), "é");
}

#[test]
fn arrays_are_quoted() {
    assert_eq!(
        ok(
            "text[]",
            r#"["a\"b\\c",null,"NULL",1.50,true,{"k":"v"},""]"#
        ),
        r#"{"a\"b\\c",NULL,"NULL",1.50,true,"{\"k\":\"v\"}",""}"#
    );
    assert_eq!(ok("int4[]", "[[1,2.0],[3,null]]"), "{{1,2},{3,NULL}}");
    assert_eq!(ok("int4[]", "[]"), "{}");
    assert_eq!(ok("int4[]", "[[]]"), "{{}}");
    assert_eq!(
        ok("jsonb[]", r#"[[1,"a"],{"a":null},null,"s",2]"#),
        r#"{"[1,\"a\"]","{\"a\":null}",NULL,"\"s\"",2}"#
    );
    assert_eq!(ok("int4[]", "\"{1,2}\""), "{1,2}");
    assert_eq!(ok("bool[]", "[true,\"f\"]"), "{true,\"f\"}");
    assert_eq!(ok("float8[]", "[\"inf\"]"), "{\"Infinity\"}");
    assert_eq!(
        ok(
            "interval[]",
            r#"[{"months":1,"days":-2,"microseconds":-1}]"#
        ),
        r#"{"1 mons -2 days -00:00:00.000001"}"#
    );
}

#[test]
fn arrays_have_six_dimensions() {
    assert_eq!(ok("int4[]", "[[[[[[1]]]]]]"), "{{{{{{1}}}}}}");
    let seven = "number of array dimensions (7) exceeds the maximum allowed (6)";
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(fault("int4[]", &deep), ("54000", seven.to_owned()));
    assert_eq!(fault("int4[]", "{}").0, "22P02");
}

#[test]
fn documents_in_strings() {
    for (json, text) in [
        (r#""{\"a\":1}""#, r#"{"a":1}"#),
        (r#""\"s\"""#, r#""s""#),
        (r#""s""#, r#""s""#),
        (r#"{"a":1}"#, r#"{"a":1}"#),
        ("1.50", "1.50"),
    ] {
        assert_eq!(ok("jsondd", json), text);
    }
    assert_eq!(
        ok("jsondd[]", r#"["{\"a\":1}",[1,"x"],null,"null"]"#),
        r#"{"{\"a\":1}","[1,\"x\"]",NULL,"null"}"#
    );
}

#[test]
fn boxes_are_put_together_again() {
    let cut = r#"["(1","1)","(0","0);NULL;(2","2)","(1","1)"]"#;
    assert_eq!(ok("box[]", cut), "{(1,1),(0,0);NULL;(2,2),(1,1)}");
    assert_eq!(ok("box[]", "[null]"), "{NULL}");
    let cut = r#"["(1","1)","(0","0)",null]"#;
    assert_eq!(ok("box[]", cut), "{(1,1),(0,0),NULL}");
    assert_eq!(ok("box[]", "[1]"), "{1}");
    let whole = r#"["(1,1),(0,0)",null]"#;
    assert_eq!(ok("box[]", whole), r#"{"(1,1),(0,0)";NULL}"#);
}

#[test]
fn composites_go_by_name() {
    let of = |json| ok("addr", json);
    assert_eq!(
        of(r#"{"zip":1.0,"street":"1 \"Main\", St\\","other":[]}"#),
        r#"("1 \"Main\", St\\","1",)"#
    );
    assert_eq!(
        of(r#"{"street":"","ok":true,"zip":null}"#),
        r#"("",,"true")"#
    );
    assert_eq!(of("{}"), "(,,)");
    assert_eq!(of(r#""(a,1,t)""#), "(a,1,t)");
    assert_eq!(
        ok("addr[]", r#"[{"street":"a\"b"},"(x,1,t)",null]"#),
        r#"{"(\"a\\\"b\",,)","(x,1,t)",NULL}"#
    );
}

#[test]
fn an_object_must_have_a_field() {
    let (sqlstate, message) = fault("addr", r#"{"a":1}"#);
    assert_eq!(
        (sqlstate, &*message),
        ("22P02", r#"malformed record literal: "{"a":1}""#)
    );
}

#[test]
fn bytes_and_ranges_are_strings() {
    assert_eq!(ok("bytea", r#""\\x00""#), r"\x00");
    for json in ["1", "true", "[1,2]", "{}"] {
        let syntax = format!("invalid input syntax for type bytea: \"{json}\"");
        assert_eq!(fault("bytea", json), ("22P02", syntax));
        let malformed = format!("malformed range literal: \"{json}\"");
        assert_eq!(fault("int4range", json), ("22P02", malformed.clone()));
        assert_eq!(fault("daterange", json), ("22P02", malformed));
    }
}

#[test]
fn bytes_in_arrays_may_be_themselves() {
    assert_eq!(
        ok("bytea[]", r#"["\\x00ff","Hi","a\\101",null]"#),
        r#"{"\\x00ff","Hi","a\\\\101",NULL}"#
    );
}

#[test]
fn money_of_other_places() {
    for text in ["$1,234.56", "-$0.50", "1234.5", "19.999", "$5", "($1.50)"] {
        assert_eq!(ok("money", &format!("\"{text}\"")), text);
    }
    for text in ["$1.235", "$1.234.567", "$ 5.000"] {
        let syntax = format!("invalid input syntax for type money: \"{text}\"");
        assert_eq!(fault("money", &format!("\"{text}\"")), ("22P02", syntax));
    }
}

#[test]
fn a_timestamp_has_a_time() {
    for (text, read) in [
        ("2024-10-28T21:37:01.127470Z", "2024-10-28 21:37:01.127470Z"),
        ("04:05:06", "04:05:06"),
        ("T040506", "T040506"),
        ("04:05:06 UTC", "04:05:06 UTC"),
    ] {
        assert_eq!(ok("timetz", &format!("\"{text}\"")), read);
    }
}

#[test]
fn hstore_from_an_object() {
    assert_eq!(
        ok("hstore", r#"{"a\"":"1\\","b":null,"c":{"d":1},"e":"NULL"}"#),
        r#""a\""=>"1\\","b"=>NULL,"c"=>"{\"d\":1}","e"=>"NULL""#
    );
    assert_eq!(ok("hstore", "{}"), "");
    assert_eq!(ok("hstore", r#""\"a\"=>\"1\"""#), r#""a"=>"1""#);
}

#[test]
fn tsvector_from_lexemes() {
    assert_eq!(
        ok(
            "tsvector",
            r#"[{"word":"it's","positions":[[1,"A"],[2,null]]},{"word":"b\\","positions":[]},{"word":"c"}]"#
        ),
        r"'it''s':1A,2 'b\\' 'c'"
    );
    for json in [r#"{"a":1}"#, "[1]", r#"[{"word":"a","positions":[["x"]]}]"#] {
        assert_eq!(fault("tsvector", json).0, "42601");
    }
}

#[test]
fn vectors_from_arrays() {
    assert_eq!(ok("vector", "[1,2.5]"), "[1,2.5]");
    assert_eq!(ok("vector[]", "[[1,2],[3]]"), r#"{"[1,2]","[3]"}"#);
}

#[test]
fn intervals_have_the_full_range() {
    let of = |json: &str| interval(Json::parse(json).expect(json));
    let most = r#"{"months":-2147483648,"days":2147483647,"microseconds":-9223372036854775808}"#;
    let most = of(most).expect("in range");
    assert_eq!(
        most,
        Interval {
            months: i32::MIN,
            days: i32::MAX,
            microseconds: i64::MIN
        }
    );
    assert_eq!(
        most.to_text(),
        "-2147483648 mons 2147483647 days -2562047788:00:54.775808"
    );
    assert_eq!(of(r#"{"days":1e0}"#).map(|i| i.days), Ok(1));
    for json in [
        r#"{"months":2147483648}"#,
        r#"{"microseconds":9223372036854775808}"#,
        r#"{"days":1e1000000}"#,
    ] {
        assert_eq!(of(json), Err(Misfit::IntervalRange));
    }
    for json in [
        "{}",
        r#"{"days":0.5}"#,
        r#"{"days":null}"#,
        r#"{"secs":1}"#,
        r#"{"days":"1"}"#,
    ] {
        assert_eq!(of(json).expect_err(json).sqlstate(), "22007");
    }
}

#[test]
fn strings_that_are_no_text() {
    for (of, json) in [
        ("text", r#""a\u0000b""#),
        ("text[]", r#"["a\u0000b"]"#),
        ("addr", r#"{"street":"\u0000"}"#),
    ] {
        let misfit = spelled(of, json).expect_err(json);
        assert_eq!(misfit, Misfit::String(StringFault::Nul));
        assert_eq!(misfit.sqlstate(), "22P05");
        assert_eq!(misfit.message(), "unsupported Unicode escape sequence");
        assert_eq!(
            misfit.detail(),
            Some("\\u0000 cannot be converted to text.")
        );
    }
    let misfit = spelled("text", r#""\ud800""#).expect_err("half");
    assert_eq!(misfit, Misfit::String(StringFault::LoneSurrogate));
    // json is not read here
    assert_eq!(ok("json", r#"{"a":"\u0000"}"#), r#"{"a":"\u0000"}"#);
}

#[test]
fn json_stays_as_it_is() {
    for json in ["\"s\"", "1.10", "{\"b\": 1 ,\"a\":[1e2]}", "true"] {
        assert_eq!(ok("jsonb", json), json);
        if json != "\"s\"" {
            assert_eq!(ok("text", json), json);
        }
    }
    assert_eq!(ok("text", "\"s\""), "s");
}

#[test]
fn quoting_pauses_at_each_stretch_of_characters() {
    for (length, expected) in [(STRETCH - 1, 0), (STRETCH, 1), (3 * STRETCH, 3)] {
        let quotes = "\"".repeat(length);
        let write = |out: &mut String| {
            out.push_str(&quotes);
            Ok(())
        };
        let quote = || quoted(&mut String::new(), write).unwrap();
        assert_eq!(pauses(quote), expected, "{length}");
        let list = format!(r#"[{{"word":"{}"}}]"#, "'".repeat(length));
        // a binary value is read without pauses
        let bytes = jsonb(Json::parse(&list).unwrap()).unwrap();
        let value = Json::Binary(Jsonb::new(&bytes));
        let quote = || lexemes(value, &mut String::new()).unwrap();
        assert_eq!(pauses(quote), expected, "{length}");
    }
}

/// The server would read all of such a text, and repeat it in its error.
#[test]
fn a_long_text_is_refused_by_its_size_or_its_ends() {
    let long = |begin: &str, end: &str| format!("\"{begin}{}{end}\"", "x".repeat(2 << 20));
    for of in [
        "int4",
        "numeric",
        "timestamptz",
        "inet",
        "daterange",
        "interval",
    ] {
        assert_eq!(
            spelled(of, &long("", "")),
            Err(Misfit::TooLong(2 << 20)),
            "{of}"
        );
        let element = format!("[{}]", long("", ""));
        let elements = spelled(&format!("{of}[]"), &element);
        assert_eq!(elements, Err(Misfit::TooLong(2 << 20)), "{of}[]");
    }
    let digits = "1".repeat(2 << 20);
    assert_eq!(spelled("numeric", &digits), Err(Misfit::TooLong(2 << 20)));
    let words = format!("\"{}\"", "a ".repeat(5 << 20));
    assert_eq!(spelled("tsvector", &words), Err(Misfit::TooLong(10 << 20)));
    for (of, begin, end) in [
        ("int4[]", " {", "} "),
        ("text[]", "[1:2]={", "}"),
        ("addr", "(", ")"),
        ("int4range", "\\n[", ")"),
        ("int4multirange", "{", "}"),
    ] {
        assert!(spelled(of, &long(begin, end)).is_ok(), "{of}");
        for (begin, end) in [("", end), (begin, ""), ("x", end), ("", "")] {
            let misfit = spelled(of, &long(begin, end)).expect_err(of);
            let name = ["array", "array", "record", "range", "multirange"]
                .iter()
                .find(|name| {
                    misfit
                        .message()
                        .starts_with(&format!("malformed {name} literal: \""))
                });
            assert!(name.is_some(), "{of}: {}", misfit.message());
            assert_eq!(misfit.sqlstate(), "22P02");
            assert!(misfit.detail().is_some() && misfit.message().len() < 20_000);
        }
    }
    // a text of any length may be a value of these
    for of in ["text", "bytea", "jsonb", "hstore", "tsvector"] {
        assert!(spelled(of, &long("", "")).is_ok(), "{of}");
    }
}

#[test]
fn texts_up_to_the_size_are_not_looked_at() {
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    assert!(spelled("text[]", &text(long::LONG)).is_ok());
    assert!(spelled("text[]", &text(long::LONG + 1)).is_err());
    // what stands before it does not count
    let mut out = "x".repeat(long::LONG);
    let value = Json::parse("\"x\"").expect("JSON");
    assert!(spell(value, &shape("text[]"), &mut out).is_ok());
    assert!(long::fault("four", Sight::Most(4)).is_none());
    assert!(long::fault("four", Sight::Most(3)).is_some());
}

#[test]
fn the_beginning_of_a_text_ends_with_a_character() {
    let text = format!("x{}", "\u{e9}".repeat(10_000));
    assert_eq!(beginning(&text), text[..16 * 1024 - 1]);
    assert_eq!(beginning("x"), "x");
}
