//! What no file of the project may hold, and what each must begin with.

use crate::source::{SourceFile, blank_comments_and_strings, files, line_of, root};

/// A file this long is asking to be two; the test says so without failing.
const LONG_LINES: usize = 500;
/// A file this long is two.
const TOO_LONG_LINES: usize = 700;

/// Everything that people write here, save this file, which must name what it looks for.
fn written() -> Vec<SourceFile> {
    let places = [
        "src",
        "signaling",
        "tests",
        "benches",
        "scripts",
        "web",
        "docs",
        ".ci",
        "build.rs",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.toml",
        "deny.toml",
    ];
    let mut files = files(&places, &[]);
    files.retain(|file| file.path != "tests/house/rules.rs" && !file.path.ends_with("package-lock.json"));
    files
}

fn rust() -> Vec<SourceFile> {
    files(&["src", "signaling/src"], &[".rs"])
}

fn lines_holding<'a>(file: &'a SourceFile, text: &'a str, needles: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    needles.iter().flat_map(move |needle| {
        text.match_indices(needle).filter_map(move |(at, _)| {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            let joined = before.is_alphanumeric() || before == '_';
            (!joined).then(|| format!("{}:{}: {needle}", file.path, line_of(text, at)))
        })
    })
}

fn none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn files_stay_readable_in_one_go() {
    let mut found = Vec::new();
    for file in files(&["src", "signaling", "tests", "web/src", "web/lib/src", "scripts"], &[".rs", ".ts"]) {
        match file.text.lines().count() {
            lines if lines > TOO_LONG_LINES => found.push(format!("{}: {lines} lines", file.path)),
            lines if lines > LONG_LINES => {
                eprintln!("{}: {lines} lines: split it by meaning, or know why not", file.path)
            }
            _ => {}
        }
    }
    none("files past the bound of readable", found);
}

#[test]
fn nothing_is_left_for_later() {
    let needles = ["TODO", "FIXME", "XXX", "HACK", "todo!(", "unimplemented!(", "#[ignore", ".only(", "test.skip("];
    none(
        "left-overs",
        written().iter().flat_map(|file| lines_holding(file, &file.text, &needles).collect::<Vec<_>>()).collect(),
    );
}

#[test]
fn nothing_names_a_path_of_somebodys_machine() {
    let mut found = Vec::new();
    for file in written() {
        for (number, line) in file.text.lines().enumerate() {
            if ["/root/", "/home/", "/Users/", "/work/"].iter().any(|path| line.contains(path)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none("paths of a machine", found);
}

#[test]
fn only_the_program_prints() {
    let needles = ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("];
    let prints = |path: &str| {
        path == "src/main.rs"
            || path == "src/server.rs"
            || path.starts_with("src/bench/")
            || path.starts_with("src/server/")
            || path.starts_with("src/main/")
    };
    let mut found = Vec::new();
    for file in rust().iter().filter(|file| !prints(&file.path)) {
        found.extend(lines_holding(file, &file.code_without_tests(), &needles));
    }
    none("a library room prints; it should log through `tracing`", found);
}

#[test]
fn failures_are_handled_or_argued() {
    let mut found = Vec::new();
    for file in rust() {
        let code = file.code_without_tests();
        found.extend(
            code.match_indices(".unwrap()").map(|(at, _)| format!("{}:{}: .unwrap()", file.path, line_of(&code, at))),
        );
        found.extend(lines_holding(&file, &code, &["panic!("]));
    }
    none("a failure nobody argued about; return it, or `expect` with the reason why it cannot be", found);
}

#[test]
fn every_module_says_what_it_is() {
    let found = rust()
        .iter()
        .filter(|file| !file.is_test() && !file.text.starts_with("//!"))
        .map(|file| file.path.clone())
        .collect();
    none("modules without a first line of documentation", found);
}

#[test]
fn rooms_without_io_do_not_excuse_themselves_from_the_linter() {
    let mut found = Vec::new();
    let sans_io = [
        "src/media/",
        "src/codec/",
        "src/rtp/",
        "src/track/",
        "src/transport/",
        "src/ingest/whip/",
        "src/egress/hls/",
        "src/egress/whep/",
        "signaling/src/",
    ];
    for file in rust().iter().filter(|file| sans_io.iter().any(|room| file.path.starts_with(room))) {
        let code = blank_comments_and_strings(&file.text);
        found.extend(lines_holding(file, &code, &["allow(clippy::disallowed_methods"]));
        found.extend(lines_holding(file, &file.code_without_tests(), &["tokio::", "std::net::UdpSocket", "std::fs"]));
    }
    none("I/O or a clock in a sans-I/O room", found);
}

#[test]
fn signaling_knows_neither_sockets_nor_media() {
    let manifest =
        std::fs::read_to_string(root().join("signaling/Cargo.toml")).expect("the member crate has a manifest");
    let found = manifest.lines().filter(|line| {
        ["tokio", "axum", "hyper", "mio", "sluice =", "quinn"].iter().any(|name| line.starts_with(name))
    });
    none("dependencies that signaling/ may not have", found.map(str::to_owned).collect());
}
