use super::fault::Fault;
use super::*;

fn every_error() -> Vec<Error> {
    vec![
        Error::BadJson {
            byte: 17,
            expected: "\",\" or \"]\"".into(),
            found: "\"x\"".into(),
        },
        Error::NullBatch,
        Error::MappingPaused {
            name: "o'hara".into(),
            keep: false,
        },
        Error::MappingPaused {
            name: "o'hara".into(),
            keep: true,
        },
        Error::MayNotExecute {
            kind: "function",
            name: "map",
        },
        Error::OutOfTime {
            mapping: "a".into(),
        },
        Error::OwnerGone {
            mapping: "a".into(),
            source: "public.s".into(),
            other: Some("o".into()),
            needs_grant: true,
        },
        Error::NotCoordinator {
            destination: "public.t".into(),
            coordinator: "localhost:5432".into(),
            database: "shop".into(),
        },
        Error::OutsideApply { function: "batch" },
        Error::OutsideResync,
        Error::NoSetting {
            name: "a".into(),
            nearest: Vec::new(),
        },
        Error::SetAndReset { name: "key".into() },
        Error::NotInFrom,
        Error::Variadic,
        Error::UnknownArgumentType { number: 1 },
        Error::SeveralColumns,
        Error::NotScalar {
            what: "aggregate functions",
        },
        Error::NotExpression,
        Error::NotAMessage {
            fault: "message is not an object".into(),
        },
        Error::Unmapped {
            table: "public.t".into(),
        },
        Error::MappingInUse,
        Error::NoCounterSlot,
        Error::CompiledEarlier,
        Error::SessionLock,
        Error::NoRole { oid: 1 },
        Error::SetConstraints,
        Error::RowsWent,
        Error::WouldCascade {
            update: false,
            table: "t".into(),
            referrer: "public.r".into(),
            constraint: "r_t_fkey".into(),
        },
        Error::NoKeyValue {
            column: "id".into(),
            source: "public.s".into(),
        },
        Error::FilterUnchanged {
            mapping: "a".into(),
            source: "public.s".into(),
        },
        Error::TakenByAnotherSource {
            columns: vec!["a".into()],
            destination: "public.t".into(),
            source: "shop".into(),
        },
        Error::NotOneRow,
        Error::DestinationGone {
            mapping: "a".into(),
        },
        Error::KeyAltered {
            mapping: "a".into(),
            stored: "id integer".into(),
            now: "id uuid".into(),
            rows: 2,
        },
        Error::Broken {
            mapping: "a".into(),
            faults: vec![
                Fault::column("column \"id\" of public.t does not exist").hint("Run: SELECT 1;"),
            ],
        },
        Error::OwnStatement {
            what: "read sequin.dead_letter".into(),
            why: "SPI error".into(),
        },
        Error::MappingNotFound {
            name: "a".into(),
            nearest: vec![],
        },
        Error::MappingNotFound {
            name: "a".into(),
            nearest: vec!["b".into(), "c".into()],
        },
        Error::NotUtf8 {
            encoding: "LATIN1".into(),
        },
        Error::OwnerNotYours { name: "a".into() },
        Error::MappingNotYours { name: "a".into() },
        Error::NoResync { name: "a".into() },
        Error::LetterNotFound { id: 1 },
        Error::NoRelation { oid: 1 },
        Error::NoColumn {
            name: "a".into(),
            relation: "public.t".into(),
            nearest: vec!["b".into()],
        },
        Error::NotJson {
            fault: "payload is null".into(),
        },
        Error::NoColumns,
        Error::DiscardsAll,
        Error::NoBuckets { count: 0 },
        Error::BatchNotMapping,
        Error::NotYoursToExplain { position: 1 },
        Error::SharedDestination { name: "a".into() },
        Error::Isolation {
            function: "sequin_apply",
        },
        Error::ResyncUnderWay {
            name: "a".into(),
            since: "2026-11-27 08:00:00+00".into(),
            confirmed: 3,
        },
        Error::HardlyConfirmed {
            name: "a".into(),
            destination: "public.t".into(),
            since: "2026-11-27 08:00:00+00".into(),
            confirmed: 3,
            rows: 10,
            share: Some("0.5".into()),
        },
        Error::HardlyConfirmed {
            name: "a".into(),
            destination: "public.t".into(),
            since: "2026-11-27 08:00:00+00".into(),
            confirmed: 0,
            rows: 10,
            share: None,
        },
        Error::NoShare { share: "2".into() },
        Error::NothingToConfirm { name: "a".into() },
        Error::ResyncBeganAgain { name: "a".into() },
        Error::RowsLocked {
            name: "a".into(),
            tries: 60,
        },
        Error::ReadOnly {
            work: "apply messages",
            standby: true,
        },
        Error::ReadOnly {
            work: "apply messages",
            standby: false,
        },
        Error::BatchTooLarge { bytes: 3, most: 2 },
        Error::TooManyMessages { most: 2 },
        Error::NotUnicode { byte: Some(7) },
        Error::OutOfMemory,
        Error::NotOfMapping,
        Error::MappingsChange,
        Error::NoAttemptStands { attempts: 30 },
        Error::NullArgument { argument: "name" },
    ]
}

#[test]
fn errors_have_the_server_style() {
    for error in every_error() {
        let SqlError {
            message,
            detail,
            hint,
            ..
        } = error.report();
        assert!(message.starts_with(char::is_lowercase), "{message}");
        assert!(!message.ends_with('.'), "{message}");
        for sentence in [detail, hint].into_iter().flatten() {
            assert!(sentence.starts_with(char::is_uppercase), "{sentence}");
            assert!(sentence.ends_with(['.', '?', ';']), "{sentence}");
        }
    }
}

#[test]
fn bad_json_says_where() {
    let report = every_error()[0].report();
    assert_eq!(report.code, sqlstate::INVALID_TEXT_REPRESENTATION);
    assert_eq!(
        report.detail.unwrap(),
        "Expected \",\" or \"]\", but found \"x\" at byte 17 of the batch."
    );
}

/// Senders send again what has an error of class 40.
#[test]
fn what_may_stand_another_time_is_a_serialization_failure() {
    for error in [
        Error::MappingsChange,
        Error::NoAttemptStands { attempts: 30 },
    ] {
        let report = error.report();
        assert_eq!(report.code.to_string(), "40001");
        let (detail, hint) = (report.detail.unwrap(), report.hint.unwrap());
        assert!(detail.contains("Nothing of this call was applied."));
        assert!(hint.starts_with("Send the batch again."));
    }
}

#[test]
fn names_are_quoted_in_statements() {
    let hint = every_error()[2].report().hint.unwrap();
    assert!(hint.ends_with("('o''hara');"), "{hint}");
}

#[test]
fn nearest_names_are_offered() {
    let error = Error::MappingNotFound {
        name: "a".into(),
        nearest: vec!["b".into(), "c".into()],
    };
    let hint = error.report().hint.unwrap();
    assert_eq!(hint, "Did you mean \"b\" or \"c\"?");
}
