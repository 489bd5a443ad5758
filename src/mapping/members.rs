//! The members of the record that an expression of a mapping reads, as far as its text says.

#![forbid(unsafe_code)]

/// Types that are never TOASTed, as a cast behind a member spells them.
const SHORT: &[&str] = &[
    "int", "bigint", "smallint", "bool", "date", "time", "uuid", "float", "double", "real", "oid",
];

/// Whether the text of an expression reads this member of the record: it names the member, or takes the record as a
/// whole.
pub fn reads_member(sql: &str, member: &str) -> bool {
    names(sql, member)
        || member.contains('\'') && names(sql, &member.replace('\'', "''"))
        || takes_record(sql)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the text has this name, not as a part of a longer word.
fn names(sql: &str, name: &str) -> bool {
    let begins = name.starts_with(is_word);
    let ends = name.ends_with(is_word);
    sql.match_indices(name).any(|(at, found)| {
        !(begins && sql[..at].ends_with(is_word)
            || ends && sql[at + found.len()..].starts_with(is_word))
    })
}

/// Functions that take a part of the record, whose name the text has if no path has a wildcard.
const PART_OF: &[&str] = &["jsonb_extract_path", "jsonb_path_"];

/// Whether an expression takes the record as a whole, as `record::text` does, or a part that the text does not name, as
/// `record->>lower(action)`.
fn takes_record(sql: &str) -> bool {
    let is_wild = sql.contains(".*") || sql.contains("keyvalue");
    sql.match_indices("record").any(|(at, found)| {
        let (before, after) = (&sql[..at], &sql[at + found.len()..]);
        if before.ends_with(is_word) || before.ends_with('\'') || after.starts_with(is_word) {
            return false;
        }
        // it may stand in quotes
        let before = before.strip_suffix('"').unwrap_or(before).trim_end();
        let after = after.strip_prefix('"').unwrap_or(after).trim_start();
        let is_text = |text: &str| text.trim_start().starts_with(['\'', '$', 'E', 'e']);
        let key = ["->>", "->", "#>>", "#>", "["];
        let key = key.iter().find_map(|sign| after.strip_prefix(sign));
        match (key, after.starts_with(',')) {
            (Some(key), _) => !is_text(key),
            (None, true) => {
                let function = before.strip_suffix('(').unwrap_or_default().trim_end();
                let name = function.rsplit(|c| !is_word(c)).next();
                let takes_part =
                    name.is_some_and(|name| PART_OF.iter().any(|f| name.starts_with(f)));
                is_wild || !takes_part
            }
            (None, false) => is_wild || !(after.starts_with('?') || after.starts_with('@')),
        }
    })
}

/// The members of the record that an expression reads as text or JSON, without a cast to a type of a fixed length.
pub fn large_members(sql: &str) -> Vec<String> {
    let members = members(sql).into_iter();
    members
        .filter_map(|(member, short)| (!short).then_some(member))
        .collect()
}

/// The members of the record that an expression reads by an arrow, and whether a cast to a type of a fixed length is
/// behind.
pub fn members(sql: &str) -> Vec<(String, bool)> {
    let mut members = Vec::new();
    for (at, found) in sql.match_indices("record") {
        let after = sql[at + found.len()..].trim_start();
        let Some(after) = after.strip_prefix("->") else {
            continue;
        };
        let after = after.strip_prefix('>').unwrap_or(after).trim_start();
        let Some((member, after)) = after.strip_prefix('\'').and_then(|s| s.split_once('\''))
        else {
            continue;
        };
        let cast = after.trim_start().trim_start_matches(')').trim_start();
        let cast = cast.strip_prefix("::").map(str::trim_start);
        let short = cast.is_some_and(|cast| SHORT.iter().any(|name| cast.starts_with(name)));
        members.push((member.to_owned(), short));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_reads_the_members_that_it_names() {
        for sql in [
            "record->>'body' = 'x'",
            "record ->> 'body'",
            "lower(record#>>'{body,a}')",
            "jsonb_path_exists(record, '$.body')",
            "record['body'] is null",
            "md5(record::text)",
            "to_tsvector(record)",
            "my_function(record, 'x')",
            "concat('x', record, 'y')",
            "md5(\"record\"::text)",
            "jsonb_path_query_first(record, '$.*')",
            "record->>lower(action)",
            "jsonb_populate_record(null::item, record)",
            "jsonb_extract_path_text(record, 'body')",
            "record - 'title'",
        ] {
            assert!(reads_member(sql, "body"), "{sql}");
        }
        for sql in [
            "record->>'title'",
            "my_record(action)",
            "metadata->>'record_pks'",
            "record->>'body_length'",
            "record->>'somebody'",
            "jsonb_extract_path_text(record, 'title')",
            "pg_catalog.jsonb_path_query_first ( record , '$.title')",
            "record ? 'title'",
            "record @> '{\"title\": 1}'",
            "record['title']",
            "record #>> $$title$$",
            "(my_record) = 'x'",
            "metadata->>'record'",
            "(records->>'title')",
        ] {
            assert!(!reads_member(sql, "body"), "{sql}");
        }
    }

    #[test]
    fn a_member_may_have_any_name() {
        assert!(reads_member("record->>'it''s'", "it's"));
        assert!(!reads_member("record->>'its'", "it's"));
        // a letter makes another name only beside a letter of the name
        for (member, read, others) in [
            ("size-", ["size-", "size-1"], ["1size-", "oversize-"]),
            ("-size", ["-size", "1-size"], ["-size1", "-sizes"]),
        ] {
            for name in read {
                assert!(
                    reads_member(&format!("record->>'{name}'"), member),
                    "{name}"
                );
            }
            for name in others {
                assert!(
                    !reads_member(&format!("record->>'{name}'"), member),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn members_that_can_be_large() {
        let members = |sql| large_members(sql).join(" ");
        assert_eq!(
            members("record->>'a' = 'x' and record -> 'b' is null"),
            "a b"
        );
        assert_eq!(
            members("(record->>'a')::int + (record->>'b')::numeric"),
            "b"
        );
        assert_eq!(members("changes->>'a'"), "");
    }
}
