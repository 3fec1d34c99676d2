//! The repository's files as text, and Rust text with what is no code blanked out.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file, by its path from the repository's root with `/` between the parts.
pub struct SourceFile {
    pub path: String,
    pub text: String,
}

impl SourceFile {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// A file that is compiled for tests only.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/") || ["tests.rs", "testing.rs"].contains(&name) || name.ends_with("_tests.rs")
    }

    /// The text up to the module of tests that stands at a file's end; nothing of a file that is a test's altogether.
    pub fn code_without_tests(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        let code = blank_comments_and_strings(&self.text);
        match code.find("#[cfg(test)]\nmod ") {
            Some(at) => code[..at].into(),
            None => code,
        }
    }
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under the given folders (or the file itself) whose name ends in one of `endings`; built and fetched things left out.
pub fn files(places: &[&str], endings: &[&str]) -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    for place in places {
        walk(&root.join(place), &mut |path| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if endings.is_empty() || endings.iter().any(|e| name.ends_with(e)) {
                // What is no text (an icon) has no lines to look at.
                if let Ok(text) = fs::read_to_string(path) {
                    let relative = path.strip_prefix(&root).unwrap_or(path).to_string_lossy().replace('\\', "/");
                    found.push(SourceFile { path: relative, text });
                }
            }
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    if path.is_file() {
        return visit(path);
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !["node_modules", "dist", "target", ".git", ".cache", "corpus"].iter().any(|skipped| name == *skipped) {
            walk(&entry.path(), visit);
        }
    }
}

/// Comments and the insides of strings become spaces; line numbers stay what they were.
pub fn blank_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_bytes(rest),
            '"' => string_bytes(rest),
            'r' if !before.is_alphanumeric() && before != '_' => raw_string_bytes(rest),
            '\'' => char_bytes(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
            before = c;
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            before = ' ';
            rest = &rest[skipped..];
        }
    }
    out
}

fn block_comment_bytes(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string_bytes(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"..."` and `r#"..."#`; 0 when it is not one.
fn raw_string_bytes(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|b| *b == b'#').count();
    if text.as_bytes().get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = 2 + hashes;
    text[opening..].find(&end).map_or(text.len(), |at| opening + at + end.len())
}

/// A character literal; 0 for a lifetime.
fn char_bytes(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

pub fn line_of(text: &str, byte: usize) -> usize {
    text[..byte].bytes().filter(|b| *b == b'\n').count() + 1
}

#[test]
fn comments_and_strings_are_blanked_and_lines_kept() {
    let code = blank_comments_and_strings(
        "a // crate::x\n/* crate::y\n */ b \"crate::z\\\"\" r#\"crate\"\"# 'c' '\\'' <'d> e",
    );
    assert!(!code.contains("crate"), "{code}");
    assert_eq!(code.lines().count(), 3);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "<'d>", "e"]);
}
