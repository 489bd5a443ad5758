//! Names without end, in messages and in mappings. The indexes of the extension's own tables have no room for them: an
//! error there is nobody's message, and would fail the call for everybody, each time.

use support::{Counts, Message, apply, batch, code, error, message, run, value};

use super::Scene;

/// A text that does not get shorter by compression.
fn long(n: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn in_messages() {
    let scene = Scene::new("long_names");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut admin,
        "create table wild (id text primary key, source text);
         select sequin.map('*.*', 'wild', guard => 'table', name => 'wild',
             columns => '{\"id\": \"record.id\", \"source\": \"metadata.table_name\"}')",
    );
    for (n, length) in (1_u64..).zip([300, 3000, 10_000, 100_000]) {
        let name = long(length);
        let good = |more: &str| format!(r#"{{"id":{n},"name":"n"{more}}}"#);
        let key = format!(r#","{name}":1"#);
        let messages = [
            message("insert", "good", n * 10, &good(&key)),
            message("read", "good", n * 10 + 1, &good(&key)),
            message("insert", &name, n * 10 + 2, r#"{"id":"t"}"#),
            Message::new("insert", "t", n * 10 + 3, r#"{"id":"s"}"#)
                .schema(&name)
                .to_string(),
            Message::new("insert", "good", n * 10 + 4, good(""))
                .of(&name)
                .to_string(),
        ];
        for message in &messages {
            let counts = apply(&mut forwarder, message);
            assert_eq!((counts.received, counts.dead), (1, 0), "{length}");
        }
        let counts = apply(&mut forwarder, &batch(&messages));
        assert_eq!(counts.dead, 0, "{length}");
    }
    let longest = "select max(octet_length(source || key)) < 600 from sequin.record_key";
    assert_eq!(value(&mut admin, longest), "t");
}

#[test]
fn in_mappings() {
    let scene = Scene::new("long_mappings");
    let mut mallory = scene.mallory();
    run(
        &mut mallory,
        "create table mallory.item (id text, part text, name text, primary key (id, part))",
    );
    let map = |name: &str, source: &str, columns: &str| {
        format!(
            "select sequin.map('{source}', 'mallory.item', guard => 'table', name => '{name}', columns => '{columns}')"
        )
    };
    let all = r#"{"*": "record.*"}"#;
    let refused = error(&mut mallory, &map(&long(1001), "public.item", all));
    assert_eq!(code(&refused), "42602");
    assert!(
        refused
            .hint()
            .is_some_and(|hint| hint.starts_with("Give the mapping a shorter name"))
    );
    let (name, key) = (long(1000), long(5000));
    run(&mut mallory, &map(&name, "public.item", all));
    let rename = format!(
        "select sequin.alter_mapping('{name}', new_name => '{}')",
        long(1001)
    );
    assert_eq!(code(&error(&mut mallory, &rename)), "42602");
    let columns = format!(r#"{{"id": "record.id", "part": "record.id", "name": "record.{key}"}}"#);
    run(
        &mut mallory,
        &map("other", &format!("public.{}", long(6000)), all),
    );
    run(&mut mallory, &map("paths", "public.paths", &columns));

    let mut forwarder = scene.forwarder();
    let part = |n: usize| long(n);
    for (n, record) in (1_u64..).zip([
        format!(r#"{{"id":"{}","part":"{}"}}"#, part(1500), part(1400)),
        format!(r#"{{"id":"{}","part":"x"}}"#, part(900)),
        r#"{"id":"x","part":"x"}"#.to_owned(),
    ]) {
        let messages = batch(&[
            message("insert", "item", n, &record),
            message("insert", "paths", n, &record),
            message("insert", "good", n, &format!(r#"{{"id":{n}}}"#)),
        ]);
        let counts = apply(&mut forwarder, &messages);
        assert_eq!(counts.received, 3, "{counts:?}");
        let again = apply(&mut forwarder, &messages);
        assert_eq!(again.received, 3, "{again:?}");
        let good = format!("select count(*) from good where id = {n}");
        assert_eq!(value(&mut scene.admin(), &good), "1");
    }
    let counts = apply(
        &mut forwarder,
        &message("delete", "item", 9, r#"{"id":"x","part":"y"}"#),
    );
    let wanted = Counts {
        received: 1,
        deleted: 1,
        ..Counts::default()
    };
    assert_eq!(counts, wanted);
    run(
        &mut mallory,
        &format!(
            "select sequin.retry(); select sequin.pause('{name}'); select sequin.resume('{name}')"
        ),
    );
}
