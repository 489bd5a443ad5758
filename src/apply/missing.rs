//! Messages of which nobody has noted what became of them. That is a fault of this extension.

#![forbid(unsafe_code)]

use super::attempts::Attempts;
use crate::changes::Changes;
use crate::error::{SqlError, sqlstate};
use crate::outcome::MessageNo;
use crate::stop::Stop;

/// Begins again if there are such messages, once in a call: another attempt may note all. After that they
/// become dead letters; to fail the call for them would bring the batch back for ever.
pub fn give_up_missing(changes: &mut Changes<'_>, attempts: &mut Attempts) -> Result<(), Stop> {
    let missing = missing(changes);
    if missing.is_empty() {
        return Ok(());
    }
    let again = !attempts.last && !std::mem::replace(&mut attempts.missed, true);
    for message in missing {
        let mapping = &changes.target.mapping.name;
        let position = changes.intake.message(message).position;
        pgrx::warning!("mapping \"{mapping}\": outcome of messages[{position}] missing");
        if !again {
            let error = SqlError::new(sqlstate::INTERNAL_ERROR, "outcome missing")
                .with_detail("The message was neither applied nor refused.")
                .with_hint("This is a bug in pg_sequin: please report it with the message.")
                .at(&format!("messages[{position}]"));
            changes.give_up(message, error, None);
        }
    }
    if again { Err(Stop::EXCLUSIVE) } else { Ok(()) }
}

fn missing(changes: &Changes<'_>) -> Vec<MessageNo> {
    #[cfg(any(test, feature = "pg_test"))]
    if tests::loses() {
        return vec![MessageNo(0)];
    }
    let missing = changes.ledger.missing();
    let mapping = &changes.target.mapping.name;
    debug_assert!(missing.is_empty(), "{mapping}: {missing:?} have no outcome");
    missing
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use std::cell::Cell;

    use pgrx::prelude::*;

    thread_local! {
        /// In how many attempts the outcome of the first message is lost.
        static LOST: Cell<u32> = const { Cell::new(0) };
    }

    /// Whether this attempt loses it.
    pub fn loses() -> bool {
        let lost = LOST.get();
        LOST.set(lost.saturating_sub(1));
        lost > 0
    }

    fn text(query: &str) -> String {
        let text = Spi::get_one::<String>(query);
        text.expect(query).expect(query)
    }

    /// Applies inserts of two rows; so many attempts lose an outcome. Returns the counts, the rows and the
    /// letters.
    fn applied(lost: u32) -> [String; 3] {
        Spi::run("create table public.lost (id int primary key, n int)").expect("created");
        // The version of a row would tell that its message was applied.
        Spi::run("select sequin.map('public.lost', 'public.lost', guard => 'off')")
            .expect("mapped");
        LOST.set(lost);
        let messages: Vec<String> = [1, 2]
            .iter()
            .map(|n| {
                format!(
                    r#"{{"action":"insert","record":{{"id":{n},"n":{n}}},"changes":null,
                        "metadata":{{"table_schema":"public","table_name":"lost","commit_lsn":{n},"commit_idx":0}}}}"#
                )
            })
            .collect();
        let batch = format!("[{}]", messages.join(","));
        let counts = text(&format!(
            "select concat_ws(' ', received, upserted, dead) from sequin_apply('{batch}'::text)"
        ));
        assert_eq!(LOST.get(), 0);
        let rows = text("select string_agg(id || '=' || n, ' ' order by id) from public.lost");
        let letters = text(
            "select coalesce(string_agg(concat_ws(' ', state, sqlstate, error), ';'), 'none')
             from sequin.dead_letter",
        );
        [counts, rows, letters]
    }

    #[pg_test]
    fn a_message_without_an_outcome_has_one_attempt_more() {
        assert_eq!(applied(1), ["2 2 0", "1=1 2=2", "none"]);
    }

    #[pg_test]
    fn a_message_without_an_outcome_again_is_a_dead_letter() {
        let letters = "dead XX000 outcome missing";
        assert_eq!(applied(2), ["2 1 1", "1=1 2=2", letters]);
    }
}
