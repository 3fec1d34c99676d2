//! Seeded mutation of texts: the same run every time, and thousands of broken neighbours of a real input.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Calls `check` with `rounds` mutations of `text`: bytes changed, lines dropped, doubled, swapped, cut, numbers made huge.
pub(crate) fn mutate(text: &str, rounds: u32, seed: u64, mut check: impl FnMut(&str)) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..lines.len().max(1));
            let other = random.random_range(0..lines.len().max(1));
            let Some(line) = lines.get(at).cloned() else { break };
            match random.random_range(0..8) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(other, line),
                2 => lines.swap(at, other),
                3 => lines[at] = line.chars().take(random.random_range(0..line.chars().count().max(1))).collect(),
                4 => lines[at] = line.replace(|c: char| c.is_ascii_digit(), "9"),
                5 => {
                    lines[at] = line.replace([' ', ':', '/', ';'], ["", " ", ":", ";", "="][random.random_range(0..5)])
                }
                6 => lines[at] = line.replace(char::is_alphanumeric, "\u{1F600}"),
                _ => {
                    let mut bytes = line.into_bytes();
                    if let Some(byte) = bytes.get_mut(other % 64) {
                        *byte = random.random();
                    }
                    lines[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        check(&lines.join("\r\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::mutate;
    use crate::{
        codec::{Codec, TrackFormat},
        ice::IceCredentials,
        media_plane::{Direction, SenderIds, TransportParams},
        name::SessionId,
        sdp::{Fingerprint, MediaOffer, answer, negotiate_egress, negotiate_ingest},
    };

    /// What comes of an offer, whatever it is: nothing panics, and an answer is a description with as many sections.
    fn check(text: &str) -> bool {
        let Ok(offer) = MediaOffer::parse(text) else { return false };
        let params = TransportParams {
            session: SessionId::random(),
            ice: IceCredentials { ufrag: "abcd".into(), pwd: "x".repeat(22) },
            fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![1; 32] },
            setup: offer.setup.answer(),
            candidates: Vec::new(),
            senders: vec![SenderIds { ssrc: 1, rtx_ssrc: Some(2) }; 2],
        };
        let live = [TrackFormat { codec: Codec::H264, fmtp: "profile-level-id=640028".into(), channels: 1 }];
        let mut agreed = 0;
        for (direction, negotiated) in
            [(Direction::Ingest, negotiate_ingest(&offer, None)), (Direction::Egress, negotiate_egress(&offer, &live))]
        {
            let Ok(negotiated) = negotiated else { continue };
            let text = answer(&offer, direction, &negotiated, &params);
            let back = MediaOffer::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(back.sections.len(), offer.sections.len(), "{text}");
            agreed += 1;
        }
        agreed > 0
    }

    #[test]
    fn broken_neighbours_of_real_offers_panic_nothing() {
        for (seed, text) in [
            (1, include_str!("../../tests/fixtures/chromium-watch.sdp")),
            (2, include_str!("../../tests/fixtures/chromium-simulcast.sdp")),
            (3, include_str!("../../tests/fixtures/obs-30.sdp")),
            (4, include_str!("../../tests/fixtures/gstreamer-publish.sdp")),
        ] {
            let mut agreed = 0;
            mutate(text, 1_000, seed, |text| agreed += u32::from(check(text)));
            assert!(agreed > 100, "the mutations are so wild that they show nothing: {agreed}");
        }
    }
}
