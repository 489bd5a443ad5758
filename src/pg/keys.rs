//! Asks the server about the type of a key: its base type, equality, hash and bytes.

use std::ffi::CStr;

use pgrx::FromDatum;
use pgrx::pg_sys::{self, Datum};

unsafe extern "C" {
    fn hash_bytes_extended(bytes: *const u8, length: i32, seed: u64) -> u64;
}

/// Properties of a type that decide how its values become key bytes.
pub struct TypeFacts {
    /// The type under all domains.
    pub base: pg_sys::Oid,
    /// Whether the base is an enum.
    pub is_enum: bool,
}

impl TypeFacts {
    /// Looks the type up.
    pub fn load(type_oid: pg_sys::Oid) -> TypeFacts {
        // SAFETY: syscache look-ups of a type from the catalog.
        unsafe {
            let base = pg_sys::getBaseType(type_oid);
            TypeFacts {
                base,
                is_enum: pg_sys::type_is_enum(base),
            }
        }
    }

    /// Whether equal text under `collation` means equal bytes.
    pub fn deterministic(&self, collation: pg_sys::Oid) -> bool {
        // SAFETY: a syscache look-up of a collation from the catalog.
        collation == pg_sys::InvalidOid
            || unsafe { pg_sys::get_collation_isdeterministic(collation) }
    }
}

/// A type's extended hash function: equal values have equal hashes for every seed.
pub struct HashFunction {
    entry: *mut pg_sys::TypeCacheEntry,
    collation: pg_sys::Oid,
    type_oid: pg_sys::Oid,
}

/// The kind of a `numeric`, in the first two bytes of its value.
const NUMERIC_KIND: u16 = 0xC000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_SHORT: u16 = 0x8000;
const NUMERIC_SHORT_NEGATIVE: u16 = 0x2000;
const NUMERIC_SPECIAL: u16 = 0xC000;
const NUMERIC_SPECIAL_KIND: u16 = 0xF000;

impl HashFunction {
    /// The function of the type's default hash operator class, if it has one.
    pub fn new(type_oid: pg_sys::Oid, collation: pg_sys::Oid) -> Option<HashFunction> {
        // SAFETY: type cache entries live as long as the backend.
        unsafe {
            let entry = pg_sys::lookup_type_cache(
                type_oid,
                pg_sys::TYPECACHE_HASH_EXTENDED_PROC_FINFO as i32,
            );
            ((*entry).hash_extended_proc != pg_sys::InvalidOid).then_some(HashFunction {
                entry,
                collation,
                type_oid,
            })
        }
    }

    /// What tells values apart that the type's hash takes for one: the server's hash of `numeric` leaves out the sign, and
    /// which of NaN and the infinities a value is. 0 for a number that is not negative.
    pub fn signs(&self, value: Datum) -> u64 {
        match self.type_oid {
            pg_sys::NUMERICOID => {
                let bytes = varlena_bytes(&value);
                let head = u16::from_ne_bytes([bytes[0], bytes[1]]);
                match head & NUMERIC_KIND {
                    NUMERIC_NEGATIVE => u64::MAX,
                    NUMERIC_SHORT if head & NUMERIC_SHORT_NEGATIVE != 0 => u64::MAX,
                    NUMERIC_SPECIAL => u64::from(head & NUMERIC_SPECIAL_KIND),
                    _ => 0,
                }
            }
            pg_sys::NUMERICARRAYOID
            | pg_sys::NUMRANGEOID
            | pg_sys::NUMMULTIRANGEOID
            | pg_sys::JSONBOID => {
                // Equal values have equal texts but for digits.
                let mut text = output_text(self.type_oid, value);
                match text.contains(['-', 'N', 'I']) {
                    true => {
                        text.retain(|c| !c.is_ascii_digit() && c != '.');
                        hash_bytes(text.as_bytes(), 0)
                    }
                    false => 0,
                }
            }
            _ => 0,
        }
    }

    /// The hash of a value of the type.
    pub fn call(&self, value: Datum, seed: u64) -> u64 {
        // SAFETY: the entry has the function's record, and the value is of its type.
        unsafe {
            pg_sys::FunctionCall2Coll(
                &mut (*self.entry).hash_extended_proc_finfo,
                self.collation,
                value,
                Datum::from(seed as i64),
            )
            .value() as u64
        }
    }
}

/// The bytes of a value of fixed length passed by reference.
pub fn fixed_bytes(value: &Datum, length: usize) -> &[u8] {
    // SAFETY: the caller's type is by reference and of this length; the value outlives the borrow.
    unsafe { std::slice::from_raw_parts(value.cast_mut_ptr::<u8>(), length) }
}

/// The payload of a variable-length value. A value that is compressed or stored out of line is first copied
/// to the current memory context.
pub fn varlena_bytes(value: &Datum) -> &[u8] {
    // SAFETY: the detoasted value is plain, with a long or a short header.
    unsafe {
        let value = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
        std::slice::from_raw_parts(
            pgrx::vardata_any(value).cast::<u8>(),
            pgrx::varsize_any_exhdr(value),
        )
    }
}

/// A hash of bytes. The server partitions tables by the same function, so every version computes the same
/// hash.
pub fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: reads as many bytes as the slice has.
    unsafe { hash_bytes_extended(bytes.as_ptr(), bytes.len() as i32, seed) }
}

/// A number that nobody can guess.
pub fn random() -> i64 {
    let mut bytes = [0; 8];
    // SAFETY: fills as many bytes as the array has.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        pgrx::error!("could not generate a random number");
    }
    i64::from_ne_bytes(bytes)
}

/// A value's text, by its type's output function.
pub fn output_text(type_oid: pg_sys::Oid, value: Datum) -> String {
    // SAFETY: the value is of the type. The text is copied and then freed.
    unsafe {
        let mut function = pg_sys::InvalidOid;
        let mut varlena = false;
        pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut varlena);
        let text = pg_sys::OidOutputFunctionCall(function, value);
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        copy
    }
}

/// The type's name as SQL spells it, schema-qualified unless in `pg_catalog`.
pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: format_type_extended allocates a string; with the qualifying flag it does not look
    // at the search_path.
    unsafe {
        let name = pg_sys::format_type_extended(
            type_oid,
            -1,
            pg_sys::FORMAT_TYPE_FORCE_QUALIFY as pg_sys::bits16,
        );
        let copy = CStr::from_ptr(name).to_string_lossy().into_owned();
        pg_sys::pfree(name.cast());
        copy
    }
}

/// A copy of a bytea that a statement returned.
pub fn stored_bytes(value: Datum) -> Vec<u8> {
    // SAFETY: the column is a bytea, and not null.
    unsafe { <&[u8]>::from_datum(value, false) }
        .unwrap_or_default()
        .to_vec()
}

/// A copy of a text that a statement returned.
pub fn stored_text(value: Datum, is_null: bool) -> Option<String> {
    // SAFETY: the column is a text.
    unsafe { String::from_datum(value, is_null) }
}

/// The role that owns the extension and its tables.
pub fn extension_owner() -> pg_sys::Oid {
    const OWNER: &str = "select extowner from pg_catalog.pg_extension
                         where extname operator(pg_catalog.=) 'pg_sequin'";
    pgrx::Spi::connect_mut(|client| {
        let found = super::spi::select(client, OWNER, &[])?;
        found.first().get_one::<pg_sys::Oid>()
    })
    .ok()
    .flatten()
    .unwrap_or_else(|| pgrx::error!("extension pg_sequin is not installed"))
}

/// The name of a role. `None` if the role does not exist any more.
pub fn role_name(role: pg_sys::Oid) -> Option<String> {
    // SAFETY: a catalog look-up; the name is copied and freed.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return None;
        }
        let copy = CStr::from_ptr(name).to_string_lossy().into_owned();
        pg_sys::pfree(name.cast());
        Some(copy)
    }
}
