//! Whether a relation is a table of Citus, whose rows are in shards.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use crate::error::origin::Origin;
use crate::error::shards::{Sharded, know};
use crate::error::{Error, SqlError};
use crate::pg::relation::named;
use crate::pg::settings::is_defined;
use crate::prepared::Lookup;
use crate::settings::allow_other_nodes;
use crate::statement::Shards;

/// The column over which a table is distributed; null for a table that is not, but that Citus knows.
const SHARDS: &str = "
    select case when p.partkey is not null
                then pg_catalog.quote_ident(pg_catalog.column_to_column_name(p.logicalrelid, p.partkey)) end
    from pg_catalog.pg_dist_partition p
    where p.logicalrelid = $1";

/// The names in errors that a table's statements raise: of itself, its partitions, the tables that its foreign keys refer
/// to and those whose refer to it. With the numbers of their shards, and the names that are too long for such a number.
const NAMES: &str = "
    with concerned as materialized (
        select $1 as relid
        union select p.relid from pg_catalog.pg_partition_tree($1) p
        union select k.confrelid from pg_catalog.pg_constraint k where k.conrelid = $1 and k.contype = 'f'
        union select k.conrelid from pg_catalog.pg_constraint k where k.confrelid = $1 and k.contype = 'f')
    select n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
           array(select s.shardid from pg_catalog.pg_dist_shard s where s.logicalrelid = c.oid),
           array(select l.name from (
                     select c.relname::pg_catalog.text as name
                     union select k.conname from pg_catalog.pg_constraint k where k.conrelid = c.oid
                     union select x.relname from pg_catalog.pg_index i
                           join pg_catalog.pg_class x on x.oid = i.indexrelid where i.indrelid = c.oid) l
                 where pg_catalog.length(l.name) > 40)
    from concerned t
    join pg_catalog.pg_class c on c.oid = t.relid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace";

/// The coordinator, if this node is another one: its host and port, and the database.
const COORDINATOR: &str = "
    select coalesce((select n.nodename || ':' || n.nodeport from pg_catalog.pg_dist_node n where n.groupid = 0 limit 1),
                    'the coordinator'),
           pg_catalog.quote_ident(pg_catalog.current_database())
    from pg_catalog.pg_dist_local_group g where g.groupid <> 0";

thread_local! {
    static FIND_COORDINATOR: Lookup = const { Lookup::new(COORDINATOR, &[]) };
    static FIND: Lookup = const { Lookup::new(SHARDS, &[BuiltinOid::OIDOID]) };
    static FIND_NAMES: Lookup = const { Lookup::new(NAMES, &[BuiltinOid::OIDOID]) };
}

/// How Citus spreads the rows of the relation; `None` if they are in the relation.
pub fn of(relation: pg_sys::Oid) -> Option<Shards> {
    if !is_there() {
        return None;
    }
    let found = FIND.with(|find| find.rows(&[relation.into()], |row| row.get(1)));
    let column = found.into_iter().next()?;
    let names = FIND_NAMES.with(|find| {
        find.rows(&[relation.into()], |row| {
            let table = Sharded {
                schema: row.get(1)?.expect("not null"),
                name: row.get(2)?.expect("not null"),
                long: row.get(4)?.expect("not null"),
            };
            Ok((table, row.get::<Vec<i64>>(3)?.expect("not null")))
        })
    });
    for (table, shards) in names {
        know(table, shards.into_iter().map(|shard| shard as u64));
    }
    Some(Shards { column })
}

/// Fails for this table of Citus on a node that is not the coordinator, unless a setting allows it.
pub fn require_coordinator(table: &str) -> Result<(), SqlError> {
    if allow_other_nodes() {
        return Ok(());
    }
    let other = FIND_COORDINATOR.with(|find| {
        find.rows(&[], |row| {
            Ok((
                row.get(1)?.expect("not null"),
                row.get(2)?.expect("not null"),
            ))
        })
    });
    let Some((coordinator, database)) = other.into_iter().next() else {
        return Ok(());
    };
    let error = Error::NotCoordinator {
        destination: table.to_owned(),
        coordinator,
        database,
    };
    // The mapping is right, and its messages must not wait here.
    Err(SqlError {
        origin: Origin::Server,
        ..error.into()
    })
}

/// Whether the database has Citus.
fn is_there() -> bool {
    is_defined(c"citus.shard_count") && named("pg_catalog", "pg_dist_partition").is_some()
}
