//! The program is there, and says how it is used. With this test it is built as all tests are, with the same features of the same
//! dependencies; by itself it would be built from others.

use std::process::Command;

#[test]
fn told_nothing_it_says_what_it_can_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-webrtc-rs")).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for command in ["publish", "play"] {
        assert!(said.contains(command), "{said}");
    }
}
