//! What a resync does with rows that other mappings have, too.

#![forbid(unsafe_code)]

use crate::destination::Destination;
use crate::mapping::check::{Shared, Sharer, written};
use crate::mapping::versions::VersionsIn;
use crate::mapping::{Mapping, OnDelete};

/// SQL: which mappings have the row `d`. `$1` is the token.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// Another mapping that supplies other columns has the row. It stays, and loses the columns of this mapping.
    pub(super) cleared: Option<String>,
    /// Another mapping that writes the same columns has the row. It stays as it is.
    pub(super) left: Option<String>,
}

impl Elsewhere {
    /// Of a row whose key is in these columns, beside these other mappings.
    pub(super) fn of(
        mapping: &Mapping,
        destination: &Destination,
        (key, others): (&[String], &[Mapping]),
    ) -> Elsewhere {
        let kept = destination.shards.is_some() && mapping.on_delete != OnDelete::Delete;
        if kept || VersionsIn::of(mapping, destination) != VersionsIn::Table {
            return Elsewhere::default();
        }
        let shared = Shared::of(mapping, destination, others);
        let has = |other: &Sharer, deleted: bool| {
            let key: Vec<&str> = other.key.iter().map(|&i| key[i].as_str()).collect();
            format!(
                "sequin_internal.has_row({}, {}, sequin.row_key({}), {deleted}, $1)",
                mapping.id,
                other.mapping,
                key.join(", ")
            )
        };
        let sharers = shared.sharers.iter().map(|sharer| {
            let by_entry = has(sharer, sharer.keeps_rows);
            match sharer.has_values() {
                Some(values) => format!("({by_entry} or {values} and not {})", has(sharer, true)),
                None => by_entry,
            }
        });
        let peers = shared.peers.iter().filter(|_| destination.shards.is_none());
        Elsewhere {
            cleared: any(sharers.collect()),
            left: any(peers.map(|peer| has(peer, false)).collect()),
        }
    }
}

fn any(conditions: Vec<String>) -> Option<String> {
    (!conditions.is_empty()).then(|| format!("({})", conditions.join(" or ")))
}

/// The assignments that take the columns of the mapping away from a row.
pub(super) fn cleared(mapping: &Mapping, destination: &Destination) -> String {
    let own = written(mapping, destination).into_iter();
    let own = own.map(|name| format!("{} = default", pgrx::spi::quote_identifier(name)));
    let own: Vec<String> = own.collect();
    if own.is_empty() {
        // an update must set something
        let key = pgrx::spi::quote_identifier(&mapping.key_of(destination)[0]);
        return format!("{key} = d.{key}");
    }
    own.join(", ")
}
