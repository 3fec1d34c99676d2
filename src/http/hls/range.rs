//! One range of bytes (RFC 9110 section 14), over media that lies in several runs.

use bytes::Bytes;

/// What a `Range` field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// All of it: no range, several, or one that cannot be read.
    Whole,
    /// From the first to behind the last byte; never empty.
    Part { from: u64, to: u64 },
    /// Beyond the end.
    Unsatisfiable,
}

/// Reads the field, for something of this length.
pub fn read(field: Option<&str>, len: u64) -> Range {
    let Some((first, last)) = field.and_then(|field| field.strip_prefix("bytes=")?.trim().split_once('-')) else {
        return Range::Whole;
    };
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (from, to) = match (first, last) {
        ("", last) => match number(last) {
            Some(0) => return Range::Unsatisfiable,
            Some(suffix) => (len.saturating_sub(suffix), len),
            None => return Range::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => (first, len),
            None => return Range::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(len)),
            _ => return Range::Whole,
        },
    };
    if from < len { Range::Part { from, to } } else { Range::Unsatisfiable }
}

/// These bytes of all the runs, without a copy.
pub fn cut(runs: Vec<Bytes>, from: u64, to: u64) -> Vec<Bytes> {
    let mut at = 0u64;
    let mut found = Vec::new();
    for run in runs {
        let end = at + run.len() as u64;
        let (first, last) = (from.clamp(at, end) - at, to.clamp(at, end) - at);
        if first < last {
            found.push(run.slice(first as usize..last as usize));
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_meant() {
        let of_ten = |field| read(Some(field), 10);
        assert_eq!(of_ten("bytes=0-0"), Range::Part { from: 0, to: 1 });
        assert_eq!(of_ten("bytes=3-"), Range::Part { from: 3, to: 10 });
        assert_eq!(of_ten("bytes=3-99"), Range::Part { from: 3, to: 10 });
        assert_eq!(of_ten("bytes=-4"), Range::Part { from: 6, to: 10 });
        assert_eq!(of_ten("bytes=-40"), Range::Part { from: 0, to: 10 });
        assert_eq!(of_ten("bytes=3-18446744073709551615"), Range::Part { from: 3, to: 10 });
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(of_ten(beyond), Range::Unsatisfiable, "{beyond}");
        }
        for whole in ["bytes=5-3", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "bytes", "bytes=+1-2"] {
            assert_eq!(of_ten(whole), Range::Whole, "{whole}");
        }
        assert_eq!(read(None, 10), Range::Whole);
        assert_eq!(read(Some("bytes=0-"), 0), Range::Unsatisfiable);
    }

    #[test]
    fn a_range_goes_over_the_borders_of_runs() {
        let runs =
            || vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg"), Bytes::from_static(b"h")];
        let whole = b"abcdefgh";
        for from in 0..8 {
            for to in from + 1..=8 {
                assert_eq!(cut(runs(), from as u64, to as u64).concat(), whole[from..to], "{from}..{to}");
            }
        }
    }
}
