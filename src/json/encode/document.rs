//! Documents as datums of `jsonb`. Notes of all values of a large document would take several times the memory of
//! its text, so that a large array or object is written child by child: of an array only the number of its
//! elements is needed first, and of an object its keys. The price is that the text of a large container is read
//! twice.

#![forbid(unsafe_code)]

use super::entries::{Entries, SMALL, begin, fits, pad};
use super::{Encoder, Form, Node, Unfit, is_last, sort};
use crate::json::jsonb::{ENTRY_CONTAINER, ENTRY_STRING, IS_ARRAY, IS_OBJECT};
use crate::json::lex;
use crate::json::pause::{Pauses, Work};
use crate::json::scan::Scanner;
use crate::json::value::Json;

/// Large containers in large containers that are written child by child: each of them reads its text again.
const LEVELS: usize = 8;

impl Encoder {
    /// The `jsonb` datum of a value, without its length word.
    pub fn jsonb<'a>(&'a mut self, value: Json<'a>) -> Result<&'a [u8], Unfit> {
        self.out.clear();
        match value {
            Json::Text(text) => {
                if text.len() > SMALL {
                    let written = self.write_large(text);
                    self.drop_notes();
                    written?;
                } else {
                    let root = self.scan(text)?;
                    self.write(root, text)?;
                }
            }
            Json::Binary(jsonb) => {
                if let Some(bytes) = jsonb.container_bytes() {
                    return Ok(bytes);
                }
                self.write_scalar(jsonb);
            }
        }
        Ok(&self.out)
    }

    /// Writes a large document.
    fn write_large(&mut self, text: &str) -> Result<(), Unfit> {
        fits(text.len())?;
        self.reserve(text.len())?;
        if text.starts_with(['{', '[']) {
            self.large_value(text, LEVELS).map(|_| ())
        } else {
            let root = self.scan(text)?;
            self.write(root, text)
        }
    }

    /// Appends a value, and returns its type.
    fn large_value(&mut self, text: &str, levels: usize) -> Result<u32, Unfit> {
        match text.as_bytes().first() {
            Some(b'[') if levels > 0 && text.len() > SMALL => self.large_array(text, levels - 1)?,
            Some(b'{') if levels > 0 && text.len() > SMALL => {
                self.large_object(text, levels - 1)?
            }
            _ => {
                let root = self.scan(text)?;
                self.reserve(root.room() + self.nodes.iter().map(Node::room).sum::<usize>())?;
                if !matches!(root.form, Form::Array | Form::Object) {
                    return self.write_leaf(root, text.as_bytes());
                }
                self.write_container(root, text.as_bytes())?;
            }
        }
        Ok(ENTRY_CONTAINER)
    }

    fn large_array(&mut self, text: &str, levels: usize) -> Result<(), Unfit> {
        let count = Json::Text(text).elements().count();
        let mut entries = self.large_head(IS_ARRAY, count, count)?;
        let mut scanner = Scanner::open(text, b'[').ok_or(Unfit)?;
        let mut first = true;
        let mut pauses = Pauses::default();
        while scanner.next_element(&mut first).map_err(|_| Unfit)? {
            pauses.at(scanner.place());
            let Json::Text(element) = scanner.take().map_err(|_| Unfit)? else {
                return Err(Unfit);
            };
            self.large_child(&mut entries, element, levels)?;
        }
        Ok(())
    }

    fn large_object(&mut self, text: &str, levels: usize) -> Result<(), Unfit> {
        let bytes = text.as_bytes();
        let mut members = self.members(bytes)?;
        // the values are scanned one by one, which clears the keys
        let keys = std::mem::take(&mut self.keys);
        sort(&mut members, bytes, &keys);
        let is_last = |i| is_last(&members, i, bytes, &keys);
        let lasts = || {
            (0..members.len())
                .filter(|i| is_last(*i))
                .map(|i| members[i])
        };
        let value = |node: Node| &text[node.start as usize..node.end as usize];
        // `jsonb_in` rejects a document for the replaced values too
        let mut work = Work::default();
        for other in (0..members.len()).filter(|i| !is_last(*i)) {
            let start = self.out.len();
            let text = value(members[other]);
            work.bytes(text.len());
            self.large_value(text, levels)?;
            self.out.truncate(start);
        }
        let count = lasts().count();
        let mut entries = self.large_head(IS_OBJECT, count, 2 * count)?;
        for member in lasts() {
            let start = self.out.len();
            let key = member.key.of(bytes, &keys);
            work.bytes(key.len());
            self.reserve(key.len())?;
            self.out.extend_from_slice(key);
            fits(self.out.len())?;
            entries.write(ENTRY_STRING, start, &mut self.out);
        }
        for member in lasts() {
            let text = value(member);
            work.bytes(text.len());
            self.large_child(&mut entries, text, levels)?;
        }
        Ok(())
    }

    /// The members of an object, in the order of the text, with the spans of their whole values.
    fn members(&mut self, bytes: &[u8]) -> Result<Vec<Node>, Unfit> {
        let mut members = Vec::new();
        let mut pos = lex::white(bytes, 1);
        let mut pauses = Pauses::from(pos);
        while bytes.get(pos) == Some(&b'"') {
            pauses.at(pos);
            let (key, start) = self.key(bytes, pos)?;
            let end = match bytes.get(start) {
                Some(b'"') => lex::string(bytes, start)?.0,
                Some(b'{' | b'[') => lex::container(bytes, start)?,
                _ => lex::scalar(bytes, start)?,
            };
            members.try_reserve(1).map_err(|_| Unfit)?;
            members.push(Node {
                key,
                form: Form::Null,
                start: start as u32,
                end: end as u32,
            });
            pos = lex::white(bytes, end);
            if bytes.get(pos) == Some(&b',') {
                pos = lex::white(bytes, pos + 1);
            }
        }
        Ok(members)
    }

    /// Appends the head of a container.
    fn large_head(&mut self, header: u32, count: usize, entries: usize) -> Result<Entries, Unfit> {
        let size = 8 + 4 * entries;
        fits(self.out.len() + size)?;
        self.reserve(size)?;
        pad(&mut self.out);
        Ok(begin(header, count as u32, entries as u32, &mut self.out))
    }

    /// Appends a child, and describes it.
    fn large_child(
        &mut self,
        entries: &mut Entries,
        text: &str,
        levels: usize,
    ) -> Result<(), Unfit> {
        let start = self.out.len();
        let form = self.large_value(text, levels)?;
        fits(self.out.len())?;
        entries.write(form, start, &mut self.out);
        Ok(())
    }

    /// Makes room in the datum. Without memory, the value is left to the server's function, which raises the
    /// server's error.
    fn reserve(&mut self, size: usize) -> Result<(), Unfit> {
        self.out.try_reserve(size).map_err(|_| Unfit)
    }
}

impl Node {
    /// As many bytes of `jsonb` as the value and its key may take: two entries, the padding, and the head of a
    /// number or container.
    fn room(&self) -> usize {
        let span = |start: u32, end: u32| (end - start) as usize;
        let value = match self.form {
            Form::Array | Form::Object => 0,
            _ => span(self.start, self.end),
        };
        span(self.key.start, self.key.end) + value + 28
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::pause::STRETCH;
    use crate::json::tests::pauses;

    /// Notes of a few values. Notes of all would be a hundred thousand.
    const FEW: usize = 100;

    /// Many values of this many bytes.
    fn many(size: usize, [open, close]: [char; 2], child: &str) -> String {
        let count = (size - 4) / (child.len() + 1);
        let children = vec![child; count].join(",");
        let blanks = " ".repeat(size - 2 - children.len());
        format!("{open}{children}{blanks}{close}")
    }

    /// The most notes that were taken at one time.
    fn notes(text: &str) -> usize {
        let mut encoder = Encoder::default();
        encoder.write_large(text).unwrap();
        encoder.children.capacity().max(encoder.nodes.capacity())
    }

    #[test]
    fn a_large_container_takes_notes_of_one_child_at_a_time() {
        for (brackets, child) in [(['[', ']'], "[1]"), (['{', '}'], "\"a\":[1]")] {
            assert!(notes(&many(SMALL, brackets, child)) > 1000 * FEW);
            assert!(notes(&many(SMALL + 1, brackets, child)) < FEW);
        }
    }

    #[test]
    fn a_text_is_read_again_for_a_few_levels() {
        let inner = many(SMALL + 1, ['[', ']'], "1");
        let around = |n| "[".repeat(n) + &inner + &"]".repeat(n);
        assert!(notes(&around(LEVELS - 1)) < FEW);
        assert!(notes(&around(LEVELS)) > 1000 * FEW);
        let inner = many(SMALL + 1, ['{', '}'], "\"a\":1");
        let around = |n| "{\"a\":".repeat(n) + &inner + &"}".repeat(n);
        assert!(notes(&around(LEVELS - 1)) < FEW);
        assert!(notes(&around(LEVELS)) > 1000 * FEW);
    }

    #[test]
    fn the_notes_of_a_large_document_are_dropped() {
        let large = format!("[{}]", many(SMALL, ['[', ']'], "1"));
        let mut encoder = Encoder::default();
        encoder.jsonb(Json::parse(&large).unwrap()).unwrap();
        assert_eq!((encoder.children.len(), encoder.nodes.len()), (0, 0));
        assert!(encoder.children.capacity() < 100 * FEW);
        assert!(encoder.nodes.capacity() < 100 * FEW);
    }

    #[test]
    fn a_large_container_pauses_at_each_stretch_that_is_read() {
        let mut encoder = Encoder::default();
        for stretches in [0, 1, 2, 5] {
            let size = stretches * STRETCH + STRETCH / 2;
            let array = many(size, ['[', ']'], "null");
            let write = || assert!(encoder.large_array(&array, 0).is_ok());
            assert_eq!(pauses(write), 2 * stretches);

            // the members are as long as a hundredth of a stretch, or replaced, and stand in another order
            let value = format!("\"{}\"", "a".repeat(STRETCH / 100));
            let count = size / (value.len() + 7);
            for replaced in [false, true] {
                let key = |n: usize| 1000 + if replaced { 0 } else { count - n };
                let members: Vec<String> = (0..count)
                    .map(|n| format!("\"{}\":{value}", key(n)))
                    .collect();
                let object = format!("{{{}}}", members.join(","));
                let write = || assert!(encoder.large_object(&object, 0).is_ok());
                assert_eq!(pauses(write), 2 * stretches, "{replaced}");
            }

            // of an object with long keys, the keys are written first
            let key = "a".repeat(STRETCH / 100);
            let count = size / (key.len() + 12);
            let members: Vec<String> = (0..count)
                .map(|n| format!("\"{key}{}\":null", 1000 + n))
                .collect();
            let object = format!("{{{}}}", members.join(","));
            let write = || assert!(encoder.large_object(&object, 0).is_ok());
            assert_eq!(pauses(write), 2 * stretches);
        }
    }
}
