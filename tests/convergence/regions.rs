//! Two databases with rows of two regions each, and a mapping for each region: what one mapping's filter refuses is the
//! row of the other.

use postgres::Client;
use support::{Database, Message, Random, rows, run, send, value};

const REGIONS: [&str; 2] = ["eu", "us"];

fn mapped(test: &str, order: [&str; 2], more: &str) -> (Database, Client) {
    let database = Database::new(&format!("convergence_regions_{test}"));
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table users (id integer primary key, region text, name text, gone boolean)",
    );
    for region in order {
        run(
            &mut client,
            &format!(
                "select sequin.map('{region}.public.users', 'users', name => '{region}', guard => 'table',
                     filter => $f$record->>'region' = '{region}'$f${more})"
            ),
        );
    }
    (database, client)
}

/// A message of the database of a region.
fn user(action: &str, database: &str, lsn: u64, id: i64, region: &str) -> Message {
    let record = match action {
        // under replica identity default
        "delete" => format!(r#"{{"id":{id},"region":null,"name":null}}"#),
        _ => format!(r#"{{"id":{id},"region":"{region}","name":"{database}{lsn}"}}"#),
    };
    Message::new(action, "users", lsn, record).of(database)
}

const USERS: &str = "select id, region, name from users where gone is not true order by id";

/// Sends messages in a random order, one by one or in calls of some.
fn send_shuffled(client: &mut Client, messages: &[Message], seed: u64) {
    let mut random = Random::new(seed);
    let mut messages = messages.to_vec();
    random.shuffle(&mut messages);
    let size = [1, 3, messages.len()][seed as usize % 3];
    for call in messages.chunks(size) {
        assert_eq!(send(client, call).dead, 0, "{seed}");
    }
}

#[test]
fn what_a_filter_refuses_is_the_row_of_the_other_mapping() {
    let mut messages = Vec::new();
    for (id, region) in [(1, "eu"), (2, "us"), (3, "eu"), (4, "us")] {
        for (n, database) in REGIONS.iter().enumerate() {
            let at = 10 * id as u64 + n as u64;
            messages.push(user("insert", database, at, id, region));
            messages.push(user("update", database, 100 + at, id, region));
            // Its own copy goes, or only the other one's.
            if id >= 3 && *database == "eu" {
                messages.push(user("delete", database, 200 + at, id, region));
            }
        }
    }
    let wanted = ["1|eu|eu110", "2|us|us121", "4|us|us141"];
    for (n, order) in [REGIONS, ["us", "eu"]].into_iter().enumerate() {
        for (m, more) in [
            "",
            ", on_delete => 'soft', soft_delete => 'gone'",
            ", on_delete => 'ignore'",
        ]
        .into_iter()
        .enumerate()
        {
            let (_database, mut client) = mapped(&format!("refused_{n}_{m}"), order, more);
            for seed in 0..12 {
                send_shuffled(&mut client, &messages, seed);
                let found = rows(&mut client, USERS);
                let kept = "3|eu|eu130";
                let found: Vec<String> = match more.contains("ignore") {
                    true => found.into_iter().filter(|row| row != kept).collect(),
                    false => found,
                };
                assert_eq!(found, wanted, "{order:?} {more} {seed}");
                run(
                    &mut client,
                    "truncate users; select sequin.forget_versions('eu'), sequin.forget_versions('us')",
                );
            }
        }
    }
}

/// A row without a version of either mapping.
#[test]
fn a_row_that_was_there_is_not_removed_by_what_a_filter_refuses() {
    let (_database, mut client) = mapped("there", REGIONS, "");
    run(
        &mut client,
        "insert into users values (1, 'eu', 'a'), (2, 'us', 'b')",
    );
    let refused = [
        user("update", "us", 1, 1, "eu"),
        user("update", "eu", 2, 2, "us"),
    ];
    assert_eq!(send(&mut client, &refused).filtered, 2);
    assert_eq!(rows(&mut client, USERS), ["1|eu|a", "2|us|b"]);
    // A key change of the copy, too.
    let moved = user("update", "us", 3, 7, "eu").changes(r#"{"id":1}"#);
    send(&mut client, &[moved]);
    assert_eq!(rows(&mut client, USERS), ["1|eu|a", "2|us|b"]);
}

/// A user goes to the other region, in both databases.
#[test]
fn a_row_that_goes_to_the_other_mapping_stays() {
    let messages = [
        user("insert", "eu", 1, 1, "eu"),
        user("insert", "us", 2, 1, "eu"),
        user("update", "eu", 3, 1, "us"),
        user("update", "us", 4, 1, "us"),
    ];
    let (_database, mut client) = mapped("goes", REGIONS, "");
    for seed in 0..24 {
        send_shuffled(&mut client, &messages, seed);
        assert_eq!(
            value(&mut client, "select count(*) from users"),
            "1",
            "{seed}"
        );
        // The one that has it removes it.
        let delete = user("delete", "eu", 5, 1, "us");
        send(&mut client, &[delete]);
        assert_eq!(
            value(&mut client, "select count(*) from users"),
            "1",
            "{seed}"
        );
        send(&mut client, &[user("delete", "us", 6, 1, "us")]);
        assert!(rows(&mut client, USERS).is_empty(), "{seed}");
        run(
            &mut client,
            "select sequin.forget_versions('eu'), sequin.forget_versions('us')",
        );
    }
}
