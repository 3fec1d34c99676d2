//! What docs/conformance.md calls shown is shown by a test that exists.

use crate::source::{SourceFile, files};

/// `path::name` in backticks: the file, and what must stand in it.
fn named(table: &str) -> Vec<(&str, &str)> {
    let quoted = table.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| text.split_once("::")).filter(|(path, _)| path.contains('/')).collect()
}

fn has_test(file: &SourceFile, name: &str) -> bool {
    match file.path.ends_with(".rs") {
        true => file.text.contains(&format!("fn {name}(")),
        false => ['"', '`'].iter().any(|quote| file.text.contains(&format!("{quote}{name}{quote}"))),
    }
}

#[test]
fn every_test_that_the_rules_name_is_there() {
    let tables = files(&["docs/conformance.md"], &[]);
    let sources = files(&["signaling", "src", "tests"], &[".rs", ".ts"]);
    let named: Vec<_> = tables.iter().flat_map(|table| named(&table.text)).collect();
    assert!(named.len() > 50, "the table is not read: {} tests", named.len());
    let lacks = |(path, name): &&(&str, &str)| !sources.iter().any(|file| file.path == *path && has_test(file, name));
    let lacking: Vec<_> =
        named.iter().filter(lacks).map(|(path, name)| format!("{path} has no test {name:?}")).collect();
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}
