//! Seeded mutation of texts: the same run every time, and thousands of broken neighbours of a real input.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Calls `check` with `rounds` mutations of `text`: bytes changed, lines dropped, doubled, swapped, cut, numbers made huge.
pub(crate) fn mutate(text: &str, rounds: u32, seed: u64, mut check: impl FnMut(&str)) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..lines.len().max(1));
            let other = random.random_range(0..lines.len().max(1));
            let Some(line) = lines.get(at).cloned() else { break };
            match random.random_range(0..8) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(other, line),
                2 => lines.swap(at, other),
                3 => lines[at] = line.chars().take(random.random_range(0..line.chars().count().max(1))).collect(),
                4 => lines[at] = line.replace(|c: char| c.is_ascii_digit(), "9"),
                5 => {
                    lines[at] = line.replace([' ', ':', '/', ';'], ["", " ", ":", ";", "="][random.random_range(0..5)])
                }
                6 => lines[at] = line.replace(char::is_alphanumeric, "\u{1F600}"),
                _ => {
                    let mut bytes = line.into_bytes();
                    if let Some(byte) = bytes.get_mut(other % 64) {
                        *byte = random.random();
                    }
                    lines[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        check(&lines.join("\r\n"));
    }
}
