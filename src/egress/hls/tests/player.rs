//! Takes what the packager gives, as a playlist and a player would, and holds every part to the rules.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::read::{ReadPart, read_initialization, read_part};
use crate::{
    egress::hls::{Output, Packager, Part, RenditionDescription, RenditionIndex, run::SOUND},
    media::testing::epoch,
    track::FrameDelivery,
};

/// One rendition since an initialization.
#[derive(Debug, Clone)]
pub struct Stretch {
    pub boundary: u64,
    pub description: RenditionDescription,
    pub initialization: Bytes,
    pub part_target: Duration,
    pub timescale: u32,
    pub parts: Vec<(Part, ReadPart)>,
}

impl Stretch {
    pub fn start_s(&self) -> f64 {
        self.parts[0].1.decode_ticks as f64 / f64::from(self.timescale)
    }

    pub fn end_s(&self) -> f64 {
        let last = &self.parts.last().unwrap().1;
        (last.decode_ticks + last.duration()) as f64 / f64::from(self.timescale)
    }

    /// Where segments begin, in seconds: as their first picture is shown.
    pub fn segments_s(&self) -> Vec<f64> {
        let begins = self.parts.iter().filter(|(part, _)| part.begins_segment);
        begins.map(|(_, read)| read.presented()[0] as f64 / f64::from(self.timescale)).collect()
    }

    pub fn samples(&self) -> impl Iterator<Item = &super::read::ReadSample> {
        self.parts.iter().flat_map(|(_, read)| &read.samples)
    }

    /// When samples are shown, in seconds, in order of that.
    pub fn shown_s(&self) -> Vec<f64> {
        let mut shown: Vec<_> = self.parts.iter().flat_map(|(_, read)| read.presented()).collect();
        shown.sort_unstable();
        shown.into_iter().map(|ticks| ticks as f64 / f64::from(self.timescale)).collect()
    }
}

/// See the module.
pub struct Player {
    pub packager: Packager,
    pub stretches: BTreeMap<RenditionIndex, Vec<Stretch>>,
    pub ended: Vec<RenditionIndex>,
    pub keyframes_asked: usize,
    /// Parts may be longer than said, and segments begin anywhere.
    pub lenient: bool,
}

pub const PICTURES: RenditionIndex = RenditionIndex(0);
pub const DAY: Duration = Duration::from_secs(1_700_000_000);

pub fn wall(now: Instant) -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY + now.saturating_duration_since(epoch())
}

impl Player {
    pub fn new(packager: Packager) -> Self {
        Self { packager, stretches: BTreeMap::new(), ended: Vec::new(), keyframes_asked: 0, lenient: false }
    }

    pub fn deliver(&mut self, now: Instant, delivery: FrameDelivery) {
        self.poll_until(now);
        let mut out = Vec::new();
        self.packager.handle(now, wall(now), delivery, &mut out);
        self.take(out);
    }

    /// Lets time pass: every call that is due is made.
    pub fn poll_until(&mut self, now: Instant) {
        while let Some(due) = self.packager.poll_due().filter(|due| *due <= now) {
            let mut out = Vec::new();
            self.packager.poll(due, wall(due), &mut out);
            self.take(out);
            assert!(self.packager.poll_due().is_none_or(|next| next > due), "it wants to be called for ever");
        }
    }

    fn take(&mut self, out: Vec<Output>) {
        while self.packager.poll_keyframe().is_some() {
            self.keyframes_asked += 1;
        }
        for output in out {
            match output {
                Output::Initialization { rendition, boundary, description, bytes, part_target, .. } => {
                    let (timescale, ..) = read_initialization(&bytes);
                    let (initialization, parts) = (bytes, Vec::new());
                    let stretch = Stretch { boundary, description, initialization, part_target, timescale, parts };
                    self.stretches.entry(rendition).or_default().push(stretch);
                }
                Output::Part { rendition, part } => {
                    let stretches = self.stretches.get_mut(&rendition).expect("initialized");
                    let before = stretches.iter().rev().nth(1).and_then(|stretch| stretch.parts.last().cloned());
                    let stretch = stretches.last_mut().unwrap();
                    let read = read_part(&part.bytes);
                    check(stretch, before.as_ref(), &part, &read, self.lenient);
                    stretch.parts.push((part, read));
                }
                Output::Ended { rendition } => self.ended.push(rendition),
            }
        }
    }

    pub fn stretch(&self, rendition: RenditionIndex) -> &Stretch {
        let stretches = &self.stretches[&rendition];
        assert_eq!(stretches.len(), 1, "one stretch");
        &stretches[0]
    }

    pub fn pictures(&self) -> &Stretch {
        self.stretch(PICTURES)
    }

    pub fn sound(&self) -> &Stretch {
        self.stretch(SOUND)
    }
}

/// What must be so of every part, whatever comes in.
fn check(stretch: &Stretch, before: Option<&(Part, ReadPart)>, part: &Part, read: &ReadPart, lenient: bool) {
    let ns = u128::from(read.duration()) * 1_000_000_000 / u128::from(stretch.timescale);
    assert_eq!(part.duration.as_nanos(), ns, "as long as its samples");
    assert_eq!(part.independent, read.samples[0].sync);
    assert!(read.samples.iter().all(|sample| sample.duration > 0));
    match stretch.parts.last() {
        Some((last_part, last)) => {
            assert_eq!(read.decode_ticks, last.decode_ticks + last.duration(), "no hole and no overlap");
            assert_eq!(read.sequence, last.sequence + 1);
            assert!(part.captured > last_part.captured);
            let least = stretch.part_target.as_secs_f64() * 0.85;
            let short = last_part.duration.as_secs_f64() < least;
            assert!(lenient || !short || part.begins_segment, "{:?} is short", last_part.duration);
        }
        None => {
            assert!(part.begins_segment, "an initialization begins a segment");
            if let Some((_, last)) = before {
                assert!(read.decode_ticks >= last.decode_ticks, "the timeline goes on");
            }
        }
    }
    assert!(lenient || part.duration <= stretch.part_target, "{:?} of {:?}", part.duration, stretch.part_target);
    assert!(lenient || !part.begins_segment || part.independent, "a segment begins with a keyframe");
}
