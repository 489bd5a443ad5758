//! What calls take and leave that are about one large value, of whatever shape, in whatever form.

use support::{Database, message, run};

use super::cancel::{SHAPES, repeated};
use super::memory::{TIMES, measured_call};

#[test]
fn a_large_value_of_any_shape() {
    let full = std::env::var("HOSTILE").is_ok_and(|v| v == "full");
    let size = if full { 100_000_000 } else { 1_000_000 };
    let database = Database::new("memory_shapes");
    run(
        &mut database.connect(),
        &format!(
            "{SHAPES};
             create table item (id bigint primary key, t text);
             select sequin.map('public.item', 'item', guard => 'off', name => 'item')"
        ),
    );
    let values = [
        ("deep arrays", "[".repeat(size / 2) + &"]".repeat(size / 2)),
        (
            "deep objects",
            r#"{"a":"#.repeat(size / 6) + "1" + &"}".repeat(size / 6),
        ),
        ("one string", format!("\"{}\"", "x".repeat(size))),
        (
            "one string of escapes",
            format!("\"{}\"", repeated("\\u00e4\\n", size)),
        ),
        (
            "many strings",
            format!("[{}\"b\"]", repeated("\"abcdefgh\",", size)),
        ),
        (
            "many keys",
            format!(
                "{{{}\"z\":1}}",
                (0..size / 28)
                    .rev()
                    .map(|i| format!("\"k{i:07}\":\"some value\","))
                    .collect::<String>()
            ),
        ),
    ];
    for (what, value) in values {
        let of = |table: &str| message("insert", table, 1, &format!(r#"{{"id":1,"d":{value}}}"#));
        for (n, table) in ["noted", "texts", "lists", "sql", "nobody"]
            .iter()
            .enumerate()
        {
            let batch = of(table);
            let what = format!("{what} for {table}");
            keep(&database, &batch);
            // the server's own types and functions make an array, and the record as jsonb
            let times = match *table {
                "lists" | "sql" => 2 * TIMES + 1,
                _ => TIMES,
            };
            let measured = |how: &str, call: &str| {
                let (what, size) = (format!("{what} {how}"), (batch.len(), times));
                measured_call(&database, &what, size, |client| {
                    // an error is an answer too
                    _ = client.batch_execute(call);
                });
            };
            measured("bound", "select sequin_apply(batch) from sent");
            run(&mut database.connect(), "truncate noted");
            if n == 0 {
                measured(
                    "as a payload",
                    "select sequin_apply(array[batch]) from sent",
                );
                measured(
                    "explained",
                    "select count(*) from sent, sequin.explain_batch(batch)",
                );
            }
        }
        let letter = of("noted").replacen(r#""id":1"#, r#""id":"no number""#, 1);
        keep(&database, &letter);
        let mut client = database.connect();
        // the values that are no lists
        run(&mut client, "delete from sequin.dead_letter");
        run(&mut client, "select sequin_apply(batch) from sent");
        measured_call(
            &database,
            &format!("{what} as a letter"),
            (letter.len(), TIMES),
            |client| run(client, "select sequin.retry()"),
        );
        run(
            &mut client,
            "delete from sequin.dead_letter; truncate noted",
        );
    }
}

fn keep(database: &Database, batch: &str) {
    let mut client = database.connect();
    run(&mut client, "truncate sent");
    client
        .execute("insert into sent values ($1)", &[&batch])
        .expect("kept");
}
