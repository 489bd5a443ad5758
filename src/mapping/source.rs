//! The source tables of a mapping's messages.

#![forbid(unsafe_code)]

use std::cmp::{Ordering, Reverse};
use std::fmt;

use crate::error::fault::Fault;

/// `[database.]schema.table`. Names must be exactly as Sequin sends them, without folding of case. A `*`
/// stands for any characters, or none. A part in double quotes is literal, dots and stars included; `""`
/// in it is a quote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePattern {
    /// Name or id of the source database, as Sequin knows it; `None` is any.
    pub database: Option<Part>,
    /// Schema of the source table.
    pub schema: Part,
    /// The source table.
    pub table: Part,
}

/// One part of a [`SourcePattern`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// One name.
    Exact(String),
    /// All names of a pattern, which has a `*` in it.
    Glob(String),
}

impl Part {
    /// Whether the part matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Part::Exact(exact) => exact == name,
            Part::Glob(glob) => matches(glob.as_bytes(), name.as_bytes()),
        }
    }

    /// Whether this part matches every name that `other` matches. A star of `other` counts as a
    /// character that only a star matches.
    pub fn covers(&self, other: &Part) -> bool {
        match (self, other) {
            (Part::Exact(exact), Part::Exact(name)) => exact == name,
            (Part::Exact(_), Part::Glob(_)) => false,
            (Part::Glob(glob), Part::Exact(text) | Part::Glob(text)) => {
                matches(glob.as_bytes(), text.as_bytes())
            }
        }
    }

    /// Whether a name can match both parts.
    pub fn overlaps(&self, other: &Part) -> bool {
        match (self, other) {
            (Part::Exact(name), other) | (other, Part::Exact(name)) => other.matches(name),
            (Part::Glob(a), Part::Glob(b)) => have_common(a.as_bytes(), b.as_bytes()),
        }
    }

    /// Whether the part matches one name only.
    pub fn is_exact(&self) -> bool {
        matches!(self, Part::Exact(_))
    }

    fn literal_characters(&self) -> usize {
        match self {
            Part::Exact(name) => name.chars().count(),
            Part::Glob(glob) => glob.chars().filter(|c| *c != '*').count(),
        }
    }
}

/// Matches greedily and backtracks only to the last star: linear except for contrived patterns, never
/// exponential.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, n));
            g += 1;
        } else if g < glob.len() && glob[g] == name[n] {
            g += 1;
            n += 1;
        } else if let Some((star_g, star_n)) = star {
            star = Some((star_g, star_n + 1));
            g = star_g + 1;
            n = star_n + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

/// Whether two patterns match a common text: `common[j]` says so of the rest of `a` and `b[j..]`.
fn have_common(a: &[u8], b: &[u8]) -> bool {
    let mut common = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let after = common;
        common = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            let (star_a, star_b) = (a.get(i) == Some(&b'*'), b.get(j) == Some(&b'*'));
            common[j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                _ if star_a => after[j] || j < b.len() && common[j + 1],
                _ if star_b => common[j + 1] || i < a.len() && after[j],
                (Some(x), Some(y)) => x == y && after[j + 1],
                _ => false,
            };
        }
    }
    common[0]
}

/// How specific a pattern is. The first field that differs between two patterns decides.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    database_exact: bool,
    exact_parts: usize,
    table_exact: bool,
    database_given: bool,
    literal_characters: usize,
    table_characters: usize,
    stars: Reverse<usize>,
}

impl SourcePattern {
    /// The pattern of every table.
    pub fn everything() -> SourcePattern {
        let any = || Part::Glob("*".to_owned());
        SourcePattern {
            database: None,
            schema: any(),
            table: any(),
        }
    }

    /// Whether this pattern matches every table that `other` matches.
    pub fn covers(&self, other: &SourcePattern) -> bool {
        let database = match (&self.database, &other.database) {
            (None, _) => true,
            (Some(database), Some(other)) => database.covers(other),
            (Some(_), None) => false,
        };
        database && self.schema.covers(&other.schema) && self.table.covers(&other.table)
    }

    /// Whether a table can match both patterns.
    pub fn overlaps(&self, other: &SourcePattern) -> bool {
        let database = match (&self.database, &other.database) {
            (Some(database), Some(other)) => database.overlaps(other),
            _ => true,
        };
        database && self.schema.overlaps(&other.schema) && self.table.overlaps(&other.table)
    }

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<SourcePattern, Fault> {
        let wrong = |detail: String| {
            Fault::name(format!(
                "source \"{text}\" is not a pattern of source tables"
            ))
            .detail(detail)
            .hint(
                "Use [database.]schema.table, each part exact or with *, as in public.orders, \
                     public.* or shop.public.orders.",
            )
        };
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = parse_part(rest, parts.len() + 1).map_err(wrong)?;
            parts.push(part);
            match after {
                Some(after) => rest = after,
                None => break,
            }
        }
        let count = parts.len();
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(schema), Some(table), None, None) => Ok(SourcePattern {
                database: None,
                schema,
                table,
            }),
            (Some(database), Some(schema), Some(table), None) => Ok(SourcePattern {
                database: Some(database),
                schema,
                table,
            }),
            (Some(Part::Exact(_)), None, ..) if !text.starts_with('"') => Err(wrong(
                "It has no schema.".into(),
            )
            .hint(format!(
                "Sequin sends the schema with every message: if it is public, use public.{text}."
            ))),
            _ if count == 1 => Err(wrong("It has one part; expected two or three.".into())),
            _ => Err(
                wrong(format!("It has {count} parts; expected two or three.")).hint(
                    "Put double quotes around a part that has a dot in it, as in \
                 \"shop.example.com\".public.orders.",
                ),
            ),
        }
    }

    /// Whether the pattern takes messages of this table. `database_name` and `database_id` are
    /// `metadata.database.name` and `.id`, by which Sequin knows the source database.
    pub fn matches(
        &self,
        database_name: Option<&str>,
        database_id: Option<&str>,
        schema: &str,
        table: &str,
    ) -> bool {
        self.table.matches(table)
            && self.schema.matches(schema)
            && self.database_matches(database_name, database_id)
    }

    /// Whether the database part takes the database of this name or id.
    pub fn database_matches(&self, name: Option<&str>, id: Option<&str>) -> bool {
        match &self.database {
            None => true,
            Some(part) => [name, id].into_iter().flatten().any(|n| part.matches(n)),
        }
    }

    /// Whether the pattern has no `*`.
    pub fn is_exact(&self) -> bool {
        self.schema.is_exact()
            && self.table.is_exact()
            && self.database.as_ref().is_none_or(Part::is_exact)
    }

    /// `Greater` for the more specific of two patterns. In this order: a named database, more exact
    /// parts, an exact table, more literal characters.
    /// `Equal` only for equal patterns.
    pub fn specificity(&self, other: &SourcePattern) -> Ordering {
        self.rank()
            .cmp(&other.rank())
            .then_with(|| other.to_string().cmp(&self.to_string()))
    }

    fn rank(&self) -> Rank {
        let parts = || {
            [
                self.database.as_ref(),
                Some(&self.schema),
                Some(&self.table),
            ]
            .into_iter()
        };
        let given = || parts().flatten();
        Rank {
            database_exact: self.database.as_ref().is_some_and(Part::is_exact),
            exact_parts: given().filter(|p| p.is_exact()).count(),
            table_exact: self.table.is_exact(),
            database_given: self.database.is_some(),
            literal_characters: given().map(Part::literal_characters).sum(),
            table_characters: self.table.literal_characters(),
            stars: Reverse(
                given()
                    .map(|p| match p {
                        Part::Exact(_) => 0,
                        Part::Glob(glob) => glob.matches('*').count(),
                    })
                    .sum(),
            ),
        }
    }
}

/// Reads the part at the start of `text`; returns it and the text after its dot.
fn parse_part(text: &str, number: usize) -> Result<(Part, Option<&str>), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let Some(end) = rest.find('"') else {
                return Err(format!(
                    "The double quote that opens part {number} is not closed."
                ));
            };
            name.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    name.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        if name.is_empty() {
            return Err(format!("Part {number} is empty."));
        }
        return match rest.strip_prefix('.') {
            Some(after) => Ok((Part::Exact(name), Some(after))),
            None if rest.is_empty() => Ok((Part::Exact(name), None)),
            None => Err(format!(
                "Expected a dot or the end after the quoted part {number}."
            )),
        };
    }
    let (part, after) = match text.split_once('.') {
        Some((part, after)) => (part, Some(after)),
        None => (text, None),
    };
    if part.is_empty() {
        return Err(format!("Part {number} is empty."));
    }
    if part.contains('"') {
        return Err(format!(
            "Part {number} has a double quote in it; such a part must be quoted as a whole, and \
             the quote doubled."
        ));
    }
    if part.trim() != part {
        return Err(format!(
            "Part {number} begins or ends with white space; if that belongs to the name, put \
             double quotes around it."
        ));
    }
    let part = if part.contains('*') {
        Part::Glob(part.to_owned())
    } else {
        Part::Exact(part.to_owned())
    };
    Ok((part, after))
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Glob(glob) => f.write_str(glob),
            Part::Exact(name) if name.contains(['.', '*', '"']) || name.trim() != name => {
                write!(f, "\"{}\"", name.replace('"', "\"\""))
            }
            Part::Exact(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "{database}.")?;
        }
        write!(f, "{}.{}", self.schema, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> SourcePattern {
        SourcePattern::parse(text).unwrap_or_else(|f| panic!("{f:?}"))
    }

    fn detail(text: &str) -> String {
        SourcePattern::parse(text)
            .unwrap_err()
            .detail
            .clone()
            .unwrap()
    }

    #[test]
    fn two_or_three_parts() {
        assert_eq!(pattern("public.t").database, None);
        assert_eq!(
            pattern("db.public.t").database,
            Some(Part::Exact("db".into()))
        );
        assert_eq!(detail("t"), "It has no schema.");
        for one in ["*", "\"t\""] {
            assert_eq!(detail(one), "It has one part; expected two or three.");
        }
        assert_eq!(detail("a.b.c.d"), "It has 4 parts; expected two or three.");
        assert_eq!(detail(""), "Part 1 is empty.");
        assert_eq!(detail("public."), "Part 2 is empty.");
        assert_eq!(detail(".t"), "Part 1 is empty.");
    }

    #[test]
    fn quotes_are_literal() {
        let p = pattern(r#""a.b"."c*d"."e""f""#);
        assert!(p.is_exact());
        assert!(p.matches(Some("a.b"), None, "c*d", "e\"f"));
        assert!(!p.matches(Some("a.b"), None, "cxd", "e\"f"));
        assert_eq!(p.to_string(), r#""a.b"."c*d"."e""f""#);
        assert!(detail(r#""a.b"#).contains("not closed"));
        assert!(detail(r#""a"b.c"#).contains("Expected a dot"));
        assert!(detail(r#"a"b".c"#).contains("double quote"));
        assert!(detail("public. t").contains("white space"));
        assert_eq!(detail(r#""".t"#), "Part 1 is empty.");
    }

    #[test]
    fn only_names_that_need_quotes_are_printed_in_them() {
        for text in [
            "shop.public.orders",
            "public.order*",
            "a b.c",
            r#"" a"."b ""#,
            r#""*".c"#,
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(pattern(r#""a"."b""#).to_string(), "a.b");
    }

    #[test]
    fn a_pattern_with_a_database_is_more_specific() {
        let order = |a: &str, b: &str| pattern(a).specificity(&pattern(b));
        assert_eq!(order("x*.public.t", "public.t"), Ordering::Greater);
        assert_eq!(order("public.t", "x*.public.t"), Ordering::Less);
    }

    #[test]
    fn names_are_exact() {
        assert!(pattern("public.Orders").matches(None, None, "public", "Orders"));
        assert!(!pattern("public.Orders").matches(None, None, "public", "orders"));
    }

    #[test]
    fn the_database_goes_by_name_or_id() {
        let p = pattern("shop.public.t");
        assert!(p.matches(Some("shop"), Some("1"), "public", "t"));
        assert!(p.matches(Some("other"), Some("shop"), "public", "t"));
        assert!(!p.matches(Some("other"), None, "public", "t"));
        assert!(!p.matches(None, None, "public", "t"));
        assert!(pattern("public.t").matches(None, None, "public", "t"));
    }

    #[test]
    fn stars() {
        let matches = |glob: &str, name: &str| pattern(&format!("s.{glob}")).table.matches(name);
        assert!(matches("*", ""));
        assert!(matches("a*", "a"));
        assert!(matches("a*c", "abbc"));
        assert!(matches("*a*b*", "xaybz"));
        assert!(!matches("a*c", "abcd"));
        assert!(!matches("*a", "ab"));
        assert!(matches("*é*", "café!"));
        assert!(!matches(&"*a".repeat(30), &"a".repeat(29)));
    }

    #[test]
    fn the_more_specific_is_greater() {
        let order = [
            "*.*",
            "*.o*",
            "*.or*",
            "public.*",
            "*.orders",
            "shop_*.public.orders",
            "shop.*.*",
            "shop.public.*",
        ];
        for pair in order.windows(2) {
            let (less, more) = (pattern(pair[0]), pattern(pair[1]));
            assert_eq!(less.specificity(&more), Ordering::Less, "{less} {more}");
            assert_eq!(more.specificity(&less), Ordering::Greater, "{less} {more}");
        }
        assert_eq!(pattern("a.*").specificity(&pattern("a.*")), Ordering::Equal);
    }

    #[test]
    fn a_pattern_covers_what_can_match_nothing_else() {
        let covers = |a: &str, b: &str| pattern(a).covers(&pattern(b));
        for (wide, narrow) in [
            ("*.*", "shop.public.*"),
            ("public.*", "shop.public.orders"),
            ("shop.public.*", "shop.public.order*"),
            ("sh*.p*.o*", "sho*.p.o*s"),
            ("public.*", r#"public."*""#),
            ("public.t", "shop.public.t"),
            ("public.t", "public.t"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
            assert_eq!(covers(narrow, wide), wide == narrow, "{narrow} {wide}");
        }
        for (a, b) in [
            ("shop.public.t", "crm.public.t"),
            ("a.t", "b.t"),
            ("a.t", "a.u"),
            ("a*.t", "b.t"),
            ("a.t*", "a.u"),
            ("a.*t", "a.t*"),
        ] {
            assert!(!covers(a, b) && !covers(b, a), "{a} {b}");
        }
        assert!(SourcePattern::everything().covers(&pattern("*.*.*")));
    }

    #[test]
    fn patterns_overlap() {
        let overlap = |a: &str, b: &str| pattern(a).overlaps(&pattern(b));
        for (a, b) in [
            ("public.p*", "public.*e"),
            ("public.*", "*.people"),
            ("public.a*b*c", "public.ab*bc"),
            ("public.t", "shop.public.t"),
            ("public.*", r#"public."*""#),
        ] {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("public.a*", "public.b*"),
            ("public.*a", "public.*b"),
            ("public.a", "public.b"),
            ("eu.public.*", "us.public.t"),
            ("public.ab*", "public.*a*b"),
        ] {
            assert_eq!(overlap(a, b), a.contains("ab*"), "{a} {b}");
        }
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        proptest::collection::vec("[a-c*]{1,4}|\"[a.*]{1,3}\"", 2..=3).prop_map(|p| p.join("."))
    }

    /// Patterns so short that one often covers another.
    fn few_patterns() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab*]{1,2}|\\*|\"[a*]{1,2}\"", 2..=3).prop_map(|p| p.join("."))
    }

    proptest! {
        #[test]
        fn display_reads_back(text in any_pattern()) {
            let p = pattern(&text);
            prop_assert_eq!(pattern(&p.to_string()), p);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,20}") {
            let _ = SourcePattern::parse(&text);
        }

        #[test]
        fn globs_agree_with_the_obvious_definition(glob in "[ab*]{1,6}", name in "[ab]{0,6}") {
            fn obvious(g: &[u8], n: &[u8]) -> bool {
                match (g, n) {
                    ([], []) => true,
                    ([b'*', g @ ..], _) => (0..=n.len()).any(|i| obvious(g, &n[i..])),
                    ([a, g @ ..], [b, n @ ..]) => a == b && obvious(g, n),
                    _ => false,
                }
            }
            let expected = obvious(glob.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(glob.as_bytes(), name.as_bytes()), expected);
        }

        #[test]
        fn a_pattern_that_covers_another_matches_all_that_the_other_matches(
            a in few_patterns(), b in few_patterns(), fill in "[ab*.]{0,2}", by_id in any::<bool>(),
        ) {
            let (a, b) = (pattern(&a), pattern(&b));
            // what `b` matches, with the same text for each star
            let name = |part: &Part| match part {
                Part::Exact(name) => name.clone(),
                Part::Glob(glob) => glob.replace('*', &fill),
            };
            let database = b.database.as_ref().map(name);
            let (by_name, id) = match by_id {
                true => (None, database.as_deref()),
                false => (database.as_deref(), None),
            };
            let (schema, table) = (name(&b.schema), name(&b.table));
            prop_assert!(b.matches(by_name, id, &schema, &table));
            if a.covers(&b) {
                prop_assert!(a.matches(by_name, id, &schema, &table), "{a} covers {b}");
            }
            prop_assert!(b.covers(&b));
            // what covers nothing more than one name covers by matching
            if b.is_exact() && b.database.is_none() && a.database.is_none() {
                prop_assert_eq!(a.covers(&b), a.matches(None, None, &schema, &table));
            }
        }

        #[test]
        fn patterns_overlap_where_a_name_matches_both(
            a in few_patterns(), b in few_patterns(), schema in "[ab]{0,3}", table in "[ab*]{0,3}",
        ) {
            let (a, b) = (pattern(&a), pattern(&b));
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            prop_assert!(a.overlaps(&a));
            if a.covers(&b) {
                prop_assert!(a.overlaps(&b), "{a} covers {b}");
            }
            let both = |name: Option<&str>| {
                a.matches(name, None, &schema, &table) && b.matches(name, None, &schema, &table)
            };
            if [None, Some("a"), Some("ab")].into_iter().any(both) {
                prop_assert!(a.overlaps(&b), "{a} {b}: {schema}.{table}");
            }
        }

        #[test]
        fn specificity_is_an_order(a in any_pattern(), b in any_pattern(), c in any_pattern()) {
            let (a, b, c) = (pattern(&a), pattern(&b), pattern(&c));
            prop_assert_eq!(a.specificity(&b), b.specificity(&a).reverse());
            prop_assert_eq!(a.specificity(&b).is_eq(), a == b);
            if a.specificity(&b).is_le() && b.specificity(&c).is_le() {
                prop_assert!(a.specificity(&c).is_le());
            }
        }
    }
}
