//! What needs a server: the input functions, and that the fast paths give the same as they do.

// The schema that `cargo pgrx test` calls; the macro asks for a module with its body.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::cast::*;
    use crate::json::Jsonb;
    use crate::pg::subtransaction::subtransaction;
    use crate::pg::typeio::look;

    /// A type as SQL writes it, as a column has it.
    fn column_type(name: &str) -> (pg_sys::Oid, i32) {
        Spi::run("drop table if exists pg_temp.probe").expect("dropped");
        Spi::run(&format!("create temp table probe (c {name})")).expect(name);
        let found = Spi::get_two::<pg_sys::Oid, i32>(
            "select atttypid, atttypmod from pg_attribute
         where attrelid = 'pg_temp.probe'::regclass and attnum = 1",
        );
        match found.expect("the column is found") {
            (Some(oid), Some(typmod)) => (oid, typmod),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// As `sequin_apply` has them.
    fn pin_settings() {
        for set in [
            "datestyle = 'ISO, MDY'",
            "intervalstyle = postgres",
            "timezone = 'UTC'",
        ] {
            Spi::run(&format!("set {set}")).expect(set);
        }
        Spi::run("set bytea_output = hex; set extra_float_digits = 1").expect("set");
    }

    struct Column {
        oid: pg_sys::Oid,
        caster: Caster,
    }

    impl Column {
        fn new(name: &str) -> Column {
            let (oid, typmod) = column_type(name);
            let caster = Caster::new(oid, typmod);
            Column { oid, caster }
        }

        /// The same without the fast path.
        fn slow(name: &str) -> Column {
            let mut column = Column::new(name);
            column.caster.fast = Fast::No;
            column
        }

        fn of(&mut self, value: Json<'_>) -> Result<Option<(Vec<u8>, String)>, SqlError> {
            let (oid, out) = (self.oid, Bump::new());
            subtransaction(|| self.caster.cast(value, &out))
                .map(|datum| datum.map(|datum| (look::image(oid, datum), look::text(oid, datum))))
        }

        /// By the fast path alone.
        fn fast(&mut self, value: Json<'_>, out: &Bump) -> Option<(Vec<u8>, String)> {
            let datum = self
                .caster
                .fast
                .read(value, &mut self.caster.encoder, out)?;
            Some((look::image(self.oid, datum), look::text(self.oid, datum)))
        }

        /// By the input function alone.
        fn input(&mut self, value: Json<'_>) -> Result<(Vec<u8>, String), SqlError> {
            let (oid, out) = (self.oid, Bump::new());
            subtransaction(|| self.caster.read(value, &out))
                .map(|datum| (look::image(oid, datum), look::text(oid, datum)))
        }

        /// What it prints.
        fn text(&mut self, json: &str) -> Result<Option<String>, SqlError> {
            let value = Json::parse(json).expect(json);
            self.of(value).map(|of| of.map(|(_, text)| text))
        }

        /// The error's SQLSTATE and message.
        fn fault(&mut self, json: &str) -> (String, String) {
            let error = self.text(json).expect_err(json);
            (error.sqlstate(), error.message)
        }
    }

    fn text(of: &str, json: &str) -> String {
        let text = Column::new(of).text(json);
        text.unwrap_or_else(|e| panic!("{of} {json}: {e:?}"))
            .expect("not null")
    }

    fn fault(of: &str, json: &str) -> (String, String) {
        Column::new(of).fault(json)
    }

    /// Whether the server offers these extensions: some are built without any.
    fn offered(names: &[&str]) -> bool {
        let sql = "select count(*) from pg_available_extensions where name = any ($1)";
        let count = Spi::get_one_with_args::<i64>(sql, &[names.to_vec().into()]);
        let all = count.ok().flatten() == Some(names.len() as i64);
        if !all {
            pgrx::warning!("left out: this server does not offer all of {names:?}");
        }
        all
    }

    fn create_types() {
        Spi::run(
            "create extension citext; create extension hstore; create extension ltree;
         create extension cube;
         create type mood as enum ('sad', 'happy');
         create type addr as (street text, zip int, ok bool);
         create domain posint as int check (value > 0);
         create domain email as citext check (value like '%@%');
         create domain money_d as numeric(10,2);
         create domain dom2 as posint check (value < 10);
         create domain jsond as jsonb; create domain tsd as timestamptz;
         create domain uuidd as uuid; create domain bytead as bytea;
         create domain fakevec as text;",
        )
        .expect("the types are made");
    }

    /// What Sequin itself loses, so that the value cannot be the source's.
    const LOST: &[(&str, &str)] = &[
        ("time", "LIVE '04:05:06.789'"),
        ("time", "LIVE '04:05:06.000001'"),
        ("timetz", "LIVE '04:05:06+02'"),
        ("timetz", "LIVE '04:05:06.789-08:30'"),
        ("timetz", "READ '04:05:06+02'"),
        ("timetz", "READ '04:05:06.789-08:30'"),
        ("timetz", "READ '24:00:00+00'"),
        ("interval", "LIVE '100:00:00'"),
        ("interval", "LIVE '1000000 hours'"),
        ("bytea", r"READ '\x5c783431'"),
        ("time[]", "LIVE '{04:05:06.789}'"),
        ("int4[]", "READ '[0:1]={1,2}'"),
        (
            "text[]",
            r#"LIVE ARRAY['a','NULL',NULL,'','a b','a,b','q"q','b\s','{x}']"#,
        ),
        // decimals became doubles, keys lost their order
        ("json", r#"LIVE '{"b":1,"a":[1,2.50,1e2],"a2":null}'"#),
        ("json", r#"READ '{"b":1,"a":[1,2.50,1e2],"a2":null}'"#),
        ("json", r#"LIVE '{"a":1,"a":2}'"#),
        ("json", r#"READ '{"a":1,"a":2}'"#),
        ("json", "LIVE '12345678901234567890.123456789'"),
        ("json", "READ '12345678901234567890.123456789'"),
        ("jsonb", r#"LIVE '{"b":1,"a":[1,2.50,1e2],"c":{"d":true}}'"#),
        ("jsonb", r#"READ '{"b":1,"a":[1,2.50,1e2],"c":{"d":true}}'"#),
        ("jsonb", "LIVE '1.10'"),
        ("jsonb", "READ '1.10'"),
        ("jsonb", "LIVE '12345678901234567890.123456789'"),
        ("jsonb", "READ '12345678901234567890.123456789'"),
    ];

    /// Every value of the type matrix arrives as it was, over text and over jsonb, whole and in parts.
    #[pg_test]
    fn the_type_matrix_arrives() {
        if !offered(&["citext", "hstore", "ltree", "cube"]) {
            return;
        }
        pin_settings();
        create_types();
        let mut wrong = Vec::new();
        let mut lost = 0;
        let mut checked = 0;
        for line in include_str!("../../tests/types/type_matrix.tsv").lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, sql, _, _, sent @ ..] = &columns[..] else {
                continue;
            };
            let mut column = Column::new(name);
            Spi::run(&format!("insert into pg_temp.probe values ({sql})")).expect(line);
            let original = Spi::get_one::<String>("select format('%s', c) from pg_temp.probe");
            let original = original.expect(line).expect(line);
            for sent in sent {
                let (kind, json) = sent.split_once(' ').expect("LIVE or READ");
                let Ok(value) = Json::parse(json) else {
                    continue;
                };
                if value.is_null() {
                    assert_eq!(column.of(value), Ok(None));
                    continue;
                }
                checked += 1;
                let place = format!("{kind} {sql}");
                let known = LOST.contains(&(*name, &*place));
                let found = column.text(json);
                if found == Ok(Some(original.clone())) {
                    if known {
                        wrong.push(format!("{name} {place} is not lost"));
                    }
                } else if known {
                    lost += 1;
                } else {
                    wrong.push(format!("{name} {place} {json}: {found:?}"));
                }
                // jsonb spaces its text, and can hold neither \u0000 nor -0
                if json.contains("\\u0000") || json == "-0.0" || name.contains("json") {
                    continue;
                }
                let binary = jsonb_bytes(json);
                let binary = column.of(Json::Binary(Jsonb::new(&binary[4..])));
                if binary.map(|of| of.map(|(_, text)| text)) != found {
                    wrong.push(format!("{name} {place} {json} from jsonb"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!((checked, lost), (330, LOST.len()));
    }

    fn jsonb_bytes(json: &str) -> Vec<u8> {
        let (out, value) = (Bump::new(), Json::parse(json).expect(json));
        let mut caster = Caster::new(pg_sys::JSONBOID, -1);
        let datum = caster.read(value, &out).expect(json);
        look::image(pg_sys::JSONBOID, datum)
    }

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

    /// Numbers that are always the same.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % n
        }

        fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
            of[self.below(of.len())]
        }

        fn digits(&mut self, most: usize) -> String {
            let count = self.below(most + 1);
            let only = ["0123456789", "09", "0"][self.below(3)].as_bytes();
            let digit = |_| char::from(only[self.below(only.len())]);
            (0..count).map(digit).collect()
        }

        /// One that the type may like, and then perhaps not quite.
        fn text(&mut self, of: &str) -> String {
            let mut text = match of.split('(').next().unwrap_or(of) {
                "timestamp" | "timestamptz" if self.below(4) == 0 => {
                    format!("{}1{}", self.pick(&["", "-"]), self.digits(19))
                }
                "date" => self.date(),
                "timestamp" | "timestamptz" => {
                    let date = self.date();
                    let between = self.pick(&["T", " ", "T", "t", "  "]);
                    let clock =
                        self.pick(&["00:00:00", "23:59:59", "24:00:00", "12:34:60", "12:34:56"]);
                    let fraction = self.digits(8);
                    let point = if fraction.is_empty() { "" } else { "." };
                    let zone = self.pick(&["", "Z", "Z", "z", "+02", " UTC"]);
                    format!("{date}{between}{clock}{point}{fraction}{zone}")
                }
                "uuid" => {
                    let mut uuid = "a0eebc99-9c0b-4ef8-BB6D-6bb9bd380a11".to_owned();
                    let digit = self.pick(&["0", "f", "F", "9", "-", "g"]);
                    let at = self.below(36);
                    uuid.replace_range(at..at + 1, digit);
                    uuid
                }
                "text" | "varchar" => {
                    let mut text = String::new();
                    for _ in 0..self.below(12) {
                        text.push_str(
                            self.pick(&["a", " ", "é", "😀", "\\", "\"", "\n", "b", "\u{1}"]),
                        );
                    }
                    text
                }
                _ => {
                    let sign = self.pick(&["", "", "-", "-", "+", " "]);
                    let whole = self.digits(25);
                    let point = self.pick(&["", "", "."]);
                    let fraction = if point.is_empty() {
                        String::new()
                    } else {
                        self.digits(25)
                    };
                    let exponent = self.pick(&[
                        "", "", "", "e0", "e5", "E-7", "e+30", "e-46", "e-330", "e39",
                    ]);
                    format!("{sign}{whole}{point}{fraction}{exponent}")
                }
            };
            if self.below(20) == 0 {
                text.push_str(self.pick(&[" ", "x", "0", "NaN", ".", "-"]));
            }
            text
        }

        /// A document, `depth` levels deep at most, with white space where it may be.
        fn document(&mut self, depth: usize) -> String {
            let white = self.pick(&["", "", "", " ", "\n\t\r "]);
            let most = [3, 3, 3, 8, 40, 70][self.below(6)];
            let count = match depth {
                0..3 => self.below(3),
                _ => self.below(most + 1),
            };
            match self.below(if depth == 0 { 5 } else { 9 }) {
                0 => self.pick(&["null", "true", "false"]).to_owned(),
                1 | 2 => self.number(),
                3 | 4 => self.string(),
                5 | 6 => {
                    let items: Vec<_> = (0..count)
                        .map(|_| format!("{white}{}{white}", self.document(depth - 1)))
                        .collect();
                    format!("[{white}{}]", items.join(","))
                }
                _ => {
                    let members: Vec<_> = (0..count)
                        .map(|n| {
                            let key = match self.below(3) {
                                0 => self.string(),
                                1 => format!("\"{}{n}\"", self.pick(&["a", "id", "é"])),
                                _ => format!("\"{}\"", self.pick(&["a", "b", "", "\\u0061"])),
                            };
                            let value = self.document(depth - 1);
                            format!("{white}{key}{white}:{white}{value}{white}")
                        })
                        .collect();
                    format!("{{{white}{}}}", members.join(","))
                }
            }
        }

        fn number(&mut self) -> String {
            let sign = self.pick(&["", "", "-"]);
            let digits = match self.below(20) {
                0 => self.digits(150),
                1..4 => self.digits(25),
                _ => self.digits(6),
            };
            let whole = match digits.trim_start_matches('0') {
                "" => "0",
                whole => whole,
            };
            let fraction = match self.below(3) {
                0 => format!(".{}0", self.digits(9)),
                1 if self.below(4) == 0 => format!(".{}1", self.digits(90)),
                _ => String::new(),
            };
            let exponent = self.pick(&[
                "", "", "", "", "e0", "e1", "E+2", "e-3", "E-07", "e30", "e-70", "e100", "e-255",
                "e+253",
            ]);
            format!("{sign}{whole}{fraction}{exponent}")
        }

        fn string(&mut self) -> String {
            let mut text = "\"".to_owned();
            for _ in 0..self.below(9) {
                text.push_str(self.pick(&[
                    "a",
                    "key",
                    "é",
                    "😀",
                    "\u{7f}",
                    "[",
                    "}",
                    "a longer piece of plain text",
                    "\\\\",
                    "\\\"",
                    "\\/",
                    "\\b\\f\\n\\r\\t",
                    "\\u0001",
                    "\\u00e9",
                    "\\u20AC",
                    "\\ud83d\\ude00",
                ]));
            }
            text + "\""
        }

        fn date(&mut self) -> String {
            if self.below(2) == 0 {
                return self
                    .pick(&["2024-10-28", "1999-12-31", "0001-01-01", "9999-12-31"])
                    .to_owned();
            }
            let year = self.pick(&[
                "2024", "1900", "2000", "0000", "1582", "2023", "12024", "99",
            ]);
            let month = self.pick(&["01", "02", "02", "12", "04", "11", "13", "00", "3"]);
            let day = self.pick(&["01", "28", "29", "30", "31", "32", "00", "15", "7"]);
            format!("{year}-{month}-{day}")
        }
    }

    /// Where a fast path gives a value, the input function gives the same bytes.
    #[pg_test]
    fn fast_paths_equal_the_input_functions() {
        pin_settings();
        for of in [
            "bool",
            "int2",
            "int4",
            "int8",
            "oid",
            "float4",
            "float8",
            "text",
            "varchar",
            "varchar(5)",
            "uuid",
            "date",
            "timestamp",
            "timestamp(0)",
            "timestamp(3)",
            "timestamptz",
            "timestamptz(0)",
            "timestamptz(5)",
            "numeric",
            "numeric(10,2)",
            "numeric(30,0)",
            "numeric(30,20)",
            "numeric(5,5)",
        ] {
            let (mut fast, mut slow) = (Column::new(of), Column::slow(of));
            assert_ne!(fast.caster.fast, Fast::No);
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
            let (mut hits, mut misses) = (0, 0);
            for _ in 0..10_000 {
                let mut text = dice.text(of);
                let is_number = Json::parse(&text).is_ok_and(|v| v.kind() == Kind::Number);
                if of == "bool" {
                    text = dice.pick(&["true", "false", "1", "\"t\""]).to_owned();
                } else if !is_number || dice.below(2) == 0 {
                    text = serde_json::to_string(&text).expect("a string");
                }
                let value = Json::parse(&text).expect("it is JSON");
                let out = Bump::new();
                match fast.fast(value, &out) {
                    None => misses += 1,
                    Some(image) => {
                        hits += 1;
                        assert_eq!(slow.of(value), Ok(Some(image)), "{of} {text}");
                    }
                }
            }
            assert!(
                hits > 100 && (misses > 100 || of == "text" || of == "varchar"),
                "{of} {hits} {misses}"
            );
        }
    }

    /// One of the types of documents, by the fast path and by the input function.
    struct Documents {
        of: &'static str,
        fast: Column,
        slow: Column,
        hits: usize,
        misses: usize,
    }

    impl Documents {
        fn all() -> [Documents; 2] {
            ["json", "jsonb"].map(|of| Documents {
                of,
                fast: Column::new(of),
                slow: Column::slow(of),
                hits: 0,
                misses: 0,
            })
        }

        fn check(&mut self, value: Json<'_>) {
            match self.fast.fast(value, &Bump::new()) {
                None => self.misses += 1,
                Some(image) => {
                    self.hits += 1;
                    let (of, text) = (self.of, value.text());
                    assert!(self.slow.input(value) == Ok(image), "{of} {text}");
                }
            }
        }
    }

    /// A value and all that is in it.
    fn parts<'a>(value: Json<'a>, to: &mut Vec<Json<'a>>) {
        to.push(value);
        for (_, member) in value.members() {
            parts(member, to);
        }
        for element in value.elements() {
            parts(element, to);
        }
    }

    /// A document has the bytes that the input function makes of it, sent as text or in `jsonb`.
    #[pg_test]
    fn documents_equal_the_input_functions() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let mut sent: Vec<String> = (0..4000).map(|n| dice.document(n % 7)).collect();
        for depth in [5, 100, 255] {
            sent.push(format!("{}1{}", "[".repeat(depth), "]".repeat(depth)));
            let levels = "{\"k\":[1.5,\"é\",".repeat(depth / 2);
            sent.push(levels + "{}" + &"]}".repeat(depth / 2));
        }
        for count in [31, 32, 33, 63, 64, 65, 127, 128, 129, 5000] {
            let items: Vec<_> = (0..count).map(|_| dice.document(0)).collect();
            sent.push(format!("[{}]", items.join(",")));
            let member = |(n, item): (usize, &String)| format!("\"{}\":{item}", n * 7919 % count);
            let members: Vec<_> = items.iter().enumerate().map(member).collect();
            let members = members.join(",");
            sent.push(format!("{{{members}}}"));
            sent.push(format!("{{{members},{members},\"{count}\":[[]]}}"));
        }
        let [mut json, mut jsonb] = Documents::all();
        let mut checked = 0;
        for text in &sent {
            let value = Json::parse(text).expect(text);
            json.check(value);
            jsonb.check(value);
            let binary = jsonb_bytes(text);
            let mut all = Vec::new();
            parts(Json::Binary(Jsonb::new(&binary[4..])), &mut all);
            // every part of a few, of the others those at the top
            let most = if dice.below(20) == 0 { 200 } else { 3 };
            for value in all.into_iter().take(most) {
                checked += 1;
                json.check(value);
                jsonb.check(value);
            }
        }
        assert_eq!(json.misses, 0);
        assert!(jsonb.misses < sent.len() / 10, "{}", jsonb.misses);
        assert_eq!(json.hits, sent.len() + checked);
    }

    const FIXTURES: &[&str] = &[
        include_str!("../../tests/fixtures/azure_event_hub_event_body.json"),
        include_str!("../../tests/fixtures/azure_event_hub_publish_request.json"),
        include_str!("../../tests/fixtures/characters_delete_replica_default.json"),
        include_str!("../../tests/fixtures/characters_detailed_insert_live.json"),
        include_str!("../../tests/fixtures/characters_detailed_read_backfill.json"),
        include_str!("../../tests/fixtures/characters_ident_full_delete.json"),
        include_str!("../../tests/fixtures/characters_ident_full_update.json"),
        include_str!("../../tests/fixtures/characters_insert.json"),
        include_str!("../../tests/fixtures/characters_update_replica_default.json"),
        include_str!("../../tests/fixtures/commit_lsn_above_2_53_synthetic.json"),
        include_str!("../../tests/fixtures/composite_pk_delete_replica_default.json"),
        include_str!("../../tests/fixtures/composite_pk_insert.json"),
        include_str!("../../tests/fixtures/docs_example_insert_price_as_number.json"),
        include_str!("../../tests/fixtures/docs_example_read_with_lsn.json"),
        include_str!("../../tests/fixtures/duplicate_redelivery_batch.json"),
        include_str!("../../tests/fixtures/gcp_pubsub_publish_request.json"),
        include_str!("../../tests/fixtures/gcp_pubsub_push_wrapper.json"),
        include_str!("../../tests/fixtures/generated_column_insert_live_omits_it.json"),
        include_str!("../../tests/fixtures/generated_column_read_backfill_includes_it.json"),
        include_str!("../../tests/fixtures/insert_with_enrichment.json"),
        include_str!("../../tests/fixtures/insert_with_transaction_annotations.json"),
        include_str!("../../tests/fixtures/json_column_with_nul_escape.json"),
        include_str!("../../tests/fixtures/kafka_record.json"),
        include_str!("../../tests/fixtures/kafka_record_delete_not_tombstone.json"),
        include_str!("../../tests/fixtures/kinesis_put_records_request.json"),
        include_str!("../../tests/fixtures/legacy_2024_09_update_issue_259.json"),
        include_str!("../../tests/fixtures/legacy_2024_11_event_insert.json"),
        include_str!("../../tests/fixtures/legacy_2024_11_record_kind_read.json"),
        include_str!("../../tests/fixtures/multi_change_transaction_batch.json"),
        include_str!("../../tests/fixtures/nats_message.json"),
        include_str!("../../tests/fixtures/no_primary_key_delete_replica_full.json"),
        include_str!("../../tests/fixtures/no_primary_key_insert.json"),
        include_str!("../../tests/fixtures/ordering_overtake_sequence.json"),
        include_str!("../../tests/fixtures/rabbitmq_message.json"),
        include_str!("../../tests/fixtures/redis_stream_entry.json"),
        include_str!("../../tests/fixtures/redis_stream_entry_record_only.json"),
        include_str!("../../tests/fixtures/redis_string_del.json"),
        include_str!("../../tests/fixtures/redis_string_set.json"),
        include_str!("../../tests/fixtures/s2_append_records_request.json"),
        include_str!("../../tests/fixtures/sequin_stream_receive_actual.json"),
        include_str!("../../tests/fixtures/sequin_stream_receive_docs_flattened.json"),
        include_str!("../../tests/fixtures/sequin_stream_receive_empty.json"),
        include_str!("../../tests/fixtures/sequin_stream_receive_record_only.json"),
        include_str!("../../tests/fixtures/sns_http_notification_wrapper.json"),
        include_str!("../../tests/fixtures/sqs_fifo_send_message_batch_request.json"),
        include_str!("../../tests/fixtures/sqs_lambda_event_wrapper.json"),
        include_str!("../../tests/fixtures/sqs_message_body.json"),
        include_str!("../../tests/fixtures/timestamp_format_unix_microsecond_update.json"),
        include_str!("../../tests/fixtures/transform_function_debezium_like.json"),
        include_str!("../../tests/fixtures/transform_function_key_value_ttl.json"),
        include_str!("../../tests/fixtures/transform_path_changes_batch.json"),
        include_str!("../../tests/fixtures/transform_path_metadata.json"),
        include_str!("../../tests/fixtures/transform_path_record_id.json"),
        include_str!("../../tests/fixtures/types_all_live_insert.json"),
        include_str!("../../tests/fixtures/types_all_read_backfill.json"),
        include_str!("../../tests/fixtures/types_arrays_live.json"),
        include_str!("../../tests/fixtures/types_arrays_read.json"),
        include_str!("../../tests/fixtures/types_datetime_live.json"),
        include_str!("../../tests/fixtures/types_datetime_read.json"),
        include_str!("../../tests/fixtures/types_json_live.json"),
        include_str!("../../tests/fixtures/types_json_read.json"),
        include_str!("../../tests/fixtures/types_numeric_live.json"),
        include_str!("../../tests/fixtures/types_numeric_read.json"),
        include_str!("../../tests/fixtures/types_ranges_net_geo_misc_live.json"),
        include_str!("../../tests/fixtures/types_ranges_net_geo_misc_read.json"),
        include_str!("../../tests/fixtures/types_text_uuid_bool_bytea_enum_live.json"),
        include_str!("../../tests/fixtures/types_text_uuid_bool_bytea_enum_read.json"),
        include_str!("../../tests/fixtures/update_pk_change_replica_default.json"),
        include_str!("../../tests/fixtures/update_pk_change_replica_full.json"),
        include_str!("../../tests/fixtures/update_text_literally_unchanged_toast.json"),
        include_str!("../../tests/fixtures/update_toast_changed_to_null_replica_default.json"),
        include_str!("../../tests/fixtures/update_unchanged_toast_replica_default.json"),
        include_str!("../../tests/fixtures/update_unchanged_toast_replica_full.json"),
        include_str!("../../tests/fixtures/webhook_batch_mixed_actions.json"),
        include_str!("../../tests/fixtures/webhook_batch_multi_table.json"),
        include_str!("../../tests/fixtures/webhook_batch_of_one.json"),
        include_str!("../../tests/fixtures/webhook_record_only_batch.json"),
        include_str!("../../tests/fixtures/webhook_record_only_single.json"),
        include_str!("../../tests/fixtures/webhook_single_delete_replica_default.json"),
        include_str!("../../tests/fixtures/webhook_single_delete_replica_full.json"),
        include_str!("../../tests/fixtures/webhook_single_insert.json"),
        include_str!("../../tests/fixtures/webhook_single_read_backfill.json"),
        include_str!("../../tests/fixtures/webhook_single_update_replica_default.json"),
        include_str!("../../tests/fixtures/webhook_single_update_replica_full.json"),
        include_str!("../../tests/fixtures/webhook_single_update_replica_full_noop.json"),
        include_str!("../../tests/fixtures/webhook_single_update_replica_full_set_null.json"),
    ];

    #[pg_test]
    fn documents_of_the_fixtures_equal_the_input_functions() {
        let [mut json, mut jsonb] = Documents::all();
        // Compiled in: the server may not be able to read the project's directory.
        for text in FIXTURES {
            let value = Json::parse(text).expect("it is JSON");
            let mut all = Vec::new();
            parts(value, &mut all);
            let binary = (!text.contains("\\u0000")).then(|| jsonb_bytes(text));
            if let Some(binary) = &binary {
                parts(Json::Binary(Jsonb::new(&binary[4..])), &mut all);
            }
            for value in all {
                json.check(value);
                jsonb.check(value);
            }
        }
        assert!(json.hits > 5000 && json.misses == 0, "{}", json.hits);
        assert!(jsonb.hits > 5000 && jsonb.misses < 20, "{}", jsonb.misses);
    }

    /// What is no `jsonb` is `json` all the same; what neither takes, the input function refuses.
    #[pg_test]
    fn documents_that_are_unfit() {
        let [mut json, mut jsonb] = Documents::all();
        for (text, sqlstate) in [
            (r#""\u0000""#, "22P05"),
            (r#"{"a":"\ud800","a":1}"#, "22P02"),
            (r#"["\ude00\ud83d"]"#, "22P02"),
            (r#"{"\u0000":1}"#, "22P05"),
            (r#"{"a":1e200000,"a":1}"#, "22003"),
        ] {
            let value = Json::parse(text).expect(text);
            json.check(value);
            jsonb.check(value);
            let error = jsonb.fast.of(value).expect_err(text);
            assert_eq!(error.sqlstate(), sqlstate, "{text} {error:?}");
        }
        assert_eq!((json.hits, json.misses), (5, 0));
        assert_eq!((jsonb.hits, jsonb.misses), (0, 5));
        for text in [
            "-0", "-0.00", "0e5", "0e-5", "2.50", "1e2", "1.50e1", "[]", "\"\"",
        ] {
            let value = Json::parse(text).expect(text);
            json.check(value);
            jsonb.check(value);
        }
        assert_eq!((json.hits, jsonb.hits), (14, 9));
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(fault("json", &deep).0, "54001");
        for of in ["json", "jsonb"] {
            let deep = "[".repeat(1000) + &"]".repeat(1000);
            assert_eq!(text(of, &deep), deep);
            let domain = format!("create domain d_{of} as {of} check (value::text <> '1')");
            Spi::run(&domain).expect("created");
            assert_eq!(fault(&format!("d_{of}"), "1").0, "23514");
        }
    }

    /// Every day has the number that the server gives it.
    #[pg_test]
    fn every_day() {
        let wrong = Spi::connect(|client| {
            let days = client.select(
                "select d::text, d - date '2000-01-01'
             from (select date '0001-01-01' + n as d from generate_series(0, 3652058) n) days
             where extract(day from d) in (1, 28, 29, 30, 31)",
                None,
                &[],
            );
            let mut column = Fast::Date;
            let mut wrong = 0;
            let mut count = 0;
            for row in days.expect("selected") {
                let day = row.get::<String>(1).expect("text").expect("not null");
                let number = row.get::<i32>(2).expect("integer").expect("not null");
                let json = format!("\"{day}\"");
                let value = Json::parse(&json).expect("JSON");
                let found = column.read(value, &mut Encoder::default(), &Bump::new());
                wrong += usize::from(found.map(|d| d.value()) != Some(Datum::from(number).value()));
                count += 1;
                column = Fast::Date;
            }
            assert!(count > 500_000);
            wrong
        });
        assert_eq!(wrong, 0);
    }

    /// The text of an interval, which only arrays and composites need, says what the object says.
    #[pg_test]
    fn intervals_in_arrays_equal_intervals() {
        let (mut alone, mut array) = (Column::new("interval"), Column::new("interval[]"));
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for _ in 0..1000 {
            let [months, days, micros] = [9, 9, 18].map(|most| {
                let digits = dice.digits(most);
                let digits = digits.trim_start_matches('0');
                format!("{}{digits}0", dice.pick(&["", "-"])).replace("-0", "0")
            });
            let json = format!("{{\"months\":{months},\"days\":{days},\"microseconds\":{micros}}}");
            match alone.text(&json) {
                Ok(Some(text)) => {
                    let list = array.text(&format!("[{json}]")).expect(&json).expect(&json);
                    assert_eq!(list.trim_matches(['{', '}', '"']), text, "{json}");
                }
                other => assert_eq!(other.expect_err(&json).sqlstate(), "22008"),
            }
        }
    }
}
