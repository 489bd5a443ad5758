//! The same numbers and words in every run.

const WORDS: [&str; 16] = [
    "amber",
    "birch",
    "cobalt",
    "dune",
    "ember",
    "fjord",
    "granite",
    "harbor",
    "indigo",
    "juniper",
    "kelp",
    "lagoon",
    "naïve",
    "\"quoted\"",
    "back\\slash",
    "prairie",
];

/// The generator SplitMix64: the same changes in every run. It is another one than that of the tests, so that figures
/// can be compared with those of earlier versions.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A word.
    pub fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    /// So many words.
    pub fn words(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| self.word())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Words that are `low` to `high` bytes long together, give or take one.
    pub fn words_of(&mut self, low: u64, high: u64) -> String {
        let bytes = low + self.below(high - low);
        let mut text = self.word().to_owned();
        while (text.len() as u64) < bytes {
            text.push(' ');
            text.push_str(self.word());
        }
        text
    }

    /// Puts items in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
