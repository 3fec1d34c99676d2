//! What the encoder x264 says of its settings in its first picture: a line of text in a message of user data (ITU-T H.264 annex D.1.7).
//! Pictures that it holds back are latency that nobody after it can take away.

use super::{escape::unescape, nal};

/// `payloadType` of user data that has a UUID before it (annex D.1.1).
const USER_DATA_UNREGISTERED: usize = 5;
/// Whose user data is x264's.
const UUID: [u8; 16] = *b"\xdc\x45\xe9\xbd\xe6\xd9\x48\xb7\x96\x2c\xd8\x20\xd9\x23\xee\xef";
/// The text has some 700 bytes.
const TEXT_MAX_BYTES: usize = 2_048;
/// Each setting is a small number; what is above is somebody's joke.
const SETTING_MAX: u32 = 256;

/// Those that make it hold pictures back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct X264Settings {
    /// `rc-lookahead`: pictures that it looks ahead to share out its bits.
    pub lookahead: u32,
    /// Pictures that are encoded at the same time.
    pub at_a_time: u32,
    /// `bframes`: pictures in a row that may wait for one after them.
    pub b_frames: u32,
    /// `b-adapt=2`: it looks four times as far ahead for where they go best.
    places_b_frames_best: bool,
}

impl X264Settings {
    /// Of a NAL unit; none when it is no message of x264's.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if nal::unit_type(nal) != nal::kind::SEI {
            return None;
        }
        let payload = unescape(nal.get(1..)?, TEXT_MAX_BYTES);
        let (payload_type, rest) = number(&payload)?;
        let (length, rest) = number(rest)?;
        let message = rest.get(..length.min(rest.len()))?;
        if payload_type != USER_DATA_UNREGISTERED {
            return None;
        }
        let text = String::from_utf8_lossy(message.strip_prefix(&UUID)?);
        let (_, options) = text.split_once("options: ")?;
        let setting = |name: &str| {
            let value = options.split(' ').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))?;
            value.parse().ok().filter(|value| *value <= SETTING_MAX)
        };
        let slices_share_threads = setting("sliced_threads") == Some(1);
        Some(Self {
            lookahead: setting("rc_lookahead").unwrap_or(0),
            at_a_time: setting("threads").filter(|_| !slices_share_threads).unwrap_or(1).max(1),
            b_frames: setting("bframes").unwrap_or(0),
            places_b_frames_best: setting("b_adapt") == Some(2),
        })
    }

    /// Pictures that are inside when the first one comes out, as x264 counts them when it is opened.
    pub fn held_back(&self) -> u32 {
        let for_b_frames = if self.places_b_frames_best { self.b_frames.max(3) * 4 } else { self.b_frames };
        // The lookahead has a thread of its own where there are several, which takes as many more.
        let for_threads = if self.at_a_time > 1 { self.at_a_time - 1 + self.b_frames + 1 } else { 0 };
        for_b_frames.max(self.lookahead) + for_threads
    }
}

/// A `payloadType` or `payloadSize`: bytes of 255, and one below (section 7.3.2.3.1).
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().take_while(|byte| **byte == 255).count();
    let last = bytes.get(full)?;
    Some((full * 255 + usize::from(*last), bytes.get(full + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &str) -> Vec<u8> {
        let text = format!(
            "x264 - core 164 r3108 31e19f9 - H.264/MPEG-4 AVC codec - Copyleft 2003-2023 - options: {options}\0"
        );
        let size = UUID.len() + text.len();
        let mut nal = vec![6, 5];
        nal.extend(std::iter::repeat_n(255, size / 255));
        nal.push((size % 255) as u8);
        nal.extend(UUID);
        nal.extend(text.bytes());
        nal.push(0x80);
        nal
    }

    fn settings(options: &str) -> X264Settings {
        X264Settings::parse(&message(options)).unwrap()
    }

    #[test]
    fn pictures_held_back_are_counted_as_x264_counts_them() {
        const OBS: &str = "cabac=1 ref=1 deblock=1:0:0 analyse=0x3:0x113 me=hex subme=2 threads=3 lookahead_threads=1 sliced_threads=0 nr=0 \
                           bframes=3 b_pyramid=2 b_adapt=1 b_bias=0 direct=1 weightb=1 open_gop=0 weightp=1 keyint=250 keyint_min=25 \
                           scenecut=40 intra_refresh=0 rc_lookahead=10 rc=cbr mbtree=1 bitrate=2500 ratetol=1.0 aq=1:1.00";
        let as_installed = settings(OBS);
        assert_eq!((as_installed.lookahead, as_installed.at_a_time, as_installed.b_frames), (10, 3, 3));
        assert_eq!(as_installed.held_back(), 16);
        assert_eq!(settings(&OBS.replace("bframes=3", "bframes=0")).held_back(), 13);
        assert_eq!(settings(&OBS.replace("threads=3 ", "threads=1 ")).held_back(), 10);
        assert_eq!(settings(&OBS.replace("b_adapt=1", "b_adapt=2")).held_back(), 18);
        // Tune: zerolatency.
        assert_eq!(
            settings("threads=3 lookahead_threads=1 sliced_threads=1 slices=3 bframes=0 rc=crf mbtree=0").held_back(),
            0
        );
    }

    #[test]
    fn messages_of_others_and_nonsense_say_nothing() {
        let whole = message("threads=3 sliced_threads=0 bframes=0 rc_lookahead=40");
        for cut in 0..40 {
            assert_eq!(X264Settings::parse(&whole[..cut]), None, "{cut} bytes");
        }
        let mut other = whole.clone();
        other[6] ^= 1;
        assert_eq!(X264Settings::parse(&other), None, "another UUID");
        let mut other = whole.clone();
        other[0] = 5;
        assert_eq!(X264Settings::parse(&other), None, "no SEI");
        let mut other = whole;
        other[1] = 4;
        assert_eq!(X264Settings::parse(&other), None, "another kind of message");
        assert_eq!(settings("threads=4000000000 rc_lookahead=x bframes=99999").held_back(), 0);
    }
}
