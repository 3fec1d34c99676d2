//! WHEP (draft-ietf-wish-whep): how viewers come in by HTTP.
//!
//! Offers that cannot carry the stream are met with one of ours: `counter_offer`. Events and layers: `extensions`.

use crate::{
    endpoint::{Call, Door},
    error::Problem,
    media_plane::Direction,
    name::StreamName,
    sdp::{MediaOffer, Negotiated, negotiate_egress},
    token::Right,
};

/// `/whep/{stream}` and its sessions.
pub const WHEP: Door =
    Door { prefix: "/whep", direction: Direction::Egress, right: Right::Subscribe, discoverable: true, negotiate };

fn negotiate(call: &Call<'_>, stream: &StreamName, offer: &MediaOffer) -> Result<Negotiated, Problem> {
    let live = match call.plane.live_formats(stream) {
        Some(live) => live,
        // Whatever comes: all that both sides have is agreed on, and the publisher's choice decides.
        None if call.settings.wait_until_live => Vec::new(),
        None => {
            let nobody = || format!("nobody publishes {:?} at the moment", stream.as_str());
            let detail = call.plane.why_not_live(stream).unwrap_or_else(nobody);
            let problem = Problem::new(409, "not-live", "The stream is not live", detail);
            return Err(problem.retry_after(call.settings.not_live_retry_after_s));
        }
    };
    negotiate_egress(offer, &live)
}
