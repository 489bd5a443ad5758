//! The names that the user may have meant.

#![forbid(unsafe_code)]

/// How many names are offered at most.
const MOST: usize = 3;

/// The `candidates` that look like `name`, best first.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    // A third of the letters may be wrong, or two in a short name. Two letters are too few to compare.
    let allowed = (wanted.len() / 3)
        .max(2)
        .min(wanted.len().saturating_sub(1));
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().collect();
            let distance = distance(&wanted, &other);
            (distance <= allowed).then_some((distance, candidate))
        })
        .collect();
    found.sort();
    found.dedup();
    found
        .into_iter()
        .take(MOST)
        .map(|(_, candidate)| candidate.to_owned())
        .collect()
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(a: &str, b: &str) -> usize {
        distance(
            &a.chars().collect::<Vec<_>>(),
            &b.chars().collect::<Vec<_>>(),
        )
    }

    #[test]
    fn distances() {
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("price", "prcie"), 1);
        assert_eq!(of("kitten", "sitting"), 3);
    }

    #[test]
    fn the_nearest_come_first() {
        let columns = ["price", "prices", "product_id", "name"];
        assert_eq!(nearest("prise", columns), ["price", "prices"]);
        assert_eq!(nearest("Name", columns), ["name"]);
        assert!(nearest("zzz", columns).is_empty());
        assert!(nearest("x", columns).is_empty());
        assert!(nearest("", columns).is_empty());
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_for_the_same(a in "[a-d]{0,8}", b in "[a-d]{0,8}") {
            prop_assert_eq!(of(&a, &b), of(&b, &a));
            prop_assert_eq!(of(&a, &b) == 0, a == b);
        }
    }
}
