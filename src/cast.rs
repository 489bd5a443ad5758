//! Casts a JSON value to a datum of the destination column's type.
//!
//! [`spell()`] makes a text of the JSON value, and the type's own input function reads the text. Ordinary
//! values of the commonest types are read here instead, if the result has the same bytes. All other values go
//! to the input function, so that the server raises every error.
//!
//! Measured on PostgreSQL 15, in ns per value, here and by the input function: `int8` 25 and 65,
//! `timestamptz` 30 and 300, `numeric` 30 and 150, `uuid` 30 and 200, a text of 20 bytes 25 and 75 (of which
//! the call takes 10), `jsonb` of 150 bytes 400 and 1600.

#![forbid(unsafe_code)]

mod fast;
mod place;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

use std::ffi::CStr;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::error::{SqlError, sqlstate};
use crate::json::{Encoder, Json, Kind};
use crate::pg::typeio::{self, TypeInput};
use crate::spell::{self, Field, Misfit, Shape, spell};
use fast::Fast;

/// Makes the values of one destination column.
pub struct Caster {
    /// Made for the first value that is not read here: it takes a kilobyte, and most columns never need it.
    input: Option<TypeInput>,
    shape: Shape,
    fast: Fast,
    encoder: Encoder,
    /// Whether the type is a domain: its checks must see nulls too.
    is_domain: bool,
    type_oid: pg_sys::Oid,
    typmod: i32,
    /// The modifier of the domain's base type, or the column's own.
    base_typmod: i32,
    relations: Vec<pg_sys::Oid>,
    text: String,
}

/// The most bytes of a spelled text that are kept from one value to the next.
const KEPT_TEXT: usize = 64 * 1024;

/// The size from which on a string for a `jsonb` is looked at before the server reads it: `jsonb_in` takes several times
/// the memory of the text.
const LONG_JSON: usize = 1 << 20;

/// The most levels of types in types, such as composite types in composite types.
const MAX_DEPTH: usize = 32;

impl Caster {
    /// Looks up how values of a column of this type and modifier are made.
    pub fn new(type_oid: pg_sys::Oid, typmod: i32) -> Caster {
        let mut relations = Vec::new();
        let (base, base_typmod) = typeio::base_type(type_oid, typmod);
        let is_domain = base != type_oid;
        Caster {
            input: None,
            shape: match shape(base, MAX_DEPTH, &mut relations) {
                Shape::Json if is_over_domain(type_oid) => Shape::JsonInString,
                shape => shape,
            },
            fast: if is_domain {
                Fast::No
            } else {
                Fast::of(type_oid, typmod)
            },
            encoder: Encoder::default(),
            is_domain,
            type_oid,
            typmod,
            base_typmod,
            relations,
            text: String::new(),
        }
    }

    /// Makes a datum of the column's type; `None` is null.
    ///
    /// The datum may point into `out` or into the current memory context. After an error, the caller must
    /// roll back the surrounding subtransaction.
    pub fn cast(&mut self, value: Json<'_>, out: &Bump) -> Result<Option<Datum>, SqlError> {
        if value.is_null() {
            if self.is_domain {
                self.input().read_null()?;
            }
            return Ok(None);
        }
        match self.fast.read(value, &mut self.encoder, out) {
            Some(datum) => Ok(Some(datum)),
            None => self.read(value, out).map(Some),
        }
    }

    /// How values are made, in words for users.
    pub fn describe(&self) -> String {
        let way = match self.fast {
            Fast::No => "input function",
            _ => "fast path, else input function",
        };
        let how = match &self.shape {
            Shape::Json => "any JSON as it is",
            Shape::Integer(_) | Shape::Float => "numbers by their digits",
            Shape::Timestamp(_) => "numbers as microseconds since 1970",
            Shape::Interval => "objects of months, days and microseconds",
            Shape::Hstore => "objects as pairs",
            Shape::TsVector => "arrays of lexemes",
            Shape::Vector => "arrays of numbers",
            Shape::Array { .. } => "arrays by element",
            Shape::Composite(_) => "objects by field",
            _ => return way.to_owned(),
        };
        format!("{way}; {how}")
    }

    /// The relations of the composite types in this type. When one of these relations is altered, a new
    /// caster must be made.
    pub fn depends_on(&self) -> &[pg_sys::Oid] {
        &self.relations
    }

    fn input(&mut self) -> &mut TypeInput {
        let (type_oid, typmod) = (self.type_oid, self.typmod);
        self.input
            .get_or_insert_with(|| TypeInput::new(type_oid, typmod))
    }

    /// Makes a datum by the input function.
    fn read(&mut self, value: Json<'_>, out: &Bump) -> Result<Datum, SqlError> {
        // before PostgreSQL 15 some intervals have no text that the server reads
        if self.shape == Shape::Interval && value.kind() == Kind::Object {
            let interval = fast::interval(spell::interval(value)?, out);
            let (typmod, is_domain) = (self.base_typmod, self.is_domain);
            return self.input().interval(interval, typmod, is_domain);
        }
        self.text.clear();
        if let Err(misfit) = spell(value, &self.shape, &mut self.text) {
            self.forget_text();
            return Err(misfit.into());
        }
        if self.text.len() > LONG_JSON
            && self.type_oid == pg_sys::JSONBOID
            && let Some(fault) = crate::json::string_fault(&self.text)
        {
            self.forget_text();
            return Err(Misfit::String(fault).into());
        }
        self.text.push('\0');
        let spelled = std::mem::take(&mut self.text);
        let datum = match CStr::from_bytes_with_nul(spelled.as_bytes()) {
            Ok(text) => self.input().read(text).map_err(of_the_value),
            Err(_) => Err(Misfit::String(crate::json::StringFault::Nul).into()),
        };
        self.text = spelled;
        self.forget_text();
        datum
    }

    fn forget_text(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
    }
}

impl From<Misfit> for SqlError {
    fn from(misfit: Misfit) -> SqlError {
        let error = SqlError::new(misfit.sqlstate(), misfit.message());
        match misfit.detail() {
            Some(detail) => error.with_detail(detail),
            None => error,
        }
    }
}

/// Turns an internal error into an error of the value. Some input functions, such as hstore's before
/// PostgreSQL 16, refuse a text by an internal error. Without this, the message would not be blamed for it.
fn of_the_value(error: SqlError) -> SqlError {
    if !error.is(sqlstate::INTERNAL_ERROR) {
        return error;
    }
    SqlError {
        code: sqlstate::INVALID_TEXT_REPRESENTATION,
        ..error
    }
}

fn is_domain(type_oid: pg_sys::Oid) -> bool {
    typeio::base_type(type_oid, -1).0 != type_oid
}

/// Whether the type is a domain over a domain.
fn is_over_domain(type_oid: pg_sys::Oid) -> bool {
    is_domain(type_oid) && typeio::type_row(type_oid).is_some_and(|row| is_domain(row.base))
}

/// How the values of a type are spelled. The type is not a domain.
fn shape(base: pg_sys::Oid, depth: usize, relations: &mut Vec<pg_sys::Oid>) -> Shape {
    match base {
        pg_sys::JSONOID | pg_sys::JSONBOID => return Shape::Json,
        pg_sys::BOOLOID => return Shape::Bool,
        pg_sys::INT2OID => return Shape::Integer("smallint"),
        pg_sys::INT4OID => return Shape::Integer("integer"),
        pg_sys::INT8OID => return Shape::Integer("bigint"),
        pg_sys::OIDOID => return Shape::Integer("oid"),
        pg_sys::FLOAT4OID | pg_sys::FLOAT8OID | pg_sys::NUMERICOID => return Shape::Float,
        pg_sys::DATEOID => return Shape::Date,
        pg_sys::TIMEOID => return Shape::Time("time"),
        pg_sys::TIMETZOID => return Shape::Time("time with time zone"),
        pg_sys::TIMESTAMPOID => return Shape::Timestamp("timestamp"),
        pg_sys::TIMESTAMPTZOID => return Shape::Timestamp("timestamp with time zone"),
        pg_sys::INTERVALOID => return Shape::Interval,
        typeio::MONEYOID => return Shape::Money,
        pg_sys::BYTEAOID => return Shape::Bytes,
        pg_sys::DATERANGEOID => return Shape::DateRange,
        pg_sys::TSVECTOROID => return Shape::TsVector,
        pg_sys::BOXOID => return Shape::Box,
        pg_sys::INETOID | pg_sys::CIDROID => return Shape::Short,
        _ => {}
    }
    let Some(row) = typeio::type_row(base).filter(|_| depth > 0) else {
        return Shape::Text;
    };
    let mut inner = |oid| shape(typeio::base_type(oid, -1).0, depth - 1, relations);
    if let Some(element) = row.element {
        let delimiter = typeio::type_row(element).map_or(',', |row| row.delimiter);
        let element = Box::new(match inner(element) {
            Shape::Json if is_domain(element) => Shape::JsonInString,
            Shape::Bytes => Shape::RawBytes,
            shape => shape,
        });
        return Shape::Array { element, delimiter };
    }
    if row.kind == pg_sys::TYPTYPE_COMPOSITE {
        let fields = typeio::fields(base)
            .into_iter()
            .map(|(name, oid, _)| Field {
                name,
                shape: inner(oid),
            })
            .collect();
        if !relations.contains(&row.relation) {
            relations.push(row.relation);
        }
        return Shape::Composite(fields);
    }
    match row.kind {
        b'r' => return Shape::Range("range"),
        b'm' => return Shape::Range("multirange"),
        _ => {}
    }
    match row.name.as_str() {
        "hstore" => Shape::Hstore,
        "vector" | "halfvec" | "sparsevec" => Shape::Vector,
        _ if row.is_fixed => Shape::Short,
        _ => Shape::Text,
    }
}
