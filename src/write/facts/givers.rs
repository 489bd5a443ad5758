//! Which rows that go leave to other rows what rows refer to.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::table::Table;
use crate::destination::Action;

/// Columns that a foreign key refers to, and rows (by number) by their values in these columns.
type ByValue = (Vec<usize>, HashMap<Vec<u8>, usize>);

/// Rows that go, by what rows refer to in them by a foreign key that acts then.
pub struct Givers(Vec<ByValue>);

impl Givers {
    /// The rows of a table that go.
    pub fn of(table: &Table<'_>) -> Givers {
        let referrers = table.target.destination.referrers.iter();
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

    /// Whether a row that goes to another key is to have there what another row that goes has: that one becomes the
    /// row at this key.
    pub fn any(&self, table: &Table<'_>, old: usize, new: usize) -> bool {
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
