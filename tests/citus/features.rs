//! What a mapping can do, each with tables of its own.

mod constraints;
mod operations;
mod rows;
mod values;

use super::scene::Scene;

/// What a feature does in a scene.
pub type Feature = fn(&mut Scene);

/// Names and what they do.
pub const FEATURES: &[(&str, Feature)] = &[
    ("insert", rows::insert),
    ("many inserts", rows::many_inserts),
    ("update", rows::update),
    ("update before insert", rows::update_first),
    ("delete", rows::delete),
    ("key change", rows::key_change),
    ("key exchange in a batch", rows::key_exchange),
    ("key change with own columns", rows::own_columns),
    ("key change in a shard", rows::own_columns_of_tenant),
    ("upsert of existing rows", rows::upsert_of_existing),
    ("stale messages", rows::stale),
    ("several changes of a row", rows::several),
    ("unchanged TOAST", values::toast),
    ("unchanged TOAST that must be there", values::toast_not_null),
    ("partial update", values::partial),
    ("document", values::document),
    ("soft delete", values::soft_delete),
    ("reads", values::reads),
    ("filter", values::filter),
    ("SQL column", values::sql_column),
    ("append", values::append),
    ("append without key", values::append_without_key),
    ("key of text with spellings", values::spellings),
    ("key alone", values::key_alone),
    ("two columns in the key", values::two_columns),
    ("identity and generated column", values::identity),
    ("resync", operations::resync),
    ("resync in portions", operations::resync_in_portions),
    ("resync with soft delete", operations::resync_soft),
    ("unique value that another row has", constraints::unique),
    ("unique values exchanged", constraints::unique_exchange),
    ("foreign key before its row", constraints::foreign_key),
    (
        "delete of a row that is referred to",
        constraints::foreign_key_delete,
    ),
    ("cascade", constraints::cascade),
    ("dead letters", operations::dead_letters),
    ("dead letter superseded", operations::superseded),
    ("retry by hand", operations::retry),
    ("several tables in a batch", operations::several_tables),
    ("explain", operations::explain),
    ("explain a batch", operations::explain_batch),
    ("fingerprint", operations::fingerprint),
    ("forget versions", operations::forget),
    ("another guard", operations::other_guard),
    ("another key", operations::other_key),
    ("partitioned table", operations::partitioned),
    ("two mappings of a table", operations::two_mappings),
];
