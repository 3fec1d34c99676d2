//! The media plane of a server whose workers are not wired in: refuses every session.

use std::time::SystemTime;

use sluice_signaling::{
    codec::TrackFormat,
    error::Problem,
    ice::IceCredentials,
    media_plane::{Direction, MediaPlane, OpenRequest, SessionOwner, TransportParams},
    sdp::IceCandidate,
};

use crate::{
    http::{Sessions, ViewerState},
    media::{SessionId, StreamName},
    track::EndReason,
};

pub struct NoMedia;

impl MediaPlane for NoMedia {
    fn live_formats(&self, _: &StreamName) -> Option<Vec<TrackFormat>> {
        None
    }

    fn open(&self, _: OpenRequest) -> Result<TransportParams, Problem> {
        Err(Problem::new(503, "no-media", "No media plane", "this build carries no media"))
    }

    fn ice_of(&self, _: SessionId, _: Direction) -> Option<(IceCredentials, IceCredentials)> {
        None
    }

    fn owner_of(&self, _: SessionId, _: Direction) -> Option<SessionOwner> {
        None
    }

    fn add_candidates(&self, _: SessionId, _: Vec<IceCandidate>) {}

    fn close(&self, _: SessionId, _: Direction) -> bool {
        false
    }

    fn renew(&self, _: SessionId, _: Option<SystemTime>) {}
}

impl Sessions for NoMedia {
    fn viewers(&self, _: &StreamName) -> Vec<ViewerState> {
        Vec::new()
    }

    fn end_session(&self, _: SessionId, _: EndReason) -> bool {
        false
    }
}
