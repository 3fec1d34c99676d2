//! The `sluice` program: arguments, and what each command does with them.

fn main() {}
