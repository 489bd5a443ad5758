//! Types: their catalog rows, their input functions, and their values as datums.

use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use super::trap::trap;
use crate::error::SqlError;

pub use pg_sys::MONEYOID;

unsafe extern "C-unwind" {
    #[link_name = "InputFunctionCall"]
    fn raw_input_function_call(
        flinfo: *mut pg_sys::FmgrInfo,
        text: *mut c_char,
        io_param: pg_sys::Oid,
        typmod: i32,
    ) -> Datum;
    #[link_name = "domain_check"]
    fn raw_domain_check(
        value: Datum,
        is_null: bool,
        domain: pg_sys::Oid,
        extra: *mut *mut c_void,
        context: pg_sys::MemoryContext,
    );
    #[link_name = "DirectFunctionCall2Coll"]
    fn raw_direct_function_call_2(
        function: pg_sys::PGFunction,
        collation: pg_sys::Oid,
        first: Datum,
        second: Datum,
    ) -> Datum;
    #[link_name = "interval_scale"]
    fn raw_interval_scale(fcinfo: pg_sys::FunctionCallInfo) -> Datum;
}

/// A row of `pg_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRow {
    /// `typname`
    pub name: String,
    /// `typtype`: `b` base, `c` composite, `d` domain, `e` enum, …
    pub kind: u8,
    /// Whether all values of the type have the same size: `typlen`.
    pub is_fixed: bool,
    /// The element type, if the type is an array that `array_in` reads.
    pub element: Option<pg_sys::Oid>,
    /// `typdelim`: the character between values of this type in an array.
    pub delimiter: char,
    /// `typbasetype`: the type under a domain, which can be another domain.
    pub base: pg_sys::Oid,
    /// `typrelid`: the relation with the fields of a composite type.
    pub relation: pg_sys::Oid,
}

/// Reads a type's row; `None` if the type does not exist.
pub fn type_row(oid: pg_sys::Oid) -> Option<TypeRow> {
    let cache = pg_sys::SysCacheIdentifier::TYPEOID as c_int;
    // SAFETY: a tuple of the cache TYPEOID starts with a FormData_pg_type. All values are copied before the
    // tuple is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, oid.into());
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple);
        let is_array = (*form).typinput.to_u32() == pg_sys::F_ARRAY_IN;
        let row = TypeRow {
            name: name_text(&(*form).typname),
            kind: (*form).typtype as u8,
            is_fixed: (*form).typlen > 0,
            element: is_array.then_some((*form).typelem),
            delimiter: char::from((*form).typdelim as u8),
            base: (*form).typbasetype,
            relation: (*form).typrelid,
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(row)
    }
}

/// The base type of a domain, through domains over domains, and the modifier that the domain sets. For any
/// other type, the type itself and `typmod`.
pub fn base_type(oid: pg_sys::Oid, typmod: i32) -> (pg_sys::Oid, i32) {
    let mut typmod = typmod;
    // SAFETY: reads the catalog and writes the one integer.
    let base = unsafe { pg_sys::getBaseTypeAndTypmod(oid, &mut typmod) };
    (base, typmod)
}

/// Names, types and modifiers of a composite type's fields, in order, without dropped ones.
pub fn fields(composite: pg_sys::Oid) -> Vec<(String, pg_sys::Oid, i32)> {
    // SAFETY: the PgTupleDesc owns the copied descriptor and releases it.
    let fields = unsafe {
        let desc = pg_sys::lookup_rowtype_tupdesc_copy(composite, -1);
        pgrx::PgTupleDesc::from_pg_is_copy(desc)
    };
    fields
        .iter()
        .filter(|field| !field.attisdropped)
        .map(|field| (name_text(&field.attname), field.atttypid, field.atttypmod))
        .collect()
}

/// A name of the catalog as text.
pub(super) fn name_text(name: &pg_sys::NameData) -> String {
    // SAFETY: a name of the catalog ends with a NUL within its 64 bytes.
    let name = unsafe { CStr::from_ptr(name.data.as_ptr()) };
    name.to_string_lossy().into_owned()
}

/// A type's input function, ready to be called. Its own memory context holds the data that such functions
/// keep from call to call.
pub struct TypeInput {
    context: pg_sys::MemoryContext,
    function: *mut pg_sys::FmgrInfo,
    type_oid: pg_sys::Oid,
    io_param: pg_sys::Oid,
    typmod: i32,
    /// `domain_check`'s memory.
    domain: *mut c_void,
}

impl TypeInput {
    /// Looks the function up.
    pub fn new(type_oid: pg_sys::Oid, typmod: i32) -> TypeInput {
        // SAFETY: the context is a child of TopMemoryContext, which lives as long as the backend. The value
        // deletes the context, also when a look-up fails. FmgrInfo may be zero before it is filled.
        unsafe {
            let context = pg_sys::AllocSetContextCreateExtended(
                pg_sys::TopMemoryContext,
                c"sequin type input".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let mut input = TypeInput {
                context,
                function: ptr::null_mut(),
                type_oid,
                io_param: pg_sys::InvalidOid,
                typmod,
                domain: ptr::null_mut(),
            };
            let mut function = pg_sys::InvalidOid;
            pg_sys::getTypeInputInfo(type_oid, &mut function, &mut input.io_param);
            input.function =
                pg_sys::MemoryContextAllocZero(context, size_of::<pg_sys::FmgrInfo>()).cast();
            pg_sys::fmgr_info_cxt(function, input.function, context);
            input
        }
    }

    /// The value that `text` spells, in the current memory context.
    pub fn read(&mut self, text: &CStr) -> Result<Datum, SqlError> {
        let (function, text) = (self.function, text.as_ptr().cast_mut());
        let (io_param, typmod) = (self.io_param, self.typmod);
        // SAFETY: only the C function runs inside; input functions do not write to their text.
        unsafe { trap(|| raw_input_function_call(function, text, io_param, typmod)) }
    }

    /// Checks null against the constraints of a domain.
    pub fn read_null(&mut self) -> Result<(), SqlError> {
        let function = self.function;
        let (io_param, typmod) = (self.io_param, self.typmod);
        // SAFETY: as in `read`; a null text stands for null.
        unsafe { trap(|| raw_input_function_call(function, ptr::null_mut(), io_param, typmod)) }?;
        Ok(())
    }

    /// A value of this type, which is `interval` or a domain over it. The value is rounded to the base type's
    /// modifier `typmod`, and a domain checks it.
    pub fn interval(
        &mut self,
        value: Datum,
        typmod: i32,
        is_domain: bool,
    ) -> Result<Datum, SqlError> {
        let (domain, context) = (self.type_oid, self.context);
        let extra = &raw mut self.domain;
        // SAFETY: only C functions run inside; the value is an interval, and interval_scale takes an
        // interval and a modifier.
        unsafe {
            trap(|| {
                let value = if typmod < 0 {
                    value
                } else {
                    raw_direct_function_call_2(
                        Some(raw_interval_scale),
                        pg_sys::InvalidOid,
                        value,
                        Datum::from(typmod),
                    )
                };
                if is_domain {
                    raw_domain_check(value, false, domain, extra, context);
                }
                value
            })
        }
    }
}

impl Drop for TypeInput {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) }
    }
}

/// The largest value: `MaxAllocSize`.
const MAX_VARLENA: usize = 0x3fff_ffff;

/// From this size (1 MiB) on, a value is passed to the server by a pointer.
pub const LARGE: usize = 1 << 20;

/// A variable-length value with these bytes; `None` if it would be larger than [`MAX_VARLENA`].
///
/// For a large value the datum is a pointer to the value (`VARTAG_INDIRECT`). The server follows the pointer
/// where it needs the bytes. Otherwise a statement that writes a row of 100 MB would copy the row twice more.
pub fn varlena(bytes: &[u8], out: &Bump) -> Option<Datum> {
    const HEADER: usize = 4;
    let size = bytes.len() + HEADER;
    if size > MAX_VARLENA {
        return None;
    }
    // SET_VARSIZE_4B
    let header = if cfg!(target_endian = "big") {
        size as u32
    } else {
        (size as u32) << 2
    };
    let layout = Layout::from_size_align(size, 8).ok()?;
    // SAFETY: the block has room for the header and the bytes, and is aligned for both.
    unsafe {
        let at = out.alloc_layout(layout).as_ptr();
        at.cast::<u32>().write(header);
        ptr::copy_nonoverlapping(bytes.as_ptr(), at.add(HEADER), bytes.len());
        Some(Datum::from(if size < LARGE {
            at
        } else {
            indirect(at, out)
        }))
    }
}

/// A pointer to a variable-length value, in place of the value: a `varattrib_1b_e` with a `varatt_indirect`.
fn indirect(value: *mut u8, out: &Bump) -> *mut u8 {
    const MARK: u8 = if cfg!(target_endian = "big") {
        0x80
    } else {
        0x01
    };
    let mut bytes = [0; 2 + size_of::<*mut u8>()];
    bytes[0] = MARK;
    bytes[1] = pg_sys::vartag_external::VARTAG_INDIRECT as u8;
    bytes[2..].copy_from_slice(&(value.expose_provenance()).to_ne_bytes());
    out.alloc(bytes).as_mut_ptr()
}

/// A value of fixed length that is passed by reference.
pub fn fixed<T: Copy>(value: T, out: &Bump) -> Datum {
    Datum::from(ptr::from_mut(out.alloc(value)))
}

/// The bytes and the text of a value, for tests.
#[cfg(any(test, feature = "pg_test"))]
pub mod look {
    use super::*;

    /// The bytes that would be stored, the length word included.
    pub fn image(type_oid: pg_sys::Oid, datum: Datum) -> Vec<u8> {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: the datum is of this type, and not toasted.
        unsafe {
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
            let at = datum.cast_mut_ptr::<u8>();
            let length = match length {
                _ if by_value => return datum.value().to_ne_bytes().to_vec(),
                -1 => pgrx::varsize_any(at.cast()),
                length => length as usize,
            };
            std::slice::from_raw_parts(at, length).to_vec()
        }
    }

    /// The text that the type's output function makes of a value.
    pub fn text(type_oid: pg_sys::Oid, datum: Datum) -> String {
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: the datum is of this type; the text ends with a NUL.
        unsafe {
            pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut is_varlena);
            let text = pg_sys::OidOutputFunctionCall(function, datum);
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}
