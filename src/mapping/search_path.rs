//! The search_path of a mapping's SQL.

#![forbid(unsafe_code)]

/// `path` with `pg_temp` last, and nowhere else. A path that does not name `pg_temp` has it first: a
/// temporary table or type of the caller's would hide the one that the mapping's owner means, and its
/// functions would run with the owner's rights.
pub fn temporary_last(path: &str) -> String {
    let mut names = entries(path);
    names.retain(|name| !is_temporary(name));
    names.push("pg_temp");
    names.join(", ")
}

/// The names of the list as they are spelled. A comma in double quotes belongs to a name.
fn entries(path: &str) -> Vec<&str> {
    let mut quoted = false;
    path.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|name| !name.is_empty())
    .collect()
}

/// Whether a name is `pg_temp` or the schema of one session's temporary objects, `pg_temp_3`.
fn is_temporary(name: &str) -> bool {
    let name = match name.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').unwrap_or(quoted).to_owned(),
        None => name.to_ascii_lowercase(),
    };
    let number = name.strip_prefix("pg_temp_");
    name == "pg_temp" || number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::temporary_last;

    #[test]
    fn temporary_objects_are_searched_last() {
        for (path, wanted) in [
            ("", "pg_temp"),
            (" , ", "pg_temp"),
            ("\"\"", "\"\", pg_temp"),
            ("public", "public, pg_temp"),
            ("\"$user\",public", "\"$user\", public, pg_temp"),
            ("$user, public", "$user, public, pg_temp"),
            ("pg_temp, public", "public, pg_temp"),
            ("PG_Temp,\"pg_temp\" , public, pg_temp", "public, pg_temp"),
            ("pg_temp_3, public", "public, pg_temp"),
            (
                "pg_temp_x, pg_temporary",
                "pg_temp_x, pg_temporary, pg_temp",
            ),
            // another schema
            ("\"PG_TEMP\", a", "\"PG_TEMP\", a, pg_temp"),
            ("\"a, pg_temp\", b", "\"a, pg_temp\", b, pg_temp"),
            ("\"a\"\", pg_temp\", b", "\"a\"\", pg_temp\", b, pg_temp"),
            ("public, pg_catalog", "public, pg_catalog, pg_temp"),
        ] {
            assert_eq!(temporary_last(path), wanted, "{path}");
            assert_eq!(temporary_last(wanted), wanted, "{path} twice");
        }
    }
}
