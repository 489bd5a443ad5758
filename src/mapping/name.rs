//! The name of a mapping that its maker does not name.

#![forbid(unsafe_code)]

use pgrx::prelude::*;
use pgrx::{pg_sys, spi};

use super::check::qualified;
use super::{MappingRow, SourcePattern};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::pg::keys::extension_owner;
use crate::pg::user::ActingAs;

/// The shortest name that no mapping of another source, destination or owner has: the destination's name, with
/// its schema, with the source. A mapping without a destination is named by its source.
///
/// A mapping of the same owner, source and destination keeps its name, so that repeating `sequin.map` replaces it. So
/// does one whose destination was dropped.
pub fn derived(row: &MappingRow, destination: Option<&Destination>, owner: pg_sys::Oid) -> String {
    let source = source_text(&row.source);
    let mut names = match (row.destination, destination) {
        (None, _) => vec![source.clone(), format!("{source} to nothing")],
        (Some(oid), None) => vec![format!("{source} to {oid}")],
        (Some(_), Some(destination)) => vec![
            destination.name.clone(),
            qualified(destination),
            format!("{source} to {}", qualified(destination)),
        ],
    };
    let taken = taken(&names);
    let same = |taken: &&Taken| {
        taken.owner == owner
            && (taken.gone || taken.destination.map(pg_sys::Oid::to_u32) == row.destination)
            && source_text(&taken.source) == source
    };
    if let Some(mine) = taken.iter().find(same) {
        return mine.name.clone();
    }
    let last = names.pop().unwrap_or_default();
    let is_free = |name: &String| !taken.iter().any(|taken| taken.name == *name);
    names.into_iter().find(is_free).unwrap_or(last)
}

/// The longest name, in bytes: beside a key of 1,000 bytes, an index entry has room for 1,600.
const LONGEST: usize = 1000;

/// The fault of a name that the indexes of dead letters have no room for.
pub fn fault(name: &str) -> Option<Fault> {
    (name.len() > LONGEST).then(|| {
        Fault::name(format!(
            "the name of a mapping has at most {LONGEST} bytes, and this one {}",
            name.len()
        ))
        .hint("Give the mapping a shorter name, as in name => 'orders'.")
    })
}

/// A pattern in one spelling; a text that is no pattern as it is.
fn source_text(source: &str) -> String {
    SourcePattern::parse(source).map_or_else(|_| source.to_owned(), |source| source.to_string())
}

/// A mapping that has one of the names.
struct Taken {
    name: String,
    source: String,
    destination: Option<pg_sys::Oid>,
    /// Whether the destination was dropped.
    gone: bool,
    owner: pg_sys::Oid,
}

fn taken(names: &[String]) -> Vec<Taken> {
    const TAKEN: &str = "
        select m.name, m.source, m.destination::pg_catalog.oid, m.owner::pg_catalog.oid,
               m.destination is not null
               and not exists (select from pg_catalog.pg_class c
                               where c.oid operator(pg_catalog.=) m.destination::pg_catalog.oid)
        from sequin.mapping m where m.name operator(pg_catalog.=) any ($1)";
    let _definer = ActingAs::new(extension_owner(), false);
    Spi::connect(|client| {
        client
            .select(TAKEN, None, &[names.to_vec().into()])?
            .map(|row| {
                Ok(Taken {
                    name: row.get(1)?.expect("not null"),
                    source: row.get(2)?.expect("not null"),
                    destination: row.get(3)?,
                    owner: row.get(4)?.expect("not null"),
                    gone: row.get(5)?.expect("not null"),
                })
            })
            .collect::<Result<_, spi::Error>>()
    })
    .unwrap_or_else(|e| error!("could not read sequin.mapping: {e}"))
}
