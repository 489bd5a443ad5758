//! What others may wait for that a change brings, beside the row of its key: the row at its former key, which it
//! moves away, and values that foreign keys refer to by other columns than the key.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys::Datum;

use super::Changes;
use super::net::NetChange;
use crate::key::{self, KeyColumn, value_key};
use crate::outcome::MessageNo;

impl Changes<'_> {
    /// The values (as bytes) that foreign keys can refer to in the row of `net`.
    pub fn values_referred_to(&self, net: &NetChange) -> Vec<Vec<u8>> {
        if self.target.references.is_empty() || !net.present() {
            return Vec::new();
        }
        let lists = self.target.references.iter();
        lists
            .filter_map(|columns| {
                let value = |&i: &usize| self.nets.values.get(net.row, i).filter(|_| net.has(i));
                let values: Vec<Datum> = columns.iter().map(value).collect::<Option<_>>()?;
                let columns = || columns.iter().map(|&i| &self.target.columns[i]);
                let encoding: Vec<KeyColumn> = columns()
                    .map(|c| KeyColumn::new(c.row.type_oid, c.row.collation))
                    .collect();
                let mut bytes = Vec::new();
                key::encode(&encoding, &values, &mut bytes);
                Some(value_key(columns().map(|c| c.name.as_str()), &bytes))
            })
            .collect()
    }

    /// The values that the rows of each message bring.
    pub fn brought(&self) -> HashMap<MessageNo, Vec<Vec<u8>>> {
        let mut brought: HashMap<MessageNo, Vec<Vec<u8>>> = HashMap::new();
        if self.target.references.is_empty() {
            return brought;
        }
        for net in self.nets.list.iter() {
            let values = self.values_referred_to(net);
            brought.entry(net.message).or_default().extend(values);
        }
        brought
    }
}
