//! Finds the mappings that a message goes to.
//!
//! Each owner's mappings are routed separately, so no owner takes the messages of another. Of an owner's
//! mappings, every exact one that matches takes the message. If none does, the most specific pattern that
//! matches decides among the mappings with wildcards: its mapping takes the message, or its mappings if
//! several have exactly the same pattern.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::mapping::source::Part;
use crate::mapping::{Mapping, SourcePattern};

/// Routes messages to mappings, given and returned by their index in the slice of all mappings.
#[derive(Debug, Default)]
pub struct Router {
    /// By owner.
    owners: BTreeMap<u32, OfOwner>,
    /// The id of each mapping.
    ids: Vec<i32>,
}

/// Routes messages to the mappings of one owner.
#[derive(Debug, Default)]
struct OfOwner {
    /// By schema, then table. A hit costs two hashes and no allocation.
    exact: HashMap<String, HashMap<String, Candidates>>,
    /// Most specific first.
    wildcards: Vec<(SourcePattern, Vec<usize>)>,
}

/// The exact mappings of one schema and table, in order of their ids.
#[derive(Debug, Default)]
struct Candidates {
    mappings: Vec<usize>,
    /// The mappings whose patterns name a database, with these patterns.
    databases: Vec<(usize, SourcePattern)>,
}

impl Router {
    /// A router for `mappings`. Paused mappings take their messages too: the caller decides what a pause
    /// means.
    pub fn new(mappings: &[Mapping]) -> Router {
        Router::made(
            mappings
                .iter()
                .map(|m| (m.id, m.owner, m.is_routed.then_some(&m.source))),
        )
    }

    /// A router for patterns with the ids and owners of their mappings.
    #[cfg(test)]
    pub fn of<'a>(patterns: impl IntoIterator<Item = (i32, u32, &'a SourcePattern)>) -> Router {
        let patterns = patterns.into_iter();
        Router::made(patterns.map(|(id, owner, pattern)| (id, owner, Some(pattern))))
    }

    /// A mapping without a pattern takes nothing.
    fn made<'a>(
        patterns: impl IntoIterator<Item = (i32, u32, Option<&'a SourcePattern>)>,
    ) -> Router {
        let mut patterns: Vec<_> = patterns.into_iter().enumerate().collect();
        let ids = patterns.iter().map(|(_, (id, ..))| *id).collect();
        patterns.sort_by_key(|(_, (id, ..))| *id);
        let mut owners: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (index, (_, owner, pattern)) in patterns {
            let of_owner = owners.entry(owner).or_default();
            of_owner.extend(pattern.map(|pattern| (index, pattern)));
        }
        let owners = owners
            .into_iter()
            .map(|(owner, patterns)| (owner, OfOwner::new(patterns)))
            .collect();
        Router { owners, ids }
    }

    /// The mappings that take a message of this table, in order of their ids; empty if there are none.
    /// `database_name` and `database_id` are `metadata.database.name` and `.id`.
    pub fn route(
        &self,
        database_name: Option<&str>,
        database_id: Option<&str>,
        schema: &str,
        table: &str,
    ) -> Cow<'_, [usize]> {
        let mut found: Cow<'_, [usize]> = Cow::Borrowed(&[]);
        for owner in self.owners.values() {
            let more = owner.route(database_name, database_id, schema, table);
            if found.is_empty() {
                found = more;
            } else if !more.is_empty() {
                found.to_mut().extend_from_slice(&more);
            }
        }
        if let Cow::Owned(found) = &mut found {
            found.sort_by_key(|index| self.ids[*index]);
        }
        found
    }
}

impl OfOwner {
    fn new(patterns: Vec<(usize, &SourcePattern)>) -> OfOwner {
        let mut router = OfOwner::default();
        for (index, pattern) in patterns {
            if let (Part::Exact(schema), Part::Exact(table), true) =
                (&pattern.schema, &pattern.table, pattern.is_exact())
            {
                let tables = router.exact.entry(schema.clone()).or_default();
                let candidates = tables.entry(table.clone()).or_default();
                candidates.mappings.push(index);
                if pattern.database.is_some() {
                    candidates.databases.push((index, pattern.clone()));
                }
            } else {
                match router
                    .wildcards
                    .iter_mut()
                    .find(|(known, _)| known == pattern)
                {
                    Some((_, mappings)) => mappings.push(index),
                    None => router.wildcards.push((pattern.clone(), vec![index])),
                }
            }
        }
        router.wildcards.sort_by(|(a, _), (b, _)| b.specificity(a));
        router
    }

    fn route(
        &self,
        database_name: Option<&str>,
        database_id: Option<&str>,
        schema: &str,
        table: &str,
    ) -> Cow<'_, [usize]> {
        if let Some(candidates) = self.exact.get(schema).and_then(|tables| tables.get(table)) {
            if candidates.databases.is_empty() {
                return Cow::Borrowed(&candidates.mappings);
            }
            let refused = |index: &usize| {
                candidates.databases.iter().any(|(i, pattern)| {
                    i == index && !pattern.database_matches(database_name, database_id)
                })
            };
            let taken: Vec<usize> = candidates
                .mappings
                .iter()
                .copied()
                .filter(|index| !refused(index))
                .collect();
            if !taken.is_empty() {
                return Cow::Owned(taken);
            }
        }
        let found = self
            .wildcards
            .iter()
            .find(|(pattern, _)| pattern.matches(database_name, database_id, schema, table));
        Cow::Borrowed(found.map_or(&[], |(_, mappings)| mappings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> SourcePattern {
        SourcePattern::parse(text).unwrap()
    }

    fn route(patterns: &[&str], database: Option<&str>, schema: &str, table: &str) -> Vec<usize> {
        let patterns: Vec<_> = patterns.iter().map(|p| pattern(p)).collect();
        let router = Router::of(patterns.iter().enumerate().map(|(i, p)| (i as i32, 1, p)));
        router.route(database, None, schema, table).into_owned()
    }

    #[test]
    fn exact_mappings_fan_out() {
        let patterns = [
            "public.t",
            "public.*",
            "public.t",
            "shop.public.t",
            "public.u",
        ];
        assert_eq!(route(&patterns, Some("shop"), "public", "t"), [0, 2, 3]);
        assert_eq!(route(&patterns, Some("other"), "public", "t"), [0, 2]);
        let patterns = ["shop.public.t", "crm.public.t", "public.t"];
        assert_eq!(route(&patterns, Some("shop"), "public", "t"), [0, 2]);
        assert_eq!(route(&patterns, Some("crm"), "public", "t"), [1, 2]);
        let patterns = ["public.t", "public.*", "public.u"];
        assert_eq!(route(&patterns, None, "public", "u"), [2]);
        assert_eq!(route(&patterns, None, "public", "v"), [1]);
        assert!(route(&patterns, None, "private", "t").is_empty());
    }

    #[test]
    fn the_most_specific_wildcard_wins() {
        let patterns = ["*.*", "public.*", "public.order*", "shop.*.*", "*.order*"];
        assert_eq!(route(&patterns, None, "public", "orders"), [2]);
        assert_eq!(route(&patterns, None, "public", "users"), [1]);
        assert_eq!(route(&patterns, None, "crm", "orders"), [4]);
        assert_eq!(route(&patterns, None, "crm", "users"), [0]);
        assert_eq!(route(&patterns, Some("shop"), "public", "orders"), [3]);
    }

    #[test]
    fn the_same_wildcard_twice_fans_out() {
        assert_eq!(route(&["a.*", "*.*", "a.*"], None, "a", "t"), [0, 2]);
    }

    #[test]
    fn an_exact_mapping_of_another_database_leaves_the_wildcards() {
        assert_eq!(
            route(&["shop.public.t", "public.*"], Some("crm"), "public", "t"),
            [1]
        );
    }

    #[test]
    fn ids_decide_the_order_not_places() {
        let p = pattern("a.b");
        let router = Router::of([(7, 1, &p), (3, 2, &p), (5, 1, &p)]);
        assert_eq!(*router.route(None, None, "a", "b"), [1, 2, 0]);
        for p in ["a.b", "a.*"].map(pattern) {
            let router = Router::of([(7, 1, &p), (3, 1, &p)]);
            assert_eq!(*router.route(None, None, "a", "b"), [1, 0]);
        }
    }

    #[test]
    fn each_owner_is_routed_by_himself() {
        let (exact, wildcard) = (pattern("a.b"), pattern("a.*"));
        let router = Router::of([(1, 7, &wildcard), (2, 8, &exact), (3, 8, &wildcard)]);
        assert_eq!(*router.route(None, None, "a", "b"), [0, 1]);
        assert_eq!(*router.route(None, None, "a", "c"), [0, 2]);
    }

    fn any_pattern() -> impl Strategy<Value = SourcePattern> {
        proptest::collection::vec("[ab*]{1,2}", 2..=3).prop_map(|p| pattern(&p.join(".")))
    }

    proptest! {
        #[test]
        fn routing_agrees_with_the_rule(
            patterns in proptest::collection::vec(any_pattern(), 0..8),
            database in proptest::option::of("[ab]{1,2}"),
            id in proptest::option::of("[ab]{1,2}"),
            schema in "[ab]{1,2}",
            table in "[ab]{1,2}",
        ) {
            let router = Router::of(patterns.iter().enumerate().map(|(i, p)| (i as i32, 1, p)));
            let found = router.route(database.as_deref(), id.as_deref(), &schema, &table);
            let matching: Vec<usize> = (0..patterns.len())
                .filter(|i| patterns[*i].matches(database.as_deref(), id.as_deref(), &schema, &table))
                .collect();
            let exact: Vec<usize> =
                matching.iter().copied().filter(|i| patterns[*i].is_exact()).collect();
            if !exact.is_empty() {
                prop_assert_eq!(&*found, &exact[..]);
            } else {
                let best = matching
                    .iter()
                    .copied()
                    .filter(|i| matching.iter().all(|j| patterns[*i].specificity(&patterns[*j]).is_ge()))
                    .collect::<Vec<_>>();
                prop_assert_eq!(&*found, &best[..]);
            }
        }
    }
}
