//! H.265, VP9 and AV1, as ffmpeg packetizes them (`tests/fixtures/rtp`, see the README there), become renditions.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{
    flv::at_ms,
    read::read_initialization,
    rtp::{VIDEO, player, snapshot, track, video},
};
use crate::{
    codec::{av1, hevc, vp9},
    media::{Codec, ExtendedSeq, TrackFormat},
    track::{Batch, Delivery, FrameDelivery, LayerIndex, TrackPacket},
};

fn recorded(codec: Codec, recording: &'static [u8]) -> Vec<Arc<TrackPacket>> {
    let mut rest = Bytes::from_static(recording);
    let mut packets: Vec<Arc<TrackPacket>> = Vec::new();
    let mut first = None;
    while rest.has_remaining() {
        let length = usize::from(rest.get_u16());
        let mut packet = rest.split_to(length);
        let (marker, timestamp) = (packet[1] & 0x80 != 0, u32::from_be_bytes(packet[4..8].try_into().unwrap()));
        let ticks = u64::from(timestamp.wrapping_sub(*first.get_or_insert(timestamp)));
        packet.advance(12);
        let begins = match codec {
            Codec::Hevc => hevc::inspect(&packet).parameter_set,
            Codec::Vp9 => vp9::starts_keyframe(&packet),
            _ => av1::starts_keyframe(&packet),
        };
        let same = packets.last().is_some_and(|last| last.time_ticks == 900_000 + ticks);
        packets.push(Arc::new(TrackPacket {
            seq: ExtendedSeq(70_000 + packets.len() as u64),
            time_ticks: 900_000 + ticks,
            arrival: at_ms(ticks / 90),
            marker,
            capture: None,
            keyframe_start: begins && !same,
            payload: packet,
        }));
    }
    packets
}

#[test]
fn every_codec_that_players_take_has_its_sample_entry_and_all_of_its_pictures() {
    for (codec, recording, entry, configuration) in [
        (Codec::Hevc, &include_bytes!("../../../../tests/fixtures/rtp/hevc.rtp")[..], "hvc1", "hvcC"),
        (Codec::Vp9, include_bytes!("../../../../tests/fixtures/rtp/vp9.rtp"), "vp09", "vpcC"),
        (Codec::Av1, include_bytes!("../../../../tests/fixtures/rtp/av1.rtp"), "av01", "av1C"),
    ] {
        let mut player = player(false);
        let format = TrackFormat { codec, ..video() };
        player.deliver(at_ms(0), snapshot(1, vec![track(format, &[""])]));
        for packet in recorded(codec, recording) {
            let at = packet.arrival;
            let batch = Batch { track: VIDEO, layer: LayerIndex(0), packets: vec![packet] };
            player.deliver(at, FrameDelivery::Rtp(Delivery::Packets(Arc::new([batch]))));
        }
        player.deliver(at_ms(3_050), snapshot(1, vec![]));
        let pictures = player.pictures();
        assert_eq!(pictures.samples().count(), 30, "{codec}");
        assert_eq!(pictures.segments_s().len(), 3, "{codec}");
        assert_eq!(pictures.description.frame_rate, Some(10.0));
        let (_, name, entry_bytes) = read_initialization(&pictures.initialization);
        assert_eq!(name, entry);
        let size = (
            u16::from_be_bytes([entry_bytes[24], entry_bytes[25]]),
            u16::from_be_bytes([entry_bytes[26], entry_bytes[27]]),
        );
        assert_eq!(size, (160, 90));
        assert_eq!(&entry_bytes[82..86], configuration.as_bytes());
    }
}
