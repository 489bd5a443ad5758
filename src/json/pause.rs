//! Pauses in long work on one value, in which a call can end.
//!
//! The modules here know no server, and read values of 100 MB. [`at_pauses`] says what they call at least once for each
//! [`STRETCH`] of text: it ends the call by a panic if the call is cancelled.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

/// Bytes of text, or values, between two pauses: about a millisecond. Tests have shorter texts.
pub const STRETCH: usize = if cfg!(test) { 1 << 15 } else { 1 << 20 };

/// Work on a value takes about as long as on this many bytes of text.
const VALUE: usize = 8;

/// Values that take about as long as a stretch of text.
pub(super) const VALUES: usize = STRETCH / VALUE;

static CALLED: OnceLock<fn()> = OnceLock::new();

/// Has this function called at pauses.
pub fn at_pauses(called: fn()) {
    CALLED.get_or_init(|| called);
}

/// Ends the call if it is cancelled.
#[cold]
#[inline(never)]
pub fn pause() {
    if let Some(called) = CALLED.get() {
        called();
    }
}

/// Pauses if byte `n` of a text, counted from 0, is the last of a stretch.
#[inline(always)]
pub fn pause_at_byte(n: usize) {
    if (n + 1).is_multiple_of(STRETCH) {
        pause();
    }
}

/// Pauses if value `n`, counted from 0, is the last of [`VALUES`].
#[inline(always)]
pub(super) fn pause_at_value(n: usize) {
    if (n + 1).is_multiple_of(VALUES) {
        pause();
    }
}

/// Makes pauses in a loop that passes over a text in steps. The first stretch begins with the text, unless
/// [`Pauses::from`] says where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    next: usize,
}

impl Default for Pauses {
    #[inline(always)]
    fn default() -> Pauses {
        Pauses { next: STRETCH }
    }
}

impl Pauses {
    /// For a loop that begins here.
    #[inline(always)]
    pub(super) fn from(pos: usize) -> Pauses {
        Pauses {
            next: pos + STRETCH,
        }
    }

    /// Pauses if the loop has come a stretch further.
    #[inline(always)]
    pub(super) fn at(&mut self, pos: usize) {
        if pos >= self.next {
            self.next = pos + STRETCH;
            pause();
        }
    }
}

/// Makes pauses in work that follows no text from its start to its end.
#[derive(Debug)]
pub(super) struct Work {
    /// Bytes to the next pause.
    left: usize,
}

impl Default for Work {
    fn default() -> Work {
        Work { left: STRETCH }
    }
}

impl Work {
    /// Pauses if no stretch has room for these bytes beside what was done since the last pause.
    #[inline(always)]
    pub(super) fn bytes(&mut self, count: usize) {
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                self.left = STRETCH;
                pause();
            }
        }
    }

    /// The same for one value.
    #[inline(always)]
    pub(super) fn value(&mut self) {
        self.bytes(VALUE);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::json::{Encoder, Json, is_shallow, string_fault};

    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    /// How many pauses `work` makes.
    pub(crate) fn pauses<T>(work: impl FnOnce() -> T) -> usize {
        at_pauses(|| COUNT.set(COUNT.get() + 1));
        COUNT.set(0);
        work();
        COUNT.get()
    }

    #[test]
    fn long_work_pauses() {
        let size = 4 * STRETCH;
        let many = |unit: &str| unit.repeat(size / unit.len());
        let deep = size / 2;
        let texts = [
            "[".repeat(deep) + &"]".repeat(deep),
            format!("[{}1]", many("1,")),
            format!("[{}[]]", many("[],")),
            format!("[{}{{}}]", many(r#"{"a":"b"},"#)),
            format!("{{{}\"a\":1}}", many(r#""a":1,"#)),
            format!("[\"{}\"]", many(r"\n")),
            format!("[{}]", many(" ")),
            format!("[{}]", many("1")),
        ];
        for text in &texts {
            let of = &text[..20];
            assert!(pauses(|| Json::parse(text).unwrap()) >= 3, "{of}");
        }
        let values = texts.iter().map(|text| Json::parse(text).unwrap());
        for (text, value) in texts.iter().zip(values).skip(1) {
            let of = &text[..20];
            let each = || value.elements().count() + value.members().count();
            assert!(each() == 1 || pauses(each) >= 3, "{of}");
            let mut encoder = Encoder::default();
            let encode = || encoder.jsonb(value).map(<[u8]>::len);
            assert!(pauses(encode) >= 3, "{of}");
            assert!(pauses(|| string_fault(text)) >= 3, "{of}");
        }
        let nested = format!("[{}1]", many(&("[".repeat(9) + &"]".repeat(9) + ",")));
        assert!(pauses(|| assert!(is_shallow(&nested))) >= 3);
        let escaped = format!("\"{}\"", many(r"\n"));
        let value = Json::parse(&escaped).unwrap();
        assert!(pauses(|| value.string()) >= 3);
    }

    #[test]
    fn a_loop_pauses_when_it_has_come_a_stretch_further() {
        let mut begins = Pauses::default();
        for begin in [0, 10] {
            let mut came = |pos| pauses(|| begins.at(begin + pos)) == 1;
            assert!(!came(0));
            assert!(!came(STRETCH - 1));
            assert!(came(STRETCH + 1));
            assert!(!came(STRETCH + 1));
            assert!(!came(2 * STRETCH));
            assert!(came(2 * STRETCH + 1));
            begins = Pauses::from(10);
        }
    }

    #[test]
    fn bytes_and_values_are_counted() {
        let many = [STRETCH - 1, STRETCH, 3 * STRETCH - 1, 3 * STRETCH];
        for (count, expected) in many.into_iter().zip([0, 1, 2, 3]) {
            assert_eq!(pauses(|| (0..count).for_each(pause_at_byte)), expected);
            assert_eq!(pauses(|| (0..count / 8).for_each(pause_at_value)), expected);
        }
        let mut work = Work::default();
        let mut done = |bytes| pauses(|| work.bytes(bytes)) == 1;
        assert!(!done(STRETCH));
        assert!(done(1));
        assert!(!done(STRETCH - 1));
        assert!(!done(1));
        assert!(done(2 * STRETCH));
        assert!(!done(0));
        let mut work = Work::default();
        let many = || (0..3 * VALUES).for_each(|_| work.value());
        assert_eq!(pauses(many), 2);
        assert_eq!(pauses(|| work.value()), 0);
    }

    #[test]
    fn short_work_does_not() {
        let text = format!("[{}1]", "[1,{\"a\":\"b\\n\"}],".repeat(500));
        assert_eq!(pauses(|| Json::parse(&text).unwrap()), 0);
    }
}
