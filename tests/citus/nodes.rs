//! Servers with Citus: a coordinator that holds shards, and a worker.

use postgres::Client;
use support::{has_extensions, run, server, value};

use super::cluster::Cluster;

/// A coordinator that holds shards and, with a database on the worker too, a worker.
pub struct Nodes {
    coordinator: Cluster,
    worker: Cluster,
}

const SETTINGS: &[&str] = &[
    "shared_preload_libraries=citus",
    "citus.node_conninfo='sslmode=prefer'",
    "citus.shard_count=4",
    "citus.enable_statistics_collection=off",
    "citus.max_cached_conns_per_worker=4",
    "max_prepared_transactions=50",
    "wal_level=logical",
];

/// On one node alone: nothing of the extension runs on another one.
pub const EXTENSION: &str =
    "begin; set local citus.enable_ddl_propagation = off; create extension pg_sequin; commit";

impl Nodes {
    /// `None` if the server does not offer Citus.
    pub fn new(test: &str) -> Option<Nodes> {
        if !has_extensions(&mut server(), &["citus"]) {
            return None;
        }
        let nodes = Nodes {
            coordinator: Cluster::with(test, SETTINGS),
            worker: Cluster::with(&format!("{test}_worker"), SETTINGS),
        };
        run(&mut nodes.worker(), "create extension citus");
        let mut client = nodes.connect();
        run(&mut client, "create extension citus");
        for (call, node) in [
            ("citus_set_coordinator_host", &nodes.coordinator),
            ("citus_add_node", &nodes.worker),
        ] {
            let call = format!("select {call}('{}', 5432)", node.host());
            value(&mut client, &call);
        }
        let shards = format!(
            "select citus_set_node_property('{}', 5432, 'shouldhaveshards', true)",
            nodes.coordinator.host()
        );
        value(&mut client, &shards);
        run(&mut client, EXTENSION);
        Some(nodes)
    }

    /// A connection to the coordinator.
    pub fn connect(&self) -> Client {
        let mut client = self.coordinator.connect("postgres");
        run(&mut client, "set client_min_messages = error");
        client
    }

    /// A connection to the worker.
    pub fn worker(&self) -> Client {
        self.worker.connect("postgres")
    }
}
