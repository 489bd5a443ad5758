//! Deleted rows whose referenced values other rows get.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::table::Table;
use crate::destination::Action;

/// The columns that a foreign key refers to, and the number of each row by its values in these columns.
type ByValue = (Vec<usize>, HashMap<Vec<u8>, usize>);

/// Deleted rows, by the values that foreign keys refer to. Only foreign keys that act on a delete count.
pub struct Givers(Vec<ByValue>);

impl Givers {
    /// The deleted rows of a table.
    pub fn of(table: &Table<'_>) -> Givers {
        let referrers = table.target.destination.links.referrers.iter();
        let acting = referrers.filter(|referrer| referrer.on_delete != Action::Nothing);
        let columns = acting.filter_map(|referrer| table.referred(referrer));
        let givers = columns.map(|columns| {
            let going = (0..table.now.len()).filter(|&n| table.then[n].is_none());
            let by_value = going.filter_map(|n| {
                let now = table.now[n].as_ref()?;
                Some((table.bytes(now, &columns)?, n))
            });
            let by_value = by_value.collect();
            (columns, by_value)
        });
        Givers(givers.collect())
    }

    /// Whether the row at the new key gets a referenced value of a third row that is deleted. Then the third row
    /// becomes the row at the new key, and not the row at the old key.
    pub fn replaces(&self, table: &Table<'_>, old: usize, new: usize) -> bool {
        self.0.iter().any(|(columns, by_value)| {
            let then = table.then[new].as_ref();
            let then = then.and_then(|then| table.bytes(then, columns));
            let giver = then.and_then(|then| by_value.get(&then).copied());
            let now = table.now[old].as_ref();
            let has = |giver: usize| {
                let givers = table.now[giver].as_ref();
                let [now, givers] = [now, givers].map(|image| table.bytes(image?, columns));
                now == givers
            };
            giver.is_some_and(|giver| giver != old && !has(giver))
        })
    }
}
