//! A set of a destination's columns.

#![forbid(unsafe_code)]

/// A set of columns, by number. A table of up to 64 columns needs no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ColumnSet {
    first: u64,
    /// Columns from 64 on, if the set has any. It ends with the last column of the set, so that equal sets
    /// are equal. An empty `Vec` would do, but `memcmp` of nothing at no address takes up to 100 ns: a
    /// processor that masks the load handles the fault in microcode.
    more: Option<Vec<u64>>,
}

impl ColumnSet {
    /// The empty set.
    pub const fn new() -> ColumnSet {
        ColumnSet {
            first: 0,
            more: None,
        }
    }

    /// Adds a column.
    pub fn add(&mut self, column: usize) {
        let bit = 1 << (column % 64);
        match (column / 64).checked_sub(1) {
            None => self.first |= bit,
            Some(word) => {
                let more = self.more.get_or_insert_with(Vec::new);
                if more.len() <= word {
                    more.resize(word + 1, 0);
                }
                more[word] |= bit;
            }
        }
    }

    /// Whether the column is in the set.
    pub fn has(&self, column: usize) -> bool {
        let word = match (column / 64).checked_sub(1) {
            None => self.first,
            Some(word) => self.word(word),
        };
        word & (1 << (column % 64)) != 0
    }

    /// The columns from 64 times `word + 1` on.
    fn word(&self, word: usize) -> u64 {
        let more = self.more.as_deref().unwrap_or_default();
        more.get(word).copied().unwrap_or_default()
    }

    /// Whether the set has every column below `width`.
    pub fn has_all(&self, width: usize) -> bool {
        (0..width).all(|column| self.has(column))
    }
}

impl FromIterator<usize> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = usize>>(columns: I) -> ColumnSet {
        let mut set = ColumnSet::new();
        for column in columns {
            set.add(column);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_has_what_was_added(columns in prop::collection::vec(0_usize..1600, 0..40)) {
            let set: ColumnSet = columns.iter().copied().collect();
            let model: BTreeSet<usize> = columns.iter().copied().collect();
            for column in 0..1700 {
                prop_assert_eq!(set.has(column), model.contains(&column));
            }
        }

        #[test]
        fn equal_sets_are_equal_in_any_order(columns in prop::collection::vec(0_usize..300, 0..40)) {
            let set: ColumnSet = columns.iter().copied().collect();
            let reversed: ColumnSet = columns.iter().rev().copied().collect();
            prop_assert_eq!(set, reversed);
        }
    }

    #[test]
    fn all_columns_are_there_or_not() {
        let set: ColumnSet = (0..70).collect();
        assert!(set.has_all(70) && !set.has_all(71));
        assert!(ColumnSet::new().has_all(0));
    }
}
