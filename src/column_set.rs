//! A set of a destination's columns.

#![forbid(unsafe_code)]

/// A set of columns, by number. A table of up to 64 columns needs no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ColumnSet {
    first: u64,
    /// Columns from 64 on. It ends with the last column of the set, so that equal sets are equal.
    more: Vec<u64>,
}

impl ColumnSet {
    /// The empty set.
    pub const fn new() -> ColumnSet {
        ColumnSet {
            first: 0,
            more: Vec::new(),
        }
    }

    /// Adds a column.
    pub fn add(&mut self, column: usize) {
        let bit = 1 << (column % 64);
        match (column / 64).checked_sub(1) {
            None => self.first |= bit,
            Some(word) => {
                if self.more.len() <= word {
                    self.more.resize(word + 1, 0);
                }
                self.more[word] |= bit;
            }
        }
    }

    /// Whether the column is in the set.
    pub fn has(&self, column: usize) -> bool {
        let word = match (column / 64).checked_sub(1) {
            None => self.first,
            Some(word) => self.more.get(word).copied().unwrap_or_default(),
        };
        word & (1 << (column % 64)) != 0
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
