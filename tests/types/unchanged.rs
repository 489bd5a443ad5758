//! Values that a message does not tell: unchanged ones, and those that reads cannot have.

use postgres::Client;
use support::{Message, Random, apply, batch, message, number, rows, run};

use super::spelling::{Form, Kept, Of, spell};
use super::{Column, SENDER, all_types, apply_all, database, texts};

/// A row with a column of every type.
struct Wide {
    columns: Vec<Column>,
    /// Of each column a value that Sequin sends whole, as it does.
    live: Vec<String>,
    /// The same in a read.
    read: Vec<String>,
}

impl Wide {
    /// The table `source` with one row.
    fn make(client: &mut Client, extensions: &[&str]) -> Wide {
        let mut random = Random::new(number("TYPES_SEED", 1));
        let mut wide = Wide {
            columns: Vec::new(),
            live: Vec::new(),
            read: Vec::new(),
        };
        run(
            client,
            "create table source (id int primary key); insert into source values (1)",
        );
        for column in all_types(client, extensions) {
            let number = column.number;
            column.make(client, "one");
            let values: Vec<_> = (0..40).map(|_| column.of.value(&mut random)).collect();
            let table = column.table("one");
            client
                .query_one(
                    "select fill($1, $2, $3)",
                    &[&table, &column.of.sql, &values],
                )
                .expect("filled");
            let whole = |text: &str, form| {
                spell(&column.of.of, text, form)
                    .filter(|sent| sent.kept == Kept::All)
                    .map(|sent| sent.json)
            };
            let found = texts(client, &table).into_iter().find_map(|(id, text)| {
                let text = text.expect("not null");
                let read = whole(&text, Form::Read);
                let as_read = match column.of.of {
                    Of::Unread | Of::FailingArray(_) | Of::TimeTz | Of::Time => {
                        Some("null".to_owned())
                    }
                    Of::Array(ref of) if matches!(**of, Of::Time | Of::TimeTz) => {
                        Some("null".to_owned())
                    }
                    _ => read,
                };
                Some((id, whole(&text, Form::Live)?, as_read?))
            });
            let Some((id, live, read)) = found else {
                assert!(
                    column.of.sql.contains("json"),
                    "no value of {} comes whole",
                    column.of.sql
                );
                continue;
            };
            run(
                client,
                &format!(
                    "alter table source add c_{number} {}; update source set c_{number} = c from {table} where {table}.id = {id}",
                    column.of.sql
                ),
            );
            wide.columns.push(column);
            wide.live.push(live);
            wide.read.push(read);
        }
        assert!(wide.columns.len() > 150, "{}", wide.columns.len());
        wide
    }

    /// A record with these values.
    fn record(&self, value: impl Fn(usize) -> String) -> String {
        let columns = self.columns.iter().enumerate();
        let members: Vec<_> = columns
            .map(|(i, column)| format!(r#","c_{}":{}"#, column.number, value(i)))
            .collect();
        format!(r#"{{"id":1{}}}"#, members.concat())
    }

    /// Types of the columns in which the tables differ: in any bit, or by whether they are null.
    fn differ(&self, client: &mut Client, wanted: &str, found: &str) -> Vec<String> {
        let of = |column: &&Column| {
            let c = format!("c_{}", column.number);
            let sql = format!(
                "select record_image_eq(row(w.{c}), row(f.{c})) from {wanted} w, {found} f"
            );
            rows(client, &sql) != ["t"]
        };
        self.columns
            .iter()
            .filter(of)
            .map(|column| column.of.sql.clone())
            .collect()
    }
}

/// Whatever the type is, a value that an update left alone stays, and comes late if the update came first.
#[test]
fn unchanged_values_of_every_type() {
    let (database, extensions) = database("unchanged");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let wide = Wide::make(&mut client, &extensions);
    run(
        &mut client,
        "create table nothing as select * from source where false; insert into nothing values (1)",
    );
    let insert = wide.record(|i| wide.live[i].clone());
    let unchanged = wide.record(|_| "\"unchanged_toast\"".to_owned());
    let read = wide.record(|i| wide.read[i].clone());
    for guard in ["table", "columns"] {
        let make = |client: &mut Client, table: &str| {
            run(
                client,
                &format!(
                    "drop table if exists {table}; create table {table} (like source including all);
                     select sequin.map('public.{table}', '{table}', guard => '{guard}')"
                ),
            );
        };
        make(&mut client, "kept");
        let sent = [
            message("insert", "kept", 100, &insert),
            message("update", "kept", 200, &unchanged),
        ];
        apply_all(&mut client, &sent[..1], false);
        apply_all(&mut client, &sent[1..], false);
        assert_eq!(
            wide.differ(&mut client, "source", "kept"),
            [""; 0],
            "{guard}"
        );

        make(&mut client, "late");
        let sent = ["late"].map(|table| message("update", table, 200, &unchanged));
        apply_all(&mut client, &sent, false);
        assert_eq!(
            wide.differ(&mut client, "nothing", "late"),
            [""; 0],
            "{guard}"
        );
        apply(&mut client, &message("insert", "late", 100, &insert));
        assert_eq!(
            wide.differ(&mut client, "source", "late"),
            [""; 0],
            "{guard}"
        );

        // a read fills what it knows
        make(&mut client, "filled");
        let sent = [
            message("update", "filled", 200, &unchanged),
            message("read", "filled", 300, &read),
        ];
        apply_all(&mut client, &sent[..1], false);
        apply_all(&mut client, &sent[1..], false);
        let unknown: Vec<_> = (0..wide.columns.len())
            .filter(|i| wide.read[*i] == "null")
            .map(|i| wide.columns[i].of.sql.clone())
            .collect();
        assert_eq!(
            wide.differ(&mut client, "source", "filled"),
            unknown,
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, "select count(*) from sequin.dead_letter"),
            ["0"]
        );
    }
}

/// Null in a read is NULL, except for types that Sequin cannot read: there it says nothing.
#[test]
fn nulls_of_reads() {
    let (database, extensions) = database("nulls");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let wide = Wide::make(&mut client, &extensions);
    run(
        &mut client,
        "create table wide (like source including all); select sequin.map('public.wide', 'wide')",
    );
    let insert = wide.record(|i| wide.live[i].clone());
    let nulls = wide.record(|_| "null".to_owned());
    apply_all(
        &mut client,
        &[message("insert", "wide", 100, &insert)],
        false,
    );
    apply_all(&mut client, &[message("read", "wide", 200, &nulls)], false);
    let mut readable: Vec<_> = Vec::new();
    for column in &wide.columns {
        match &column.of.of {
            Of::Unreadable | Of::Box | Of::UnreadableArray(_) => {}
            // a read of these fails, or nobody has seen one
            Of::FailingArray(_) | Of::Unread => {}
            _ => readable.push(column.of.sql.clone()),
        }
    }
    let mut taken = wide.differ(&mut client, "source", "wide");
    // what is unknown of these either way
    let open: Vec<String> = wide
        .columns
        .iter()
        .filter(|column| matches!(column.of.of, Of::FailingArray(_) | Of::Unread))
        .map(|column| column.of.sql.clone())
        .collect();
    taken.retain(|of| !open.contains(of));
    assert_eq!(taken, readable);
    assert!(
        readable.len() > 50 && readable.len() < wide.columns.len() - 80,
        "{}",
        readable.len()
    );
    // a change means it
    apply_all(
        &mut client,
        &[message("update", "wide", 300, &nulls)],
        false,
    );
    run(
        &mut client,
        "create table nothing as select * from source where false; insert into nothing values (1)",
    );
    assert_eq!(wide.differ(&mut client, "nothing", "wide"), [""; 0]);
}

/// The marker is a text in an insert, in a read, and in an update that lists the column. A type that cannot have this
/// text refuses it.
#[test]
fn a_text_that_reads_unchanged_toast() {
    let (database, extensions) = database("marker");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let mut id = 0;
    let (mut taken, mut refused) = (0, 0);
    for column in all_types(&mut client, &extensions) {
        column.map(&mut client, "marked");
        let table = column.table("marked");
        // what the type's input function says of it
        let of = column.of.sql.clone();
        column.make(&mut client, "wanted");
        let wanted = client.query_one(
            "select fill($1, $2, array['unchanged_toast'])",
            &[&column.table("wanted"), &of],
        );
        let is_json = matches!(column.of.of, Of::Json | Of::Jsonb) || of == "jsondd";
        if is_json {
            let quoted = format!(
                "insert into {} values (1, '\"unchanged_toast\"')",
                column.table("wanted")
            );
            run(&mut client, &quoted);
        }
        // modifiers cut what is cast, but not what is sent
        let cut = ["varchar(5)", "char(5)", "short"].contains(&&*of);
        let fits = (wanted.expect("fill").get::<_, i64>(0) == 1 || is_json) && !cut;
        id += 10;
        let record = |id: u64| format!(r#"{{"id":{id},"c":"unchanged_toast"}}"#);
        let listed = Message::new("update", &table, id + 2, record(3))
            .changes(r#"{"c":null}"#)
            .to_string();
        let sent = [
            message("insert", &table, id, &record(1)),
            message("read", &table, id, &record(2)),
            listed,
        ];
        let counts = apply(&mut client, &batch(&sent));
        assert_eq!(counts.dead, if fits { 0 } else { 3 }, "{of}: {counts:?}");
        if fits {
            taken += 1;
            let same = format!(
                "select bool_and(record_image_eq(row(m.c), row(w.c))), count(*) from {table} m, {} w",
                column.table("wanted")
            );
            assert_eq!(rows(&mut client, &same), ["t|3"], "{of}");
        } else {
            refused += 1;
        }
    }
    assert!(taken > 10 && refused > 100, "{taken} {refused}");
}
