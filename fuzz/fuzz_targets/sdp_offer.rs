//! An SDP offer as it comes in a POST's body. Corpus: the offers of real clients (`signaling/tests/fixtures`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signaling::sdp::MediaOffer;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = MediaOffer::parse(text);
    }
});
