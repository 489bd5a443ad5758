//! Runs the targets of `fuzz/` on mutations of their seeds for a short time. `make fuzz` runs longer, and
//! where cargo-fuzz is installed, coverage guides it.
//!
//! This file belongs to no room. It stands here because the targets name the extension's own modules. So
//! `make test` runs them on the code that ships, without a build of another crate.
//!
//! `FUZZ_SECONDS=60` sets the time for each target; `FUZZ_SEED=7` starts with other numbers.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[path = "../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/targets.rs"]
mod targets;

/// Each seed gives another sequence of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    /// A random range within a text of this length.
    fn span(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = [4, 40, length][self.below(3)];
        start..(start + self.below(longest + 1)).min(length)
    }
}

/// Texts that parsers treat specially.
const TOKENS: [&str; 36] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\u0041",
    "\\\"",
    "null",
    "true",
    "0",
    "-",
    "1e999999999",
    "1.5",
    "99999999999999999999",
    ".",
    "*",
    "unchanged_toast",
    "action",
    "record",
    "metadata",
    "data",
    "\n",
    " ",
    "\u{2028}",
    "ä",
    "🦀",
    "\"\"",
    "'",
    "{}",
    "[]",
];

/// A damaged copy of one of the inputs.
fn mutate(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..1 + random.below(6) {
        let span = random.span(input.len());
        match random.below(7) {
            0 => drop(input.splice(span, [])),
            1 => {
                let other = &inputs[random.below(inputs.len())];
                let piece = other[random.span(other.len())].to_vec();
                drop(input.splice(span, piece));
            }
            2 | 3 => {
                let token = TOKENS[random.below(TOKENS.len())].repeat(1 + random.below(3));
                let at = span.start;
                drop(input.splice(at..at, token.into_bytes()));
            }
            4 => {
                let piece = input[span.clone()].repeat(1 + random.below(4));
                drop(input.splice(span, piece));
            }
            5 => {
                if let Some(byte) = input.get_mut(span.start) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => input.truncate(span.end),
        }
    }
    input
}

#[test]
fn parsers_take_anything() {
    let number = |name, default| {
        env::var(name).map_or(default, |text| text.parse::<u64>().expect("a number"))
    };
    let time = Duration::from_secs(number("FUZZ_SECONDS", 2));
    for (name, target) in targets::ALL {
        let mut random = Random(number("FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut inputs = seeds::of(name);
        assert!(!inputs.is_empty(), "{name}");
        let (start, mut asked) = (Instant::now(), 0);
        inputs.iter().for_each(|seed| target(seed));
        while start.elapsed() < time {
            let input = mutate(&mut random, &inputs);
            let failed = catch_unwind(AssertUnwindSafe(|| target(&input))).is_err();
            assert!(!failed, "{name}: {:?}", String::from_utf8_lossy(&input));
            asked += 1;
            // every 64th input joins the inputs to mutate
            if asked % 64 == 0 && input.len() < 10_000 {
                match inputs.len() {
                    ..2000 => inputs.push(input),
                    length => inputs[random.below(length)] = input,
                }
            }
        }
        println!("{name}: {asked} inputs in {time:?}");
    }
}
