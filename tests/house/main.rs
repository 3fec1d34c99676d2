//! The rules of the house that a compiler does not check: who may import whom, and what no file may hold.
//!
//! In: the text of the repository's own files. Out: a failed test that names the file, the line and the rule.

mod conformance;
mod layers;
mod rules;
mod source;
