//! Values that do not fit.

use std::error::Error;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use support::{Database, apply, apply_error, batch, rows, run, value};

use super::{WIDE, one};

/// Sends the messages as one batch, between two good ones, which must be applied. Returns a line for each that is a
/// dead letter: place and SQLSTATE.
fn letters(client: &mut Client, messages: &[String]) -> Vec<String> {
    run(client, "truncate item, sequin.dead_letter");
    let good = |id| one(id, "t", r#""good""#);
    let all = [&[good(1_000_000)], messages, &[good(1_000_001)]].concat();
    let start = Instant::now();
    let counts = apply(client, &batch(&all));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(counts.received, all.len() as i64);
    assert_eq!(counts.outcomes(), counts.received, "{counts:?}");
    assert_eq!(
        value(client, "select count(*) from item where t = 'good'"),
        "2"
    );
    let there = "select count(*) from item";
    assert_eq!(value(client, there), counts.upserted.to_string());
    rows(
        client,
        "select position - 1 || ' ' || sqlstate from sequin.dead_letter order by position",
    )
}

/// Sends the value into each of the columns, into arrays as an element. Returns the columns that refuse it, and why.
fn unfit(client: &mut Client, json: &str, columns: &[&str]) -> Vec<String> {
    let messages: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(id, column)| match column.strip_suffix('a') {
            Some(_) if !json.starts_with(['[', '{']) => one(id, column, &format!("[{json}]")),
            _ => one(id, column, json),
        })
        .collect();
    letters(client, &messages)
        .iter()
        .map(|line| {
            let (place, state) = line.split_once(' ').expect("two words");
            let place: usize = place.parse().expect("a number");
            format!("{} {state}", columns[place])
        })
        .collect()
}

#[test]
fn depth() {
    let database = Database::new("depth");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let columns = ["t", "j", "d", "ia", "ta", "ja", "i", "p", "unknown"];
    // seven dimensions are one too many
    let seven = "[".repeat(7) + "1" + &"]".repeat(7);
    assert_eq!(
        unfit(&mut client, &seven, &columns),
        ["ia 54000", "ta 54000", "i 22P02", "p 22P02"]
    );
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let deep = open.repeat(10_000) + "1" + &close.repeat(10_000);
        let unfit = unfit(&mut client, &deep, &columns);
        // to the server's json functions it is too deep, on some versions
        for fault in &unfit {
            let known = ["54000", "54001", "22P02", "22P05", "42804"];
            assert!(
                known.contains(&&fault[fault.len() - 5..]),
                "{open}: {fault}"
            );
        }
        for column in ["t", "unknown"] {
            let is = |fault: &String| fault.starts_with(&format!("{column} "));
            assert!(!unfit.iter().any(is), "{open}: {unfit:?}");
        }
        for column in ["ia", "i"] {
            let is = |fault: &String| fault.starts_with(&format!("{column} "));
            assert!(unfit.iter().any(is), "{open}: {unfit:?}");
        }
    }
    // never closed: nothing can be told from it
    let open = "[".repeat(10_000_000);
    assert_eq!(apply_error(&mut client, &open).code().code(), "22P02");
    let mut envelopes = one(1, "t", "null");
    for _ in 0..10_000 {
        envelopes = format!(r#"{{"data":[{envelopes}]}}"#);
    }
    assert_eq!(apply(&mut client, &envelopes).dead, 1);
}

#[test]
fn numbers() {
    let database = Database::new("numbers");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let columns = [
        "t", "v", "i", "b", "n", "m", "f", "j", "d", "ia", "ja", "ts", "iv", "u", "bo", "unknown",
    ];
    let long = "7".repeat(10_000);
    let none_else = ["ts", "iv", "u", "bo"];
    for (number, bad) in [
        (long.clone(), &["v", "i", "b", "m", "f", "ia"][..]),
        (format!("-{long}.{long}"), &["v", "i", "b", "m", "f", "ia"]),
        (format!("0.{long}"), &["v", "i", "b", "ia"]),
        (
            "1e999999999".to_owned(),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        (
            format!("1e{long}"),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        (
            format!("1e-{long}"),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        (
            "1e-999999999".to_owned(),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        ("0e999999999".to_owned(), &["v", "n", "m", "d", "ja"]),
    ] {
        let short: String = number.chars().take(20).collect();
        let unfit = unfit(&mut client, &number, &columns);
        println!("{short}: {unfit:?}");
        for fault in &unfit {
            let (column, state) = fault.split_once(' ').expect("two words");
            assert!(
                bad.contains(&column) || none_else.contains(&column),
                "{short}: {fault}"
            );
            assert!(
                state.starts_with("22") || state == "42804",
                "{short}: {fault}"
            );
        }
        for column in ["t", "j", "unknown"] {
            assert!(
                !unfit
                    .iter()
                    .any(|fault| fault.starts_with(&format!("{column} ")))
            );
        }
        for column in ["i", "b", "ia"]
            .iter()
            .filter(|column| bad.contains(column))
        {
            assert!(
                unfit
                    .iter()
                    .any(|fault| fault.starts_with(&format!("{column} ")))
            );
        }
    }
    // no digit is lost
    let number = format!("{long}.{long}");
    letters(
        &mut client,
        &[
            one(1, "n", &number),
            one(2, "t", &number),
            one(3, "d", &number),
        ],
    );
    for (id, column) in [(1, "n"), (2, "t"), (3, "d")] {
        let sql = format!("select {column} from item where id = {id}");
        assert_eq!(value(&mut client, &sql), number);
    }
    // where a position is expected
    let position = |lsn: &str| {
        let message = one(1, "t", "null");
        message.replace(r#""commit_lsn":2,"#, &format!(r#""commit_lsn":{lsn},"#))
    };
    let positions = ["1e3", "-1", "1.5", "1e999999999", &long].map(position);
    let letters = letters(&mut client, &positions);
    // 1e3 is a whole number, if an odd way to write one
    assert!(
        letters.len() >= 4 && letters.iter().all(|l| l.ends_with("22023")),
        "{letters:?}"
    );
}

#[test]
fn what_is_no_text() {
    let database = Database::new("no_text");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let columns = ["t", "v", "d", "j", "ta", "ja", "p", "i", "unknown"];
    for escape in [
        r"\u0000",
        r"\ud800",
        r"\udc00",
        r"\udc00\ud800",
        r"a\ud83dz",
    ] {
        // json keeps what it gets; where nobody looks, nothing is wrong
        let in_string = unfit(&mut client, &format!(r#""{escape}""#), &columns);
        for fault in &in_string {
            assert!(
                fault.ends_with(" 22P05") || fault.ends_with(" 22P02"),
                "{escape}: {fault}"
            );
        }
        let place = |column: &str| {
            in_string
                .iter()
                .any(|f| f.starts_with(&format!("{column} ")))
        };
        assert!(
            place("t") && place("v") && place("d"),
            "{escape}: {in_string:?}"
        );
        assert!(!place("unknown"), "{escape}: {in_string:?}");
        let nested = format!(r#"[{{"a{escape}":["{escape}"]}}]"#);
        unfit(&mut client, &nested, &columns);
        // as a key of the record, in the key's column, as table, as action
        let good = one(1, "t", "null");
        let messages = [
            good.replace(r#""t""#, &format!(r#""t{escape}""#)),
            good.replace(r#""id":1"#, &format!(r#""id":"{escape}""#)),
            good.replace(
                r#""table_name":"item""#,
                &format!(r#""table_name":"it{escape}em""#),
            ),
            good.replace(
                r#""action":"insert""#,
                &format!(r#""action":"insert{escape}""#),
            ),
            good.replace(r#""record":{"#, &format!(r#""{escape}":1,"record":{{"#)),
        ];
        let letters = letters(&mut client, &messages);
        let places: Vec<_> = letters.iter().map(|letter| &letter[..1]).collect();
        assert_eq!(places, ["1", "2", "3"], "{escape}: {letters:?}");
    }
}

/// Bytes as a text.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl ToSql for Bytes<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[test]
fn invalid_utf8() {
    let database = Database::new("utf8");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let good = one(1, "t", r#""x""#);
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
        b"\0",
    ] {
        let at = good.find('x').expect("it is there");
        let bad = [&good.as_bytes()[..at], bytes, &good.as_bytes()[at..]].concat();
        let error = client
            .query("select * from sequin_apply($1)", &[&Bytes(&bad)])
            .expect_err("no text");
        let code = error.code().expect("an error of the server").code();
        assert_eq!(code, "22021", "{bytes:?}");
        assert_eq!(value(&mut client, "select count(*) from item"), "0");
    }
    assert_eq!(apply(&mut client, &good).upserted, 1);
}
