//! Adding a batch to another, and cutting a batch back.

#![forbid(unsafe_code)]

use super::*;

/// A message with one field; the field has the name of the table.
fn message(table: &str) -> String {
    MESSAGE
        .replace("\"id\"", &format!("\"{table}\""))
        .replace("\"t\"", &format!("\"{table}\""))
}

/// The position, the table and the fields' names of each message.
fn shown(batch: &Batch<'_>) -> Vec<(usize, String, Vec<String>)> {
    let messages = batch.items.iter().filter_map(|item| match item {
        Item::Message(message) => Some(message),
        Item::Dead { .. } => None,
    });
    messages
        .map(|message| {
            let fields = batch.fields(message).iter().map(|f| f.key.to_owned());
            (message.position, message.table.to_owned(), fields.collect())
        })
        .collect()
}

fn line(position: usize, name: &str) -> (usize, String, Vec<String>) {
    (position, name.to_owned(), vec![name.to_owned()])
}

#[test]
fn added_messages_keep_their_fields_and_take_the_position() {
    let arena = Bump::new();
    let (first, second) = (message("a") + &message("b"), format!("1 {}", message("c")));
    let third = message("d");
    let mut batch = read_text(&first, &arena, UNWATCHED).unwrap();
    let end = batch.end();
    let at = batch.add(read_text(&second, &arena, UNWATCHED).unwrap(), 7, &arena);
    assert_eq!((at, batch.items.len(), end.items), (2..4, 4, 2));
    assert!(matches!(batch.items[2], Item::Dead { .. }));
    assert_eq!(shown(&batch), [line(0, "a"), line(1, "b"), line(7, "c")]);
    assert_eq!((batch.members(), Batch::empty().members()), (3, 0));

    batch.cut(end);
    assert_eq!((batch.items.len(), batch.fields.len()), (2, 2));
    batch.add(read_text(&third, &arena, UNWATCHED).unwrap(), 9, &arena);
    assert_eq!(shown(&batch), [line(0, "a"), line(1, "b"), line(9, "d")]);
}

#[test]
fn a_batch_that_begins_empty_takes_others() {
    let arena = Bump::new();
    let text = message("a");
    let mut batch = Batch::empty();
    assert_eq!(
        batch.add(read_text(&text, &arena, UNWATCHED).unwrap(), 3, &arena),
        0..1
    );
    assert_eq!(shown(&batch), [line(3, "a")]);
}
