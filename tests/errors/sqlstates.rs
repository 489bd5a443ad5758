//! Every SQLSTATE that a row can raise.

use std::fs;

use support::{Counts, Database, GUARDS, batch, pg_config, rows, run, try_apply, value};

use super::{RAISING, insert};

/// At least one code of each class, and all of some classes; unknown codes; codes that look like signals of the
/// extension.
const STATES: &str = "01000 01004 02000 02001 03000 08000 08003 08006 08P01 09000 0A000 0B000 0F000 0L000 0LP01 0P000
    0Z000 20000 21000 22000 22001 22003 22012 22P02 22P05 23000 23001 23502 23503 23505 23514 23P01 24000 25000 25001
    25006 25P02 25P03 26000 27000 28000 28P01 2B000 2BP01 2D000 2F000 2F003 34000 38000 38001 39000 39004 3B000 3B001
    3D000 3F000 40000 40001 40002 40003 40P01 42000 42501 42601 42703 42804 42883 42P01 42P10 44000 53000 53100 53200
    53300 53400 54000 54001 54011 55000 55006 55P02 55P03 55P04 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030
    58P01 72000 F0000 F0001 HV000 HV004 HV00N P0000 P0001 P0002 P0003 P0004 XX000 XX001 XX002 ZZ001 AB123 99999 0000A
    40SQA 40SQE 40SQR 40SQZ 40ALN 40LOD 40CHG";

/// The codes above and all codes of the server, if its file is there.
fn states() -> Vec<String> {
    let mut states: Vec<String> = STATES.split_whitespace().map(str::to_owned).collect();
    let file = format!("{}/errcodes.txt", pg_config("--sharedir"));
    let file = fs::read_to_string(file).unwrap_or_default();
    for line in file.lines() {
        let mut words = line.split_whitespace();
        if let (Some(state), Some("E")) = (words.next(), words.next()) {
            states.push(state.to_owned());
        }
    }
    states.sort();
    states.dedup();
    states
}

#[test]
fn every_sqlstate_has_its_outcome() {
    let states = states();
    for guard in GUARDS {
        let database = Database::new(&format!("sqlstates_{guard}"));
        let mut client = database.connect();
        run(&mut client, RAISING);
        // in case a code is mistaken for another one and tried for ever
        run(&mut client, "set statement_timeout = '20s'");
        run(
            &mut client,
            "create table other (id integer primary key, name text)",
        );
        for table in ["item", "other"] {
            let map = format!("select sequin.map('public.{table}', '{table}', guard => '{guard}')");
            run(&mut client, &map);
        }
        let mut written = 0;
        for (n, state) in states.iter().enumerate() {
            let id = 3 * n;
            let batch = batch(&[
                insert("item", id, "good"),
                insert("item", id + 1, state),
                insert("other", id, "good"),
                insert("item", id + 2, "good too"),
            ]);
            let result = try_apply(&mut client, &batch);
            let letters = rows(
                &mut client,
                "delete from sequin.dead_letter returning position, sqlstate, error, state, key",
            );
            let counts = result.unwrap_or_else(|error| panic!("{state}: {error}"));
            let wanted = Counts {
                received: 4,
                upserted: 3,
                dead: 1,
                ..Counts::default()
            };
            assert_eq!(counts, wanted, "{state}");
            let waits = matches!(state.as_str(), "23503" | "23505" | "23P01");
            let waits = if waits { "waiting" } else { "dead" };
            let letter = format!(r#"1|{state}|as asked|{waits}|["{}"]"#, id + 1);
            assert_eq!(letters, [letter]);
            written += 1;
            let sql = "select (select count(*) from item), (select count(*) from other)";
            assert_eq!(
                value(&mut client, sql),
                format!("{}|{written}", 2 * written),
                "{state}"
            );
        }
        assert_eq!(written, states.len());
    }
}
