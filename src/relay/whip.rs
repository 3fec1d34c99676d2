//! A session at a WHIP endpoint (RFC 9725), from its offer to its end: the stream goes out as WebRTC viewers get it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rtc::{
    rtcp::{
        sender_report::SenderReport,
        source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem},
    },
    rtp,
};
use sluice_signaling::sdp::{NegotiatedMedia, offered};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};

use super::{
    endpoint::Accepted,
    peer::{Peer, Sending},
    push::{Ended, LOOK_INTERVAL, Progress, Push},
    wait_until,
};
use crate::{
    config::EndpointUrl,
    egress::whip::{PacketFeed, RtpOut},
    media::{MediaKind, TrackFormat},
    rtp::rtcp::NtpTime,
    track::{Delivery, PacketSink, Stream, WorkerIndex},
};

/// For how long the second track of a stream is waited for, once one is known.
const FORMATS_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked.
const FORMATS_INTERVAL: Duration = Duration::from_millis(50);
/// Deliveries that wait for this task: pictures and sound of some seconds. When they are too many, the stream goes on at the next keyframe.
const DELIVERIES_MAX: usize = 512;
/// Taken at once.
const DELIVERIES_AT_ONCE: usize = 64;
/// How long the connection may take nothing. Meanwhile deliveries wait in the queue, which is bounded.
const STALL_DEADLINE: Duration = Duration::from_secs(10);
/// Between two sender reports, as browsers are used to.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Packets of a track that say which section they belong to: the target knows their SSRC by then.
const MID_PACKETS: u32 = 256;
/// Of an RTP header, without extensions.
const RTP_HEADER_BYTES: usize = 12;

/// Until the stream ends, or the session.
pub(super) async fn connection(push: &Push, endpoint: &EndpointUrl, progress: &mut Progress) -> Ended {
    let mut session = match begin(push, endpoint, progress).await {
        Ok(session) => session,
        Err(ended) => return ended,
    };
    progress.is_live(&push.shown);
    push.shown.leaves_out(session.refused.told().as_deref());
    let ended = session.exchange(push, progress).await;
    session.close(push).await;
    ended
}

/// A step of the way, which the server's end cuts short.
async fn step<T>(push: &Push, step: impl Future<Output = T>) -> Result<T, Ended> {
    tokio::select! {
        done = step => Ok(done),
        () = push.stop.cancelled() => Err(Ended::Unwanted),
    }
}

/// What the stream has; none when its publisher has gone.
async fn formats(push: &Push, progress: &mut Progress) -> Option<Vec<TrackFormat>> {
    let mut known_since = None;
    loop {
        if let Some(formats) = push.stream.formats() {
            let since = *known_since.get_or_insert_with(Instant::now);
            if formats.len() > 1 || since.elapsed() >= FORMATS_WAIT {
                return Some(formats);
            }
        }
        if progress.is_abandoned(&push.stream) {
            return None;
        }
        sleep(FORMATS_INTERVAL).await;
    }
}

/// A session that stands.
struct Session {
    peer: Peer,
    told: super::endpoint::Session,
    tracks: Vec<Track>,
    refused: Refused,
    /// Names this sender, in reports on both tracks.
    cname: String,
}

/// A track that the target takes.
struct Track {
    media: NegotiatedMedia,
    sending: Sending,
    payload_type: u8,
    /// The id of the extension that says which section a packet belongs to, and its name.
    mid: Option<(u8, bytes::Bytes)>,
    packets: u32,
}

/// What was offered and is not taken.
#[derive(Default)]
struct Refused(Vec<TrackFormat>);

impl Refused {
    fn reason(&self) -> Option<String> {
        let named: Vec<_> = self.0.iter().map(|format| format.codec.sdp_name()).collect();
        (!named.is_empty()).then(|| format!("the target does not take {}", named.join(" and ")))
    }

    /// As it is told of a session that goes on without.
    fn told(&self) -> Option<String> {
        self.reason().map(|reason| format!("{reason}: the rest is sent"))
    }

    /// Something is live that this session is not for, and that the target may take.
    fn leaves_more_to_offer(&self, feed: &PacketFeed) -> bool {
        feed.misfits().any(|format| !self.0.contains(format))
    }
}

/// Offers what the stream has, and waits until media can flow.
async fn begin(push: &Push, endpoint: &EndpointUrl, progress: &mut Progress) -> Result<Session, Ended> {
    let formats = step(push, formats(push, progress)).await?.ok_or(Ended::Unwanted)?;
    let offered = step(push, offer(push, endpoint, &formats)).await?;
    let Offered { peer, sendings, accepted } = offered.map_err(Ended::Failed)?;
    let cname = format!("{:016x}", rand::random::<u64>());
    let mut session = Session { peer, told: accepted.session, tracks: Vec::new(), refused: Refused::default(), cname };
    let ended = match step(push, session.connect(accepted.answer, sendings)).await {
        Ok(Ok(())) => return Ok(session),
        Ok(Err(reason)) => Ended::Failed(reason),
        Err(ended) => ended,
    };
    session.close(push).await;
    Err(ended)
}

/// An offer that was accepted.
struct Offered {
    peer: Peer,
    sendings: Vec<Offering>,
    accepted: Accepted,
}

/// A track that was offered.
struct Offering {
    format: TrackFormat,
    media: NegotiatedMedia,
    sending: Sending,
}

async fn offer(push: &Push, endpoint: &EndpointUrl, formats: &[TrackFormat]) -> Result<Offered, String> {
    let mut media = offered(formats).media;
    // What is sent is decided: the others of the list are of no use.
    media.iter_mut().for_each(|section| section.codecs.truncate(1));
    let mut peer = Peer::new(&media, endpoint.is_loopback()).await?;
    let mut sendings = Vec::new();
    for (media, format) in media.into_iter().zip(formats) {
        let Some(codec) = media.codecs.first() else { continue };
        let sending = peer.send(media.kind, codec).await?;
        sendings.push(Offering { format: format.clone(), media, sending });
    }
    let offer = peer.offer().await?;
    let accepted = push.endpoints.open(endpoint, offer).await?;
    Ok(Offered { peer, sendings, accepted })
}

impl Session {
    async fn connect(&mut self, answer: String, sendings: Vec<Offering>) -> Result<(), String> {
        self.peer.connect(answer).await?;
        for Offering { format, media, sending } in sendings {
            match sending.payload_type().await {
                Some(payload_type) => {
                    let mid = sending.mid().await;
                    self.tracks.push(Track { media, sending, payload_type, mid, packets: 0 });
                }
                None => self.refused.0.push(format),
            }
        }
        match self.refused.reason() {
            Some(reason) if self.tracks.is_empty() => Err(reason),
            _ => Ok(()),
        }
    }

    async fn close(self, push: &Push) {
        push.endpoints.close(&self.told).await;
        self.peer.close().await;
    }

    async fn exchange(&mut self, push: &Push, progress: &mut Progress) -> Ended {
        let agreed: Vec<_> = self.tracks.iter().map(|track| track.media.clone()).collect();
        let mut feed = PacketFeed::new(Instant::now(), &agreed, || (rand::random::<u16>() & 0x7fff, rand::random()));
        let (subscription, mut deliveries) = Subscription::new(&push.stream, push.worker);
        let pictures = self.tracks.iter().find(|track| track.media.kind == MediaKind::Video);
        let pictures = pictures.map(|track| track.sending.track.clone());
        let mut look = interval(LOOK_INTERVAL);
        let mut report = interval(REPORT_INTERVAL);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported = 0;
        loop {
            match step(push, timeout(STALL_DEADLINE, self.send(push, &mut feed))).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(reason))) => return Ended::Failed(reason),
                Ok(Err(_)) => return Ended::Failed("nothing could be sent for 10 s".into()),
                Err(ended) => return ended,
            }
            // The first report of a track goes out with its first packets: without, lips would wait for it.
            let begun = feed.reports(Instant::now()).count();
            if begun > reported {
                reported = begun;
                report.reset_immediately();
            }
            // Tracks that the target refuses stay out; others need another session.
            if self.refused.leaves_more_to_offer(&feed) {
                return Ended::Outdated;
            }
            let now = Instant::now();
            if let Some((publication, track, layers)) = feed.layers_wanted(now) {
                push.stream.want_layers(subscription.worker, publication, track, layers);
            }
            if let Some((track, layer)) = feed.wants_keyframe() {
                push.stream.request_keyframe(now, track, layer);
            }
            let requested = async {
                match &pictures {
                    Some(pictures) => pictures.poll().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                delivery = deliveries.recv() => {
                    let Some(delivery) = delivery else { return Ended::Failed("the stream is gone".into()) };
                    let now = Instant::now();
                    feed.take(now, delivery);
                    for _ in 1..DELIVERIES_AT_ONCE {
                        let Ok(delivery) = deliveries.try_recv() else { break };
                        feed.take(now, delivery);
                    }
                }
                requested = requested => match requested {
                    Some(TrackLocalEvent::OnRtcpPacket(_)) => {
                        let now = Instant::now();
                        if let Some((track, layer)) = feed.keyframe_requested(now) {
                            push.stream.request_keyframe(now, track, layer);
                        }
                    }
                    Some(_) => {}
                    None => return Ended::Failed("the connection for media has failed".into()),
                },
                lost = self.peer.lost() => return Ended::Failed(lost),
                _ = report.tick() => {
                    match step(push, self.report(&feed)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(reason)) => return Ended::Failed(reason),
                        Err(ended) => return ended,
                    }
                }
                _ = look.tick() => {}
                () = wait_until(feed.poll_timeout()) => {}
                () = push.stop.cancelled() => return Ended::Unwanted,
            }
            if progress.is_abandoned(&push.stream) {
                return Ended::Unwanted;
            }
        }
    }

    /// Sends what may go out now.
    async fn send(&mut self, push: &Push, feed: &mut PacketFeed) -> Result<(), String> {
        let mut bytes = 0;
        while let Some(out) = feed.poll(Instant::now()) {
            let Some(track) = self.tracks.iter_mut().find(|track| track.media.kind == out.kind) else { continue };
            bytes += RTP_HEADER_BYTES + out.payload.len();
            track.write(out).await?;
        }
        if bytes > 0 {
            push.shown.sent(bytes as u64);
        }
        Ok(())
    }

    /// Says how the tracks' clocks belong together (RFC 3550 section 6.4.1).
    async fn report(&self, feed: &PacketFeed) -> Result<(), String> {
        let (now, ntp) = (Instant::now(), NtpTime::from_system(SystemTime::now()));
        for report in feed.reports(now) {
            let Some(track) = self.tracks.iter().find(|track| track.media.kind == report.kind) else { continue };
            let ssrc = track.sending.ssrc;
            let told = SenderReport {
                ssrc,
                ntp_time: ntp.0,
                rtp_time: report.rtp_time,
                packet_count: report.packets,
                octet_count: report.bytes,
                ..Default::default()
            };
            let name = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: self.cname.clone().into() };
            let named = SourceDescription { chunks: vec![SourceDescriptionChunk { source: ssrc, items: vec![name] }] };
            let written =
                timeout(STALL_DEADLINE, track.sending.track.write_rtcp(vec![Box::new(told), Box::new(named)]));
            written.await.ok().and_then(Result::ok).ok_or("the connection for media has failed")?;
        }
        Ok(())
    }
}

impl Track {
    async fn write(&mut self, out: RtpOut) -> Result<(), String> {
        let mut header = rtp::Header {
            version: 2,
            marker: out.marker,
            payload_type: self.payload_type,
            sequence_number: out.seq,
            timestamp: out.time,
            ssrc: self.sending.ssrc,
            ..Default::default()
        };
        if self.packets < MID_PACKETS {
            self.packets += 1;
            // Cannot fail: the id is one of a byte's, and the name short.
            self.mid.iter().for_each(|(id, mid)| drop(header.set_extension(*id, mid.clone())));
        }
        let written = self.sending.track.write_rtp(rtp::Packet { header, payload: out.payload }).await;
        written.map_err(|_| "the connection for media has failed".into())
    }
}

/// A place among those who get the stream's packets, for as long as it lives.
struct Subscription {
    stream: Arc<Stream>,
    worker: WorkerIndex,
}

struct Sink(mpsc::Sender<Delivery>);

impl PacketSink for Sink {
    fn deliver(&self, _: &Arc<Stream>, delivery: Delivery) -> bool {
        self.0.try_send(delivery).is_ok()
    }
}

impl Subscription {
    fn new(stream: &Arc<Stream>, worker: WorkerIndex) -> (Self, mpsc::Receiver<Delivery>) {
        let (sender, deliveries) = mpsc::channel(DELIVERIES_MAX);
        stream.subscribe(worker, Arc::new(Sink(sender)));
        (Self { stream: stream.clone(), worker }, deliveries)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.unsubscribe(self.worker);
    }
}

#[cfg(test)]
#[path = "whip_tests.rs"]
mod tests;
