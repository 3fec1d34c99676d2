use super::*;
use crate::egress::hls::{
    Output, multivariant_playlist,
    window::{
        WindowSettings,
        tests::{AUDIO, Made, VIDEO, settings},
    },
};

/// Names are unguessable: what is before the code tells all that a test needs.
fn readable(rendered: &Rendered) -> Vec<String> {
    let short = |line: &str| match line.find("media/") {
        Some(at) => {
            let (before, name) = line.split_at(at + "media/".len());
            let code_at = name.rfind('-').unwrap();
            let dot = name.find('.').unwrap();
            format!("{before}{}{}", &name[..code_at], &name[dot..])
        }
        None => line.to_owned(),
    };
    rendered.text().lines().map(short).collect()
}

fn playlist(made: &Made, delta: bool) -> Rendered {
    let form = if delta { PlaylistForm::Delta } else { PlaylistForm::Whole };
    media_playlist(&made.window, made.video(), form)
}

fn both(settings: WindowSettings) -> Made {
    let mut made = Made::new(settings);
    made.begin(VIDEO);
    made.begin(AUDIO);
    made
}

#[test]
fn a_playlist_from_its_first_part_on() {
    let mut made = both(settings());
    made.part(VIDEO, true);
    made.part(AUDIO, true);
    assert_eq!(
        readable(&playlist(&made, false)),
        [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            "#EXT-X-TARGETDURATION:2",
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.00000,CAN-SKIP-UNTIL=12.00000",
            "#EXT-X-PART-INF:PART-TARGET=0.20000",
            "#EXT-X-MEDIA-SEQUENCE:100",
            "#EXT-X-DISCONTINUITY-SEQUENCE:0",
            "#EXT-X-MAP:URI=\"media/0-i0.mp4\"",
            "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.000Z",
            "#EXT-X-PART:DURATION=0.20000,URI=\"media/0-p0.m4s\",INDEPENDENT=YES",
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"media/0-p1.m4s\"",
            "#EXT-X-RENDITION-REPORT:URI=\"r1.m3u8\",LAST-MSN=100,LAST-PART=0",
        ]
    );
}

#[test]
fn complete_segments_are_listed_and_their_parts_for_three_target_durations() {
    let mut made = both(settings());
    made.segments(VIDEO, 9);
    made.part(VIDEO, true);
    let lines = readable(&playlist(&made, false));
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("#EXTINF:2.00000,"), 6);
    assert_eq!(count("#EXT-X-PROGRAM-DATE-TIME:"), 7);
    assert_eq!(count("#EXT-X-MAP:"), 1);
    assert_eq!(count("#EXT-X-PART:"), 2 * 10 + 1, "of 6 s back");
    assert!(lines.contains(&"#EXT-X-MEDIA-SEQUENCE:103".to_owned()), "{lines:?}");
    let growing = lines.iter().position(|line| line.contains("0-p90.m4s")).unwrap();
    assert_eq!(lines[growing - 2], "media/0-s108.m4s");
    assert_eq!(lines[growing - 1], "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:18.000Z");
    assert_eq!(lines[growing + 1], "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"media/0-p91.m4s\"");
}

#[test]
fn a_delta_update_and_the_playlist_before_it_are_the_whole() {
    let mut made = both(WindowSettings { dvr: Duration::from_secs(60), ..settings() });
    made.segments(VIDEO, 3);
    assert_eq!(playlist(&made, true), playlist(&made, false), "nothing lies beyond the skip boundary");
    made.segments(VIDEO, 30);
    let before = readable(&playlist(&made, false));
    made.begin(VIDEO);
    made.begin(AUDIO);
    made.segments(VIDEO, 1);
    let (delta, whole) = (readable(&playlist(&made, true)), readable(&playlist(&made, false)));
    let skip = delta.iter().position(|line| line.starts_with("#EXT-X-SKIP:")).unwrap();
    let skipped: usize = delta[skip].rsplit('=').next().unwrap().parse().unwrap();
    assert!(skipped > 10, "{delta:?}");
    // What a player has of them already: all lines up to the last skipped segment's URI, and none of a part.
    let is_segment = |line: &&String| line.starts_with("media/") && line.contains("-s");
    let old: Vec<_> = whole.iter().filter(is_segment).take(skipped).collect();
    assert!(old.iter().all(|line| before.contains(line)));
    let from = whole.iter().position(|line| line == old[skipped - 1]).unwrap();
    assert_eq!(delta[skip + 1..], whole[from + 1..]);
    assert_eq!(delta[..skip], whole[..skip]);
    // At least six target durations are there.
    let kept = delta.iter().filter(is_segment).count();
    assert!((6..=8).contains(&kept), "{kept}");
}

#[test]
fn another_publisher_shows_as_a_discontinuity_with_its_own_initialization() {
    let mut made = both(settings());
    made.segments(VIDEO, 2);
    made.segments(AUDIO, 2);
    made.begin(VIDEO);
    made.begin(AUDIO);
    made.part(VIDEO, true);
    let lines = readable(&playlist(&made, false));
    let at = lines.iter().position(|line| line == "#EXT-X-DISCONTINUITY").unwrap();
    assert_eq!(lines[at - 1], "media/0-s101.m4s");
    assert_eq!(lines[at + 1], "#EXT-X-MAP:URI=\"media/0-i1.mp4\"");
    assert!(lines[at + 2].starts_with("#EXT-X-PROGRAM-DATE-TIME:"));
    assert!(lines[at + 3].starts_with("#EXT-X-PART:"));
    // It passes out of the window and stays counted.
    made.segments(VIDEO, 12);
    let lines = readable(&playlist(&made, false));
    assert!(lines.contains(&"#EXT-X-DISCONTINUITY-SEQUENCE:1".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"#EXT-X-DISCONTINUITY".to_owned()));
    assert!(lines.contains(&"#EXT-X-MAP:URI=\"media/0-i1.mp4\"".to_owned()));
}

#[test]
fn a_publisher_that_left_leaves_the_playlist_open_until_the_window_is_ended() {
    let mut made = both(settings());
    made.segments(VIDEO, 2);
    for rendition in [VIDEO, AUDIO] {
        made.window.take(Output::Ended { rendition });
    }
    let lines = readable(&playlist(&made, false));
    assert_eq!(lines.last().unwrap(), "media/0-s101.m4s", "no hint, no end");
    made.window.end();
    assert_eq!(readable(&playlist(&made, true)).last().unwrap(), "#EXT-X-ENDLIST");
}

#[test]
fn a_query_goes_behind_every_uri() {
    let mut made = both(settings());
    made.segments(VIDEO, 3);
    made.segments(AUDIO, 1);
    for rendered in [playlist(&made, false), multivariant_playlist(&made.window)] {
        let plain = rendered.text().to_owned();
        let carried = rendered.with_query("?token=abc");
        assert_eq!(carried.replace("?token=abc", ""), plain);
        for line in carried.lines().filter(|line| line.contains(".m") && !line.is_empty()) {
            assert!(line.contains("?token=abc"), "{line}");
        }
        assert!(carried.matches("?token=abc").count() > 1);
    }
}

#[test]
fn the_multivariant_playlist_measures_and_shares_the_sound() {
    let mut made = both(settings());
    made.segments(VIDEO, 2);
    made.segments(AUDIO, 2);
    let (peak, average) = made.video().measured_bps();
    let (audio_peak, audio_average) = made.window.rendition(AUDIO).unwrap().measured_bps();
    assert_eq!(
        multivariant_playlist(&made.window).text().lines().collect::<Vec<_>>(),
        [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"r1.m3u8\"",
            &format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,\
                 FRAME-RATE=30.000,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE",
                peak + audio_peak,
                average + audio_average
            ),
            "r0.m3u8",
        ]
    );
    made.window.take(Output::Ended { rendition: VIDEO });
    let text = multivariant_playlist(&made.window).text().to_owned();
    let sound_only =
        format!("#EXT-X-STREAM-INF:BANDWIDTH={audio_peak},AVERAGE-BANDWIDTH={audio_average},CODECS=\"mp4a.40.2\"");
    assert!(text.ends_with(&format!("{sound_only}\nr1.m3u8\n")), "{text}");
    assert!(!text.contains("EXT-X-MEDIA:"), "{text}");
}

#[test]
fn pictures_alone_have_no_group_and_the_name_of_a_playlist_is_its_own() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.segments(VIDEO, 2);
    let text = multivariant_playlist(&made.window).text().to_owned();
    assert!(!text.contains("AUDIO") && text.contains("CODECS=\"avc1.64001f\","), "{text}");
    assert_eq!(playlist_rendition("r3.m3u8"), Some(RenditionIndex(3)));
    for other in ["r03.m3u8", "r.m3u8", "r-1.m3u8", "r256.m3u8", "3.m3u8", "r3", "index.m3u8", "r+3.m3u8"] {
        assert_eq!(playlist_rendition(other), None, "{other}");
    }
}

#[test]
fn how_far_ahead_a_request_may_be() {
    assert_eq!(advance_part_limit(Duration::from_millis(200)), 15);
    assert_eq!(advance_part_limit(Duration::from_millis(333)), 10);
    assert_eq!(advance_part_limit(Duration::from_secs(1)), 3);
    assert_eq!(advance_part_limit(Duration::ZERO), 3);
}
