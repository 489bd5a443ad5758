//! Text that is not UTF-8, which the server does not let in by itself.

use support::{Database, code, error, run, value};

#[test]
fn text_that_is_not_unicode_is_refused() {
    let database = Database::new("not_unicode");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create cast (bytea as text) without function;
           create table item (id bigint primary key, t text, d jsonb);
           select sequin.map('public.item', 'item', guard => 'off', name => 'item',
                             columns => '{"d": "record", "*": "record.*"}');
           create function bad() returns text language sql as $$ select 'a\xff\xfe'::bytea::text $$;
           create function half() returns text language sql as $$ select 'a\xe2\x82'::bytea::text $$"#
            .replace(r"a\xff", r"\x61ff")
            .replace(r"ff\xfe", "fffe")
            .replace(r"a\xe2\x82", r"\x61e282")
            .as_str(),
    );
    let message = |value: &str, key: &str| {
        format!(
            "jsonb_build_object('action', 'insert', 'record', jsonb_build_object('id', 1, {key}, {value}),
                 'metadata', jsonb_build_object('table_schema', 'public', 'table_name', 'item'))"
        )
    };
    for bad in ["bad()", "half()"] {
        let text = format!(
            r#"'{{"action":"insert","record":{{"id":1,"t":"' || {bad} || '"}},"metadata":{{"table_schema":"public","table_name":"item"}}}}'"#
        );
        for call in [
            format!("sequin_apply({text})"),
            format!("sequin.explain_batch({text})"),
            format!("sequin_apply({bad})"),
            format!("sequin_apply({})", message(bad, "'t'")),
            format!("sequin_apply({})", message("1", bad)),
            format!(
                "sequin_apply({})",
                message(&format!("jsonb_build_array({bad})"), "'x'")
            ),
            format!("sequin_apply(to_jsonb({bad}))"),
        ] {
            let error = error(&mut client, &format!("select * from {call}"));
            assert_eq!(code(&error), "22021", "{call}: {error}");
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.contains("client_encoding")),
                "{call}"
            );
        }
    }
    assert_eq!(value(&mut client, "select count(*) from item"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
    // what is text goes through
    let good = message("E'\\u20ac'", "'t'");
    run(&mut client, &format!("select * from sequin_apply({good})"));
    assert_eq!(value(&mut client, "select t from item"), "€");
}
