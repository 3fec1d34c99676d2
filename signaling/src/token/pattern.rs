//! Globs over stream names, as the `stream` claim has them.

/// Whether `name` matches `pattern`: `*` stands for any run of characters (none too), `?` for exactly one.
///
/// Takes at most `pattern` x `name` steps and no memory: a token cannot make it slow.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and up to where it has eaten the name.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, eaten)) = star else { return false };
                star = Some((at, eaten + 1));
                p = at + 1;
                n = eaten + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, good) in [
            ("cam1", "cam1", true),
            ("cam1", "cam10", false),
            ("cam10", "cam1", false),
            ("room-*", "room-", true),
            ("room-*", "room-42", true),
            ("room-*", "rooms-42", false),
            ("*", "anything", true),
            ("*-hd", "cam-hd", true),
            ("*-hd", "cam-hd2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("cam?", "cam1", true),
            ("cam?", "cam", false),
            ("", "cam", false),
            ("**", "cam", true),
            ("Cam1", "cam1", false),
        ] {
            assert_eq!(matches(pattern, name), good, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_hostile_glob_is_not_slow() {
        let pattern = "*a".repeat(4_000) + "b";
        assert!(!matches(&pattern, &"a".repeat(128)));
    }
}
