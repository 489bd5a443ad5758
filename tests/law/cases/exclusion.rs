//! Exclusion constraints.

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let ddl = "create table t (id int primary key, during int4range {null}, v text,
                               exclude using gist (during with &&) {deferred})";
    let rows = "insert into t values (1, '[1,5)', 'a'), (2, '[5,9)', 'b')";
    let mut cases = Vec::new();
    for (nullable, null) in [("", ""), ("not_null_", "not null")] {
        let ddl = ddl.replace("{null}", null);
        let immediate = ddl.replace("{deferred}", "");
        let of = |what: &str, ddl: &str, transactions: &[&str]| {
            Case::new(
                format!("{nullable}excluded_{what}"),
                ddl,
                rows,
                transactions,
            )
        };
        cases.push(of(
            "key_moves",
            &immediate,
            &[
                "update t set id = 3 where id = 1",
                "update t set v = 'c' where id = 3",
            ],
        ));
        cases.push(of(
            "taken_over",
            &immediate,
            &[
                "delete from t where id = 1",
                "insert into t values (3, '[2,4)', 'c')",
            ],
        ));
        cases.push(of(
            "moves_up",
            &immediate,
            &[
                "update t set during = '[7,9)' where id = 2; update t set during = '[3,7)' where id = 1",
                "insert into t values (4, '[1,3)', 'd')",
            ],
        ));
        cases.push(of(
            "exchanged",
            &ddl,
            &["update t set during = '[5,9)' where id = 1; update t set during = '[1,5)' where id = 2"],
        ));
        cases.push(of(
            "exchanged_in_part",
            &ddl,
            &[
                "update t set during = '[4,9)' where id = 1; update t set during = '[1,4)' where id = 2",
                "update t set id = 4 where id = 2",
            ],
        ));
        cases.push(of(
            "rotated",
            &ddl,
            &[
                "insert into t values (3, '[9,12)', 'c')",
                "update t set during = case id when 1 then '[5,9)' when 2 then '[9,12)' else '[1,5)' end::int4range",
            ],
        ));
    }
    let rooms = "create table room (id int primary key);
                 create table stay (id int primary key, room int not null references room {deferred}, during int4range not null,
                                    exclude using gist (int4range(room, room, '[]') with =, during with &&) {deferred})";
    let rows = "insert into room values (1), (2); insert into stay values (10, 1, '[1,5)'), (20, 2, '[1,5)')";
    cases.push(Case::new(
        "rooms_exchanged",
        rooms,
        rows,
        &["update stay set room = 2 where id = 10; update stay set room = 1 where id = 20"],
    ));
    cases.push(Case::new(
        "room_replaced",
        rooms,
        rows,
        &["insert into room values (3); update stay set room = 3 where id = 10; delete from room where id = 1",
          "insert into stay values (30, 3, '[5,8)')"],
    ));
    cases
}
