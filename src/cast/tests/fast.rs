//! The fast paths give the same bytes as the input functions.

// The schema that `cargo pgrx test` calls; the macro asks for a module with its body.
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::cast::tests::dice::Dice;
    use crate::cast::tests::*;

    /// If a fast path gives a value, the input function gives the same bytes.
    #[pg_test]
    fn fast_paths_equal_the_input_functions() {
        pin_settings();
        for of in [
            "bool",
            "int2",
            "int4",
            "int8",
            "oid",
            "float4",
            "float8",
            "text",
            "varchar",
            "varchar(5)",
            "uuid",
            "date",
            "timestamp",
            "timestamp(0)",
            "timestamp(3)",
            "timestamptz",
            "timestamptz(0)",
            "timestamptz(5)",
            "numeric",
            "numeric(10,2)",
            "numeric(30,0)",
            "numeric(30,20)",
            "numeric(5,5)",
        ] {
            let (mut fast, mut slow) = (Column::new(of), Column::slow(of));
            assert_ne!(fast.caster.fast, Fast::No);
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
            let (mut hits, mut misses) = (0, 0);
            for _ in 0..10_000 {
                let mut text = dice.text(of);
                let is_number = Json::parse(&text).is_ok_and(|v| v.kind() == Kind::Number);
                if of == "bool" {
                    text = dice.pick(&["true", "false", "1", "\"t\""]).to_owned();
                } else if !is_number || dice.below(2) == 0 {
                    text = serde_json::to_string(&text).expect("a string");
                }
                let value = Json::parse(&text).expect("it is JSON");
                let out = Bump::new();
                match fast.fast(value, &out) {
                    None => misses += 1,
                    Some(image) => {
                        hits += 1;
                        assert_eq!(slow.of(value), Ok(Some(image)), "{of} {text}");
                    }
                }
            }
            assert!(
                hits > 100 && (misses > 100 || of == "text" || of == "varchar"),
                "{of} {hits} {misses}"
            );
        }
    }

    /// Every day has the same number as in the server.
    #[pg_test]
    fn every_day() {
        let wrong = Spi::connect(|client| {
            let days = client.select(
                "select d::text, d - date '2000-01-01'
             from (select date '0001-01-01' + n as d from generate_series(0, 3652058) n) days
             where extract(day from d) in (1, 28, 29, 30, 31)",
                None,
                &[],
            );
            let mut column = Fast::Date;
            let mut wrong = 0;
            let mut count = 0;
            for row in days.expect("selected") {
                let day = row.get::<String>(1).expect("text").expect("not null");
                let number = row.get::<i32>(2).expect("integer").expect("not null");
                let json = format!("\"{day}\"");
                let value = Json::parse(&json).expect("JSON");
                let found = column.read(value, &mut Encoder::default(), &Bump::new());
                wrong += usize::from(found.map(Datum::value) != Some(Datum::from(number).value()));
                count += 1;
                column = Fast::Date;
            }
            assert!(count > 500_000);
            wrong
        });
        assert_eq!(wrong, 0);
    }

    /// Arrays and composites spell an interval as text. The text has the same value as the object.
    #[pg_test]
    fn intervals_in_arrays_equal_intervals() {
        let (mut alone, mut array) = (Column::new("interval"), Column::new("interval[]"));
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for _ in 0..1000 {
            let [months, days, micros] = [9, 9, 18].map(|most| {
                let digits = dice.digits(most);
                let digits = digits.trim_start_matches('0');
                format!("{}{digits}0", dice.pick(&["", "-"])).replace("-0", "0")
            });
            let json = format!("{{\"months\":{months},\"days\":{days},\"microseconds\":{micros}}}");
            match alone.text(&json) {
                Ok(Some(text)) => {
                    let list = array.text(&format!("[{json}]")).expect(&json).expect(&json);
                    assert_eq!(list.trim_matches(['{', '}', '"']), text, "{json}");
                }
                other => assert_eq!(other.expect_err(&json).sqlstate(), "22008"),
            }
        }
    }
}
