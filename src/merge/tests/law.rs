//! The law: whatever was delivered, in whatever order, how often and in which batches, the destination ends as the source
//! does. Tried on histories drawn by chance, and on every arrival of a few messages.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::generators::{complete, config, delivery, moments};
use super::model::{Destination, Place};
use super::source::{COLUMNS, Key, Moment, Sent, Source, Statement};
use super::*;

/// Delivers by `order`: numbers of messages, and whether a batch ends after them.
fn deliver(
    sent: &[Sent],
    order: impl IntoIterator<Item = (usize, bool)>,
    place: Place,
) -> Result<Destination, String> {
    let mut destination = Destination::new(place);
    let mut batch = Vec::new();
    for (n, ends) in order {
        batch.push(&sent[n]);
        if ends {
            destination.apply(&batch)?;
            batch.clear();
        }
    }
    destination.apply(&batch)?;
    Ok(destination)
}

/// Whether the destination equals the source, as far as the messages tell it.
fn is_reached(source: &Source, destination: &Destination) -> Result<(), String> {
    let told: BTreeSet<Key> = source
        .sent
        .iter()
        .flat_map(|sent| sent.entries.iter().map(|entry| entry.key))
        .collect();
    for key in told {
        let stored = &destination.rows[&key];
        let state = stored.load(destination.place);
        match (source.rows.get(&key), &stored.row) {
            (None, None) => {}
            (None, Some(_)) => return Err(format!("row {key} is there")),
            (Some(_), None) => return Err(format!("row {key} is missing")),
            (Some(row), Some(values)) => {
                for (column, cell) in state.cells.iter().enumerate() {
                    let known = cell.value != Value::Unknown;
                    let (is, expected) = (values[column], row.values[column]);
                    if row.told[column] && !(known && is == Some(expected)) {
                        return Err(format!(
                            "row {key} has {is:?} (known: {known}) in column {column}, not {expected}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether all messages again change nothing and are stale. A read can be applied again where what
/// it was applied to has been replaced since: it says the same.
fn is_idempotent(sent: &[Sent], destination: &Destination) -> Result<(), String> {
    let mut again = destination.clone();
    for sent in sent {
        for came in again.apply(&[sent])? {
            let read = came.event == Event::Read && came.effect == Effect::Decided;
            if came.effect != Effect::Stale && !read {
                return Err(format!("again {sent:?} is {came:?}"));
            }
        }
    }
    for (key, stored) in &again.rows {
        if stored.row != destination.rows[key].row {
            return Err(format!("row {key} is another one after all again"));
        }
    }
    Ok(())
}

fn holds(
    source: &Source,
    order: impl IntoIterator<Item = (usize, bool)> + Clone,
    place: Place,
) -> Result<(), String> {
    let sent = &source.sent;
    deliver(sent, order.clone(), place)
        .and_then(|destination| {
            is_reached(source, &destination)?;
            is_idempotent(sent, &destination)
        })
        .map_err(|fault| {
            let mut text = format!("{fault}\n");
            for (n, ends) in order {
                let Sent { stamp, entries } = &sent[n];
                let version = stamp.version.map(|v| (v.lsn, v.idx));
                let _ = write!(
                    text,
                    "{version:?} s{} at {:?}:",
                    stamp.source, stamp.committed_at
                );
                for e in entries {
                    let _ = write!(text, " [{}] {:?} {:?}", e.key, e.event, e.image);
                    let _ = write!(text, " {:?} {:?};", e.values, e.provided);
                }
                text.push_str(if ends { "\n--\n" } else { "\n" });
            }
            text
        })
}

proptest! {
    #![proptest_config(config(3500))]

    #[test]
    fn any_delivery_of_a_full_table_converges(
        moments in moments(1, 4), draws in delivery(), columns in any::<bool>(),
    ) {
        let source = Source::new(true, &moments);
        let place = if columns { Place::Columns } else { Place::Table };
        let held = holds(&source, complete(source.sent.len(), &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }

    #[test]
    fn any_delivery_of_a_default_table_converges(
        moments in moments(1, 2), draws in delivery(), columns in any::<bool>(),
    ) {
        let source = Source::new(false, &moments);
        let place = if columns { Place::Columns } else { Place::Table };
        let held = holds(&source, complete(source.sent.len(), &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }

    #[test]
    fn any_delivery_from_two_sources_converges(
        moments in moments(2, 2), draws in delivery(), columns in any::<bool>(), full in any::<bool>(),
    ) {
        // Excluded: reads of rows that several sources write. A change that the read has surely seen leaves no
        // position, so an older change of the other source, which the read has not seen, is not known to be older.
        // With the versions in the destination's columns, these hold one time, that of the read once there was one,
        // and so a change of the other source that was committed shortly before a read by a fast clock is lost.
        let is_read = |moment: &Moment| matches!(moment, Moment::Read { .. });
        let moments: Vec<Moment> = moments.into_iter().filter(|moment| !is_read(moment)).collect();
        let source = Source::new(full, &moments);
        let place = if columns { Place::Columns } else { Place::Table };
        let held = holds(&source, complete(source.sent.len(), &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }
}

// Every arrival of a few messages, in batches of every size.

/// All orders of the numbers below `count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![Vec::new()], |shorter, n| {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=n).map(move |at| {
                let mut order = order.clone();
                order.insert(at, n);
                order
            })
        };
        shorter.iter().flat_map(longer).collect()
    })
}

/// The law for every arrival of at most six messages of a source under REPLICA IDENTITY FULL. Six are not tried in every
/// split: each alone, in twos, in threes, all together.
fn converges(moments: &[Moment], count: usize) {
    let source = Source::new(true, moments);
    assert_eq!(source.sent.len(), count, "{:#?}", source.sent);
    let splits: Vec<u32> = match count {
        6 => vec![0b111111, 0b101010, 0b100100, 0],
        _ => (0..1 << (count - 1)).collect(),
    };
    for order in permutations(count) {
        for split in &splits {
            let order = order.iter().enumerate();
            let order = order.map(|(at, n)| (*n, split >> at & 1 == 1));
            for place in [Place::Table, Place::Columns] {
                if let Err(fault) = holds(&source, order.clone(), place) {
                    panic!("{place:?}: {fault}");
                }
            }
        }
    }
}

fn transaction(statements: &[Statement]) -> Moment {
    Moment::Transaction {
        statements: statements.to_vec(),
        after: 9,
        source: 1,
    }
}

fn read(key: Key) -> Moment {
    Moment::Read {
        key,
        fast: 0,
        source: 1,
    }
}

fn insert(key: Key) -> Statement {
    let values = [2; COLUMNS];
    Statement::Insert { key, values }
}

fn update(key: Key) -> Statement {
    let values = [Some(2), None, None];
    Statement::Update { key, values }
}

fn delete(key: Key) -> Statement {
    Statement::Delete { key }
}

fn move_to(key: Key, to: Key) -> Statement {
    let values = [None; COLUMNS];
    Statement::Move { key, to, values }
}

fn shift(descending: bool) -> Statement {
    Statement::Shift {
        first: 1,
        by: 1,
        descending,
    }
}

// The source begins with rows 1 and 2.

#[test]
fn chain_through_keys_in_one_transaction() {
    let chain = [delete(2), move_to(1, 2), move_to(2, 3), move_to(3, 4)];
    converges(&[transaction(&chain)], 4);
}

#[test]
fn chain_with_updates_in_between() {
    let chain = [
        insert(3),
        update(3),
        move_to(3, 4),
        update(4),
        move_to(4, 5),
    ];
    converges(&[transaction(&chain)], 5);
}

#[test]
fn chain_over_several_transactions() {
    let [one, two] = [[update(2), move_to(2, 3)], [update(3), move_to(3, 2)]];
    converges(&[transaction(&one), transaction(&two), read(2)], 5);
}

#[test]
fn row_that_leaves_a_key_and_comes_back() {
    let there = [update(2), move_to(2, 3), move_to(3, 2), move_to(2, 3)];
    converges(&[transaction(&there), read(3)], 5);
    let back = [move_to(2, 3), move_to(3, 2), update(2), move_to(2, 3)];
    let again = [move_to(3, 2)];
    converges(&[transaction(&back), transaction(&again)], 5);
}

#[test]
fn swap_through_a_temporary_key() {
    let swap = [move_to(1, 3), move_to(2, 1), move_to(3, 2)];
    converges(&[transaction(&swap)], 3);
    let swap = [update(1), move_to(1, 3), move_to(2, 1), move_to(3, 2)];
    converges(&[transaction(&swap), read(1), read(2)], 6);
}

#[test]
fn swap_in_one_statement() {
    for start in [0, 1] {
        let to = [2, 1, 0, 0, 0];
        let swap = Statement::Rekey { to, start };
        converges(
            &[transaction(std::slice::from_ref(&swap)), read(1), read(2)],
            4,
        );
        converges(&[transaction(&[update(1), swap, update(1)])], 4);
    }
}

#[test]
fn shift_of_several_rows() {
    for descending in [false, true] {
        converges(&[transaction(&[shift(descending)])], 2);
        converges(&[transaction(&[insert(3), shift(descending)])], 4);
        let twice = [shift(descending), shift(descending)];
        converges(&[transaction(&twice)], 4);
        converges(&[transaction(&twice[..1]), transaction(&twice[1..])], 4);
    }
}

#[test]
fn shift_with_updates_before_and_after() {
    for descending in [false, true] {
        let shift = shift(descending);
        let before = [update(2), update(2), shift.clone()];
        converges(&[transaction(&before)], 4);
        let both = [update(2), shift.clone(), update(2)];
        converges(&[transaction(&both)], 4);
        let gone = [shift, update(2), delete(2)];
        converges(&[transaction(&gone)], 4);
    }
}

/// A row comes to the key and then the row that was there goes.
fn takeover(key: Key, from: Option<Key>, to: Option<Key>) -> Statement {
    Statement::Takeover {
        key,
        from,
        to,
        values: [2; COLUMNS],
    }
}

#[test]
fn new_row_takes_the_key_of_a_row_that_is_deleted_after_it() {
    let takeover = takeover(1, None, None);
    converges(&[transaction(std::slice::from_ref(&takeover)), read(1)], 3);
    let around = [update(1), takeover.clone(), update(1)];
    converges(&[transaction(&around)], 4);
    converges(&[transaction(&around[..1]), transaction(&around[1..])], 4);
    converges(&[transaction(&[takeover, delete(1), insert(1)])], 4);
}

#[test]
fn row_moves_to_a_key_whose_row_is_deleted_after_it() {
    let takeover = takeover(1, Some(2), None);
    converges(&[transaction(std::slice::from_ref(&takeover)), read(1)], 3);
    let around = [update(2), takeover.clone(), update(1)];
    converges(&[transaction(&around)], 4);
    converges(&[transaction(&[takeover]), transaction(&[delete(1)])], 3);
}

#[test]
fn new_row_takes_the_key_of_a_row_that_moves_after_it() {
    let takeover = takeover(1, None, Some(3));
    converges(&[transaction(std::slice::from_ref(&takeover)), read(1)], 3);
    converges(&[transaction(&[update(1), takeover, update(3)])], 4);
}

#[test]
fn two_rows_exchange_their_keys_one_after_the_other() {
    let exchange = takeover(1, Some(2), Some(2));
    converges(&[transaction(std::slice::from_ref(&exchange)), read(1)], 3);
    converges(&[transaction(&[update(1), exchange.clone(), update(1)])], 4);
    converges(&[transaction(&[exchange.clone(), exchange])], 4);
}

#[test]
fn key_is_taken_over_twice_in_one_transaction() {
    let twice = [takeover(1, None, None), takeover(1, Some(2), None)];
    converges(&[transaction(&twice)], 4);
    let [one, other] = &twice.map(|takeover| transaction(&[takeover]));
    converges(&[one.clone(), other.clone()], 4);
}

#[test]
fn row_that_is_inserted_and_deleted_in_one_transaction_is_gone() {
    converges(&[transaction(&[insert(3), delete(3)])], 2);
    converges(
        &[transaction(&[insert(3), update(3), delete(3)]), read(1)],
        4,
    );
    converges(&[transaction(&[delete(1), insert(1), delete(1)])], 3);
}

#[test]
fn shift_and_reads_of_it() {
    for descending in [false, true] {
        let shift = shift(descending);
        converges(
            &[transaction(std::slice::from_ref(&shift)), read(2), read(3)],
            4,
        );
        let moments = [
            read(2),
            transaction(&[shift]),
            transaction(&[update(2)]),
            read(2),
        ];
        converges(&moments, 5);
    }
}
