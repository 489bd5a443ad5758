//! Names and texts as SQL writes them, for the statements that HINTs offer.

#![forbid(unsafe_code)]

/// Words that need double quotes as identifiers: every keyword of PostgreSQL 15 to 18 that is
/// not unreserved, as `quote_ident` has it.
const KEYWORDS: &str = " all analyse analyze and any array as asc asymmetric authorization between \
    bigint binary bit boolean both case cast char character check coalesce collate collation \
    column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user dec decimal default deferrable \
    desc distinct do else end except exists extract false fetch float for foreign freeze from \
    full grant greatest group grouping having ilike in initially inner inout int integer \
    intersect interval into is isnull join json json_array json_arrayagg json_exists json_object \
    json_objectagg json_query json_scalar json_serialize json_table json_value lateral leading \
    least left like limit localtime localtimestamp merge_action national natural nchar none \
    normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay \
    placing position precision primary real references returning right row select session_user \
    setof similar smallint some substring symmetric system_user table tablesample then time \
    timestamp to trailing treat trim true union unique user using values varchar variadic verbose \
    when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces \
    xmlparse xmlpi xmlroot xmlserialize xmltable ";

/// An identifier, in double quotes where it needs them.
pub fn ident(name: &str) -> String {
    let simple = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !KEYWORDS.contains(&format!(" {name} "));
    if simple {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Identifiers with commas between them.
pub fn idents<S: AsRef<str>>(names: &[S]) -> String {
    names
        .iter()
        .map(|n| ident(n.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A string as an SQL literal that reads the same whatever `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Names as the literal of an array of text: `'{a,b}'`.
pub fn array_literal<S: AsRef<str>>(names: &[S]) -> String {
    let element = |name: &str| {
        let simple = !name.is_empty()
            && !name.eq_ignore_ascii_case("null")
            && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if simple {
            name.to_owned()
        } else {
            format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
        }
    };
    let elements: Vec<_> = names.iter().map(|n| element(n.as_ref())).collect();
    literal(&format!("{{{}}}", elements.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_where_they_must_be() {
        assert_eq!(idents(&["id", "_a1"]), "id, _a1");
        assert_eq!(ident("order"), "\"order\"");
        assert_eq!(ident("xmltable"), "\"xmltable\"");
        assert_eq!(ident("all"), "\"all\"");
        assert_eq!(ident("Name"), "\"Name\"");
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(ident("1a"), "\"1a\"");
    }

    #[test]
    fn literals_read_the_same_everywhere() {
        assert_eq!(literal("o'hara"), "'o''hara'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }

    #[test]
    fn arrays() {
        assert_eq!(array_literal(&["a", "b_1"]), "'{a,b_1}'");
        assert_eq!(
            array_literal(&["a b", "c\"d", "null"]),
            r#"E'{"a b","c\\"d","null"}'"#
        );
    }
}
