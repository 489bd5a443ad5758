//! Texts of several lines, of which some are not JSON.
//!
//! A batch can be JSON lines. A line that is not JSON is then one dead item, and the other lines are read. A
//! document that spans several lines is one value: if it is damaged, the whole text is at fault. Where a value
//! fails, the two are told apart:
//!
//! - In JSON lines, the value fails on its own line, at the beginning of the next line, or behind the next line,
//!   if that is an object or a list by itself: an open bracket takes it for an element, and no comma follows.
//! - Elsewhere the value reaches into other lines, as a document does. Then more lines must be JSON than not.
//! - At least one line must be JSON.
//!
//! On a text without a fault, this costs nothing but a look at the white space between two values.

#![forbid(unsafe_code)]

use crate::json::{JsonFault, Scanner};

const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The lines of a text, as far as it has been read.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Where the value begins that is read now, and how many items were before it.
    value: (usize, usize),
    /// The same of the first value that begins on its line.
    line: (usize, usize),
    /// Lines on which values begin.
    begun: usize,
    /// Lines that are not JSON.
    bad: usize,
    /// Whether a value that failed reaches into other lines.
    reaches: bool,
    /// How many bytes of other lines were read in vain.
    vain: usize,
    /// The first fault.
    fault: Option<JsonFault>,
}

/// A line that is not JSON.
pub(super) struct BadLine<'a> {
    pub(super) text: &'a str,
    /// The fault, with its place in the line.
    pub(super) fault: JsonFault,
    /// How many items were before the line.
    pub(super) items: usize,
    /// Where the line ends.
    pub(super) end: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Lines<'a> {
        Lines {
            text,
            value: (0, 0),
            line: (0, 0),
            begun: 0,
            bad: 0,
            reaches: false,
            vain: 0,
            fault: None,
        }
    }

    /// Notes where a value begins, and how many items are before it.
    pub(super) fn begin(&mut self, start: usize, items: usize) {
        let before = self.text[..start].trim_end_matches(WHITE).len();
        if before == 0 || self.text[before..start].contains('\n') {
            self.begun += 1;
            self.line = (start, items);
        }
        self.value = (start, items);
    }

    /// The line of the value that failed.
    #[cold]
    pub(super) fn fail(&mut self, fault: JsonFault) -> BadLine<'a> {
        let (start, _) = self.value;
        let (mut begin, mut items) = self.line;
        if self.text[begin..start].contains('\n') {
            // A value of several lines ends where this one begins.
            (begin, items) = self.value;
            self.begun += 1;
        }
        let end = self.end_of_line(start);
        if fault.byte > end {
            self.vain += fault.byte - end;
            self.reaches |= self.reaches(end, fault.byte);
        }
        self.bad += 1;
        let text = self.text[begin..end].trim_matches(WHITE);
        let own = fault_of(text).unwrap_or_else(|| fault.clone());
        self.fault.get_or_insert(fault);
        BadLine {
            text,
            fault: own,
            items,
            end,
        }
    }

    /// Reads on from a place, if anything is left: to the end of the text, or, when too much was read in vain, to
    /// the end of a line. The second value is where the scanner ends.
    pub(super) fn read_on(&self, from: usize) -> Option<(Scanner<'a>, usize)> {
        let start = self.skip_white(from);
        if start == self.text.len() {
            return None;
        }
        let limit = match self.vain > self.text.len() {
            true => self.end_of_line(start),
            false => self.text.len(),
        };
        Some((Scanner::at(&self.text[..limit], start), limit))
    }

    /// At the end of the text: whether its bad lines are dead items. Otherwise the first fault is that of the text.
    pub(super) fn end(self) -> Result<(), JsonFault> {
        let good = self.begun - self.bad;
        match self.fault {
            Some(fault) if good == 0 || self.reaches && good <= self.bad => Err(fault),
            _ => Ok(()),
        }
    }

    /// Whether the value of a line that ends here, which failed at a later byte, reaches into other lines.
    fn reaches(&self, end: usize, byte: usize) -> bool {
        let next = self.skip_white(end);
        let next_end = self.end_of_line(next);
        let line = &self.text[next..next_end];
        let took_one = || {
            line.starts_with(['{', '['])
                && fault_of(line).is_none()
                && self.skip_white(next_end) == byte
        };
        byte != next && !took_one()
    }

    fn end_of_line(&self, from: usize) -> usize {
        let line = self.text[from..].find('\n');
        line.map_or(self.text.len(), |length| from + length)
    }

    fn skip_white(&self, from: usize) -> usize {
        self.text.len() - self.text[from..].trim_start_matches(WHITE).len()
    }
}

/// The fault of a line by itself.
fn fault_of(line: &str) -> Option<JsonFault> {
    let mut scanner = Scanner::new(line);
    loop {
        match scanner.take().and_then(|_| scanner.more()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(fault) => return Some(fault),
        }
    }
}
