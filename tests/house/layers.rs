//! Imports point downwards: a room uses rooms of lower layers, never one beside or above it (`ARCHITECTURE.md`, "Rooms").

use crate::source::{SourceFile, blank_comments_and_strings, files, line_of};

/// Higher may import lower; rooms on one layer do not know each other.
const LAYERS: &[(&str, u8)] = &[
    ("config", 0),
    ("metrics", 0),
    ("media", 1),
    ("codec", 2),
    ("rtp", 3),
    ("rtmp", 3),
    ("track", 4),
    ("transport", 5),
    ("transcode", 5),
    ("ingest", 6),
    ("egress", 6),
    ("worker", 7),
    ("packaging", 7),
    ("relay", 7),
    ("http", 8),
    ("server", 9),
    ("main", 10),
    ("lib", 10),
];

/// The load generator is a client of the server: it shares the protocols, and nothing that serves.
const BENCH_MAY_USE: &[&str] = &["config", "metrics", "media", "codec", "rtp", "transport"];

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

fn may_import(from: &str, to: &str) -> bool {
    match (from, to) {
        _ if from == to => true,
        ("bench", _) => BENCH_MAY_USE.contains(&to),
        (_, "bench") => from == "main" || from == "lib",
        _ => match (layer(from), layer(to)) {
            (Some(from), Some(to)) => from > to,
            _ => false,
        },
    }
}

/// The room of `src/{room}/...` or `src/{room}.rs`.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// How many `super` lead from the file's module to the crate's root.
fn depth_of(path: &str) -> usize {
    let parts = path.trim_start_matches("src/").trim_end_matches(".rs").split('/');
    parts.filter(|part| !["mod", "lib", "main"].contains(part)).count()
}

/// Rooms that the file's code names, with the line: `crate::room`, `crate::{a, b::c}`, and `super` chains that reach the root.
fn imports(file: &SourceFile) -> Vec<(String, usize)> {
    let code = blank_comments_and_strings(&file.text);
    let mut roots = vec!["crate::".to_owned()];
    match depth_of(&file.path) {
        0 => {}
        depth => roots.push("super::".repeat(depth)),
    }
    // The program is another crate than its library.
    if room_of(&file.path) == Some("main") {
        roots = vec!["sluice::".into()];
    }
    let mut found = Vec::new();
    for root in &roots {
        for (at, _) in code.match_indices(root.as_str()) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || [':', '_', '$'].contains(&before) {
                continue;
            }
            let rest = &code[at + root.len()..];
            for room in first_segments(rest) {
                // A longer chain of `super` is another root's match.
                if room != "super" && room != "self" && starts_like_a_module(&room) {
                    found.push((room, line_of(&code, at)));
                }
            }
        }
    }
    found
}

/// Macros and items of the root itself are no rooms; modules are written in lower case.
fn starts_like_a_module(name: &str) -> bool {
    name.chars().next().is_some_and(|c| c.is_ascii_lowercase())
}

/// The first path segment, or those of each member of a `{...}` group.
fn first_segments(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return identifier(path).into_iter().collect();
    };
    let (mut depth, mut members, mut member) = (0usize, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => members.push(std::mem::take(&mut member)),
            _ => {
                depth = if c == '{' { depth + 1 } else { depth - usize::from(c == '}') };
                member.push(c);
            }
        }
    }
    members.push(member);
    members.iter().filter_map(|member| identifier(member.trim())).collect()
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Some(room) = room_of(&file.path) else { continue };
        if room != "bench" && layer(room).is_none() {
            found.push(format!("{}: room `{room}` has no layer yet: give it one in tests/house/layers.rs", file.path));
            continue;
        }
        for (import, line) in imports(file) {
            if !may_import(room, &import) {
                found.push(format!("{}:{line}: `{room}` may not import `{import}`", file.path));
            }
        }
    }
    found
}

#[test]
fn imports_point_downwards() {
    let found = violations(&files(&["src"], &[".rs"]));
    assert!(found.is_empty(), "imports that point upwards or sideways:\n{}", found.join("\n"));
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    for (path, text) in [
        ("src/media/packet.rs", "use crate::track::Stream;"),
        ("src/media/packet.rs", "use crate::{config, track::Stream};"),
        ("src/media/packet.rs", "use crate::{\n    config::{A, B},\n    track,\n};"),
        ("src/track/stream.rs", "fn f() { crate::worker::go() }"),
        ("src/track/stream.rs", "use super::super::worker;"),
        ("src/ingest/whip/mod.rs", "use crate::egress::whep;"),
        ("src/egress/mod.rs", "use super::ingest::rtmp;"),
        ("src/transport/stun.rs", "use crate::transcode::Aac;"),
        ("src/bench/mod.rs", "use crate::worker::Workers;"),
        ("src/worker/mod.rs", "use crate::bench::Figures;"),
        ("src/attic/mod.rs", ""),
    ] {
        let found = violations(&[SourceFile::new(path, text)]);
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
    }
}

#[test]
fn downward_imports_comments_and_the_rooms_own_modules_pass() {
    for (path, text) in [
        ("src/track/stream.rs", "use crate::{media::{Codec, RtpPacket}, track::packet};"),
        ("src/ingest/rtmp/mod.rs", "// crate::egress\nconst A: &str = \"crate::egress\";"),
        ("src/ingest/rtmp/chunk.rs", "use super::super::whip;"),
        ("src/main.rs", "use sluice::{bench, server};"),
        ("src/bench/mod.rs", "use crate::{transport::stun, media};"),
        ("src/worker/mod.rs", "use crate::VERSION;"),
    ] {
        let found = violations(&[SourceFile::new(path, text)]);
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}
