//! Several sessions bring the changes of a source in any order, some of them twice.

use std::collections::BTreeMap;
use std::thread;

use postgres::Client;
use support::{Message, Random, batch, rows, run, try_apply, value};

use super::nodes::Nodes;

const SESSIONS: usize = 4;

/// What a source of so many changes has in the end, and its messages.
fn source(random: &mut Random, changes: u64) -> (BTreeMap<i64, String>, Vec<Message>) {
    let mut table: BTreeMap<i64, String> = BTreeMap::new();
    let mut messages = Vec::new();
    for n in 0..changes {
        let lsn = 1_000 + n * 10;
        let id = random.below(25) as i64;
        let name = format!("n{n}");
        let record = |id: i64, name: &str| format!(r#"{{"id":{id},"name":"{name}"}}"#);
        let to = 100 + random.below(25) as i64;
        let item = |action: &str, record: String| Message::new(action, "item", lsn, record);
        match (table.contains_key(&id), random.below(10)) {
            (false, _) => {
                messages.push(item("insert", record(id, &name)));
                table.insert(id, name);
            }
            (true, 0..=2) => {
                let before = table.remove(&id).expect("there");
                messages.push(item("delete", record(id, &before)));
            }
            (true, 3..=4) if !table.contains_key(&to) => {
                let moved = item("update", record(to, &name));
                messages.push(moved.changes(format!(r#"{{"id":{id},"name":"x"}}"#)));
                table.remove(&id);
                table.insert(to, name);
            }
            _ => {
                messages.push(item("update", record(id, &name)));
                table.insert(id, name);
            }
        }
    }
    (table, messages)
}

/// Batches of up to 20 messages, in any order, a tenth of the messages twice.
fn deliveries(random: &mut Random, mut messages: Vec<Message>) -> Vec<String> {
    let again: Vec<_> = (0..messages.len() / 10)
        .map(|_| messages[random.below(messages.len() as u64) as usize].clone())
        .collect();
    messages.extend(again);
    random.shuffle(&mut messages);
    let mut batches = Vec::new();
    let mut rest = messages.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + random.below(20) as usize));
        batches.push(batch(now));
        rest = later;
    }
    batches
}

/// As a forwarder does: a call that fails is sent again.
fn deliver(client: &mut Client, batch: &str) {
    let mut last = String::new();
    for _ in 0..50 {
        match try_apply(client, batch) {
            Ok(_) => return,
            Err(error) => last = format!("{error:?}"),
        }
    }
    panic!("{last}");
}

pub fn converge(nodes: &Nodes, guard: &str, seed: u64) {
    let mut client = nodes.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select create_distributed_table('item', 'id')",
    );
    let map =
        format!("select sequin.map('public.item', 'item', name => 'item', guard => '{guard}')");
    run(&mut client, &map);
    let mut random = Random::new(seed);
    let (table, messages) = source(&mut random, 600);
    let batches = deliveries(&mut random, messages);
    thread::scope(|scope| {
        for session in 0..SESSIONS {
            let batches = &batches;
            scope.spawn(move || {
                let mut client = nodes.connect();
                for batch in batches.iter().skip(session).step_by(SESSIONS) {
                    deliver(&mut client, batch);
                }
            });
        }
    });
    let wanted: Vec<String> = table.iter().map(|(id, n)| format!("{id}|{n}")).collect();
    let got = rows(&mut client, "select id, name from item order by id");
    assert_eq!(got, wanted, "guard {guard}, seed {seed}");
    let letters = "select count(*) from sequin.dead_letter";
    assert_eq!(
        value(&mut client, letters),
        "0",
        "guard {guard}, seed {seed}"
    );
    run(&mut client, "select sequin.unmap('item'); drop table item");
}
