use super::*;
use crate::{
    codec::PictureSize,
    egress::hls::{Part, RenditionDescription},
    media::MediaKind,
};

pub const VIDEO: RenditionIndex = RenditionIndex(0);
pub const AUDIO: RenditionIndex = RenditionIndex(1);
pub const PART: Duration = Duration::from_millis(200);

pub fn settings() -> WindowSettings {
    WindowSettings {
        segments: 6,
        dvr: Duration::ZERO,
        segment_target: Duration::from_secs(2),
        bytes_max: 64 * 1024 * 1024,
    }
}

pub fn video() -> RenditionDescription {
    RenditionDescription {
        kind: MediaKind::Video,
        codecs: "avc1.64001f".into(),
        size: Some(PictureSize { width: 1280, height: 720 }),
        frame_rate: Some(30.0),
        channels: None,
        rid: None,
    }
}

pub fn audio() -> RenditionDescription {
    RenditionDescription {
        kind: MediaKind::Audio,
        codecs: "mp4a.40.2".into(),
        size: None,
        frame_rate: None,
        channels: Some(2),
        rid: None,
    }
}

/// A packager's place: parts of 200 ms, ten a segment, whose bytes tell which they are.
pub struct Made {
    pub window: Window,
    /// Of each rendition.
    parts: [u64; 2],
    began: [SystemTime; 2],
    /// Segments of pictures.
    boundaries: u64,
}

impl Made {
    pub fn new(settings: WindowSettings) -> Self {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self {
            window: Window::new(settings, MediaNames::new([1; 32]), 100),
            parts: [0; 2],
            began: [began; 2],
            boundaries: 0,
        }
    }

    /// At a boundary, where everybody is.
    pub fn begin(&mut self, rendition: RenditionIndex) {
        self.begin_at(rendition, self.boundaries);
    }

    fn begin_at(&mut self, rendition: RenditionIndex, boundary: u64) {
        let description = if rendition == VIDEO { video() } else { audio() };
        let bytes = Bytes::from(format!("init {}", self.parts[usize::from(rendition.0)]));
        self.window.take(Output::Initialization {
            rendition,
            boundary,
            joins: false,
            description,
            bytes,
            part_target: PART,
        });
    }

    pub fn part(&mut self, rendition: RenditionIndex, begins_segment: bool) {
        let at = usize::from(rendition.0);
        let number = self.parts[at];
        self.parts[at] += 1;
        self.boundaries += u64::from(begins_segment && rendition == VIDEO);
        let captured = self.began[at] + PART * number as u32;
        let bytes = Bytes::from(format!("[{at}.{number}]"));
        let independent = begins_segment || rendition == AUDIO;
        let part = Part { bytes, duration: PART, independent, begins_segment, captured };
        assert_eq!(self.window.take(Output::Part { rendition, part }), Some(rendition));
    }

    /// Whole segments of ten parts.
    pub fn segments(&mut self, rendition: RenditionIndex, count: usize) {
        for at in 0..count * 10 {
            self.part(rendition, at % 10 == 0);
        }
    }

    pub fn video(&self) -> &RenditionWindow {
        self.window.rendition(VIDEO).unwrap()
    }

    fn media(&self, name: &str) -> Option<String> {
        match self.window.find(name)? {
            Found::Media(runs) => Some(String::from_utf8(runs.concat()).unwrap()),
            Found::Awaited(_) => Some("awaited".into()),
        }
    }
}

fn numbers(rendition: &RenditionWindow) -> Vec<u64> {
    rendition.listed().map(|segment| segment.number).collect()
}

#[test]
fn a_segment_is_its_parts_byte_for_byte_and_can_be_had_once_it_is_complete() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.segments(VIDEO, 1);
    let segment = made.video().listed().next().unwrap().clone();
    assert_eq!(segment.number, 100);
    assert_eq!(made.media(&segment.name), None, "it still grows");
    made.part(VIDEO, true);
    let parts: String = segment.parts.iter().map(|part| made.media(&part.name).unwrap()).collect();
    assert_eq!(made.media(&segment.name).unwrap(), parts);
    assert_eq!(parts, (0..10).map(|number| format!("[0.{number}]")).collect::<String>());
    assert_eq!(made.media(&segment.initialization.name).unwrap(), "init 0");
}

#[test]
fn the_hinted_part_is_awaited_until_it_comes_and_its_name_stays() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.segments(VIDEO, 1);
    let hinted = made.window.names().name(VIDEO, MediaObject::Part(made.video().next_part()));
    assert_eq!(made.media(&hinted).unwrap(), "awaited");
    made.part(VIDEO, true);
    assert_eq!(made.media(&hinted).unwrap(), "[0.10]", "although it began another segment");
    let after_next = made.window.names().name(VIDEO, MediaObject::Part(made.video().next_part() + 1));
    assert_eq!(made.media(&after_next), None);
}

#[test]
fn what_was_hinted_is_waited_for_while_its_publisher_may_come_again() {
    let mut made = Made::new(settings());
    let next = |made: &Made, rendition: RenditionIndex| {
        let window = made.window.rendition(rendition).unwrap();
        made.media(&made.window.names().name(rendition, MediaObject::Part(window.next_part())))
    };
    for rendition in [VIDEO, AUDIO] {
        made.begin(rendition);
        made.segments(rendition, 1);
    }
    made.window.take(Output::Ended { rendition: AUDIO });
    assert_eq!(next(&made, AUDIO), None, "the publisher goes on without it");
    made.window.take(Output::Ended { rendition: VIDEO });
    let awaited = Some("awaited".to_owned());
    assert_eq!((next(&made, VIDEO), next(&made, AUDIO)), (awaited.clone(), awaited.clone()), "both may come again");
    made.begin(VIDEO);
    made.part(VIDEO, true);
    assert_eq!(next(&made, AUDIO), awaited, "it may come a little later");
    made.segments(VIDEO, 1);
    assert_eq!(next(&made, AUDIO), None, "the new publisher has none");
    made.begin(AUDIO);
    assert_eq!(next(&made, AUDIO), awaited, "and then it has");
    made.window.end();
    assert_eq!((next(&made, VIDEO), next(&made, AUDIO)), (None, None), "nothing comes any more");
}

#[test]
fn blocking_requests_are_answered_by_the_part_they_name_or_what_stands_in_for_it() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.segments(VIDEO, 2);
    let has = |made: &Made, segment, part| made.video().has(segment, part);
    assert!(has(&made, 100, None) && has(&made, 5, None) && has(&made, 5, Some(3)));
    assert!(!has(&made, 101, None), "it is not complete");
    assert!(has(&made, 101, Some(9)) && !has(&made, 101, Some(10)));
    assert!(has(&made, 100, Some(10)), "beyond the last part: the first of the next segment");
    assert!(!has(&made, 102, Some(0)));
    made.part(VIDEO, true);
    assert!(has(&made, 101, None) && has(&made, 101, Some(10)) && has(&made, 102, Some(0)));
    assert!(!has(&made, 102, Some(1)) && !has(&made, 102, None) && !has(&made, 103, None));
    made.window.take(Output::Ended { rendition: VIDEO });
    assert!(has(&made, 102, None), "what has ended is complete");
    assert!(!has(&made, 102, Some(1)), "nothing follows yet");
}

#[test]
fn the_window_slides_and_what_was_listed_can_still_be_had_for_as_long_as_it_must() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    let mut first_seen = Vec::new();
    made.segments(VIDEO, 1);
    for segment in 0..40 {
        // The one before is complete then.
        made.segments(VIDEO, 1);
        let complete = made.video().listed().rev().nth(1).unwrap().clone();
        first_seen.push((complete.ends(), complete.clone()));
        let listed = made.video().listed().count();
        assert!(listed <= 8, "six complete ones, the one that grows: {listed}");
        let live = made.video().live();
        for (ends, old) in &first_seen {
            // First listed when it was complete; the longest playlist it was in lasted 12 s, itself 2 s.
            if live.saturating_sub(*ends) < Duration::from_secs(12 + 2) {
                assert!(made.media(&old.name).is_some(), "segment {} at {segment}", old.number);
            }
            for part in &old.parts {
                // Listed for 6 s, and 6 more.
                if live.saturating_sub(old.begins) < Duration::from_secs(12) {
                    assert!(made.media(&part.name).is_some());
                }
            }
        }
    }
    assert_eq!(made.media(&first_seen[0].1.name), None, "long gone");
    assert_eq!(made.media(&first_seen[0].1.initialization.name).unwrap(), "init 0", "still in use");
    let held: usize = made.video().listed().map(Segment::bytes).sum();
    assert!(made.window.bytes() < 3 * held, "{} of {held}", made.window.bytes());
}

#[test]
fn nothing_is_unlisted_that_would_leave_less_than_three_target_durations() {
    let mut made = Made::new(WindowSettings { segments: 1, ..settings() });
    made.begin(VIDEO);
    for _ in 0..20 {
        made.segments(VIDEO, 1);
        let complete: Duration =
            made.video().listed().filter(|segment| segment.complete).map(|segment| segment.duration).sum();
        let numbers = numbers(made.video());
        assert!(numbers[0] == 100 || complete >= 3 * made.window.target_duration(), "{numbers:?}: {complete:?}");
        assert!(numbers.len() <= 5, "{numbers:?}");
    }
}

#[test]
fn dvr_lists_more_and_the_bound_in_bytes_lists_less() {
    let mut made = Made::new(WindowSettings { dvr: Duration::from_secs(60), ..settings() });
    made.begin(VIDEO);
    made.segments(VIDEO, 60);
    assert!((31..=32).contains(&numbers(made.video()).len()), "{:?}", numbers(made.video()));
    let mut made = Made::new(WindowSettings { bytes_max: 200, ..settings() });
    made.begin(VIDEO);
    for _ in 0..500 {
        made.part(VIDEO, false);
        assert!(made.window.bytes() <= 200 || made.video().listed().count() == 1);
        made.part(VIDEO, true);
    }
    let numbers = numbers(made.video());
    assert!(made.window.bytes() <= 200 && numbers.len() >= 2, "{numbers:?}: {}", made.window.bytes());
    assert_eq!(*numbers.last().unwrap(), 100 + 500, "sequence numbers go on");
}

#[test]
fn bytes_are_counted_as_they_are_held() {
    let mut made = Made::new(settings());
    for round in 0..10 {
        made.begin(VIDEO);
        made.begin(AUDIO);
        made.segments(VIDEO, 3);
        made.segments(AUDIO, 3);
        let mut held = 0;
        for index in [VIDEO, AUDIO] {
            for object in 0..2_000 {
                for object in [MediaObject::Part(object), MediaObject::Initialization(object)] {
                    if let Some(Found::Media(runs)) = made.window.find(&made.window.names().name(index, object)) {
                        held += runs.concat().len();
                    }
                }
            }
        }
        assert_eq!(made.window.bytes(), held, "round {round}");
    }
}

#[test]
fn another_publisher_is_one_discontinuity_in_all_renditions_and_numbers_go_on() {
    let mut made = Made::new(settings());
    for _ in 0..30 {
        made.begin(VIDEO);
        made.begin(AUDIO);
        made.segments(VIDEO, 1);
        made.segments(AUDIO, 1);
        for rendition in [VIDEO, AUDIO] {
            made.window.take(Output::Ended { rendition });
        }
        let sequences = |rendition| {
            let window = made.window.rendition(rendition).unwrap();
            let mut sequence = window.passed_discontinuities();
            let of = |segment: &Segment| {
                sequence += segment.discontinuities;
                (segment.number, sequence)
            };
            window.listed().map(of).collect::<Vec<_>>()
        };
        assert_eq!(sequences(VIDEO), sequences(AUDIO));
        for (number, sequence) in sequences(VIDEO) {
            assert_eq!(sequence, number - 100, "each segment was another publisher's");
        }
    }
}

#[test]
fn a_rendition_that_comes_late_is_in_step_with_the_others() {
    let mut made = Made::new(settings());
    for _ in 0..3 {
        made.begin(VIDEO);
        made.segments(VIDEO, 4);
    }
    // With what is kept of the segment before the last.
    made.begin_at(AUDIO, 10);
    made.segments(AUDIO, 1);
    let audio = made.window.rendition(AUDIO).unwrap();
    let first = audio.listed().next().unwrap();
    assert_eq!((first.number, first.discontinuities, audio.passed_discontinuities()), (100 + 10, 0, 2));
}

#[test]
fn a_rendition_that_was_away_begins_anew_where_the_others_are() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.begin(AUDIO);
    made.segments(VIDEO, 2);
    made.segments(AUDIO, 2);
    made.window.take(Output::Ended { rendition: AUDIO });
    made.segments(VIDEO, 3);
    made.begin(VIDEO);
    made.begin(AUDIO);
    made.segments(VIDEO, 1);
    made.segments(AUDIO, 1);
    let audio = made.window.rendition(AUDIO).unwrap();
    assert_eq!(numbers(audio), [105], "without a hole");
    let first = audio.listed().next().unwrap();
    assert_eq!((first.discontinuities, audio.passed_discontinuities()), (0, 1));
    assert_eq!(numbers(made.video()).last(), Some(&105));
    let bytes_of = |of: &RenditionWindow| of.listed().map(Segment::bytes).sum::<usize>();
    assert!(made.window.bytes() >= bytes_of(made.video()) + bytes_of(audio));
}

#[test]
fn a_rendition_that_joins_others_makes_nobody_discontinuous_and_begins_anew() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.begin(AUDIO);
    made.segments(VIDEO, 2);
    made.segments(AUDIO, 2);
    made.window.take(Output::Ended { rendition: AUDIO });
    made.segments(VIDEO, 1);
    let (rendition, bytes) = (AUDIO, Bytes::from_static(b"again"));
    let boundary = 3;
    made.window.take(Output::Initialization {
        rendition,
        boundary,
        joins: true,
        description: audio(),
        bytes,
        part_target: PART,
    });
    made.segments(VIDEO, 1);
    made.segments(AUDIO, 1);
    let audio = made.window.rendition(AUDIO).unwrap();
    assert_eq!((numbers(audio), audio.passed_discontinuities()), (vec![103], 0));
    assert_eq!((numbers(made.video()).last(), made.video().passed_discontinuities()), (Some(&103), 0));
    assert!(made.video().listed().all(|segment| segment.discontinuities == 0));
}

#[test]
fn the_target_duration_grows_before_a_longer_segment_is_listed_and_never_shrinks() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.segments(VIDEO, 2);
    assert_eq!(made.window.target_duration(), Duration::from_secs(2));
    made.part(VIDEO, true);
    (0..11).for_each(|_| made.part(VIDEO, false));
    assert_eq!(made.window.target_duration(), Duration::from_secs(2), "2.4 s are rounded down");
    made.part(VIDEO, false);
    assert_eq!(made.window.target_duration(), Duration::from_secs(3));
    made.segments(VIDEO, 20);
    assert_eq!(made.window.target_duration(), Duration::from_secs(3));
}

#[test]
fn program_times_follow_the_media_and_jump_only_when_the_clocks_have_parted() {
    let mut made = Made::new(settings());
    made.begin(VIDEO);
    made.segments(VIDEO, 2);
    made.began[0] += Duration::from_millis(60);
    made.segments(VIDEO, 1);
    let times = |made: &Made| -> Vec<u64> {
        let listed: Vec<_> = made.video().listed().cloned().collect();
        let apart = |pair: &[Segment]| pair[1].program_time.duration_since(pair[0].program_time).unwrap();
        listed.windows(2).map(|pair| apart(pair).as_millis() as u64).collect()
    };
    assert_eq!(times(&made), [2_000, 2_000], "jitter is no drift");
    made.began[0] += Duration::from_millis(60);
    made.segments(VIDEO, 1);
    assert_eq!(times(&made), [2_000, 2_000, 2_120]);
}

#[test]
fn what_a_packager_should_not_give_is_taken_without_harm() {
    let mut made = Made::new(settings());
    let part = Part {
        bytes: Bytes::from_static(b"x"),
        duration: PART,
        independent: true,
        begins_segment: false,
        captured: made.began[0],
    };
    assert_eq!(made.window.take(Output::Part { rendition: VIDEO, part: part.clone() }), None, "no initialization");
    assert_eq!(made.window.take(Output::Ended { rendition: RenditionIndex(200) }), None);
    made.begin(RenditionIndex(200).min(AUDIO));
    assert!(made.window.rendition(AUDIO).is_none(), "no media yet");
    let rendition = RenditionIndex(200);
    let description = audio();
    assert_eq!(
        made.window.take(Output::Initialization {
            rendition,
            boundary: 0,
            joins: false,
            description,
            bytes: Bytes::new(),
            part_target: PART
        }),
        None
    );
    assert_eq!(made.window.take(Output::Part { rendition, part }), None);
    made.part(AUDIO, false);
    assert_eq!(made.window.rendition(AUDIO).unwrap().edge(), Some(Edge { segment: 100, part: Some(0) }));
}
