//! What the other side says about a WebRTC connection (RTCP), on its way to those who act on it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{Attribute, Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtcp::{
        payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication},
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::TransportLayerNack,
    },
    sansio::Protocol,
    shared::error::Error,
};

/// Before whoever repeats packets, and behind all others.
pub(super) const REPEAT_SLOT: Slot = Slot::Custom(3_500);
pub(super) const LAST_SLOT: Slot = Slot::Custom(usize::MAX);

/// Packets that may be asked for again at once: as many as are kept; and in a second. One request of 1,200 bytes can name five thousand.
const REPEATS_MAX_PACKETS: u64 = 1_024;
const REPEATS_PER_S: u64 = 1_024;

/// Hands on requests for keyframes, to the tracks that are sent, and sender reports, of those that come. All else that the other side says is for
/// those who act on it before: the last of them is here.
#[derive(Default)]
pub(super) struct Feedback {
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Feedback {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut message: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &mut message.message.packet {
            packets.retain(|packet| {
                let packet = packet.as_any();
                packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() || packet.is::<SenderReport>()
            });
            if packets.is_empty() {
                return Ok(());
            }
            message.message.add(Attribute::DeliverToApplication);
        }
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }
}

impl Interceptor for Feedback {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// Lets requests for repeats pass as far as there is room for what they ask for.
#[derive(Default)]
pub(super) struct Repeats {
    budget: Budget,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

#[derive(Debug)]
struct Budget {
    packets: u64,
    at: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { packets: REPEATS_MAX_PACKETS, at: None }
    }
}

impl Budget {
    fn grant(&mut self, now: Instant, packets: u64) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let earned = since.as_millis() as u64 * REPEATS_PER_S / 1_000;
        if earned > 0 || self.at.is_none() {
            self.at = Some(now);
            self.packets = self.packets.saturating_add(earned).min(REPEATS_MAX_PACKETS);
        }
        let left = self.packets.checked_sub(packets);
        self.packets = left.unwrap_or(self.packets);
        left.is_some()
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Repeats {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut message: TaggedPacket) -> Result<(), Self::Error> {
        let now = message.now;
        if let Packet::Rtcp(packets) = &mut message.message.packet {
            packets.retain(|packet| match packet.as_any().downcast_ref::<TransportLayerNack>() {
                Some(nack) => {
                    let asked = nack.nacks.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum();
                    self.budget.grant(now, asked)
                }
                None => true,
            });
        }
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }
}

impl Interceptor for Repeats {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use rtc::{
        interceptor::AttributedPacket,
        rtcp::{Packet as Rtcp, receiver_report::ReceiverReport, transport_feedbacks::transport_layer_nack::NackPair},
        shared::TransportContext,
    };

    use super::*;
    use crate::media::testing::epoch;

    fn message(now: Instant, packets: Vec<Box<dyn Rtcp>>) -> TaggedPacket {
        let message = AttributedPacket::new(Packet::Rtcp(packets));
        TaggedPacket { now, transport: TransportContext::default(), message }
    }

    /// How many packets pass.
    fn passed(out: Option<TaggedPacket>) -> usize {
        match out.map(|message| message.message.packet) {
            Some(Packet::Rtcp(packets)) => packets.len(),
            _ => 0,
        }
    }

    #[test]
    fn keyframe_requests_and_sender_reports_are_handed_on() {
        let mut feedback = Feedback::default();
        let mut handed_on = |packets| {
            feedback.handle_read(message(epoch(), packets)).unwrap();
            passed(feedback.poll_read())
        };
        let all: Vec<Box<dyn Rtcp>> = vec![
            Box::new(ReceiverReport::default()),
            Box::new(PictureLossIndication::default()),
            Box::new(SenderReport::default()),
        ];
        assert_eq!(handed_on(all), 2);
        assert_eq!(handed_on(vec![Box::new(ReceiverReport::default())]), 0);
    }

    #[test]
    fn no_more_is_repeated_than_there_is_room_for() {
        let mut repeats = Repeats::default();
        // 340 packets.
        let nack = || TransportLayerNack {
            nacks: vec![NackPair { packet_id: 7, lost_packets: u16::MAX }; 20],
            ..TransportLayerNack::default()
        };
        let mut pass = |ms| {
            let now = epoch() + Duration::from_millis(ms);
            repeats
                .handle_read(message(now, vec![Box::new(nack()), Box::new(PictureLossIndication::default())]))
                .unwrap();
            passed(repeats.poll_read())
        };
        assert_eq!([pass(0), pass(1), pass(2)], [2, 2, 2], "as many as are kept");
        assert_eq!([pass(3), pass(200)], [1, 1], "the rest of what is said passes");
        assert_eq!([pass(400), pass(500)], [2, 1]);
    }
}
