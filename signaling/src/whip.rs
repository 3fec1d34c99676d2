//! WHIP (RFC 9725): requests on `/whip/{stream}` and its sessions become decisions and responses.
//!
//! Not here yet: ICE restarts (a PATCH with new credentials is refused with 422), ICE servers in `Link`, rate limits, redirects.

use std::time::SystemTime;

use crate::{
    endpoint::{Call, Door},
    http::{Request, Response},
    media_plane::{Direction, MediaPlane},
    sdp::negotiate_ingest,
    token::{Authenticator, Right},
};

pub use crate::endpoint::Settings;

const DOOR: Door = Door {
    prefix: "/whip",
    direction: Direction::Ingest,
    right: Right::Publish,
    discoverable: false,
    negotiate: |_, _, offer| negotiate_ingest(offer),
};

/// Answers a request on `/whip/{stream}` or `/whip/{stream}/{session}`.
///
/// - POST: 201 with the answer; 400, 401, 403, 409 (from the plane), 413, 415, 422, 503 (from the plane).
/// - PATCH: 204; 400, 401, 403, 404, 412, 413, 415, 422 (ICE restart), 428.
/// - DELETE: 200, then 404. GET, HEAD: 204. OPTIONS: 200.
///
/// Every failure has a [`Problem`](crate::error::Problem) for a body.
pub fn handle(
    request: &Request<'_>,
    authenticator: &Authenticator,
    plane: &dyn MediaPlane,
    settings: &Settings,
    now: SystemTime,
) -> Response {
    Call { door: &DOOR, request, authenticator, plane, settings, now }.answer()
}
