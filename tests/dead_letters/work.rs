//! The work for letters that wait grows with their number, not with its square.

use postgres::Client;
use support::{Database, GUARDS, message, run, send, value};

const NODE: &str = "create table node (id bigint primary key, up bigint references node); create index on node (up)";

/// How many rows of letters the calls have read so far.
fn read(client: &mut Client) -> i64 {
    value(
        client,
        "select coalesce(sum(idx_tup_fetch), 0) + coalesce(sum(seq_tup_read), 0)
         from pg_stat_xact_user_tables where schemaname = 'sequin' and relname = 'dead_letter'",
    )
    .parse()
    .expect("a number")
}

/// The rows of a chain, of which each refers to the one before it: first those with odd, then those with even numbers.
fn chain(action: &str, rows: u64, lsn: u64) -> Vec<String> {
    let odd = (0..rows).rev().filter(|row| row % 2 == 1);
    let even = (0..rows).rev().filter(|row| row % 2 == 0);
    odd.chain(even)
        .map(|row| {
            let up = match row {
                0 => String::from("null"),
                row => (row - 1).to_string(),
            };
            let record = format!(r#"{{"id":{row},"up":{up}}}"#);
            message(action, "node", lsn + row, &record)
        })
        .collect()
}

#[test]
fn a_chain_that_comes_in_parts() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("chain_in_parts", NODE, &["node"], guard);
        run(&mut client, "set sequin.heal_time = 100000");
        // Plans are made while there are no letters.
        for rows in [2_u64, 200] {
            run(&mut client, "begin");
            for message in chain("insert", rows, 1_000).chunks(20) {
                send(&mut client, message);
            }
            let inserts = read(&mut client);
            let left = value(&mut client, "select count(*) from sequin.dead_letter");
            assert_eq!(left, "0", "{guard}");
            for message in chain("delete", rows, 10_000).chunks(20) {
                send(&mut client, message);
            }
            let deletes = read(&mut client) - inserts;
            let left = value(&mut client, "select count(*) from sequin.dead_letter");
            assert_eq!(left, "0", "{guard}");
            run(&mut client, "rollback");
            let most = 60 * rows as i64;
            assert!(inserts < most, "{guard}: {inserts} of {rows} rows");
            assert!(deletes < most, "{guard}: {deletes} of {rows} rows");
        }
    }
}
