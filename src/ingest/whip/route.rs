//! Whose packet is it: SSRC, MID, RID and payload type of a packet become a track, a layer's name and a codec
//! (RFC 9143 section 9.2, RFC 8852, RFC 8853).

use std::time::Instant;

use bytes::Bytes;
use sluice_signaling::sdp::NegotiatedMedia;

use crate::media::RtpPacket;

/// SSRCs that are remembered: a sound and four layers with a retransmission stream each are 10, and six for those that were
/// replaced. Beyond that the one unheard for longest is forgotten, and must say again where it belongs.
const SSRCS_MAX: usize = 16;

/// What a packet's payload type makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Media of the section's codec with this index.
    Media { codec: usize },
    /// A retransmission of such media (RFC 4588).
    Repair { codec: usize },
    /// A payload type that was not agreed on.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Index among the routed sections.
    pub track: usize,
    /// The simulcast layer the SSRC belongs to, or repairs.
    pub rid: Option<Bytes>,
    pub content: Content,
}

#[derive(Debug)]
struct Binding {
    ssrc: u32,
    track: usize,
    rid: Option<Bytes>,
    heard: Instant,
}

/// Remembers which SSRC said that it belongs where: browsers stop sending MID and RID once a report acknowledged them.
#[derive(Debug)]
pub(super) struct Router {
    sections: Vec<NegotiatedMedia>,
    bindings: Vec<Binding>,
}

impl Router {
    pub(super) fn new(sections: Vec<NegotiatedMedia>) -> Self {
        Self { sections, bindings: Vec::with_capacity(SSRCS_MAX) }
    }

    /// `None`: nothing says to which section the packet belongs.
    pub(super) fn route(&mut self, now: Instant, packet: &RtpPacket) -> Option<Route> {
        let (ssrc, payload_type) = (packet.header.ssrc, packet.header.payload_type);
        let known = self.bindings.iter().position(|binding| binding.ssrc == ssrc);
        let track = match &packet.extensions.mid {
            Some(mid) => self.sections.iter().position(|section| section.mid.as_bytes() == &mid[..])?,
            None => match known {
                Some(at) => self.bindings[at].track,
                None => self.announced(ssrc).or_else(|| self.only_user_of(payload_type))?,
            },
        };
        let named = packet.extensions.rid.as_ref().or(packet.extensions.repaired_rid.as_ref());
        let binding = match known {
            Some(at) => &mut self.bindings[at],
            None => self.bind(now, ssrc, track),
        };
        (binding.track, binding.heard) = (track, now);
        if let Some(rid) = named.filter(|rid| binding.rid.as_ref() != Some(*rid)) {
            // A copy: the packet's buffer is not to be kept for its sake.
            binding.rid = Some(Bytes::copy_from_slice(rid));
        }
        let rid = binding.rid.clone();
        Some(Route { track, rid, content: content(&self.sections[track], payload_type) })
    }

    fn announced(&self, ssrc: u32) -> Option<usize> {
        self.sections.iter().position(|section| section.remote_ssrcs.contains(&ssrc))
    }

    /// The section that uses a payload type, if no other does.
    fn only_user_of(&self, payload_type: u8) -> Option<usize> {
        let mut users =
            (0..self.sections.len()).filter(|at| content(&self.sections[*at], payload_type) != Content::Unknown);
        let only = users.next()?;
        users.next().is_none().then_some(only)
    }

    fn bind(&mut self, now: Instant, ssrc: u32, track: usize) -> &mut Binding {
        if self.bindings.len() == SSRCS_MAX {
            let quietest = (0..SSRCS_MAX).min_by_key(|at| self.bindings[*at].heard).unwrap_or_default();
            self.bindings.swap_remove(quietest);
        }
        self.bindings.push_mut(Binding { ssrc, track, rid: None, heard: now })
    }
}

fn content(section: &NegotiatedMedia, payload_type: u8) -> Content {
    for (codec, accepted) in section.codecs.iter().enumerate() {
        if accepted.payload_type == payload_type {
            return Content::Media { codec };
        }
        if accepted.rtx_payload_type == Some(payload_type) {
            return Content::Repair { codec };
        }
    }
    Content::Unknown
}
