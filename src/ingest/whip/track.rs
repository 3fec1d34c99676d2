//! One media section of a publisher as it becomes a track: which packet belongs to which of its layers, and in which format
//! they are.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_signaling::sdp::{AcceptedCodec, NegotiatedMedia};

use crate::{
    codec::h264::depacketize::ProfileLevelId,
    ingest::whip::{
        format::{format_of, with_profile},
        layer::IngestLayer,
        source::Accepted,
    },
    media::{CaptureTime, Codec, TrackFormat},
    track::{Batch, LayerIndex, Publication, Superseded, TrackIndex},
};

/// A batch is handed on when it gets this long, even if the socket has more: a keyframe of 300 kB.
const BATCH_PACKETS_MAX: usize = 256;
/// How long a simulcast publisher may send without a word of which layer it is; then it is taken to send one after all.
const NAMELESS_PATIENCE: Duration = Duration::from_secs(1);
/// Formats change by hand or by encoder, not by packet: each change empties caches and reaches every worker.
const FORMAT_CHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// A media packet, unwrapped if it came as a retransmission.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The original stream's, also for a retransmission.
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
    /// Index among the section's codecs; `None` for a payload type that was not agreed on.
    pub codec: Option<usize>,
    /// When the publisher says that it was captured.
    pub capture: Option<CaptureTime>,
    pub payload: Bytes,
    pub repaired: bool,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// A double, a stray, or what has no place in the layer any more.
    Useless,
}

#[derive(Debug)]
pub(super) struct IngestTrack {
    pub index: TrackIndex,
    /// In the order of the rids agreed on; one without a name where there is no simulcast.
    pub layers: Vec<IngestLayer>,
    codecs: Vec<AcceptedCodec>,
    /// Since when packets come that say of no layer.
    nameless_since: Option<Instant>,
    /// Index of the codec in use.
    codec: usize,
    format: TrackFormat,
    format_changed: Option<Instant>,
}

impl IngestTrack {
    /// Adds the section's track to the publication. `None` for a section without codecs: it was refused.
    pub(super) fn new(media: &NegotiatedMedia, publication: &mut Publication) -> Result<Option<Self>, Superseded> {
        let Some(first) = media.codecs.first() else { return Ok(None) };
        let format = format_of(first);
        let mut layers = Vec::new();
        let index = if media.rids.is_empty() {
            layers.push(IngestLayer::new(LayerIndex(0), None, first));
            publication.add_track(format.clone())?
        } else {
            let named = media.rids.iter().enumerate();
            layers.extend(named.map(|(at, rid)| IngestLayer::new(LayerIndex(at as u8), Some(rid.clone()), first)));
            publication.add_layered_track(format.clone(), &media.rids)?
        };
        Ok(Some(Self {
            index,
            layers,
            codecs: media.codecs.clone(),
            nameless_since: None,
            codec: 0,
            format,
            format_changed: None,
        }))
    }

    /// The codec in use, with what was agreed for it.
    pub(super) fn accepted(&self) -> &AcceptedCodec {
        &self.codecs[self.codec]
    }

    pub(super) fn is_simulcast(&self) -> bool {
        self.layers.iter().any(|layer| layer.rid.is_some())
    }

    /// A packet of the SSRC itself.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        ssrc: u32,
        rid: Option<&Bytes>,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        let Some(at) = self.layer_of(now, ssrc, rid) else { return Ok(Outcome::Useless) };
        let codec = packet.codec.and_then(|codec| self.codecs.get(codec));
        if !self.layers[at].adopt(now, ssrc, rid, codec) {
            return Ok(Outcome::Useless);
        }
        self.take(now, at, packet, publication)
    }

    /// A retransmission for whatever SSRC its layer is received from.
    pub(super) fn repair(
        &mut self,
        now: Instant,
        rid: Option<&Bytes>,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        // In simulcast a repair must say which layer it repairs: numbers of two layers are unrelated.
        let of_same_layer = |layer: &IngestLayer| {
            let source = layer.source.as_ref().filter(|source| source.rid.as_ref() == rid);
            source.is_some_and(|source| source.rid.is_some() || layer.rid.is_none())
        };
        match self.layers.iter().position(of_same_layer) {
            Some(at) => self.take(now, at, packet, publication),
            None => Ok(Outcome::Useless),
        }
    }

    /// The layer that an SSRC belongs to.
    fn layer_of(&mut self, now: Instant, ssrc: u32, rid: Option<&Bytes>) -> Option<usize> {
        if !self.is_simulcast() {
            return Some(0);
        }
        if let Some(rid) = rid {
            let is_named = |layer: &IngestLayer| layer.rid.as_ref().is_some_and(|own| own.as_bytes() == &rid[..]);
            return self.layers.iter().position(is_named);
        }
        let is_from = |layer: &IngestLayer| layer.source.as_ref().is_some_and(|source| source.ssrc == ssrc);
        if let Some(at) = self.layers.iter().position(is_from) {
            return Some(at);
        }
        let nameless_since = *self.nameless_since.get_or_insert(now);
        let any_named = self.layers.iter().any(|layer| layer.source.is_some());
        (!any_named && now >= nameless_since + NAMELESS_PATIENCE).then_some(0)
    }

    fn take(
        &mut self,
        now: Instant,
        at: usize,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        let layer = &mut self.layers[at];
        let Some(accepted) = layer.accept(now, packet.sequence, packet.timestamp, packet.repaired) else {
            return Ok(Outcome::Useless);
        };
        let outcome = match packet.codec.filter(|_| !packet.payload.is_empty()) {
            Some(codec) => self.take_media(now, at, accepted, codec, packet, publication)?,
            None => {
                layer.probe(now, accepted.seq, packet.timestamp);
                Outcome::Taken
            }
        };
        if self.layers[at].batch.len() >= BATCH_PACKETS_MAX {
            self.flush(now, publication)?;
        }
        Ok(outcome)
    }

    fn take_media(
        &mut self,
        now: Instant,
        at: usize,
        accepted: Accepted,
        codec: usize,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        if codec != self.codec && !self.change_codec(now, at, accepted.newest, codec, publication)? {
            // From before a change, or a change too soon after another: the number stays a gap.
            return Ok(Outcome::Useless);
        }
        let codec = self.accepted().codec;
        let layer = &mut self.layers[at];
        let Some((number, time_ticks)) = layer.place(now, accepted.seq, packet.timestamp) else {
            return Ok(Outcome::Useless);
        };
        let mark = layer.marker().inspect(codec, number, time_ticks, &packet.payload);
        if let Some(profile) = mark.profile.filter(|_| accepted.newest) {
            self.change_profile(now, at, profile, publication)?;
        }
        let layer = &mut self.layers[at];
        layer.inspected(now, accepted, mark.keyframe_start);
        if let Some(capture) = packet.capture {
            layer.capture_said(capture, time_ticks);
        }
        // A copy: packets are kept for seconds, and must not keep the receive buffer they came in.
        let payload = Bytes::copy_from_slice(&packet.payload);
        layer.collect(now, number, time_ticks, packet.marker, mark.keyframe_start, payload);
        Ok(Outcome::Taken)
    }

    /// Hands what was collected to the tree at once.
    fn flush(&mut self, now: Instant, publication: &mut Publication) -> Result<(), Superseded> {
        let mut batches = Vec::with_capacity(self.layers.len());
        self.take_batches(publication, &mut batches)?;
        publication.push(now, batches)
    }

    /// What was collected, for the tree.
    pub(super) fn take_batches(
        &mut self,
        publication: &mut Publication,
        batches: &mut Vec<Batch>,
    ) -> Result<(), Superseded> {
        for layer in &mut self.layers {
            batches.extend(layer.take_batch(self.index, publication)?);
        }
        Ok(())
    }

    /// The newest packet has another codec. False when that is not believed.
    fn change_codec(
        &mut self,
        now: Instant,
        at: usize,
        newest: bool,
        codec: usize,
        publication: &mut Publication,
    ) -> Result<bool, Superseded> {
        let Some(accepted) = self.codecs.get(codec).filter(|_| newest) else { return Ok(false) };
        let format = format_of(accepted);
        if !self.change_format(now, at, format, publication)? {
            return Ok(false);
        }
        self.codec = codec;
        self.layers.iter_mut().for_each(IngestLayer::codec_changed);
        Ok(true)
    }

    /// A parameter set names a profile that the format does not cover.
    fn change_profile(
        &mut self,
        now: Instant,
        at: usize,
        profile: ProfileLevelId,
        publication: &mut Publication,
    ) -> Result<(), Superseded> {
        debug_assert_eq!(self.format.codec, Codec::H264);
        if let Some(fmtp) = with_profile(&self.format.fmtp, profile) {
            let format = TrackFormat { fmtp, ..self.format.clone() };
            self.change_format(now, at, format, publication)?;
        }
        Ok(())
    }

    fn change_format(
        &mut self,
        now: Instant,
        at: usize,
        format: TrackFormat,
        publication: &mut Publication,
    ) -> Result<bool, Superseded> {
        if self.format_changed.is_some_and(|changed| now < changed + FORMAT_CHANGE_INTERVAL) {
            return Ok(false);
        }
        if format != self.format {
            // What was collected belongs to the format before.
            self.flush(now, publication)?;
            publication.set_format(self.index, format.clone())?;
            self.format = format;
            self.format_changed = Some(now);
            for (_, other) in self.layers.iter_mut().enumerate().filter(|(other, _)| *other != at) {
                other.cache_dropped(now);
            }
        }
        Ok(true)
    }
}
