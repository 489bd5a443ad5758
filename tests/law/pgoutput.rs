//! What a logical slot with `pgoutput` hands out, read: the changes of each transaction, in commit order.

use std::collections::HashMap;

/// A table as a change names it.
#[derive(Debug, Clone)]
pub struct Relation {
    pub name: String,
    /// Name and type of each column.
    pub columns: Vec<(String, u32)>,
}

/// The values of a row as the server spells them; `None` is null.
pub type Tuple = Vec<Option<String>>;

/// What an update or a delete says of the row before it.
#[derive(Debug, Clone)]
pub enum Before {
    /// Nothing: the key did not change.
    Nothing,
    /// The columns of the replica identity; the others are null.
    Key(Tuple),
    /// All columns.
    Row(Tuple),
}

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    Insert(Relation, Tuple),
    Update(Relation, Before, Tuple),
    Delete(Relation, Before),
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn int16(&mut self) -> usize {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes")).into()
    }

    fn int32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|&b| b == 0).expect("an end");
        let text = String::from_utf8(self.take(end).to_vec()).expect("UTF-8");
        self.byte();
        text
    }

    fn tuple(&mut self) -> Tuple {
        (0..self.int16())
            .map(|_| match self.byte() {
                b'n' => None,
                b't' => {
                    let length = self.int32() as usize;
                    Some(String::from_utf8(self.take(length).to_vec()).expect("UTF-8"))
                }
                other => panic!("a value of kind {:?}", char::from(other)),
            })
            .collect()
    }

    fn before(&mut self, kind: u8) -> Before {
        match kind {
            b'K' => Before::Key(self.tuple()),
            b'O' => Before::Row(self.tuple()),
            other => panic!("a row of kind {:?}", char::from(other)),
        }
    }
}

/// A committed transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The position of its commit record.
    pub lsn: u64,
    pub changes: Vec<Change>,
}

/// The transactions that these messages of protocol version 1 make.
pub fn transactions(messages: &[Vec<u8>]) -> Vec<Transaction> {
    let mut relations: HashMap<u32, Relation> = HashMap::new();
    let mut transactions: Vec<Transaction> = Vec::new();
    for message in messages {
        let mut bytes = Bytes(message);
        let change = match bytes.byte() {
            b'B' => {
                transactions.push(Transaction {
                    lsn: u64::from(bytes.int32()) << 32 | u64::from(bytes.int32()),
                    changes: Vec::new(),
                });
                continue;
            }
            b'R' => {
                let (id, relation) = relation(&mut bytes);
                relations.insert(id, relation);
                continue;
            }
            b'I' => {
                let relation = relations[&bytes.int32()].clone();
                bytes.byte();
                Change::Insert(relation, bytes.tuple())
            }
            b'U' => {
                let relation = relations[&bytes.int32()].clone();
                let before = match bytes.byte() {
                    b'N' => Before::Nothing,
                    kind => {
                        let before = bytes.before(kind);
                        bytes.byte();
                        before
                    }
                };
                Change::Update(relation, before, bytes.tuple())
            }
            b'D' => {
                let relation = relations[&bytes.int32()].clone();
                let kind = bytes.byte();
                Change::Delete(relation, bytes.before(kind))
            }
            // commit, origin, type, truncate
            _ => continue,
        };
        let transaction = transactions.last_mut().expect("a begin");
        transaction.changes.push(change);
    }
    transactions.retain(|transaction| !transaction.changes.is_empty());
    transactions
}

fn relation(bytes: &mut Bytes<'_>) -> (u32, Relation) {
    let id = bytes.int32();
    bytes.text();
    let name = bytes.text();
    bytes.byte();
    let columns = (0..bytes.int16())
        .map(|_| {
            bytes.byte();
            let column = (bytes.text(), bytes.int32());
            bytes.int32();
            column
        })
        .collect();
    (id, Relation { name, columns })
}
