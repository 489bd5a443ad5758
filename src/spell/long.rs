//! Long texts that cannot be values of their type, as far as their size and their ends tell.
//!
//! An input function of the server hears no cancel. It reads a text of 100 MB to its end, and repeats it in the error,
//! which takes up to half a second.

#![forbid(unsafe_code)]

use super::misfit::Misfit;
use crate::json::{STRETCH, pause};

/// The size from which on texts are looked at: 1 MiB. No server prints so long a text of a type whose values are short.
pub(super) const LONG: usize = 1 << 20;

/// The most bytes that a text of a `tsvector` can need. A value has 1 MiB of lexemes and positions, each byte of which
/// is printed in five at most.
const LONGEST_TSVECTOR: usize = 8 << 20;

/// What can be seen of a long text of some type.
#[derive(Clone, Copy)]
pub(super) enum Sight {
    /// It is too long if it has more bytes.
    Most(usize),
    /// Its brackets.
    Brackets(Brackets),
    /// Nothing.
    Nothing,
}

impl Sight {
    /// Of a type whose values are short.
    pub(super) const SHORT: Sight = Sight::Most(LONG);

    /// Of a `tsvector`.
    pub(super) const TSVECTOR: Sight = Sight::Most(LONGEST_TSVECTOR);
}

/// The characters that a literal begins and ends with.
#[derive(Clone, Copy)]
pub(super) struct Brackets {
    /// What the literal is called in errors.
    pub(super) of: &'static str,
    /// One of these is the first.
    pub(super) begins: &'static [u8],
    /// The server's DETAIL where it is not.
    pub(super) else_detail: &'static str,
    /// One of these is the last.
    pub(super) ends: &'static [u8],
}

/// The fault of a text of more than [`LONG`] bytes, if it has one that can be seen without reading all of it.
#[cold]
pub(super) fn fault(text: &str, sight: Sight) -> Option<Misfit> {
    let brackets = match sight {
        Sight::Most(most) => return (text.len() > most).then_some(Misfit::TooLong(text.len())),
        Sight::Brackets(brackets) => brackets,
        Sight::Nothing => return None,
    };
    let is_one_of = |end: Option<u8>, known: &[u8]| end.is_some_and(|b| known.contains(&b));
    let detail = if !is_one_of(first(text.as_bytes()), brackets.begins) {
        brackets.else_detail
    } else if !is_one_of(last(text.as_bytes()), brackets.ends) {
        "Unexpected end of input."
    } else {
        return None;
    };
    Some(Misfit::Literal {
        of: brackets.of,
        text: beginning(text),
        detail,
    })
}

/// As much of a wrong value as an error can show, and a little more: the error says where it is cut.
pub(super) fn beginning(text: &str) -> String {
    const MOST: usize = 16 * 1024;
    let mut end = text.len().min(MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The server's `isspace`.
fn is_visible(b: &&u8) -> bool {
    !matches!(b, b' ' | b'\t'..=b'\r')
}

fn first(text: &[u8]) -> Option<u8> {
    text.chunks(STRETCH).find_map(|stretch| {
        pause();
        stretch.iter().find(is_visible).copied()
    })
}

fn last(text: &[u8]) -> Option<u8> {
    text.rchunks(STRETCH).find_map(|stretch| {
        pause();
        stretch.iter().rfind(is_visible).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::pauses;

    #[test]
    fn the_ends_of_a_text_are_looked_for_with_pauses() {
        for (spaces, stretches) in [(0, 1), (STRETCH, 2), (4 * STRETCH, 5)] {
            let spaces = " ".repeat(spaces);
            let (begins, ends) = (format!("x{spaces}"), format!("{spaces}x"));
            assert_eq!(pauses(|| first(ends.as_bytes())), stretches);
            assert_eq!(pauses(|| last(begins.as_bytes())), stretches);
        }
    }
}
