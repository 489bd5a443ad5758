//! The limits on time and memory while a batch is read.

#![forbid(unsafe_code)]

use std::cell::RefCell;

use super::*;
use crate::envelope::limits::{BODIES, MAX_ENVELOPES, SMALL_BODIES, WATCHED_FIELDS};

thread_local! {
    /// The numbers of items that the watch was called with.
    static SEEN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The numbers of items that a watch is called with, while the text is read, and while the same `jsonb` is
/// read.
fn seen(text: &str) -> Vec<usize> {
    let watch: Watch = |items| SEEN.with_borrow_mut(|seen| seen.push(items));
    let arena = Bump::new();
    read_text(text, &arena, watch).unwrap();
    let of_text = SEEN.take();
    let bytes = jsonb(Json::parse(text).unwrap()).unwrap();
    read_jsonb(Jsonb::new(&bytes), &arena, watch);
    assert_eq!(SEEN.take(), of_text);
    of_text
}

#[test]
fn the_watch_sees_each_item() {
    assert_eq!(seen(&format!("[{MESSAGE},1,{MESSAGE}]")), [1, 2, 3]);
    // also items that are taken back, and dead items
    assert_eq!(seen(r#"{"records":{"a":[1,{}],"b":1}}"#), [1, 2, 1]);
}

#[test]
fn the_watch_sees_the_members_of_large_records() {
    let fields = |n: usize| -> String { (0..n).map(|i| format!(",\"f{i}\":0")).collect() };
    // the record of MESSAGE has one member already
    let message = |n: usize| MESSAGE.replacen(":1}", &format!(":1{}}}", fields(n - 1)), 1);
    assert_eq!(seen(&message(WATCHED_FIELDS - 1)), [1]);
    assert_eq!(seen(&message(3 * WATCHED_FIELDS)), [0, 0, 0, 1]);
    let half = message(WATCHED_FIELDS / 2);
    assert_eq!(seen(&format!("[{half},{half}]")), [1, 1, 2]);
}

/// The number of nested bodies. Together they have more bytes than [`BODIES`] times the batch.
const DEPTH: usize = BODIES + 2;

/// A message with white space, nested in bodies; the outermost text first. All texts but the first are
/// bodies.
fn nested(space: usize, behind: usize) -> Vec<String> {
    let mut texts = vec![MESSAGE.to_owned() + &" ".repeat(space)];
    for _ in 0..DEPTH {
        texts.push(format!("{{\"body\":{}}}", string(texts.last().unwrap())));
    }
    texts.reverse();
    texts[0].push_str(&" ".repeat(behind));
    texts
}

/// How many more bytes of bodies may be read once the innermost body is read.
fn left(texts: &[String]) -> i64 {
    let (inner, around) = texts[1..].split_last().unwrap();
    let taken = around.iter().map(String::len).sum::<usize>() + string(inner).len();
    (BODIES * texts[0].len() + SMALL_BODIES) as i64 - taken as i64
}

#[test]
fn bodies_in_bodies_take_three_times_the_batch_and_a_mebibyte() {
    // A space in the message takes two bytes of the rest; a space behind the batch adds three.
    let space = SMALL_BODIES / 2;
    let behind = usize::from(left(&nested(space, 0)) % 2 != 0);
    let space = space as i64 + left(&nested(space, behind)) / 2;
    let just = nested(usize::try_from(space).unwrap(), behind);
    assert_eq!(left(&just), 0);
    let arena = Bump::new();
    let batch = read_text(&just[0], &arena, UNWATCHED).unwrap();
    assert!(told(&batch) == GOOD);

    let more = nested(usize::try_from(space + 1).unwrap(), behind);
    let batch = read_text(&more[0], &arena, UNWATCHED).unwrap();
    match &batch.items[..] {
        [Item::Dead { text, fault }] => {
            assert_eq!(**fault, MessageFault::TooDeep);
            assert!(text.text() == string(&more[DEPTH]));
        }
        items => panic!("{} items", items.len()),
    }
}

#[test]
fn a_payload_may_have_as_many_envelopes_as_a_text() {
    let arena = Bump::new();
    for more in [0, 1] {
        let around = MAX_ENVELOPES as usize + more;
        let text = "[".repeat(around) + MESSAGE + &"]".repeat(around);
        let of_payload = told(&read_payloads(&[Some(&text)], &arena, UNWATCHED));
        assert_eq!(of_payload == GOOD, more == 0);
        assert_eq!(of_payload, read(&text));
    }
}
