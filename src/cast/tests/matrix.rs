//! The type matrix: the values that Sequin sends of each type arrive unchanged.

// The schema that `cargo pgrx test` calls; the macro asks for a module with its body.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::cast::tests::*;
    use crate::json::Jsonb;

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

    /// Values that Sequin itself changes, so that the source's value cannot arrive.
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

    /// Every value of the type matrix arrives unchanged, over text and over jsonb, whole and in parts.
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
        for line in include_str!("../../../tests/types/type_matrix.tsv").lines() {
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
                // jsonb prints its text with other spacing, and cannot hold \u0000 or -0
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
}
