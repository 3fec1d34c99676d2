//! H.264 profiles out of `profile-level-id` (RFC 6184 section 8.1), as families that decoders are built for.

use super::attribute::{hex_byte, parameter};

/// A family of profiles. Levels are left out: they are asymmetric (`level-asymmetry-allowed`), and decoders in browsers play any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    /// Another `profile_idc` (High 10, High 4:2:2, High 4:4:4, ...).
    Other(u8),
}

impl H264Profile {
    /// From `profile_idc` and the constraint flags, by RFC 6184's table 5.
    pub fn from_bytes(profile_idc: u8, constraints: u8) -> Self {
        let set = |flag: u8| constraints & (0x80 >> flag) != 0;
        match profile_idc {
            0x42 if set(1) => Self::ConstrainedBaseline,
            // Extended, restricted to what Baseline has too.
            0x58 if set(0) && set(1) => Self::ConstrainedBaseline,
            0x4d if set(0) => Self::ConstrainedBaseline,
            0x42 => Self::Baseline,
            0x58 if set(0) => Self::Baseline,
            0x4d => Self::Main,
            0x64 if set(4) && set(5) => Self::ConstrainedHigh,
            0x64 => Self::High,
            other => Self::Other(other),
        }
    }

    /// The profile of a format's parameters. Without `profile-level-id` it is Baseline (RFC 6184 section 8.1); `None` when what is there is
    /// no three bytes.
    pub fn of_fmtp(fmtp: &str) -> Option<Self> {
        let Some(id) = parameter(fmtp, "profile-level-id") else { return Some(Self::Baseline) };
        let [profile_idc, constraints, _level] = bytes(id)?;
        Some(Self::from_bytes(profile_idc, constraints))
    }

    /// How well a decoder for `self` is told about a stream of `live`: 0 exactly, then the least richer profile, then the least poorer
    /// one. Browsers play any profile they know under any payload type, so nothing is refused.
    pub(super) fn distance_to(self, live: Self) -> u32 {
        match (self.rank(), live.rank()) {
            _ if self == live => 0,
            (Some(own), Some(live)) if own > live => own - live,
            (Some(own), Some(live)) => 10 + live - own,
            (Some(_), None) | (None, _) => 20,
        }
    }

    /// From poor to rich; other profiles are for other decoders.
    fn rank(self) -> Option<u32> {
        Some(match self {
            Self::ConstrainedBaseline => 0,
            Self::Baseline => 1,
            Self::Main => 2,
            Self::ConstrainedHigh => 3,
            Self::High => 4,
            Self::Other(_) => return None,
        })
    }
}

/// The three bytes of a `profile-level-id`.
pub(super) fn bytes(id: &str) -> Option<[u8; 3]> {
    let byte = |from: usize| id.get(from..from + 2).and_then(hex_byte);
    (id.len() == 6).then(|| Some([byte(0)?, byte(2)?, byte(4)?])).flatten()
}

/// `packetization-mode`; 0 where it is missing (RFC 6184 section 8.1), `None` for what we have not got (2, interleaved).
pub(super) fn packetization_mode(fmtp: &str) -> Option<u8> {
    match parameter(fmtp, "packetization-mode") {
        None | Some("0") => Some(0),
        Some("1") => Some(1),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_told_apart_by_their_flags() {
        let of = |id: &str| H264Profile::of_fmtp(&format!("profile-level-id={id}"));
        assert_eq!(of("42e01f"), Some(H264Profile::ConstrainedBaseline));
        assert_eq!(of("42c01f"), Some(H264Profile::ConstrainedBaseline));
        assert_eq!(of("42001f"), Some(H264Profile::Baseline));
        assert_eq!(of("4d001f"), Some(H264Profile::Main));
        assert_eq!(of("4D0028"), Some(H264Profile::Main));
        assert_eq!(of("640c1f"), Some(H264Profile::ConstrainedHigh));
        assert_eq!(of("64001f"), Some(H264Profile::High));
        assert_eq!(of("f4001f"), Some(H264Profile::Other(0xf4)));
        assert_eq!(of("422001f"), None, "ffmpeg 8.0's whip muxer writes seven digits for constrained baseline");
        assert_eq!(of("zz001f"), None);
        assert_eq!(of("\u{e9}\u{e9}\u{e9}"), None);
        assert_eq!(H264Profile::of_fmtp(""), Some(H264Profile::Baseline));
    }

    #[test]
    fn a_missing_packetization_mode_is_0() {
        assert_eq!(packetization_mode(""), Some(0));
        assert_eq!(packetization_mode("packetization-mode=1"), Some(1));
        assert_eq!(packetization_mode("packetization-mode=2"), None);
    }
}
