//! Counter-offers (draft-ietf-wish-whep, "Server Sends Counter-Offer"): an offer that cannot carry the stream is answered 406 with an
//! offer of ours, which the client completes by a PATCH of its answer.

use crate::{
    codec::{MediaKind, TrackFormat},
    endpoint::{Call, Refused},
    error::Problem,
    http::{FRAGMENT_TYPE, Response, SDP_TYPE},
    ice::entity_tag,
    media_plane::{AnswerRequest, CounterOfferRequest, CounterOffered, TransportParams},
    name::{SessionId, StreamName},
    sdp::{self, MediaOffer, Negotiated, Setup, negotiate_egress},
    token::Grant,
};

impl Call<'_> {
    /// 406 with an offer of what the stream has, of the kinds that the client asked for. `why` is what its own offer lacks.
    ///
    /// # Errors
    /// 503 from the plane.
    pub(crate) fn counter_offer(
        &self,
        stream: &StreamName,
        grant: Grant,
        offer: &MediaOffer,
        why: Problem,
    ) -> Result<Response, Problem> {
        // The publisher may have left since.
        let Some(live) = self.plane.live_formats(stream) else { return Err(why) };
        let asked = |format: &&TrackFormat| offer.line_of(format.codec.kind()).is_some();
        let mut wanted: Vec<TrackFormat> = live.iter().filter(asked).cloned().collect();
        if wanted.is_empty() {
            wanted = live;
        }
        let media = sdp::offered(&wanted);
        let params = self.plane.offer(CounterOfferRequest {
            stream: stream.clone(),
            grant: grant.clone(),
            from: self.request.from,
            user_agent: self.user_agent(),
            media: media.clone(),
            live: wanted,
            // An offer without any codec that could be sent comes to nothing.
            refused: negotiate_egress(offer, &[]).unwrap_or_default(),
        })?;
        let response = self.with_ice_servers(self.response(stream, &media, &params, why), &grant);
        // There will be no 201 to say it in.
        Ok(self.with_extensions(response, stream, params.session))
    }

    fn response(&self, stream: &StreamName, media: &Negotiated, params: &TransportParams, why: Problem) -> Response {
        let mut response = Response::new(406)
            // Without `valid-until` it holds for 30 s, whatever the client's clock says.
            .header("Content-Type", SDP_TYPE)
            .header("Location", self.session_url(stream, params.session))
            .header("ETag", entity_tag(&params.ice))
            .header("Accept-Patch", format!("{SDP_TYPE}, {FRAGMENT_TYPE}"))
            .of_session(params.session);
        response.body = sdp::counter_offer(media, params, &why.detail).into_bytes();
        response.problem = Some(why);
        response
    }

    /// PATCH with the client's answer: 204. Entity tags are about ICE, and not asked for.
    ///
    /// # Errors
    /// 400, 413, 415; 409 for candidates before the answer; 422 when the answer still cannot carry the stream: another may be sent
    /// while the offer stands.
    pub(crate) fn take_answer(
        &self,
        session: SessionId,
        stream: &StreamName,
        offered: &CounterOffered,
    ) -> Result<Response, Refused> {
        if self.request.has_type(FRAGMENT_TYPE) {
            let detail = "the session waits for the answer to its offer: PATCH that first, as application/sdp";
            return Err(Problem::new(409, "not-answered", "The offer is not answered yet", detail).into());
        }
        let answer = self.body(SDP_TYPE, "Accept-Patch")?;
        let answer = MediaOffer::parse(answer).map_err(|error| error.problem())?;
        let media = agree(&answer, offered, &self.live(stream, offered))?;
        self.plane.accept(
            session,
            AnswerRequest {
                remote_ice: answer.ice.clone(),
                remote_fingerprints: answer.fingerprints.clone(),
                remote_setup: answer.setup,
                remote_candidates: answer.candidates.clone(),
                video_line: answer.line_of(MediaKind::Video),
                media,
            },
        )?;
        Ok(Response::new(204).of_session(session))
    }

    /// What the stream has now; what it had when its publisher has left since: the session then waits for the next one, as others do.
    fn live(&self, stream: &StreamName, offered: &CounterOffered) -> Vec<TrackFormat> {
        let now = self.plane.live_formats(stream).unwrap_or_else(|| offered.live.clone());
        now.into_iter().filter(|format| offered.kinds.contains(&format.codec.kind())).collect()
    }
}

/// What the answer comes to.
fn agree(answer: &MediaOffer, offered: &CounterOffered, live: &[TrackFormat]) -> Result<Negotiated, Problem> {
    let kinds: Vec<_> = answer.sections.iter().map(|section| section.kind).collect();
    if kinds != offered.kinds.iter().copied().map(Some).collect::<Vec<_>>() {
        let names: Vec<_> = offered.kinds.iter().map(|kind| kind.as_str()).collect();
        let detail =
            format!("an answer has the offer's sections in its order (RFC 3264 section 6): {}", names.join(", "));
        return Err(unusable(detail));
    }
    if answer.setup == Setup::ActPass {
        return Err(unusable("an answer chooses its DTLS role: a=setup:active or passive (RFC 8842 section 5.3)"));
    }
    let picture = live.iter().find(|format| format.codec.kind() == MediaKind::Video);
    if let (Some(format), None) = (picture, answer.line_of(MediaKind::Video)) {
        let detail = format!("the stream's video is {}; the answer declines all video", format.codec);
        return Err(Problem::new(422, "no-common-codec", "No codec in common", detail));
    }
    // A viewer that has no decoder for the sound still sees the picture.
    let declined = |format: &&TrackFormat| answer.line_of(format.codec.kind()).is_some();
    let taken: Vec<TrackFormat> = live.iter().filter(declined).cloned().collect();
    negotiate_egress(answer, &taken).map_err(|problem| Problem {
        // 406 would ask for a counter-offer to the answer.
        status: 422,
        ..problem
    })
}

fn unusable(detail: impl Into<String>) -> Problem {
    Problem::new(422, "unusable-answer", "The answer does not fit the offer", detail)
}
