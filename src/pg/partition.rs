//! Which partition of a table a row belongs to, and what all rows of a partition have in common.
//!
//! Source: `get_partition_for_tuple` in `executor/execPartition.c`, which the server does not export.

use std::ffi::CStr;
use std::ptr;

use pgrx::pg_sys::{self, Datum, Oid};

use super::relation;

unsafe extern "C-unwind" {
    fn RelationGetPartitionKey(table: pg_sys::Relation) -> *const Key;
}

/// The beginning of `PartitionKeyData` in `utils/partcache.h`.
#[repr(C)]
struct Key {
    #[cfg(feature = "pg15")]
    strategy: std::ffi::c_char,
    #[cfg(not(feature = "pg15"))]
    strategy: pg_sys::PartitionStrategy::Type,
    count: i16,
    attributes: *const i16,
    expressions: *const pg_sys::List,
    families: *const Oid,
    types: *const Oid,
    functions: *mut pg_sys::FmgrInfo,
    collations: *mut Oid,
}

/// How a table is partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// By hashes of values.
    Hash,
    /// By lists of values of one column.
    List,
    /// By ranges.
    Range,
}

/// How a value is compared with a column of the partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
}

/// The first OID of what is not built in: `FirstNormalObjectId`.
const FIRST_NORMAL: u32 = 16384;

/// A partitioned table. It is locked until the transaction ends.
pub struct Partitioned {
    table: pg_sys::Relation,
    key: *const Key,
    parts: pg_sys::PartitionDesc,
}

impl Drop for Partitioned {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `open` has opened it.
            unsafe { pg_sys::table_close(self.table, pg_sys::NoLock as i32) };
        }
    }
}

impl Partitioned {
    /// Opens a table. `None`: it is not partitioned, or its partition key has an expression, or a comparison that is not
    /// built in.
    pub fn open(oid: Oid) -> Option<Partitioned> {
        // SAFETY: opening raises an error if the table is gone. The key and the description live as long as the table is
        // open.
        let table = unsafe {
            if pg_sys::get_rel_relkind(oid) as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
                return None;
            }
            let table = pg_sys::table_open(oid, pg_sys::AccessShareLock as i32);
            Partitioned {
                table,
                key: RelationGetPartitionKey(table),
                parts: pg_sys::RelationGetPartitionDesc(table, true),
            }
        };
        (0..table.width())
            .all(|i| table.is_plain(i))
            .then_some(table)
    }

    fn key(&self) -> &Key {
        // SAFETY: see `open`.
        unsafe { &*self.key }
    }

    fn bounds(&self) -> &pg_sys::PartitionBoundInfoData {
        // SAFETY: see `open`. A table without partitions has none: `route` asks first.
        unsafe { &*(*self.parts).boundinfo }
    }

    /// The number of columns of the partition key.
    pub fn width(&self) -> usize {
        self.key().count as usize
    }

    /// The number of partitions.
    pub fn count(&self) -> usize {
        // SAFETY: see `open`.
        unsafe { (*self.parts).nparts as usize }
    }

    /// How it is partitioned.
    pub fn strategy(&self) -> Strategy {
        match self.key().strategy as u8 {
            b'h' => Strategy::Hash,
            b'l' => Strategy::List,
            _ => Strategy::Range,
        }
    }

    /// Whether the column of the partition key is a column of the table that is compared by built-in functions and by the
    /// column's own collation.
    fn is_plain(&self, i: usize) -> bool {
        let key = self.key();
        // SAFETY: the arrays have an element for each column of the partition key.
        let (attribute, function, collation) = unsafe {
            (
                *key.attributes.add(i),
                (*key.functions.add(i)).fn_oid,
                *key.collations.add(i),
            )
        };
        attribute != 0
            && self.type_of(i).1 == collation
            && function.to_u32() < FIRST_NORMAL
            && self.operator(i, Comparison::Equal).is_some()
    }

    /// The name of a column of the partition key.
    pub fn column(&self, i: usize) -> String {
        // SAFETY: the column is there, for the table is open. The name is copied.
        unsafe {
            let attribute = *self.key().attributes.add(i);
            let name = pg_sys::get_attname((*self.table).rd_id, attribute, false);
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// An operator that compares a column of the partition key, as SQL spells it. `None`: it is not built in.
    pub fn operator(&self, i: usize, comparison: Comparison) -> Option<String> {
        let strategy = match (self.strategy(), comparison) {
            (Strategy::Hash, Comparison::Equal) => pg_sys::HTEqualStrategyNumber,
            (Strategy::Hash, _) => return None,
            (_, Comparison::Less) => pg_sys::BTLessStrategyNumber,
            (_, Comparison::AtMost) => pg_sys::BTLessEqualStrategyNumber,
            (_, Comparison::Equal) => pg_sys::BTEqualStrategyNumber,
            (_, Comparison::AtLeast) => pg_sys::BTGreaterEqualStrategyNumber,
        };
        let key = self.key();
        // SAFETY: a catalog look-up. The arrays have an element for each column of the partition key.
        let operator = unsafe {
            let (family, kind) = (*key.families.add(i), *key.types.add(i));
            pg_sys::get_opfamily_member(family, kind, kind, strategy as i16)
        };
        if operator.to_u32() >= FIRST_NORMAL {
            return None;
        }
        let (_, name) = relation::operator(operator)?;
        Some(format!("operator(pg_catalog.{name})"))
    }

    /// The type and the collation of a column of the partition key.
    fn type_of(&self, i: usize) -> (Oid, Oid) {
        let (mut type_oid, mut modifier, mut collation) = Default::default();
        // SAFETY: a catalog look-up, which writes to the three variables. The array has an element for each column of the
        // partition key.
        unsafe {
            pg_sys::get_atttypetypmodcoll(
                (*self.table).rd_id,
                *self.key().attributes.add(i),
                &mut type_oid,
                &mut modifier,
                &mut collation,
            );
        }
        (type_oid, collation)
    }

    /// A value of a column of the partition key as text. The settings of an apply must be in force, so that the text
    /// has the whole value. `None`: it is not UTF-8.
    pub fn text(&self, i: usize, value: Datum) -> Option<String> {
        let (type_oid, _) = self.type_of(i);
        // SAFETY: the value has the column's type. The text is copied.
        unsafe {
            let (mut output, mut varlena) = Default::default();
            pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut varlena);
            let text = CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, value));
            text.to_str().ok().map(str::to_owned)
        }
    }

    /// The number of the partition for a row with these values of the partition key, none of them null. `None`: there is
    /// no such partition.
    pub fn route(&self, values: &mut [Datum]) -> Option<usize> {
        assert!(values.len() == self.width());
        if self.count() == 0 {
            return None;
        }
        let (key, bounds) = (self.key(), self.bounds());
        let mut equal = false;
        // SAFETY: the values have the types of the columns of the partition key. The arrays of the bounds are as long as
        // the bounds say; a search returns a place in them, or -1.
        let found = unsafe {
            match self.strategy() {
                Strategy::Hash => {
                    let mut nulls = vec![false; values.len()];
                    let hash = pg_sys::compute_partition_hash_value(
                        i32::from(key.count),
                        key.functions,
                        key.collations,
                        values.as_mut_ptr(),
                        nulls.as_mut_ptr(),
                    );
                    *bounds.indexes.add((hash % bounds.nindexes as u64) as usize)
                }
                Strategy::List => {
                    let at = pg_sys::partition_list_bsearch(
                        key.functions,
                        key.collations,
                        ptr::from_ref(bounds).cast_mut(),
                        values[0],
                        &mut equal,
                    );
                    match at >= 0 && equal {
                        true => *bounds.indexes.add(at as usize),
                        false => -1,
                    }
                }
                Strategy::Range => {
                    let at = pg_sys::partition_range_datum_bsearch(
                        key.functions,
                        key.collations,
                        ptr::from_ref(bounds).cast_mut(),
                        i32::from(key.count),
                        values.as_mut_ptr(),
                        &mut equal,
                    );
                    *bounds.indexes.add((at + 1) as usize)
                }
            }
        };
        let found = match found {
            ..0 => bounds.default_index,
            found => found,
        };
        usize::try_from(found).ok()
    }

    /// The partition with this number, and whether it is not partitioned itself.
    pub fn part(&self, n: usize) -> (Oid, bool) {
        assert!(n < self.count());
        // SAFETY: the arrays have an element for each partition.
        unsafe { (*(*self.parts).oids.add(n), *(*self.parts).is_leaf.add(n)) }
    }

    /// Whether the partition takes what no other one takes.
    pub fn is_default(&self, n: usize) -> bool {
        usize::try_from(self.bounds().default_index) == Ok(n)
    }

    /// The values that a partition of a list has, without null.
    pub fn values(&self, n: usize) -> Vec<Datum> {
        let bounds = self.bounds();
        let values = 0..bounds.ndatums as usize;
        // SAFETY: a list has one value in each place.
        unsafe {
            values
                .filter(|&at| usize::try_from(*bounds.indexes.add(at)) == Ok(n))
                .map(|at| **bounds.datums.add(at))
                .collect()
        }
    }

    /// The lower and the upper bound that a partition of ranges has for the first column. `None`: it is open.
    pub fn range(&self, n: usize) -> (Option<Datum>, Option<Datum>) {
        let bounds = self.bounds();
        let count = bounds.ndatums as usize;
        // SAFETY: there is an index for each bound, which says to which partition the values below it belong, and one
        // more. Each bound has a value and a kind for each column.
        unsafe {
            let Some(above) =
                (0..=count).find(|&at| usize::try_from(*bounds.indexes.add(at)) == Ok(n))
            else {
                return (None, None);
            };
            let value = |at: usize| {
                let kind = **bounds.kind.add(at);
                let is_value = kind == pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_VALUE;
                is_value.then(|| **bounds.datums.add(at))
            };
            let lower = above.checked_sub(1).and_then(value);
            let upper = (above < count).then(|| value(above)).flatten();
            (lower, upper)
        }
    }
}
