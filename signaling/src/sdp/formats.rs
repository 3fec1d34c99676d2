//! Format parameters, codec by codec: which offered ones we have, what the answer says of them, and how well one of them
//! carries a live track.
//!
//! | codec | taken when | must be the same as the live track's | told apart, best first | source |
//! | --- | --- | --- | --- | --- |
//! | H264 | `packetization-mode` 0, 1 or missing | nothing: browsers decode any profile they know under any payload type | mode 1, then the profile: equal, next richer, next poorer | RFC 6184 section 8 |
//! | H265 | one stream per transport (`tx-mode` SRST) | `profile-id`, `tier-flag` | level: high enough before too low | RFC 7798 section 7 |
//! | VP8 | always | | | RFC 7741 section 6 |
//! | VP9 | always | `profile-id`: another bit depth or chroma is another decoder | | RFC 9628 section 6 |
//! | AV1 | always | `profile`, for the same reason | | AV1 RTP payload format, section 7 |
//! | opus | always | | | RFC 7587 section 7 |
//!
//! Levels of H.264, VP9 and AV1 are not compared: browsers offer the least one (Chromium 3.1, Safari 5.2) and decode what their
//! machine can, in H.264 by `level-asymmetry-allowed`.

use super::{OfferedCodec, attribute::parameter, h264, h264::H264Profile};
use crate::codec::{Codec, TrackFormat};

/// What `profile-id` of H.265 is when it is missing: Main (RFC 7798 section 7.1).
const HEVC_PROFILE: &str = "1";
/// What `tier-flag` is when it is missing: the Main tier.
const HEVC_TIER: &str = "0";
/// What `level-id` is when it is missing: level 3.1, times 30.
const HEVC_LEVEL: u32 = 93;

/// The codec of an offered payload type, if it is one of ours in a form that we have.
pub(super) fn codec_of(offered: &OfferedCodec) -> Option<Codec> {
    let codec = Codec::from_sdp_name(&offered.name)?;
    let ours = match codec {
        Codec::H264 => h264::packetization_mode(&offered.fmtp).is_some(),
        Codec::Hevc => parameter(&offered.fmtp, "tx-mode").is_none_or(|mode| mode.eq_ignore_ascii_case("SRST")),
        Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::Opus => true,
    };
    (ours && codec.clock_rate_hz() == offered.clock_rate_hz).then_some(codec)
}

/// The answer's format parameters.
pub(super) fn answered(codec: Codec, offered: &OfferedCodec) -> String {
    let echo = |names: &[&str]| {
        let pair = |name: &&str| parameter(&offered.fmtp, name).map(|value| format!("{name}={value}"));
        names.iter().filter_map(pair).collect::<Vec<_>>().join(";")
    };
    match codec {
        // RFC 6184 section 8.2.2: profile and packetization mode are used symmetrically; the offer's level is one we can take.
        Codec::H264 => {
            let sound = parameter(&offered.fmtp, "profile-level-id").is_some_and(|id| h264::bytes(id).is_some());
            let all = ["level-asymmetry-allowed", "packetization-mode", "profile-level-id"];
            echo(if sound { &all } else { &all[..2] })
        }
        // RFC 7798 section 7.2.2: profile, tier and transmission mode are used symmetrically.
        Codec::Hevc => echo(&["level-id", "profile-id", "tier-flag", "tx-mode"]),
        Codec::Vp9 => echo(&["profile-id"]),
        Codec::Av1 => echo(&["level-idx", "profile", "tier"]),
        Codec::Vp8 => String::new(),
        // RFC 7587 section 7: stereo says what we like to receive, sprop-stereo what we are likely to send.
        Codec::Opus => "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".into(),
    }
}

/// How well a payload type carries a live track: the lower the better, `None` not at all.
pub(super) fn fit(live: &TrackFormat, codec: Codec, fmtp: &str) -> Option<u32> {
    if live.codec != codec {
        return None;
    }
    let same = |name: &str, default: &str| {
        let value = |fmtp| parameter(fmtp, name).unwrap_or(default).to_owned();
        value(&live.fmtp) == value(fmtp)
    };
    match codec {
        Codec::H264 => {
            // Fragments and aggregates are sent, which only mode 1 allows; who offers mode 0 alone mostly takes them.
            let single_units_only = h264::packetization_mode(fmtp) != Some(1);
            let profile = match (live_h264_profile(live), H264Profile::of_fmtp(fmtp)) {
                (Some(live), Some(offered)) => offered.distance_to(live),
                (None, _) => 0,
                (Some(_), None) => 20,
            };
            Some(u32::from(single_units_only) * 100 + profile)
        }
        Codec::Hevc => {
            let level = |fmtp| parameter(fmtp, "level-id").and_then(|id| id.parse().ok()).unwrap_or(HEVC_LEVEL);
            let too_low = level(fmtp) < level(live.fmtp.as_str());
            (same("profile-id", HEVC_PROFILE) && same("tier-flag", HEVC_TIER)).then_some(u32::from(too_low))
        }
        Codec::Vp9 => same("profile-id", "0").then_some(0),
        Codec::Av1 => same("profile", "0").then_some(0),
        Codec::Vp8 | Codec::Opus => Some(0),
    }
}

/// Unlike in an offer, a missing profile of a live track means that it is not known yet.
fn live_h264_profile(live: &TrackFormat) -> Option<H264Profile> {
    parameter(&live.fmtp, "profile-level-id").and_then(|_| H264Profile::of_fmtp(&live.fmtp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Feedback;

    fn offered(name: &str, fmtp: &str) -> OfferedCodec {
        OfferedCodec {
            payload_type: 96,
            name: name.into(),
            clock_rate_hz: 90_000,
            channels: 1,
            fmtp: fmtp.into(),
            feedback: Feedback::default(),
            rtx_payload_type: None,
        }
    }

    fn live(codec: Codec, fmtp: &str) -> TrackFormat {
        TrackFormat { codec, fmtp: fmtp.into(), channels: 1 }
    }

    /// Payload types' parameters, sorted as a viewer of `live` would be answered; those that do not carry it are left out.
    fn order<'a>(live: &TrackFormat, fmtps: &[&'a str]) -> Vec<&'a str> {
        let mut fits: Vec<_> = fmtps.iter().filter_map(|fmtp| Some((fit(live, live.codec, fmtp)?, *fmtp))).collect();
        fits.sort_by_key(|(fit, _)| *fit);
        fits.into_iter().map(|(_, fmtp)| fmtp).collect()
    }

    #[test]
    fn names_are_compared_without_case_and_unknown_ones_are_none() {
        for (name, codec) in [
            ("h264", Some(Codec::H264)),
            ("H265", Some(Codec::Hevc)),
            ("vp8", Some(Codec::Vp8)),
            ("Vp9", Some(Codec::Vp9)),
            ("av1", Some(Codec::Av1)),
            ("AV1X", None),
            ("red", None),
        ] {
            assert_eq!(codec_of(&offered(name, "")), codec, "{name}");
        }
    }

    #[test]
    fn forms_that_we_have_not_got_are_none() {
        assert_eq!(codec_of(&offered("H264", "packetization-mode=2")), None, "interleaved");
        assert_eq!(codec_of(&offered("H265", "tx-mode=MRST")), None, "several streams");
        assert_eq!(codec_of(&offered("H265", "profile-id=1;tx-mode=SRST")), Some(Codec::Hevc));
        assert_eq!(codec_of(&OfferedCodec { clock_rate_hz: 48_000, ..offered("VP8", "") }), None);
    }

    #[test]
    fn rfc6184_8_2_2_profile_and_mode_are_answered_as_offered_and_safaris_levels_too() {
        for fmtp in [
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c34",
            "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e034",
        ] {
            assert_eq!(answered(Codec::H264, &offered("H264", fmtp)), fmtp);
        }
        assert_eq!(
            answered(Codec::H264, &offered("H264", "profile-level-id=422001f;packetization-mode=1")),
            "packetization-mode=1"
        );
    }

    #[test]
    fn h264_of_every_profile_goes_to_every_decoder_the_nearest_first() {
        let offer = [
            "packetization-mode=0;profile-level-id=42e034",
            "packetization-mode=1;profile-level-id=42e034",
            "packetization-mode=1;profile-level-id=4d001f",
            "packetization-mode=1;profile-level-id=640c34",
        ];
        let of = |profile: &str| {
            order(&live(Codec::H264, &format!("packetization-mode=1;profile-level-id={profile}")), &offer)
        };
        assert_eq!(of("42e01f")[0], offer[1]);
        assert_eq!(of("64001f")[0], offer[3]);
        assert_eq!(of("4d0028")[0], offer[2]);
        assert_eq!(of("42001f")[0], offer[2], "baseline: the next richer");
        assert_eq!(of("42e01f").len(), 4);
        assert_eq!(order(&live(Codec::H264, ""), &offer)[0], offer[1], "not known yet: any with mode 1");
    }

    #[test]
    fn rfc7798_7_2_2_hevc_needs_the_same_profile_and_tier_and_prefers_a_high_enough_level() {
        let offer = ["profile-id=2;level-id=180", "level-id=93;profile-id=1", "level-id=180;profile-id=1;tier-flag=0"];
        assert_eq!(order(&live(Codec::Hevc, "profile-id=1;level-id=120"), &offer), [offer[2], offer[1]]);
        assert_eq!(order(&live(Codec::Hevc, ""), &offer), [offer[1], offer[2]], "Main, level 3.1");
        assert_eq!(order(&live(Codec::Hevc, "profile-id=1;tier-flag=1"), &offer), [""; 0]);
        assert_eq!(answered(Codec::Hevc, &offered("H265", offer[2])), "level-id=180;profile-id=1;tier-flag=0");
    }

    #[test]
    fn another_profile_of_vp9_and_av1_is_another_decoder() {
        assert_eq!(order(&live(Codec::Vp9, "profile-id=2"), &["profile-id=0", "profile-id=2", ""]), ["profile-id=2"]);
        assert_eq!(order(&live(Codec::Vp9, ""), &["profile-id=2", "profile-id=0"]), ["profile-id=0"]);
        assert_eq!(order(&live(Codec::Av1, "profile=0"), &["level-idx=5;profile=0;tier=0", "profile=1", ""]).len(), 2);
    }

    #[test]
    fn rfc7587_7_opus_is_answered_in_stereo_with_error_correction() {
        let answer = answered(Codec::Opus, &OfferedCodec { clock_rate_hz: 48_000, channels: 2, ..offered("opus", "") });
        for wanted in ["stereo=1", "sprop-stereo=1", "useinbandfec=1"] {
            assert!(answer.split(';').any(|parameter| parameter == wanted), "{answer}");
        }
    }
}
