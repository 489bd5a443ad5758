//! Finds the part of a value that has an error: the element, field or member that fails when cast separately.

#![forbid(unsafe_code)]

use bumpalo::Bump;
use pgrx::pg_sys;

use super::Caster;
use crate::error::{SqlError, sqlstate};
use crate::json::{Json, Kind};
use crate::pg::typeio;
use crate::spell::{MAX_DIMENSIONS, Shape, is_dimension};

/// The most steps of a path.
const MAX_DEPTH: usize = 32;

impl Caster {
    /// The path to the part of a value that [`Caster::cast`] gave this error for, such as `[2].zip`.
    pub fn place(&self, value: Json<'_>, error: &SqlError, out: &Bump) -> String {
        // After errors of these classes the server can cast again, though nothing was rolled back.
        match error.class() {
            sqlstate::DATA_EXCEPTION
            | sqlstate::INTEGRITY_CONSTRAINT_VIOLATION
            | sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION => {
                path(self.type_oid, self.typmod, value, out, 0)
            }
            _ => String::new(),
        }
    }
}

/// The path from `value` to the part that cannot be a value of its type, such as `[2].zip`; empty if the part
/// is the whole value.
fn path(type_oid: pg_sys::Oid, typmod: i32, value: Json<'_>, out: &Bump, depth: usize) -> String {
    if depth == MAX_DEPTH {
        return String::new();
    }
    let (base, typmod) = typeio::base_type(type_oid, typmod);
    let mut parts = Vec::new();
    match (Caster::new(base, typmod).shape, value.kind()) {
        (Shape::Json, Kind::Object | Kind::Array) => members(value, base, &mut parts),
        (Shape::Array { element, .. }, Kind::Array) => {
            let of = typeio::type_row(base).and_then(|row| row.element);
            let of = (of.unwrap_or(base), typmod);
            elements(value, &element, of, "", MAX_DIMENSIONS, &mut parts);
        }
        (Shape::Composite(_), Kind::Object) => {
            for (name, of, typmod) in typeio::fields(base) {
                if let Some(part) = value.get(&name) {
                    parts.push((format!(".{name}"), part, of, typmod));
                }
            }
        }
        _ => {}
    }
    let mut caster: Option<((pg_sys::Oid, i32), Caster)> = None;
    for (step, part, of, typmod) in parts {
        let (_, caster) = match &mut caster {
            Some(known) if known.0 == (of, typmod) => known,
            other => other.insert(((of, typmod), Caster::new(of, typmod))),
        };
        if caster.cast(part, out).is_err() {
            return step + &path(of, typmod, part, out, depth + 1);
        }
    }
    String::new()
}

type Part<'a> = (String, Json<'a>, pg_sys::Oid, i32);

fn members<'a>(value: Json<'a>, of: pg_sys::Oid, parts: &mut Vec<Part<'a>>) {
    let named = value.members();
    parts.extend(named.map(|(name, part)| (format!(".{name}"), part, of, -1)));
    let listed = value.elements().enumerate();
    parts.extend(listed.map(|(i, part)| (format!("[{i}]"), part, of, -1)));
}

/// Collects the elements of an array, the inner dimensions included.
fn elements<'a>(
    value: Json<'a>,
    shape: &Shape,
    of: (pg_sys::Oid, i32),
    step: &str,
    dimensions: usize,
    parts: &mut Vec<Part<'a>>,
) {
    for (i, part) in value.elements().enumerate() {
        let step = format!("{step}[{i}]");
        if dimensions > 1 && is_dimension(part, shape) {
            elements(part, shape, of, &step, dimensions - 1, parts);
        } else {
            parts.push((step, part, of.0, of.1));
        }
    }
}
