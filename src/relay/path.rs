//! Which nodes a stream comes through, as answers by WHEP tell in a header ([`PATH_HEADER`]): so two nodes that fetch a stream from each other,
//! for its publisher may come to either, know their own pictures when these come back. Sans-I/O but for its dice.
//!
//! A path is what was told when a session began. Where streams go round by more than two nodes, and change their way while sessions last, it may
//! be an old one.

use std::{fmt, str::FromStr};

/// Has the path's ids, separated by blanks: first that of the node that has the publisher, last that of the one that answers.
pub const PATH_HEADER: &str = "sluice-path";
/// Of a longer path the last ones count, which are nearest to here.
const NODES_MAX: usize = 16;
const ID_DIGITS: usize = 16;

/// A server, from its start to its end: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(u64);

/// It is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidNodeId;

/// Nodes, from the publisher's on; at most [`NODES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<NodeId>);

impl NodeId {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = ID_DIGITS)
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_id = text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_id.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(InvalidNodeId)
    }
}

impl Path {
    /// What a header says. Words that are no ids count among the last [`NODES_MAX`], and are left out.
    pub(super) fn of_header(text: &str) -> Self {
        let words = text.split_ascii_whitespace().rev().take(NODES_MAX);
        let mut nodes: Vec<_> = words.filter_map(|word| word.parse().ok()).collect();
        nodes.reverse();
        Self(nodes)
    }

    /// One node further.
    pub(super) fn through(mut self, node: NodeId) -> Self {
        self.0.push(node);
        let beyond = self.0.len().saturating_sub(NODES_MAX);
        self.0.drain(..beyond);
        self
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        self.0.contains(&node)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, node) in self.0.iter().enumerate() {
            write!(f, "{}{node}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(0xa);
    const B: NodeId = NodeId(0xbb00_0000_0000_0000);

    #[test]
    fn a_path_is_written_as_it_is_read() {
        let path = Path::default().through(A).through(B);
        assert_eq!(path.to_string(), "000000000000000a bb00000000000000");
        assert_eq!(Path::of_header(&path.to_string()), path);
        assert!(path.has(A) && path.has(B) && !path.has(NodeId(0)));
        assert_eq!(Path::of_header(" BB00000000000000\t000000000000000A  "), Path(vec![B, A]));
        assert_eq!((Path::of_header(""), Path::default().to_string()), (Path::default(), String::new()));
        assert_ne!(NodeId::random(), NodeId::random());
    }

    #[test]
    fn words_that_are_no_ids_are_left_out() {
        for word in
            ["a", "+00000000000000a", "000000000000000g", "0000000000000000a", "000000000000000ä", "0x0000000000000a"]
        {
            assert_eq!(word.parse::<NodeId>(), Err(InvalidNodeId), "{word}");
            assert_eq!(Path::of_header(&format!("{A} {word} {B}")), Path(vec![A, B]), "{word}");
        }
    }

    #[test]
    fn of_a_path_that_is_too_long_the_nearest_nodes_are_kept() {
        let nodes = |count: u64| (1..=count).map(NodeId);
        let long = nodes(10_000).map(|node| node.to_string()).collect::<Vec<_>>().join(" ");
        let path = Path::of_header(&long);
        assert_eq!(path, Path((9_985..=10_000).map(NodeId).collect()));
        assert!(!path.has(NodeId(9_984)), "a way round by so many nodes is not noticed");
        assert_eq!(path.through(A), Path((9_986..=10_000).map(NodeId).chain([A]).collect()));
        let full = nodes(20).fold(Path::default(), Path::through);
        assert_eq!(full, Path((5..=20).map(NodeId).collect()));
        let junk = format!("{A} {}", "x ".repeat(16));
        assert_eq!(Path::of_header(&junk), Path::default(), "they take up the places");
    }
}
