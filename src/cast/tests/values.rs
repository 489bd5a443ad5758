//! Values of each kind of type, and the errors of invalid values.

// The schema that `cargo pgrx test` calls; the macro asks for a module with its body.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::cast::tests::*;

    #[pg_test]
    fn integers() {
        assert_eq!(text("int4", "5.0"), "5");
        assert_eq!(text("int2", "\"5.00\""), "5");
        assert_eq!(text("oid", "4.294967295e9"), "4294967295");
        let range = |value: &str, of: &str| {
            let message = format!("value \"{value}\" is out of range for type {of}");
            ("22003".to_owned(), message)
        };
        assert_eq!(fault("int2", "32768"), range("32768", "smallint"));
        assert_eq!(fault("int4", "1e10"), range("10000000000", "integer"));
        assert_eq!(
            fault("int8", "1e1000000000"),
            range("1e1000000000", "bigint")
        );
        let syntax = |value: &str| {
            let message = format!("invalid input syntax for type integer: \"{value}\"");
            ("22P02".to_owned(), message)
        };
        for value in ["5.5", "true", "[1]"] {
            assert_eq!(fault("int4", value), syntax(value));
        }
        assert_eq!(fault("int4", "\"abc\""), syntax("abc"));
    }

    #[pg_test]
    fn errors_are_the_server_s() {
        let syntax =
            |of: &str, value: &str| format!("invalid input syntax for type {of}: \"{value}\"");
        for (of, json, sqlstate, message) in [
            ("bool", "1", "22P02", syntax("boolean", "1")),
            ("date", "20240101", "22007", syntax("date", "20240101")),
            (
                "date",
                "\"2024-02-30\"",
                "22008",
                "date/time field value out of range: \"2024-02-30\"".into(),
            ),
            ("uuid", "\"x\"", "22P02", syntax("uuid", "x")),
            (
                "varchar(3)",
                "\"abcd\"",
                "22001",
                "value too long for type character varying(3)".into(),
            ),
            (
                "numeric(4,2)",
                "100",
                "22003",
                "numeric field overflow".into(),
            ),
            (
                "float8",
                "1e400",
                "22003",
                "\"1e400\" is out of range for type double precision".into(),
            ),
            (
                "float4",
                "1e-60",
                "22003",
                "\"1e-60\" is out of range for type real".into(),
            ),
            (
                "text",
                r#""a\u0000""#,
                "22P05",
                "unsupported Unicode escape sequence".into(),
            ),
            (
                "jsonb",
                r#"{"a":"\u0000"}"#,
                "22P05",
                "unsupported Unicode escape sequence".into(),
            ),
            (
                "timestamptz",
                "1e30",
                "22008",
                "timestamp out of range: \"1e30\"".into(),
            ),
            (
                "int4[]",
                "{}",
                "22P02",
                "malformed array literal: \"{}\"".into(),
            ),
            (
                "tsvector",
                r#"{"a":1}"#,
                "42601",
                "syntax error in tsvector: \"{\"a\":1}\"".into(),
            ),
        ] {
            assert_eq!(
                fault(of, json),
                (sqlstate.to_owned(), message),
                "{of} {json}"
            );
        }
    }

    #[pg_test]
    fn domains_check_everything() {
        Spi::run(
            "create domain short as varchar(3); create domain sure as int not null;
         create domain list as int[] check (cardinality(value) < 3);
         create domain wait as interval(0) check (value < '1 year');
         create domain moment as timestamptz(0)",
        )
        .expect("the domains are made");
        assert_eq!(text("short", "\"abc\""), "abc");
        assert_eq!(fault("short", "\"abcd\"").0, "22001");
        assert_eq!(text("sure", "5.0"), "5");
        assert_eq!(
            fault("sure", "null"),
            (
                "23502".into(),
                "domain sure does not allow null values".into()
            )
        );
        assert_eq!(Column::new("short").text("null"), Ok(None));
        assert_eq!(text("list", "[1,2.0]"), "{1,2}");
        assert_eq!(fault("list", "[1,2,3]").0, "23514");
        assert_eq!(text("list[]", "[[1,2],[3]]"), r#"{"{1,2}","{3}"}"#);
        assert_eq!(text("wait", r#"{"microseconds":1500000}"#), "00:00:02");
        let error = Column::new("wait")
            .text(r#"{"months":12}"#)
            .expect_err("long");
        assert_eq!(error.sqlstate(), "23514");
        assert_eq!(error.constraint.as_deref(), Some("wait_check"));
        assert_eq!(text("wait", "\"3 days\""), "3 days");
        pin_settings();
        assert_eq!(text("moment", "946684801500000"), "2000-01-01 00:00:02+00");
    }

    #[pg_test]
    fn intervals_have_the_full_range() {
        let most = r#"{"months":-2147483648,"days":2147483647,"microseconds":9223372036854775807}"#;
        let all = "-178956970 years -8 mons +2147483647 days 2562047788:00:54.775807";
        assert_eq!(text("interval", most), all);
        let rounded = r#"{"months":1,"microseconds":3600500000}"#;
        assert_eq!(text("interval(0)", rounded), "1 mon 01:00:01");
        assert_eq!(text("interval year to month", rounded), "1 mon");
        assert_eq!(fault("interval", r#"{"months":2147483648}"#).0, "22008");
        assert_eq!(fault("interval", r#"{"years":1}"#).0, "22007");
        assert_eq!(fault("interval", "5").0, "22007");
    }

    #[pg_test]
    fn timestamps_from_microseconds_and_before_christ() {
        pin_settings();
        for of in ["timestamp", "timestamptz", "timestamptz(6)"] {
            let zone = if of == "timestamp" { "" } else { "+00" };
            for (micros, text_of) in [
                ("1730151421127470", "2024-10-28 21:37:01.12747"),
                ("-62135596800000001", "0001-12-31 23:59:59.999999 BC"),
                ("-210866803200000000", "4714-11-24 00:00:00 BC"),
                ("9224318015999999999", "294276-12-31 23:59:59.999999"),
            ] {
                let expected = match text_of.strip_suffix(" BC") {
                    Some(ad) => format!("{ad}{zone} BC"),
                    None => format!("{text_of}{zone}"),
                };
                assert_eq!(text(of, micros), expected);
                let mut slow = Column::slow(of);
                assert_eq!(slow.text(micros), Ok(Some(expected)));
            }
        }
        assert_eq!(
            text("timestamp(0)", "946684801500000"),
            "2000-01-01 00:00:02"
        );
        assert_eq!(
            text("daterange", "\"[-0043-03-15,inf)\""),
            "[\"0044-03-15 BC\",infinity)"
        );
        assert_eq!(
            text(
                "timestamptz[]",
                "[0,\"-0043-03-15T00:00:00.000000Z\",\"inf\"]"
            ),
            "{\"1970-01-01 00:00:00+00\",\"0044-03-15 00:00:00+00 BC\",infinity}"
        );
    }

    #[pg_test]
    fn composites_by_field_name() {
        Spi::run(
            "create type part as (n int, note text);
         create domain part_d as part check ((value).n > 0);
         create type whole as (id int, gone int, part part, parts part[], doc jsonb);
         alter type whole drop attribute gone",
        )
        .expect("the types are made");
        let json = r#"{"doc":{"k":["\"v\\"]},"parts":[{"n":1,"note":"a,\"b\\)"},null,{}],"part":{"note":"","n":2.0},"id":1,"gone":5}"#;
        let expected = Spi::get_one::<String>(
            r#"select row(1, row(2, ''), array[row(1, 'a,"b\)'), null, row(null, null)]::part[],
           '{"k":["\"v\\"]}'::jsonb)::whole::text"#,
        );
        let expected = expected.expect("made").expect("not null");
        assert_eq!(text("whole", json), expected);
        assert_eq!(text("part_d", r#"{"n":1}"#), "(1,)");
        assert_eq!(fault("part_d", r#"{"n":0}"#).0, "23514");
        assert_eq!(fault("part", r#"{"n":"x"}"#).0, "22P02");
        assert_eq!(fault("part", "[1]").0, "22P02");

        let whole = Column::new("whole");
        let relation = |name: &str| {
            let found = Spi::get_one::<pg_sys::Oid>(&format!("select '{name}'::regclass::oid"));
            found.expect("found").expect("not null")
        };
        let relations = whole.caster.depends_on();
        assert_eq!(relations.len(), 2);
        assert!(relations.contains(&relation("whole")));
        assert!(relations.contains(&relation("part")));
        assert!(Column::new("int4[]").caster.depends_on().is_empty());
        let array = Column::new("part_d[]");
        assert_eq!(array.caster.depends_on(), &[relation("part")]);
    }

    #[pg_test]
    fn hstores_and_tsvectors() {
        if !offered(&["hstore"]) {
            return;
        }
        Spi::run("create extension hstore").expect("created");
        let json = r#"{"a\"":"1\\","b":null,"c":{"d":1},"":"NULL"}"#;
        let expected = Spi::get_one::<String>(
            r#"select hstore(array['a"','b','c',''], array['1\',null,'{"d":1}','NULL'])::text"#,
        );
        let expected = expected.expect("made").expect("not null");
        assert_eq!(text("hstore", json), expected);
        assert_eq!(text("hstore", "{}"), "");
        let json =
            r#"[{"word":"it's","positions":[[1,"A"],[2,null]]},{"word":"b\\ c","positions":[]}]"#;
        assert_eq!(text("tsvector", json), r"'b\\ c' 'it''s':1A,2");
    }

    #[pg_test]
    fn deep_and_large_values() {
        let deep = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(fault("int4[]", &deep).0, "54000");
        assert_eq!(fault("jsonb", &deep).0, "54001");
        assert_eq!(text("text", &deep).len(), deep.len());
        let long = format!("\"{}\"", "é".repeat(3_000_000));
        let mut column = Column::new("varchar(3000000)");
        assert_eq!(
            column.text(&long).map(|t| t.map(|t| t.len())),
            Ok(Some(6_000_000))
        );
        let mut column = Column::slow("text");
        assert!(column.text(&long).is_ok());
        assert!(column.caster.text.capacity() <= KEPT_TEXT);
    }
}
