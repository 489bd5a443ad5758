//! That the other tests can fail: what a source sends, and what is seen when messages do not come.

use crate::case::{Case, History};
use crate::delivery::Delivery;
use crate::destination::Destination;
use crate::source::{Source, brief};

fn family() -> Case {
    Case::new(
        "family",
        "create table p (id int primary key, name text, ok boolean, during int4range);
         create table k (id bigint primary key, p int references p {deferred})",
        "insert into p values (1, 'it''s \"a\"', true, '[1,5)')",
        &[
            "insert into k values (10, 2); insert into p values (2, null, false, null)",
            "update p set id = 3, name = 'b' where id = 1; delete from k",
        ],
    )
}

#[test]
fn a_source_sends_what_sequin_sends() {
    let mut source = Source::new("seen_source");
    let said = |history: &History| -> Vec<String> {
        let all = history.initial.iter().chain(&history.sent);
        all.map(|sent| brief(&sent.message)).collect()
    };
    let full = History::of(&family(), &mut source, true).expect("it runs");
    let full = full.expect("it says all");
    assert_eq!(
        said(&full),
        [
            r#"100/0 insert p {"id":1,"name":"it's \"a\"","ok":true,"during":"[1,5)"}"#,
            r#"200/0 insert k {"id":10,"p":2}"#,
            r#"200/1 insert p {"id":2,"name":null,"ok":false,"during":null}"#,
            r#"300/0 update p {"id":3,"name":"b","ok":true,"during":"[1,5)"} was {"id":1,"name":"it's \"a\""}"#,
            r#"300/1 delete k {"id":10,"p":2}"#,
        ]
    );
    assert_eq!(full.wanted, ["p (2,,f,)", r#"p (3,b,t,"[1,5)")"#]);
    // the key that the row has left is nowhere
    let default = History::of(&family(), &mut source, false).expect("it runs");
    assert!(default.is_none());
}

#[test]
fn what_is_wrong_is_seen() {
    let mut source = Source::new("seen_wrong");
    let mut destination = Destination::new("seen_wrong");
    let case = family();
    let history = History::of(&case, &mut source, true).expect("it runs");
    let history = history.expect("it says all");
    destination
        .make(&case.destination_ddl(), &history.tables, "columns")
        .expect("the destination");
    let whole = Delivery(vec![vec![0, 1], vec![2, 3]]);
    assert!(destination.deliver(&history, &whole).is_right());
    // a child without a parent, and a row without its last change
    let parted = destination.deliver(&history, &Delivery(vec![vec![0, 2]]));
    assert_eq!(parted.differs, ["missing  p (2,,f,)"]);
    assert_eq!(parted.letters.len(), 1);
    let parted = destination.deliver(&history, &Delivery(vec![vec![0], vec![1], vec![3]]));
    assert_eq!(
        parted.differs,
        [
            r#"too many p (1,"it's ""a""",t,"[1,5)")"#,
            r#"missing  p (3,b,t,"[1,5)")"#
        ]
    );
    assert_eq!(parted.letters, [""; 0]);
    // several sessions end as one does
    let parted = Delivery(vec![vec![0], vec![1], vec![2], vec![3]]);
    assert!(destination.deliver_at_once(&history, &parted, 2).is_right());
    let parted = Delivery(vec![vec![0], vec![1], vec![2]]);
    let parted = destination.deliver_at_once(&history, &parted, 2);
    assert_eq!(parted.differs, ["too many k (10,2)"]);
}
