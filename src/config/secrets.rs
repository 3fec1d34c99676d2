//! Secrets in what others say: servers repeat what they were sent, in the words with which they refuse it.

/// Shorter ones are left where they are: nobody could read on without them.
const SECRET_MIN_BYTES: usize = 4;

/// The text with an ellipsis in the place of each secret.
pub fn without_secrets<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| secret.len() >= SECRET_MIN_BYTES).collect();
    // The longest first, for one may be in another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_go_first_and_short_ones_stay() {
        let text = "key cam1-secret?token=abcd.efgh, then abcd.efgh, at a";
        assert_eq!(without_secrets(text, ["abcd.efgh", "cam1-secret?token=abcd.efgh", "a"]), "key …, then …, at a");
    }
}
