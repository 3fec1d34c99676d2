//! Pictures wait for the sound that came with them. Encoders interleave the two, so that most pictures arrive together
//! with a frame of sound, and turning that into Opus takes a fraction of a millisecond: worth waiting for, since a
//! viewer is then sent to once instead of twice, and sending is most of what a viewer costs. Sans-I/O.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::track::{Batch, LayerIndex, TrackIndex, TrackPacket};

/// A picture never waits longer, whatever keeps the sound. Sound takes 0.3 ms on a machine that is not busy.
pub const WAIT_MAX: Duration = Duration::from_millis(2);

/// Payload that waits at the most; a picture more. Keyframes of a few bytes become packets of all that decoders are to be told before them.
const WAITING_MAX_BYTES: usize = 1 << 20;

/// What is to go out, and the sound that is still being made. Bounded by [`WAITING_MAX_BYTES`], where [`Self::is_full`] is asked after each picture.
#[derive(Debug, Default)]
pub struct Together {
    batches: Vec<Batch>,
    waiting_bytes: usize,
    since: Option<Instant>,
    /// Inputs that the sound thread has and has not answered.
    in_the_making: u32,
}

impl Together {
    pub fn add(&mut self, now: Instant, track: TrackIndex, packets: impl IntoIterator<Item = Arc<TrackPacket>>) {
        self.add_to(now, (track, LayerIndex(0)), packets);
    }

    /// Packets of one of several layers.
    pub fn add_to(
        &mut self,
        now: Instant,
        (track, layer): (TrackIndex, LayerIndex),
        packets: impl IntoIterator<Item = Arc<TrackPacket>>,
    ) {
        self.since.get_or_insert(now);
        let waiting_bytes = &mut self.waiting_bytes;
        let packets = packets.into_iter().inspect(|packet| *waiting_bytes += packet.payload.len());
        match self.batches.iter_mut().find(|batch| (batch.track, batch.layer) == (track, layer)) {
            Some(batch) => batch.packets.extend(packets),
            None => self.batches.push(Batch { track, layer, packets: packets.collect() }),
        }
    }

    /// So much waits that it is to go out now, sound or not.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= WAITING_MAX_BYTES
    }

    /// The sound thread is given something.
    pub fn sound_begun(&mut self) {
        self.in_the_making += 1;
    }

    /// It has answered `inputs` of them, or they are lost.
    pub fn sound_done(&mut self, inputs: u32) {
        self.in_the_making = self.in_the_making.saturating_sub(inputs);
    }

    /// When what waits is to go out at the latest.
    pub fn due(&self) -> Option<Instant> {
        Some(self.since? + WAIT_MAX)
    }

    /// What is to go out now: everything, once no sound is in the making or it was waited for long enough.
    pub fn take(&mut self, now: Instant) -> Vec<Batch> {
        let Some(due) = self.due() else { return Vec::new() };
        if now >= due {
            // An answer that is this late may never come.
            self.in_the_making = 0;
        }
        if self.in_the_making == 0 { self.take_all() } else { Vec::new() }
    }

    /// Everything, sound in the making or not.
    pub fn take_all(&mut self) -> Vec<Batch> {
        (self.since, self.waiting_bytes) = (None, 0);
        std::mem::take(&mut self.batches)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{ExtendedSeq, testing::epoch};

    const VIDEO: TrackIndex = TrackIndex(0);
    const AUDIO: TrackIndex = TrackIndex(1);

    fn packet(seq: u64) -> Arc<TrackPacket> {
        Arc::new(TrackPacket {
            seq: ExtendedSeq(seq),
            time_ticks: 0,
            arrival: epoch(),
            marker: true,
            keyframe_start: false,
            capture: None,
            payload: Bytes::new(),
        })
    }

    fn taken(together: &mut Together, at: Instant) -> Vec<(TrackIndex, usize)> {
        together.take(at).iter().map(|batch| (batch.track, batch.packets.len())).collect()
    }

    #[test]
    fn a_picture_without_sound_goes_out_at_once() {
        let mut together = Together::default();
        assert_eq!(taken(&mut together, epoch()), []);
        together.add(epoch(), VIDEO, [packet(1), packet(2)]);
        assert_eq!(taken(&mut together, epoch()), [(VIDEO, 2)]);
        assert_eq!(together.due(), None);
    }

    #[test]
    fn a_picture_waits_for_the_sound_that_is_being_made() {
        let mut together = Together::default();
        together.add(epoch(), VIDEO, [packet(1)]);
        together.sound_begun();
        assert_eq!(taken(&mut together, epoch()), []);
        together.sound_done(1);
        together.add(epoch(), AUDIO, [packet(1)]);
        assert_eq!(taken(&mut together, epoch()), [(VIDEO, 1), (AUDIO, 1)]);
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        let mut together = Together::default();
        let payload = Bytes::from(vec![0; 1_200]);
        let packets = || (0..).map(|seq| Arc::new(TrackPacket { payload: payload.clone(), ..(*packet(seq)).clone() }));
        together.sound_begun();
        together.add(epoch(), VIDEO, packets().take(WAITING_MAX_BYTES / 1_200));
        assert!(!together.is_full());
        together.add_to(epoch(), (VIDEO, LayerIndex(1)), packets().take(1));
        assert!(together.is_full());
        assert_eq!(together.take_all().len(), 2);
        assert!(!together.is_full());
    }

    #[test]
    fn sound_that_never_comes_is_waited_for_once() {
        let mut together = Together::default();
        together.sound_begun();
        together.add(epoch(), VIDEO, [packet(1)]);
        let due = together.due().unwrap();
        assert_eq!(due, epoch() + WAIT_MAX);
        assert_eq!(taken(&mut together, due), [(VIDEO, 1)]);
        together.add(due, VIDEO, [packet(2)]);
        assert_eq!(taken(&mut together, due), [(VIDEO, 1)], "the lost answer holds nothing else back");
    }
}
