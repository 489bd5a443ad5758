//! The code of an owner's mapping reads or closes the cursors of the session. A loop of PL/pgSQL has one, too: its rows are
//! the messages that come next.

use support::{message, run, upserted, value};

use super::{Scene, letter};

/// Messages in `inbox`, the first of them Mallory's. Her trigger does something with each cursor.
fn with_inbox(test: &str, does: &str) -> Scene {
    let scene = Scene::with_item(test, "guard => 'off'");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "create table inbox (n serial, payload text);
             grant select, delete on inbox to {}",
            scene.forwarder
        ),
    );
    for n in 1..=30 {
        let table = if n == 1 { "item" } else { "good" };
        let payload = message("insert", table, n, &format!(r#"{{"id":{n},"name":"n"}}"#));
        admin
            .execute("insert into inbox (payload) values ($1)", &[&payload])
            .expect("inserted");
    }
    scene.trigger(&format!(
        "declare
             cursors text[] = array(select name from pg_cursors where statement ~ 'inbox');
             c refcursor; r record;
         begin
             for i in 1..cardinality(cursors) loop
                 c = cursors[i];
                 {does}
             end loop;
             return new;
         end"
    ));
    scene
}

const READS: &str = "loop fetch c into r; exit when not found; end loop;";
const MOVES: &str = "move forward all in c;";
const CLOSES: &str = "close c;";

#[test]
fn by_reading_what_a_loop_would_read() {
    for (test, does) in [("reading", READS), ("moving", MOVES)] {
        for query in [
            "select payload from inbox i order by i.n",
            "delete from inbox returning payload",
        ] {
            let scene = with_inbox(&format!("cursors_{test}"), does);
            run(
                &mut scene.forwarder(),
                &format!(
                    "do $$
                     declare r record;
                     begin
                         for r in {query} loop perform sequin_apply(r.payload); end loop;
                     end $$"
                ),
            );
            let mut admin = scene.admin();
            assert_eq!(
                value(&mut admin, "select count(*) from good"),
                "29",
                "{query}"
            );
            let letter = letter(&mut admin);
            assert!(letter.starts_with("bad|55000|"), "{letter}");
        }
    }
}

#[test]
fn by_closing_what_the_forwarder_reads() {
    let scene = with_inbox("cursors_closing", CLOSES);
    let mut forwarder = scene.forwarder();
    for hold in ["", "with hold"] {
        let declare =
            format!("declare mine cursor {hold} for select payload from inbox order by n");
        let mut transaction = forwarder.transaction().expect("a transaction");
        transaction.batch_execute(&declare).expect("declared");
        if !hold.is_empty() {
            transaction.commit().expect("committed");
            transaction = forwarder.transaction().expect("a transaction");
        }
        let mut next = || {
            let row = transaction
                .query_one("fetch 1 from mine", &[])
                .expect("a row");
            let payload: String = row.get(0);
            transaction
                .query_one("select dead from sequin_apply($1)", &[&payload])
                .expect("applied")
                .get::<_, i64>(0)
        };
        assert_eq!([next(), next(), next()], [1, 0, 0], "{hold}");
        transaction.rollback().expect("rolled back");
    }
}

/// Cursors that the code itself opens, and those of the session in its own hands.
#[test]
fn its_own_cursors_stay_open() {
    let scene = with_inbox("cursors_own", READS);
    scene.trigger(
        "declare c cursor for select g from generate_series(1, 3) g; r record; sum integer = 0;
         begin
             for r in c loop sum = sum + r.g; end loop;
             for r in select g from generate_series(1, 3) g loop sum = sum + r.g; end loop;
             new.name = sum;
             return new;
         end",
    );
    let counts = support::apply(
        &mut scene.forwarder(),
        &message("insert", "item", 50, r#"{"id":50,"name":"n"}"#),
    );
    assert_eq!(counts, upserted(1));
    let name = "select name from mallory.item where id = 50";
    assert_eq!(value(&mut scene.admin(), name), "12");
}
