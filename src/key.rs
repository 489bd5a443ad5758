//! The key of a row as bytes: equal bytes exactly where the type's equality says equal.
//!
//! A batch is ordered and grouped by these bytes, and row versions are stored under them. Types whose
//! equality is bytewise keep readable and sortable bytes (integers big-endian with the sign bit flipped,
//! text as it is). For other types (numeric, citext, char(n), nondeterministic collations, …), 128 bits of
//! the type's own extended hash stand for the value, and the signs of numbers, which that leaves out.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use crate::pg::keys::{
    HashFunction, TypeFacts, fixed_bytes, hash_bytes, output_text, varlena_bytes,
};

/// How the values of one key column become bytes.
pub enum KeyColumn {
    /// 1, 2, 4 or 8 byte integers passed by value, date and timestamps among them.
    Int(u8),
    /// 16 bytes passed by reference.
    Uuid,
    /// Variable-length bytes whose equality is bytewise.
    Bytes,
    /// Enums: the label, since OIDs do not survive a dump.
    Label(pg_sys::Oid),
    /// Any other type with a hash function.
    Hash(HashFunction),
    /// A type without a hash function: its text.
    Text(pg_sys::Oid),
}

impl KeyColumn {
    /// The encoding for values of a type under a collation.
    pub fn new(type_oid: pg_sys::Oid, collation: pg_sys::Oid) -> KeyColumn {
        let facts = TypeFacts::load(type_oid);
        let base = facts.base;
        match base {
            pg_sys::BOOLOID | pg_sys::CHAROID => KeyColumn::Int(1),
            pg_sys::INT2OID => KeyColumn::Int(2),
            pg_sys::INT4OID | pg_sys::DATEOID | pg_sys::OIDOID => KeyColumn::Int(4),
            pg_sys::INT8OID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID | pg_sys::TIMEOID => {
                KeyColumn::Int(8)
            }
            pg_sys::UUIDOID => KeyColumn::Uuid,
            pg_sys::BYTEAOID => KeyColumn::Bytes,
            pg_sys::TEXTOID | pg_sys::VARCHAROID if facts.deterministic(collation) => {
                KeyColumn::Bytes
            }
            _ if facts.is_enum => KeyColumn::Label(base),
            _ => match HashFunction::new(base, collation) {
                Some(hash) => KeyColumn::Hash(hash),
                None => KeyColumn::Text(type_oid),
            },
        }
    }

    /// Whether equal values can differ in their bytes.
    pub fn has_spellings(&self) -> bool {
        matches!(self, KeyColumn::Hash(_))
    }

    /// The value with this encoding, of this column's type, in words; `None` if the encoding does not tell.
    fn decode(&self, type_oid: pg_sys::Oid, bytes: &[u8]) -> Option<String> {
        match self {
            KeyColumn::Int(_) => {
                let value = u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63);
                Some(output_text(type_oid, Datum::from(value)))
            }
            KeyColumn::Uuid => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                let digits = format!("{:032x}", u128::from_be_bytes(bytes));
                let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
                Some(groups.join("-"))
            }
            KeyColumn::Bytes if TypeFacts::load(type_oid).base == pg_sys::BYTEAOID => {
                let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                Some(format!("\\x{}", digits.collect::<String>()))
            }
            KeyColumn::Bytes | KeyColumn::Label(_) | KeyColumn::Text(_) => {
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            }
            KeyColumn::Hash(_) => None,
        }
    }

    /// Appends the encoding of `value`, of this column's type.
    pub fn encode(&self, value: Datum, out: &mut Vec<u8>) {
        match self {
            KeyColumn::Int(width) => {
                let value = value.value() as i64;
                // With the sign bit flipped, the bytes sort as the numbers do.
                let bytes = match width {
                    1 => i64::from(value as i8),
                    2 => i64::from(value as i16),
                    4 => i64::from(value as i32),
                    _ => value,
                };
                out.extend_from_slice(&((bytes as u64) ^ (1 << 63)).to_be_bytes());
            }
            KeyColumn::Uuid => out.extend_from_slice(fixed_bytes(&value, 16)),
            KeyColumn::Bytes => out.extend_from_slice(varlena_bytes(&value)),
            KeyColumn::Label(type_oid) | KeyColumn::Text(type_oid) => {
                out.extend_from_slice(output_text(*type_oid, value).as_bytes());
            }
            KeyColumn::Hash(hash) => {
                let signs = hash.signs(value);
                for seed in [0, 0x5e40_1e5d_0c0a_57a1_u64] {
                    out.extend_from_slice(&(hash.call(value, seed) ^ signs).to_be_bytes());
                }
            }
        }
    }
}

/// The most bytes of a key that is stored as it is. Longer keys are stored by a hash: an index entry has
/// 2,700 bytes at most.
const LONG: usize = 1000;

/// Appends the encoding of a whole key; of a long key, the length and 256 bits of hash.
pub fn encode(columns: &[KeyColumn], values: &[Datum], out: &mut Vec<u8>) {
    encode_places(columns, values, 0..columns.len(), out);
}

/// The bytes of values that a foreign key refers to by other columns than a mapping's key. No key has these bytes.
pub fn value_key<'n>(columns: impl IntoIterator<Item = &'n str>, values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff];
    for name in columns {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
    }
    bytes.push(0);
    bytes.extend_from_slice(values);
    bytes
}

/// What [`value_key`] was made of: the columns, and the bytes of the values.
pub fn decode_value(key: &[u8]) -> Option<(Vec<&str>, &[u8])> {
    let mut rest = key.strip_prefix(&[0xff])?;
    let mut names = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (name, after) = (&rest[..end], &rest[end + 1..]);
        if name.is_empty() {
            return (!names.is_empty()).then_some((names, after));
        }
        names.push(std::str::from_utf8(name).ok()?);
        rest = after;
    }
}

/// The values of a key, in words: what [`encode`] has made of columns of these encodings and types. `None` if a hash
/// stands for a value or for the key, or if these are not its columns.
pub fn decode(columns: &[(&KeyColumn, pg_sys::Oid)], key: &[u8]) -> Option<Vec<String>> {
    let is_hash = key.len() == 40
        && u64::from_be_bytes(key[..8].try_into().ok()?)
            .try_into()
            .is_ok_and(|length: usize| length > LONG && length < 1 << 32);
    if is_hash {
        return None;
    }
    if let [(column, type_oid)] = columns {
        return Some(vec![column.decode(*type_oid, key)?]);
    }
    let mut rest = key;
    let mut values = Vec::with_capacity(columns.len());
    for (column, type_oid) in columns {
        let (length, after) = rest.split_at_checked(4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (value, after) = after.split_at_checked(length)?;
        values.push(column.decode(*type_oid, value)?);
        rest = after;
    }
    rest.is_empty().then_some(values)
}

/// Like [`encode`], with the columns in another order: `order` has their places.
pub fn encode_in_order(
    columns: &[KeyColumn],
    values: &[Datum],
    order: &[usize],
    out: &mut Vec<u8>,
) {
    encode_places(columns, values, order.iter().copied(), out);
}

fn encode_places(
    columns: &[KeyColumn],
    values: &[Datum],
    order: impl Iterator<Item = usize>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    encode_whole(columns, values, order, out);
    let length = out.len() - start;
    if length > LONG {
        let hashes = [0, 1, 2, 3].map(|seed| hash_bytes(&out[start..], seed));
        out.truncate(start);
        out.extend_from_slice(&(length as u64).to_be_bytes());
        out.extend(hashes.iter().flat_map(|hash| hash.to_be_bytes()));
    }
}

/// Appends the encoding of a whole key: a single column as it is, several columns each behind its length.
fn encode_whole(
    columns: &[KeyColumn],
    values: &[Datum],
    order: impl Iterator<Item = usize>,
    out: &mut Vec<u8>,
) {
    if let [column] = columns {
        return column.encode(values[0], out);
    }
    for place in order {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        columns[place].encode(values[place], out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}
