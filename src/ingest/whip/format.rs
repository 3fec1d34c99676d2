//! A track's format from what was agreed, and from what the stream itself says.

use sluice_signaling::sdp::AcceptedCodec;

use crate::{codec::h264::depacketize::ProfileLevelId, media::TrackFormat};

const PROFILE_LEVEL_ID: &str = "profile-level-id";
/// What `profile-level-id` means when it is absent: baseline, level 1 (RFC 6184 section 8.1).
const DEFAULT_PROFILE: ProfileLevelId = ProfileLevelId([0x42, 0x00, 0x0a]);
const BASELINE_IDC: u8 = 66;
/// `constraint_set1_flag`: makes baseline constrained baseline.
const CONSTRAINED: u8 = 0x40;

pub(super) fn format_of(accepted: &AcceptedCodec) -> TrackFormat {
    TrackFormat { codec: accepted.codec, fmtp: accepted.fmtp.clone(), channels: accepted.channels }
}

/// The format parameters with the profile of a parameter set, when those at hand do not cover it: another profile, or
/// a higher level. Encoders write constraint flags and levels a little different from what they offered; that is no
/// change of format.
pub(super) fn with_profile(fmtp: &str, profile: ProfileLevelId) -> Option<String> {
    let known = profile_of(fmtp).unwrap_or(DEFAULT_PROFILE);
    if same_profile(known, profile) && profile.0[2] <= known.0[2] {
        return None;
    }
    let others = fmtp.split(';').filter(|parameter| !is_profile(parameter) && !parameter.trim().is_empty());
    let mut parameters: Vec<_> = others.map(|parameter| parameter.trim().to_owned()).collect();
    parameters.push(format!("{PROFILE_LEVEL_ID}={profile}"));
    Some(parameters.join(";"))
}

fn same_profile(a: ProfileLevelId, b: ProfileLevelId) -> bool {
    let constrained = |id: ProfileLevelId| id.0[0] == BASELINE_IDC && id.0[1] & CONSTRAINED != 0;
    a.0[0] == b.0[0] && constrained(a) == constrained(b)
}

fn is_profile(parameter: &str) -> bool {
    parameter.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(PROFILE_LEVEL_ID))
}

fn profile_of(fmtp: &str) -> Option<ProfileLevelId> {
    let (_, value) = fmtp.split(';').find(|parameter| is_profile(parameter))?.split_once('=')?;
    let [_, a, b, c] = u32::from_str_radix(value.trim(), 16).ok()?.to_be_bytes();
    Some(ProfileLevelId([a, b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

    #[test]
    fn flags_and_lower_levels_are_no_other_format() {
        assert_eq!(with_profile(AGREED, ProfileLevelId([0x42, 0xe0, 0x1f])), None);
        assert_eq!(with_profile(AGREED, ProfileLevelId([0x42, 0xc0, 0x1e])), None);
    }

    #[test]
    fn another_profile_or_a_higher_level_is_taken_over() {
        let rest = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id";
        for (profile, text) in
            [([0x64, 0x00, 0x1f], "64001f"), ([0x42, 0xc0, 0x28], "42c028"), ([0x42, 0, 0x1f], "42001f")]
        {
            assert_eq!(with_profile(AGREED, ProfileLevelId(profile)), Some(format!("{rest}={text}")));
        }
        assert_eq!(with_profile("", ProfileLevelId([0x4d, 0, 0x1f])).as_deref(), Some("profile-level-id=4d001f"));
        assert_eq!(
            with_profile("profile-level-id=zz; packetization-mode=1 ;", ProfileLevelId([0x4d, 0, 0x1f])).as_deref(),
            Some("packetization-mode=1;profile-level-id=4d001f")
        );
    }
}
