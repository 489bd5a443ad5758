//! The keywords that quoting knows, compared with the server's. This needs a server, and quoting is pure.

#![forbid(unsafe_code)]

// The schema that `cargo pgrx test` calls; the macro asks for a module with its body.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::error::quote::ident;

    /// No name that a HINT offers without quotes is a keyword of this server.
    #[pg_test]
    fn every_keyword_of_the_server_is_quoted() {
        let words = Spi::connect(|client| {
            client
                .select(
                    "select word from pg_catalog.pg_get_keywords() where catcode <> 'U'",
                    None,
                    &[],
                )?
                .map(|row| Ok(row.get::<String>(1)?.expect("not null")))
                .collect::<Result<Vec<_>, pgrx::spi::Error>>()
        });
        let words = words.expect("keywords are read");
        assert!(words.len() > 100, "{words:?}");
        let bare: Vec<_> = words.iter().filter(|word| ident(word) == **word).collect();
        assert!(bare.is_empty(), "add to the keywords: {bare:?}");
    }
}
