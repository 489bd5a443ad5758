//! The members of the record that an expression of a mapping reads, as far as its text says.

#![forbid(unsafe_code)]

/// Types that are never TOASTed, as a cast behind a member spells them.
const SHORT: &[&str] = &[
    "int", "bigint", "smallint", "bool", "date", "time", "uuid", "float", "double", "real", "oid",
];

/// Whether the text of an expression reads this member of the record: it names the member, or takes the record as a
/// whole.
pub fn reads_member(sql: &str, member: &str) -> bool {
    sql.contains(member) || sql.contains(&member.replace('\'', "''")) || takes_record(sql)
}

/// Whether an expression takes the record as a whole, as `record::text` does. An operator or a comma behind the word
/// takes a part, whose name the text has.
fn takes_record(sql: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '"' || c == '\'';
    sql.match_indices("record").any(|(at, found)| {
        let (before, after) = (&sql[..at], &sql[at + found.len()..]);
        if before.ends_with(word) || after.starts_with(word) {
            return false;
        }
        let after = after.trim_start();
        let parts = ["->", "#>", "[", "?", "@", ","];
        !parts.iter().any(|part| after.starts_with(part))
    })
}

/// The members of the record that an expression reads as text or JSON, without a cast to a type of a fixed length.
pub fn large_members(sql: &str) -> Vec<String> {
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
        if !short {
            members.push(member.to_owned());
        }
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
        ] {
            assert!(reads_member(sql, "body"), "{sql}");
        }
        for sql in [
            "record->>'title'",
            "my_record(action)",
            "metadata->>'record_pks'",
        ] {
            assert!(!reads_member(sql, "body"), "{sql}");
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
