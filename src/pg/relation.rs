//! What the server's caches know of a relation: its row of `pg_class`, its columns, its unique indexes.
//!
//! A look into the caches takes a few microseconds. A query of the catalog takes a millisecond to plan in each session,
//! and some tenths to run.

use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::pg_sys::{self, SysCacheIdentifier};

use super::keys::output_text;
use super::names;
use super::typeio::name_text;

/// A row of `pg_class`.
pub struct RelationRow {
    /// The schema's name.
    pub schema: String,
    /// `relname`
    pub name: String,
    /// `relowner`
    pub owner: pg_sys::Oid,
    /// `relkind`
    pub kind: u8,
    /// `relpersistence`
    pub persistence: u8,
    /// Whether the relation has triggers, or had some. Foreign keys are triggers of both tables, and a constraint that
    /// can be deferred is a trigger of its table.
    pub has_triggers: bool,
    /// Whether partitions or children belong to the relation, or did.
    pub has_children: bool,
    /// Whether the relation is a partition.
    pub is_partition: bool,
    /// Whether the relation has rules, or had some.
    pub has_rules: bool,
    /// Whether row security is switched on.
    pub has_row_security: bool,
    /// Whether `relam` is `heap`, or the relation has no rows of its own.
    pub is_heap: bool,
}

/// A row of `pg_attribute`.
pub struct AttributeRow {
    /// `attnum`
    pub number: i16,
    /// `attname`
    pub name: String,
    /// `atttypid`
    pub type_oid: pg_sys::Oid,
    /// `atttypmod`
    pub typmod: i32,
    /// `attcollation`
    pub collation: pg_sys::Oid,
    /// `attnotnull`
    pub not_null: bool,
    /// `atthasdef`
    pub has_default: bool,
    /// `attidentity`
    pub identity: Option<u8>,
    /// Whether the column is generated from others.
    pub generated: bool,
}

/// The OID of the access method `heap` in `pg_am.dat`.
const HEAP_TABLE_AM: u32 = 2;

/// A row of `pg_index`, of a unique index.
pub struct IndexRow {
    /// `indexrelid`
    pub oid: pg_sys::Oid,
    /// The index's name.
    pub name: String,
    /// The columns of the key by their numbers; 0 is an expression.
    pub key: Vec<i16>,
    /// Whether an expression is among the index's columns.
    pub has_expressions: bool,
    /// `indisprimary`
    pub primary: bool,
    /// `indimmediate`
    pub immediate: bool,
    /// Whether the index has a condition.
    pub partial: bool,
    /// `indisvalid`
    pub valid: bool,
}

/// Calls `read` with the row of a system cache that has this OID. `None` if there is no such row.
///
/// # Safety
///
/// `F` is the struct of the cache's rows.
unsafe fn look<F, T>(
    cache: SysCacheIdentifier::Type,
    oid: pg_sys::Oid,
    read: impl FnOnce(&F, pg_sys::HeapTuple) -> T,
) -> Option<T> {
    // SAFETY: the caches asked here have one key. The row is released after its last use.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache as c_int, oid.into());
        if row.is_null() {
            return None;
        }
        let result = read(&*pg_sys::heap_tuple_get_struct::<F>(row), row);
        pg_sys::ReleaseSysCache(row);
        Some(result)
    }
}

/// Calls `read` with a relation of the cache; `None` if it is gone.
pub(super) fn opened<T>(
    relation: pg_sys::Oid,
    read: impl FnOnce(pg_sys::Relation) -> T,
) -> Option<T> {
    // SAFETY: the relation is closed after its last use. At an error the (sub)transaction's end closes it.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        if open.is_null() {
            return None;
        }
        let result = read(open);
        pg_sys::RelationClose(open);
        Some(result)
    }
}

/// Takes note of what other sessions have committed. Without it the caches may be as old as the last lock.
pub fn refresh() {
    // SAFETY: needs a transaction, and every call runs in one.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// The row of `pg_class`; `None` if no relation has this OID.
pub fn row(relation: pg_sys::Oid) -> Option<RelationRow> {
    // SAFETY: rows of this cache are of this struct.
    let row = unsafe {
        look(
            SysCacheIdentifier::RELOID,
            relation,
            |row: &pg_sys::FormData_pg_class, _| RelationRow {
                schema: schema_name(row.relnamespace),
                name: name_text(&row.relname),
                owner: row.relowner,
                kind: row.relkind as u8,
                persistence: row.relpersistence as u8,
                has_triggers: row.relhastriggers,
                has_children: row.relhassubclass,
                is_partition: row.relispartition,
                has_rules: row.relhasrules,
                has_row_security: row.relrowsecurity,
                is_heap: matches!(row.relam.to_u32(), 0 | HEAP_TABLE_AM),
            },
        )
    }?;
    names::note_relation(&row.schema, &row.name, relation);
    Some(row)
}

/// Notes the name of a relation for statements: see [`names`].
pub fn note_name(relation: pg_sys::Oid) {
    row(relation);
}

/// The columns of a relation, in order, without dropped ones. They come from the relation's descriptor, which every write
/// needs: the cache of `pg_attribute` would keep each row for itself.
pub fn columns(relation: pg_sys::Oid) -> Vec<AttributeRow> {
    // SAFETY: the descriptor is copied while the relation is open.
    let copy = |open: pg_sys::Relation| unsafe { pgrx::PgTupleDesc::from_pg_copy((*open).rd_att) };
    let Some(descriptor) = opened(relation, copy) else {
        return Vec::new();
    };
    let columns = descriptor.iter().filter(|column| !column.attisdropped);
    columns
        .map(|column| AttributeRow {
            number: column.attnum,
            name: name_text(&column.attname),
            type_oid: column.atttypid,
            typmod: column.atttypmod,
            collation: column.attcollation,
            not_null: column.attnotnull,
            has_default: column.atthasdef,
            identity: Some(column.attidentity as u8).filter(|kind| *kind != 0),
            generated: column.attgenerated != 0,
        })
        .collect()
}

/// The unique indexes of a relation, the primary key's first, then by name.
pub fn unique_indexes(relation: pg_sys::Oid) -> Vec<IndexRow> {
    // SAFETY: the list of OIDs is read while the relation is open.
    let list = |open: pg_sys::Relation| unsafe {
        let list = pg_sys::RelationGetIndexList(open);
        let count = if list.is_null() { 0 } else { (*list).length };
        let oids: Vec<pg_sys::Oid> = (0..count as usize)
            .map(|n| (*(*list).elements.add(n)).oid_value)
            .collect();
        pg_sys::list_free(list);
        oids
    };
    let oids = opened(relation, list).unwrap_or_default();
    let mut indexes: Vec<IndexRow> = oids.into_iter().filter_map(unique_index).collect();
    indexes.sort_by(|a, b| (b.primary, &a.name).cmp(&(a.primary, &b.name)));
    indexes
}

fn unique_index(index: pg_sys::Oid) -> Option<IndexRow> {
    // SAFETY: rows of this cache are of this struct. It ends with the numbers of the columns, as many as `indnatts`.
    let found = unsafe {
        look(
            SysCacheIdentifier::INDEXRELID,
            index,
            |row: &pg_sys::FormData_pg_index, tuple| {
                let all = row.indkey.values.as_slice(row.indnatts as usize);
                row.indisunique.then(|| IndexRow {
                    oid: index,
                    name: relation_name(index),
                    key: all[..row.indnkeyatts as usize].to_vec(),
                    has_expressions: all.contains(&0),
                    primary: row.indisprimary,
                    immediate: row.indimmediate,
                    partial: !pg_sys::heap_attisnull(
                        tuple,
                        pg_sys::Anum_pg_index_indpred as c_int,
                        std::ptr::null_mut(),
                    ),
                    valid: row.indisvalid,
                })
            },
        )
    };
    found.flatten()
}

/// For each column of a b-tree's key, the operator by which its values are equal, as SQL spells it: schema and operator.
pub fn equalities(index: pg_sys::Oid) -> Vec<Option<(String, String)>> {
    // SAFETY: the vector of the operator classes is read, and it is part of the row, while the row is held.
    let classes = unsafe {
        look(
            SysCacheIdentifier::INDEXRELID,
            index,
            |row: &pg_sys::FormData_pg_index, tuple| {
                let mut null = false;
                let classes = pg_sys::SysCacheGetAttr(
                    SysCacheIdentifier::INDEXRELID as c_int,
                    tuple,
                    pg_sys::Anum_pg_index_indclass as pg_sys::AttrNumber,
                    &mut null,
                );
                let classes = classes.cast_mut_ptr::<pg_sys::oidvector>();
                let count = row.indnkeyatts as usize;
                (*classes).values.as_slice(count).to_vec()
            },
        )
    };
    classes
        .unwrap_or_default()
        .into_iter()
        .map(equality)
        .collect()
}

/// The operator by which a b-tree of this operator class finds equal values.
fn equality(class: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: catalog look-ups. Rows of the cache are of this struct.
    unsafe {
        let (family, of) = (
            pg_sys::get_opclass_family(class),
            pg_sys::get_opclass_input_type(class),
        );
        let strategy = pg_sys::BTEqualStrategyNumber as i16;
        operator(pg_sys::get_opfamily_member(family, of, of, strategy))
    }
}

/// The schema and the name of an operator.
pub fn operator(operator: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: rows of this cache are of this struct.
    unsafe {
        look(
            SysCacheIdentifier::OPEROID,
            operator,
            |row: &pg_sys::FormData_pg_operator, _| {
                (schema_name(row.oprnamespace), name_text(&row.oprname))
            },
        )
    }
}

/// A type as SQL spells it, with its modifier, schema-qualified unless the search_path has its schema.
pub fn type_name(type_oid: pg_sys::Oid, typmod: i32) -> String {
    // SAFETY: rows of this cache are of this struct.
    unsafe {
        let schema = |row: &pg_sys::FormData_pg_type, _| schema_name(row.typnamespace);
        look(SysCacheIdentifier::TYPEOID, type_oid, schema);
    }
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_ALLOW_INVALID;
    // SAFETY: a catalog look-up; the text is copied and freed.
    unsafe { owned(pg_sys::format_type_extended(type_oid, typmod, flags as u16)) }
}

/// The schema and the name of a collation that is not the type's own.
pub fn other_collation(type_oid: pg_sys::Oid, collation: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: catalog look-ups. Rows of the cache are of this struct.
    unsafe {
        if collation == pg_sys::InvalidOid || pg_sys::get_typcollation(type_oid) == collation {
            return None;
        }
        look(
            SysCacheIdentifier::COLLOID,
            collation,
            |row: &pg_sys::FormData_pg_collation, _| {
                (schema_name(row.collnamespace), name_text(&row.collname))
            },
        )
    }
}

/// A collation as `regcollation` spells it; empty for none.
pub fn collation_text(collation: pg_sys::Oid) -> String {
    match collation {
        pg_sys::InvalidOid => String::new(),
        collation => output_text(pg_sys::REGCOLLATIONOID, collation.into()),
    }
}

/// The schema and the name of a collation under which equal values can differ in their bytes.
pub fn loose_collation(collation: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: rows of this cache are of this struct.
    let found = unsafe {
        look(
            SysCacheIdentifier::COLLOID,
            collation,
            |row: &pg_sys::FormData_pg_collation, _| {
                (!row.collisdeterministic)
                    .then(|| (schema_name(row.collnamespace), name_text(&row.collname)))
            },
        )
    };
    found.flatten()
}

/// The name of a constraint.
pub fn constraint_name(constraint: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up; the name is copied and freed.
    unsafe { owned(pg_sys::get_constraint_name(constraint)) }
}

/// The OID of a relation by its schema and name; `None` if there is none.
pub fn named(schema: &str, name: &str) -> Option<pg_sys::Oid> {
    let (schema, name) = (CString::new(schema).ok()?, CString::new(name).ok()?);
    // SAFETY: catalog look-ups, which copy the names.
    let found = unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    Some(found).filter(|oid| *oid != pg_sys::InvalidOid)
}

fn relation_name(relation: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up; the name is copied and freed.
    unsafe { owned(pg_sys::get_rel_name(relation)) }
}

fn schema_name(schema: pg_sys::Oid) -> String {
    // SAFETY: as in `relation_name`.
    let name = unsafe { owned(pg_sys::get_namespace_name(schema)) };
    names::note_schema(&name, schema);
    name
}

/// A text of the server, which is freed; empty for null.
///
/// # Safety
///
/// The text was allocated for the caller.
unsafe fn owned(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the text ends with a NUL.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        copy
    }
}
