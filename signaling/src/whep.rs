//! WHEP (draft-ietf-wish-whep): requests on `/whep/{stream}` and its sessions become decisions and responses.
//!
//! Not here yet: counter-offers (an offer that cannot carry the stream is refused with 406 and a problem), sessions that wait for
//! their stream (409 instead), events and layers, ICE restarts (422), ICE servers in `Link`, rate limits.

use std::time::SystemTime;

use crate::{
    endpoint::{Call, Door},
    error::Problem,
    http::{Request, Response},
    media_plane::{Direction, MediaPlane},
    name::StreamName,
    sdp::{MediaOffer, Negotiated, negotiate_egress},
    token::{Authenticator, Right},
};

pub use crate::endpoint::Settings;

const DOOR: Door =
    Door { prefix: "/whep", direction: Direction::Egress, right: Right::Subscribe, discoverable: true, negotiate };

/// Answers a request on `/whep/{stream}` or `/whep/{stream}/{session}`.
///
/// - POST: 201 with the answer; 400, 401, 403, 406 (no codec of the stream offered), 409 (not live, with `Retry-After`), 413, 415,
///   422, 503 (from the plane).
/// - PATCH: 204; 400, 401, 403, 404, 412, 413, 415, 422 (ICE restart), 428.
/// - DELETE: 200, then 404. GET, HEAD: 200 with the type on the endpoint, 204 on a session. OPTIONS: 200.
///
/// Every failure has a [`Problem`] for a body.
pub fn handle(
    request: &Request<'_>,
    authenticator: &Authenticator,
    plane: &dyn MediaPlane,
    settings: &Settings,
    now: SystemTime,
) -> Response {
    Call { door: &DOOR, request, authenticator, plane, settings, now }.answer()
}

fn negotiate(call: &Call<'_>, stream: &StreamName, offer: &MediaOffer) -> Result<Negotiated, Problem> {
    let live = call.plane.live_formats(stream).ok_or_else(|| {
        let detail = format!("nobody publishes {:?} at the moment", stream.as_str());
        Problem::new(409, "not-live", "The stream is not live", detail)
            .retry_after(call.settings.not_live_retry_after_s)
    })?;
    negotiate_egress(offer, &live)
}
