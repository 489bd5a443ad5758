//! Dates of the proleptic Gregorian calendar, as days counted from 1970-01-01.
//!
//! Source: `days_from_civil` and `civil_from_days` in Howard Hinnant's "chrono-Compatible Low-Level
//! Date Algorithms". Both count years from 1 March, so that the leap day is a year's last.

#![forbid(unsafe_code)]

/// Days of the calendar's period of 400 years.
const DAYS_PER_ERA: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

/// The day of a date; `None` if the date does not exist. Years below 1,000,000 do not overflow.
#[inline]
pub fn day(year: u32, month: u32, day: u32) -> Option<i32> {
    /// Days from March of the year -400 to 1970-01-01. With this start, no number below is negative.
    const TO_1970: u32 = (DAYS_TO_1970 + DAYS_PER_ERA) as u32;
    if !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    let month_from_march = (month + 9) % 12;
    let year_from_march = year + 400 - u32::from(month <= 2);
    let years =
        year_from_march * 365 + year_from_march / 4 - year_from_march / 100 + year_from_march / 400;
    let day_of_year = (month_from_march * 306 + 5) / 10 + day - 1;
    Some((years + day_of_year) as i32 - TO_1970 as i32)
}

/// How many days a month (1 to 12) has.
#[inline]
fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of month of a day. The year before year 1 is 0.
pub fn date(day: i64) -> (i64, i64, i64) {
    let day = day + DAYS_TO_1970;
    let era = day.div_euclid(DAYS_PER_ERA);
    let of_era = day.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(day(1970, 1, 1), Some(0));
        assert_eq!(day(2000, 1, 1), Some(10_957));
        let mut next = day(0, 1, 1).unwrap();
        for year in 0..=2400 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for month in 1..=12 {
                let last = match month {
                    2 => 28 + u32::from(leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                for of_month in 1..=last {
                    assert_eq!(day(year, month, of_month), Some(next));
                    let date = date(i64::from(next));
                    assert_eq!(date, (year.into(), month.into(), of_month.into()));
                    next += 1;
                }
                assert_eq!(day(year, month, last + 1), None);
            }
        }
    }

    #[test]
    fn no_such_date() {
        for (year, month, of_month) in [
            (2023, 2, 29),
            (1900, 2, 29),
            (2023, 0, 1),
            (2023, 13, 1),
            (2023, 1, 0),
        ] {
            assert_eq!(day(year, month, of_month), None);
        }
    }

    proptest! {
        // the days that a timestamp of PostgreSQL can have, and some more
        #[test]
        fn dates_follow_each_other_and_are_read_back(n in -3_000_000i64..200_000_000) {
            let ((year, month, of_month), next) = (date(n), date(n + 1));
            let follows = next == (year, month, of_month + 1)
                || next == (year, month + 1, 1) && of_month >= 28
                || next == (year + 1, 1, 1) && (month, of_month) == (12, 31);
            prop_assert!(follows, "{:?} {next:?}", date(n));
            if let Ok(of_calendar) = u32::try_from(year) {
                let read = day(of_calendar, month as u32, of_month as u32);
                prop_assert_eq!(read.map(i64::from), Some(n));
            }
        }
    }
}
