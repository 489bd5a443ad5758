//! No row goes back in time: a change that a read has surely seen is stale, but for what the read did not provide.

use std::collections::BTreeMap;

use postgres::Client;
use support::{
    Database, Message, Random, apply_jsonb, batch, deleted, number, rows, run, send, stale,
    upserted, value,
};

use super::{GUARDS, ITEM, ITEMS, document, item, map, mapped, moved, record, row};

const DDL: &str =
    "create table item (id integer primary key, name text, n text, body text, ip inet,
                                      note text default 'own', gone timestamptz)";
const COLUMNS: [&str; 4] = ["name", "n", "body", "ip"];
const BODY: usize = 2;
const IP: usize = 3;

type Values = [Option<String>; 4];

/// What the source held, from moment to moment, and what Sequin sends of that.
struct History {
    full: bool,
    first: i64,
    states: Vec<BTreeMap<i64, Values>>,
    sent: Vec<Message>,
    now: u64,
    lsn: u64,
    numbered: u64,
}

impl History {
    fn new(random: &mut Random, first: i64) -> History {
        let mut history = History {
            full: random.below(2) == 0,
            first,
            states: vec![BTreeMap::new()],
            sent: Vec::new(),
            now: 100,
            lsn: 0,
            numbered: 0,
        };
        for _ in 0..3 + random.below(8) {
            // A read is later than the changes before it by more than the skew, and earlier than those after it.
            history.now += 12;
            history.moment(random);
        }
        history
    }

    fn value(&mut self, random: &mut Random, column: usize) -> Option<String> {
        self.numbered += 1;
        let (n, ip) = (self.numbered, column == IP);
        (random.below(6) > 0).then(|| match ip {
            true => format!("10.0.{}.{}", n / 250, n % 250),
            false => format!("v{n}"),
        })
    }

    fn moment(&mut self, random: &mut Random) {
        let mut rows = self.states.last().expect("the first").clone();
        let key = self.first + random.below(2) as i64;
        let before = rows.get(&key).cloned();
        match (random.below(10), before) {
            (0..4, Some(row)) => self.read(random, key, &row),
            (4, Some(row)) => {
                rows.remove(&key);
                let kept = self.full.then_some(&row);
                let record = json(key, kept.unwrap_or(&Values::default()), &[]);
                self.change("delete", record, None);
            }
            (5, Some(row)) if self.full => {
                let to = self.first + 2;
                if rows.contains_key(&to) {
                    return;
                }
                rows.remove(&key);
                self.change(
                    "update",
                    json(to, &row, &[]),
                    Some(format!(r#"{{"id":{key}}}"#)),
                );
                rows.insert(to, row);
            }
            (_, Some(row)) => {
                let mut new = row.clone();
                let mut former = Vec::new();
                for column in 0..COLUMNS.len() {
                    if random.below(3) == 0 {
                        new[column] = self.value(random, column);
                        former.push(format!(r#""{}":{}"#, COLUMNS[column], text(&row[column])));
                    }
                }
                let mut sent = new.clone();
                let unchanged = !former.iter().any(|column| column.starts_with("\"body\""));
                if !self.full && unchanged && row[BODY].is_some() {
                    sent[BODY] = Some("unchanged_toast".to_owned());
                }
                let former = if self.full {
                    former.join(",")
                } else {
                    String::new()
                };
                self.change(
                    "update",
                    json(key, &sent, &[]),
                    Some(format!("{{{former}}}")),
                );
                rows.insert(key, new);
            }
            (_, None) => {
                let row: Values = std::array::from_fn(|column| self.value(random, column));
                self.change("insert", json(key, &row, &[]), None);
                rows.insert(key, row);
            }
        }
        self.states.push(rows);
    }

    fn read(&mut self, random: &mut Random, key: i64, row: &Values) {
        let mut known = row.clone();
        known[IP] = None;
        let without: &[usize] = if random.below(3) == 0 { &[1] } else { &[] };
        self.sent
            .push(item("read", self.now - 1, json(key, &known, without)));
    }

    fn change(&mut self, action: &str, record: String, changes: Option<String>) {
        self.lsn += 1;
        let mut message = item(action, self.lsn, record).at(self.now * 1000);
        if let Some(changes) = changes {
            message = message.changes(changes);
        }
        self.sent.push(message);
    }
}

fn text(value: &Option<String>) -> String {
    value
        .as_ref()
        .map_or("null".to_owned(), |value| format!("\"{value}\""))
}

/// The record of a row, without these columns.
fn json(key: i64, row: &Values, without: &[usize]) -> String {
    let columns = (0..COLUMNS.len()).filter(|column| !without.contains(column));
    let members: Vec<_> = columns
        .map(|i| format!(r#","{}":{}"#, COLUMNS[i], text(&row[i])))
        .collect();
    format!(r#"{{"id":{key}{}}}"#, members.concat())
}

/// The rows that are there, by key.
fn items(client: &mut Client, first: i64) -> BTreeMap<i64, (Values, String)> {
    let sql = format!(
        "select id, name, n, body, host(ip), note from item
         where gone is null and id between {first} and {first} + 2"
    );
    let rows = client.query(&sql, &[]).expect("rows");
    rows.iter()
        .map(|row| {
            let key: i32 = row.get(0);
            let values = std::array::from_fn(|i| row.get(i + 1));
            (
                i64::from(key),
                (values, row.get::<_, Option<String>>(5).unwrap_or_default()),
            )
        })
        .collect()
}

/// How old each column of each row is at least.
#[derive(Default)]
struct Shown(BTreeMap<i64, [usize; 4]>);

impl Shown {
    fn look(
        &mut self,
        history: &History,
        now: &BTreeMap<i64, (Values, String)>,
    ) -> Result<(), String> {
        for key in history.first..history.first + 3 {
            if !now.contains_key(&key) && !self.0.contains_key(&key) {
                continue;
            }
            let shown = self.0.entry(key).or_default();
            for (column, shown) in shown.iter_mut().enumerate() {
                let value = now.get(&key).map(|(values, _)| &values[column]);
                if value == Some(&None) {
                    continue;
                }
                let mut states = history.states[*shown..].iter();
                let same = |state: &BTreeMap<i64, Values>| {
                    state.get(&key).map(|values| &values[column]) == value
                };
                let Some(at) = states.position(same) else {
                    return Err(format!(
                        "row {key} goes back to {value:?} in {}, which was as of moment {shown} of {:#?}",
                        COLUMNS[column], history.states
                    ));
                };
                *shown += at;
            }
        }
        Ok(())
    }
}

/// The messages, some of them more than once, in some order and in some calls.
fn calls(random: &mut Random, sent: &[Message]) -> Vec<Vec<Message>> {
    let mut messages = sent.to_vec();
    for _ in 0..random.below(3) {
        messages.push(random.of(sent).clone());
    }
    random.shuffle(&mut messages);
    let most = 1 + random.below(4);
    let mut calls = vec![Vec::new()];
    for message in messages {
        if random.below(most) == 0 {
            calls.push(Vec::new());
        }
        calls.last_mut().expect("a call").push(message);
    }
    calls.retain(|call| !call.is_empty());
    calls
}

#[test]
fn no_row_goes_back_in_time() {
    let rounds = number("CONVERGENCE_ROUNDS", 5) * 30;
    for guard in GUARDS {
        for soft in [false, true] {
            let database = Database::new(&format!("convergence_time_{guard}_{soft}"));
            let mut client = database.connect();
            run(&mut client, DDL);
            let more = match soft {
                true => ", on_delete => 'soft', soft_delete => 'gone'",
                false => "",
            };
            run(&mut client, "set client_min_messages = error");
            map(&mut client, "item", guard, more);
            for round in 0..rounds {
                let mut random = Random::new(round + 1);
                let first = 10 * (round as i64 + 1);
                let history = History::new(&mut random, first);
                let mut shown = Shown::default();
                let mut told = Vec::new();
                for call in calls(&mut random, &history.sent) {
                    match random.below(2) {
                        0 => send(&mut client, &call),
                        _ => apply_jsonb(&mut client, &batch(&call)),
                    };
                    let now = items(&mut client, first);
                    told.push(format!("{call:#?}\n{now:?}"));
                    if let Err(fault) = shown.look(&history, &now) {
                        panic!(
                            "guard {guard}, soft {soft}, round {round}\n{}\n{fault}",
                            told.join("\n")
                        );
                    }
                }
                let now = items(&mut client, first);
                let is: BTreeMap<_, _> =
                    now.iter().map(|(key, row)| (*key, row.0.clone())).collect();
                let told = told.join("\n");
                assert_eq!(
                    Some(&is),
                    history.states.last(),
                    "guard {guard}, soft {soft}, round {round}\n{told}"
                );
                assert!(
                    now.values().all(|(_, note)| note == "own"),
                    "guard {guard}, soft {soft}, round {round}: {now:?}\n{told}"
                );
            }
            let letters = value(&mut client, "select count(*) from sequin.dead_letter");
            assert_eq!(letters, "0");
        }
    }
}

#[test]
fn a_change_that_a_read_has_seen_is_stale() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("seen", ITEM, guard);
        let read = |id, name: &str| item("read", 100, document(id, name, "r"));
        let old = |action: &str, lsn, id| item(action, lsn, document(id, "old", "o"));
        // before the first change,
        send(&mut client, &[read(1, "read")]);
        for (action, lsn) in [("insert", 10), ("update", 11), ("update", 94)] {
            let counts = send(&mut client, &[old(action, lsn, 1)]);
            assert_eq!(counts, stale(1), "{guard} {action}");
        }
        assert_eq!(
            send(&mut client, &[old("delete", 94, 1)]),
            stale(1),
            "{guard}"
        );
        // after a change,
        send(&mut client, &[old("insert", 10, 2)]);
        send(&mut client, &[read(2, "read")]);
        assert_eq!(
            send(&mut client, &[old("update", 94, 2)]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[old("delete", 94, 2)]),
            stale(1),
            "{guard}"
        );
        // after a delete,
        send(&mut client, &[old("delete", 10, 3)]);
        send(&mut client, &[read(3, "read")]);
        assert_eq!(
            send(&mut client, &[old("insert", 94, 3)]),
            stale(1),
            "{guard}"
        );
        // in one call with the read, and after it in one call
        send(
            &mut client,
            &[read(4, "read"), old("insert", 10, 4), old("update", 94, 4)],
        );
        send(&mut client, &[old("update", 93, 4), old("update", 92, 4)]);
        assert_eq!(
            rows(&mut client, ITEMS),
            ["1|read|r", "2|read|r", "3|read|r", "4|read|r"],
            "{guard}"
        );
        // A change that the read may not have seen applies, and with it its older ones are stale.
        for id in 1..=4 {
            let counts = send(&mut client, &[old("update", 95, id)]);
            assert_eq!(counts, upserted(1), "{guard}");
            assert_eq!(
                send(&mut client, &[old("update", 94, id)]),
                stale(1),
                "{guard}"
            );
        }
        assert_eq!(
            send(&mut client, &[old("delete", 96, 1)]),
            deleted(1),
            "{guard}"
        );
    }
}

#[test]
fn a_change_that_a_read_has_seen_fills_what_the_read_did_not_provide() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("not_provided", ITEM, guard);
        let read = |id| item("read", 100, record(id, "read"));
        let old = |action: &str, lsn, id, body: &str| item(action, lsn, document(id, "old", body));
        send(&mut client, &[old("insert", 10, 1, "a"), read(1)]);
        assert_eq!(value(&mut client, ITEMS), "1|read|a", "{guard}");
        assert_eq!(
            send(&mut client, &[old("update", 30, 1, "c")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[old("update", 20, 1, "b")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(value(&mut client, ITEMS), "1|read|c", "{guard}");
        // The next read provides it.
        send(&mut client, &[item("read", 200, document(1, "read", "d"))]);
        assert_eq!(
            send(&mut client, &[old("update", 40, 1, "e")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(value(&mut client, ITEMS), "1|read|d", "{guard}");
        // A newer change ends all.
        send(&mut client, &[old("update", 300, 1, "f")]);
        assert_eq!(value(&mut client, ITEMS), "1|old|f", "{guard}");
        assert_eq!(
            value(
                &mut client,
                "select count(*) from sequin.row_version where gaps is not null"
            ),
            "0",
            "{guard}"
        );
        // A row that leaves the key takes nothing along, and none of its values comes.
        send(&mut client, &[read(2)]);
        send(&mut client, &[moved(20, 0, 2, 3, "gone")]);
        assert_eq!(
            send(&mut client, &[old("insert", 10, 2, "gone")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[old("insert", 30, 2, "came")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, ITEMS)[1..],
            ["2|read|came".to_owned(), row(3, "gone")],
            "{guard}"
        );
    }
}
