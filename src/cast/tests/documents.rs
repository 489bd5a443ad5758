//! `json` and `jsonb`: the fast paths give the same bytes as the input functions.

// The schema that `cargo pgrx test` calls; the macro asks for a module with its body.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::cast::tests::dice::Dice;
    use crate::cast::tests::*;
    use crate::json::Jsonb;

    /// A document type, cast by the fast path and by the input function.
    struct Documents {
        of: &'static str,
        fast: Column,
        slow: Column,
        hits: usize,
        misses: usize,
    }

    impl Documents {
        fn all() -> [Documents; 2] {
            ["json", "jsonb"].map(|of| Documents {
                of,
                fast: Column::new(of),
                slow: Column::slow(of),
                hits: 0,
                misses: 0,
            })
        }

        fn check(&mut self, value: Json<'_>) {
            match self.fast.fast(value, &Bump::new()) {
                None => self.misses += 1,
                Some(image) => {
                    self.hits += 1;
                    let (of, text) = (self.of, value.text());
                    assert!(self.slow.input(value) == Ok(image), "{of} {text}");
                }
            }
        }
    }

    /// Collects a value and all values inside it.
    fn parts<'a>(value: Json<'a>, to: &mut Vec<Json<'a>>) {
        to.push(value);
        for (_, member) in value.members() {
            parts(member, to);
        }
        for element in value.elements() {
            parts(element, to);
        }
    }

    /// A document, sent as text or in `jsonb`, gets the bytes that the input function makes.
    #[pg_test]
    fn documents_equal_the_input_functions() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let mut sent: Vec<String> = (0..4000).map(|n| dice.document(n % 7)).collect();
        for depth in [5, 100, 255] {
            sent.push(format!("{}1{}", "[".repeat(depth), "]".repeat(depth)));
            let levels = "{\"k\":[1.5,\"é\",".repeat(depth / 2);
            sent.push(levels + "{}" + &"]}".repeat(depth / 2));
        }
        for count in [31, 32, 33, 63, 64, 65, 127, 128, 129, 5000] {
            let items: Vec<_> = (0..count).map(|_| dice.document(0)).collect();
            sent.push(format!("[{}]", items.join(",")));
            let member = |(n, item): (usize, &String)| format!("\"{}\":{item}", n * 7919 % count);
            let members: Vec<_> = items.iter().enumerate().map(member).collect();
            let members = members.join(",");
            sent.push(format!("{{{members}}}"));
            sent.push(format!("{{{members},{members},\"{count}\":[[]]}}"));
        }
        let [mut json, mut jsonb] = Documents::all();
        let mut checked = 0;
        for text in &sent {
            let value = Json::parse(text).expect(text);
            json.check(value);
            jsonb.check(value);
            let binary = jsonb_bytes(text);
            let mut all = Vec::new();
            parts(Json::Binary(Jsonb::new(&binary[4..])), &mut all);
            // every part of a few documents, and the outermost parts of the others
            let most = if dice.below(20) == 0 { 200 } else { 3 };
            for value in all.into_iter().take(most) {
                checked += 1;
                json.check(value);
                jsonb.check(value);
            }
        }
        assert_eq!(json.misses, 0);
        assert!(jsonb.misses < sent.len() / 10, "{}", jsonb.misses);
        assert_eq!(json.hits, sent.len() + checked);
    }

    const FIXTURES: &[&str] = &[
        include_str!("../../../tests/fixtures/azure_event_hub_event_body.json"),
        include_str!("../../../tests/fixtures/azure_event_hub_publish_request.json"),
        include_str!("../../../tests/fixtures/characters_delete_replica_default.json"),
        include_str!("../../../tests/fixtures/characters_detailed_insert_live.json"),
        include_str!("../../../tests/fixtures/characters_detailed_read_backfill.json"),
        include_str!("../../../tests/fixtures/characters_ident_full_delete.json"),
        include_str!("../../../tests/fixtures/characters_ident_full_update.json"),
        include_str!("../../../tests/fixtures/characters_insert.json"),
        include_str!("../../../tests/fixtures/characters_update_replica_default.json"),
        include_str!("../../../tests/fixtures/commit_lsn_above_2_53_synthetic.json"),
        include_str!("../../../tests/fixtures/composite_pk_delete_replica_default.json"),
        include_str!("../../../tests/fixtures/composite_pk_insert.json"),
        include_str!("../../../tests/fixtures/docs_example_insert_price_as_number.json"),
        include_str!("../../../tests/fixtures/docs_example_read_with_lsn.json"),
        include_str!("../../../tests/fixtures/duplicate_redelivery_batch.json"),
        include_str!("../../../tests/fixtures/gcp_pubsub_publish_request.json"),
        include_str!("../../../tests/fixtures/gcp_pubsub_push_wrapper.json"),
        include_str!("../../../tests/fixtures/generated_column_insert_live_omits_it.json"),
        include_str!("../../../tests/fixtures/generated_column_read_backfill_includes_it.json"),
        include_str!("../../../tests/fixtures/insert_with_enrichment.json"),
        include_str!("../../../tests/fixtures/insert_with_transaction_annotations.json"),
        include_str!("../../../tests/fixtures/json_column_with_nul_escape.json"),
        include_str!("../../../tests/fixtures/kafka_record.json"),
        include_str!("../../../tests/fixtures/kafka_record_delete_not_tombstone.json"),
        include_str!("../../../tests/fixtures/kinesis_put_records_request.json"),
        include_str!("../../../tests/fixtures/legacy_2024_09_update_issue_259.json"),
        include_str!("../../../tests/fixtures/legacy_2024_11_event_insert.json"),
        include_str!("../../../tests/fixtures/legacy_2024_11_record_kind_read.json"),
        include_str!("../../../tests/fixtures/multi_change_transaction_batch.json"),
        include_str!("../../../tests/fixtures/nats_message.json"),
        include_str!("../../../tests/fixtures/no_primary_key_delete_replica_full.json"),
        include_str!("../../../tests/fixtures/no_primary_key_insert.json"),
        include_str!("../../../tests/fixtures/ordering_overtake_sequence.json"),
        include_str!("../../../tests/fixtures/rabbitmq_message.json"),
        include_str!("../../../tests/fixtures/redis_stream_entry.json"),
        include_str!("../../../tests/fixtures/redis_stream_entry_record_only.json"),
        include_str!("../../../tests/fixtures/redis_string_del.json"),
        include_str!("../../../tests/fixtures/redis_string_set.json"),
        include_str!("../../../tests/fixtures/s2_append_records_request.json"),
        include_str!("../../../tests/fixtures/sequin_stream_receive_actual.json"),
        include_str!("../../../tests/fixtures/sequin_stream_receive_docs_flattened.json"),
        include_str!("../../../tests/fixtures/sequin_stream_receive_empty.json"),
        include_str!("../../../tests/fixtures/sequin_stream_receive_record_only.json"),
        include_str!("../../../tests/fixtures/sns_http_notification_wrapper.json"),
        include_str!("../../../tests/fixtures/sqs_fifo_send_message_batch_request.json"),
        include_str!("../../../tests/fixtures/sqs_lambda_event_wrapper.json"),
        include_str!("../../../tests/fixtures/sqs_message_body.json"),
        include_str!("../../../tests/fixtures/timestamp_format_unix_microsecond_update.json"),
        include_str!("../../../tests/fixtures/transform_function_debezium_like.json"),
        include_str!("../../../tests/fixtures/transform_function_key_value_ttl.json"),
        include_str!("../../../tests/fixtures/transform_path_changes_batch.json"),
        include_str!("../../../tests/fixtures/transform_path_metadata.json"),
        include_str!("../../../tests/fixtures/transform_path_record_id.json"),
        include_str!("../../../tests/fixtures/types_all_live_insert.json"),
        include_str!("../../../tests/fixtures/types_all_read_backfill.json"),
        include_str!("../../../tests/fixtures/types_arrays_live.json"),
        include_str!("../../../tests/fixtures/types_arrays_read.json"),
        include_str!("../../../tests/fixtures/types_datetime_live.json"),
        include_str!("../../../tests/fixtures/types_datetime_read.json"),
        include_str!("../../../tests/fixtures/types_json_live.json"),
        include_str!("../../../tests/fixtures/types_json_read.json"),
        include_str!("../../../tests/fixtures/types_numeric_live.json"),
        include_str!("../../../tests/fixtures/types_numeric_read.json"),
        include_str!("../../../tests/fixtures/types_ranges_net_geo_misc_live.json"),
        include_str!("../../../tests/fixtures/types_ranges_net_geo_misc_read.json"),
        include_str!("../../../tests/fixtures/types_text_uuid_bool_bytea_enum_live.json"),
        include_str!("../../../tests/fixtures/types_text_uuid_bool_bytea_enum_read.json"),
        include_str!("../../../tests/fixtures/update_pk_change_replica_default.json"),
        include_str!("../../../tests/fixtures/update_pk_change_replica_full.json"),
        include_str!("../../../tests/fixtures/update_text_literally_unchanged_toast.json"),
        include_str!("../../../tests/fixtures/update_toast_changed_to_null_replica_default.json"),
        include_str!("../../../tests/fixtures/update_unchanged_toast_replica_default.json"),
        include_str!("../../../tests/fixtures/update_unchanged_toast_replica_full.json"),
        include_str!("../../../tests/fixtures/webhook_batch_mixed_actions.json"),
        include_str!("../../../tests/fixtures/webhook_batch_multi_table.json"),
        include_str!("../../../tests/fixtures/webhook_batch_of_one.json"),
        include_str!("../../../tests/fixtures/webhook_record_only_batch.json"),
        include_str!("../../../tests/fixtures/webhook_record_only_single.json"),
        include_str!("../../../tests/fixtures/webhook_single_delete_replica_default.json"),
        include_str!("../../../tests/fixtures/webhook_single_delete_replica_full.json"),
        include_str!("../../../tests/fixtures/webhook_single_insert.json"),
        include_str!("../../../tests/fixtures/webhook_single_read_backfill.json"),
        include_str!("../../../tests/fixtures/webhook_single_update_replica_default.json"),
        include_str!("../../../tests/fixtures/webhook_single_update_replica_full.json"),
        include_str!("../../../tests/fixtures/webhook_single_update_replica_full_noop.json"),
        include_str!("../../../tests/fixtures/webhook_single_update_replica_full_set_null.json"),
    ];

    #[pg_test]
    fn documents_of_the_fixtures_equal_the_input_functions() {
        let [mut json, mut jsonb] = Documents::all();
        // Compiled in: the server may not be able to read the project's directory.
        for text in FIXTURES {
            let value = Json::parse(text).expect("it is JSON");
            let mut all = Vec::new();
            parts(value, &mut all);
            let binary = (!text.contains("\\u0000")).then(|| jsonb_bytes(text));
            if let Some(binary) = &binary {
                parts(Json::Binary(Jsonb::new(&binary[4..])), &mut all);
            }
            for value in all {
                json.check(value);
                jsonb.check(value);
            }
        }
        assert!(json.hits > 5000 && json.misses == 0, "{}", json.hits);
        assert!(jsonb.hits > 5000 && jsonb.misses < 20, "{}", jsonb.misses);
    }

    /// A document that `jsonb` cannot hold can still be a `json`. The input function refuses a document that
    /// is neither.
    #[pg_test]
    fn documents_that_are_unfit() {
        let [mut json, mut jsonb] = Documents::all();
        for (text, sqlstate) in [
            (r#""\u0000""#, "22P05"),
            (r#"{"a":"\ud800","a":1}"#, "22P02"),
            (r#"["\ude00\ud83d"]"#, "22P02"),
            (r#"{"\u0000":1}"#, "22P05"),
            (r#"{"a":1e200000,"a":1}"#, "22003"),
        ] {
            let value = Json::parse(text).expect(text);
            json.check(value);
            jsonb.check(value);
            let error = jsonb.fast.of(value).expect_err(text);
            assert_eq!(error.sqlstate(), sqlstate, "{text} {error:?}");
        }
        assert_eq!((json.hits, json.misses), (5, 0));
        assert_eq!((jsonb.hits, jsonb.misses), (0, 5));
        for text in [
            "-0", "-0.00", "0e5", "0e-5", "2.50", "1e2", "1.50e1", "[]", "\"\"",
        ] {
            let value = Json::parse(text).expect(text);
            json.check(value);
            jsonb.check(value);
        }
        assert_eq!((json.hits, jsonb.hits), (14, 9));
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(fault("json", &deep).0, "54001");
        for of in ["json", "jsonb"] {
            let deep = "[".repeat(1000) + &"]".repeat(1000);
            assert_eq!(text(of, &deep), deep);
            let domain = format!("create domain d_{of} as {of} check (value::text <> '1')");
            Spi::run(&domain).expect("created");
            assert_eq!(fault(&format!("d_{of}"), "1").0, "23514");
        }
    }
}
