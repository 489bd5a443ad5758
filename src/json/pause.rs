//! Pauses in long work on one value, in which a call can end.
//!
//! The modules here know no server, and read values of 100 MB. [`at_pauses`] says what they call at least once for each
//! [`STRETCH`] of text: it ends the call by a panic if the call is cancelled.

#![forbid(unsafe_code)]

use std::sync::OnceLock;

/// Bytes of text, or values, between two pauses: about a millisecond. Tests have shorter texts.
pub const STRETCH: usize = if cfg!(test) { 1 << 15 } else { 1 << 20 };

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

/// Makes pauses in a loop over a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    next: usize,
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
    fn short_work_does_not() {
        let text = format!("[{}1]", "[1,{\"a\":\"b\\n\"}],".repeat(500));
        assert_eq!(pauses(|| Json::parse(&text).unwrap()), 0);
    }
}
