//! Whatever comes in, and however late: what goes out has no hole, no overlap, and grows.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    flv::at_ms,
    rtp::{
        AUDIO, AUDIO_TICKS, VIDEO, VIDEO_TICKS, audio, of, pictures, player, reported, snapshot, sound, track, video,
    },
};
use crate::track::{Batch, Delivery, FrameDelivery, LayerIndex};

#[test]
fn losses_disorder_pauses_and_clocks_that_lie_leave_no_hole() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut player = player(seed % 2 == 0);
        player.lenient = true;
        // Pauses, some of them long enough to begin anew after.
        let mut at = 0;
        let times: Vec<u64> = (0..120)
            .map(|_| {
                at += match random.random_range(0..40) {
                    0 => random.random_range(100..4_500),
                    1 => 0,
                    _ => random.random_range(20..50),
                };
                at
            })
            .collect();
        let sent = pictures(9, |at| times[at as usize]);
        let voice = sound(random.random_range(0..50) * 20, at);
        let mut packets = Vec::new();
        for (track, layer, (ms, of_picture)) in of(VIDEO, 0, sent).chain(of(AUDIO, 0, voice)) {
            for packet in of_picture {
                let late = if random.random_bool(0.1) { random.random_range(0..400) } else { 0 };
                let copies = match random.random_range(0..50) {
                    0 => 0,
                    1 => 2,
                    _ => 1,
                };
                (0..copies).for_each(|copy| packets.push((ms + late + 30 * copy, track, layer, packet.clone())));
            }
        }
        packets.sort_by_key(|(ms, ..)| *ms);
        player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
        for (number, (ms, index, layer, packet)) in packets.into_iter().enumerate() {
            let batch = Batch { track: index, layer: LayerIndex(layer), packets: vec![packet] };
            player.deliver(at_ms(ms), FrameDelivery::Rtp(Delivery::Packets(Arc::new([batch]))));
            if number % 37 == 0 {
                let off = random.random_range(0..200);
                player.deliver(at_ms(ms), reported(VIDEO, 0, at_ms(ms), VIDEO_TICKS + (ms + off) * 90));
                player.deliver(at_ms(ms), reported(AUDIO, 0, at_ms(ms), AUDIO_TICKS + ms * 48));
            }
            if number % 911 == 910 {
                player.deliver(
                    at_ms(ms),
                    snapshot(1 + number as u64, vec![track(video(), &[""]), track(audio(), &[""])]),
                );
            }
        }
        player.deliver(at_ms(at + 5_000), snapshot(1_000_000, vec![]));
        let parts: usize = player.stretches.values().flatten().map(|stretch| stretch.parts.len()).sum();
        assert!(parts > 5, "seed {seed}: {parts}");
    }
}
