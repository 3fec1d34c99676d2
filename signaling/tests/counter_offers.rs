//! Counter-offers by their rules (draft-ietf-wish-whep, "Server Sends Counter-Offer" and "Media Direction Attributes").

mod support;

use sluice_signaling::{
    codec::{Codec, MediaKind, TrackFormat},
    endpoint::Settings,
    error::Problem,
    http::{Method, Request, Response, SDP_TYPE},
    sdp::{MediaFlow, MediaOffer, Setup},
    token::{Authenticator, Right},
    whep::WHEP,
};
use support::{FakePlane, assert_problem, from, now, opus, patch, post, session_of, text, token};

fn ask(plane: &FakePlane, request: &Request<'_>) -> Response {
    WHEP.answer(request, &Authenticator::open(), plane, &Settings::default(), now())
}

/// A stream that Firefox's offer (VP8, VP9, H264) cannot carry.
fn av1() -> FakePlane {
    FakePlane::live(&[TrackFormat { codec: Codec::Av1, fmtp: String::new(), channels: 1 }, opus()])
}

fn offered(plane: &FakePlane) -> Response {
    let response = ask(plane, &post(support::offer("firefox-watch")));
    assert_eq!(response.status, 406, "{}", text(&response));
    response
}

/// What a full client answers to it.
fn answer_to(response: &Response) -> String {
    text(response)
        .replace("a=sendonly", "a=recvonly")
        .replace("a=setup:actpass", "a=setup:active")
        .replace("a=ice-lite\r\n", "")
}

/// The answer without some codec: its lines become another payload type's.
fn without(answer: &str, name: &str) -> String {
    answer.replace(&format!("{name}/90000"), "nothing/90000")
}

fn complete<'a>(session: &'a str, body: &'a str) -> Request<'a> {
    Request { content_type: Some(SDP_TYPE), ..patch(session, None, body) }
}

#[test]
fn an_offer_that_cannot_carry_the_stream_is_406_with_an_offer_of_the_streams_codecs() {
    let plane = av1();
    let response = offered(&plane);
    assert_eq!(response.header_value("content-type"), Some("application/sdp"));
    let session = session_of(&response);
    assert_eq!(response.header_value("location"), Some(format!("/whep/cam1/{session}").as_str()));
    assert!(response.header_value("etag").is_some_and(|tag| tag.starts_with('"')));
    assert!(response.header_value("accept-patch").is_some_and(|types| types.contains(SDP_TYPE)));
    let offer = MediaOffer::parse(text(&response)).unwrap();
    assert_eq!(offer.setup, Setup::ActPass);
    assert!(offer.ice_lite);
    let flows: Vec<_> = offer.sections.iter().map(|section| section.flow).collect();
    assert_eq!(flows, [MediaFlow::SendOnly; 2], "Media Direction Attributes");
    assert_eq!(offer.sections[0].codecs[0].name, "AV1", "the live codec first");
    assert_eq!(offer.sections[1].codecs[0].name, "opus");
    assert_eq!(offer.bundle, ["0", "1"]);
    assert_eq!(text(&response).matches("a=rtcp-mux-only").count(), 2, "SDP Bundle");
    assert_eq!(plane.sessions(), 0, "it begins with the answer");
}

#[test]
fn the_plane_learns_what_the_viewer_could_have_decoded() {
    let plane = av1();
    offered(&plane);
    let asked = plane.offered.lock().unwrap();
    let (.., request) = asked.last().unwrap();
    let codecs = |kind| {
        let of_kind = request.refused.media.iter().filter(move |section| section.kind == kind);
        of_kind.flat_map(|section| &section.codecs).map(|accepted| accepted.codec).collect::<Vec<_>>()
    };
    assert_eq!(codecs(MediaKind::Audio), [Codec::Opus]);
    let video = codecs(MediaKind::Video);
    assert!(video.contains(&Codec::H264) && video.contains(&Codec::Vp8) && !video.contains(&Codec::Av1), "{video:?}");
}

#[test]
fn whoever_knows_no_counter_offers_reads_why_in_the_body_and_the_log_says_it_too() {
    let response = offered(&av1());
    let why = "the stream's video is AV1; the client has VP8, VP9, H264";
    assert!(text(&response).contains(&format!("\r\ni={why}")), "{}", text(&response));
    assert!(response.problem.is_some_and(|problem| problem.detail.starts_with(why) && problem.status == 406));
}

#[test]
fn only_the_kinds_that_the_client_asked_for_are_offered() {
    let no_opus = support::offer("firefox-watch").replace("opus/48000/2", "G729/8000");
    let plane = av1();
    assert_eq!(ask(&plane, &post(&no_opus)).status, 406);
    let at = no_opus.find("m=video").unwrap();
    let sound_only = no_opus[..at].replace("BUNDLE 0 1", "BUNDLE 0");
    let response = ask(&plane, &post(&sound_only));
    assert_eq!(response.status, 406, "{}", text(&response));
    let offer = MediaOffer::parse(text(&response)).unwrap();
    assert_eq!(offer.sections.iter().map(|section| section.media.as_str()).collect::<Vec<_>>(), ["audio"]);
}

#[test]
fn the_clients_answer_by_patch_completes_the_session_with_204() {
    let plane = av1();
    let response = offered(&plane);
    let session = session_of(&response);
    let answer = answer_to(&response);
    let done = ask(&plane, &complete(&session, &answer));
    assert_eq!((done.status, done.body.len()), (204, 0), "{}", text(&done));
    let request = plane.last_request();
    assert_eq!(request.media.media[0].codecs[0].codec, Codec::Av1);
    assert_eq!(request.remote_setup, Setup::Active);
    assert_eq!(request.video_line, Some(0));
    // From now on it is a session like any other: renegotiation is none of WHEP's.
    assert_problem(&ask(&plane, &complete(&session, &answer)), 415, "wrong-content-type");
    assert_eq!(ask(&plane, &patch(&session, Some("*"), "a=end-of-candidates\r\n")).status, 204);
    assert_eq!(ask(&plane, &Request::new(Method::Delete, "cam1", Some(&session), from())).status, 200);
}

#[test]
fn an_answer_that_still_lacks_the_codec_is_422_naming_both_sides_and_another_may_follow() {
    let plane = av1();
    let response = offered(&plane);
    let session = session_of(&response);
    let poor = without(&answer_to(&response), "AV1");
    let refused = ask(&plane, &complete(&session, &poor));
    assert_problem(&refused, 422, "no-common-codec");
    assert!(text(&refused).contains("is AV1") && text(&refused).contains("H264"), "{}", text(&refused));
    let declined = answer_to(&response).replace("m=video 9", "m=video 0");
    assert_problem(&ask(&plane, &complete(&session, &declined)), 422, "no-common-codec");
    assert_eq!(plane.sessions(), 0);
    assert_eq!(ask(&plane, &complete(&session, &answer_to(&response))).status, 204);
}

#[test]
fn sound_may_be_declined_and_the_picture_goes_on() {
    let plane = av1();
    let response = offered(&plane);
    let silent = answer_to(&response).replace("m=audio 9", "m=audio 0").replace("BUNDLE 0 1", "BUNDLE 0");
    let done = ask(&plane, &complete(&session_of(&response), &silent));
    assert_eq!(done.status, 204, "{}", text(&done));
    let accepted: Vec<_> = plane.last_request().media.media.iter().map(|media| media.is_accepted()).collect();
    assert_eq!(accepted, [true, false]);
}

#[test]
fn what_is_no_answer_to_it_is_refused_and_the_offer_stands() {
    let plane = av1();
    let response = offered(&plane);
    let session = session_of(&response);
    let answer = answer_to(&response);
    let cut = &answer[..answer.find("m=audio").unwrap()];
    for (body, status, slug) in [
        ("hello".to_owned(), 400, "malformed-sdp"),
        (cut.to_owned(), 422, "unusable-answer"),
        (answer.replace("setup:active", "setup:actpass"), 422, "unusable-answer"),
        (answer.replace("a=recvonly", "a=sendonly"), 422, "unusable-offer"),
        (answer.replace("a=fingerprint", "a=x"), 422, "unusable-offer"),
    ] {
        assert_problem(&ask(&plane, &complete(&session, &body)), status, slug);
    }
    let typed = Request { content_type: Some("text/plain"), ..complete(&session, &answer) };
    assert_problem(&ask(&plane, &typed), 415, "wrong-content-type");
    assert_problem(&ask(&plane, &patch(&session, Some("*"), "a=end-of-candidates\r\n")), 409, "not-answered");
    assert_eq!(ask(&plane, &complete(&session, &answer)).status, 204);
}

#[test]
fn an_answer_to_a_stream_that_ended_meanwhile_is_taken_and_the_session_waits() {
    let mut plane = av1();
    let response = offered(&plane);
    plane.live = None;
    assert_eq!(ask(&plane, &complete(&session_of(&response), &answer_to(&response))).status, 204);
}

#[test]
fn an_offer_can_be_deleted_and_is_gone_then() {
    let plane = av1();
    let response = offered(&plane);
    let session = session_of(&response);
    let delete = Request::new(Method::Delete, "cam1", Some(&session), from());
    assert_eq!(ask(&plane, &delete).status, 200);
    assert_problem(&ask(&plane, &delete), 404, "no-session");
    assert_problem(&ask(&plane, &complete(&session, &answer_to(&response))), 404, "no-session");
}

#[test]
fn a_full_server_says_so_instead() {
    let full = Problem::new(503, "unavailable", "The server takes no new sessions now", "full").retry_after(5);
    let plane = FakePlane { refuse: Some(full), ..av1() };
    let response = ask(&plane, &post(support::offer("firefox-watch")));
    assert_problem(&response, 503, "unavailable");
    assert_eq!(response.header_value("retry-after"), Some("5"));
}

#[test]
fn the_answer_takes_a_token_as_the_offer_did() {
    let guarded = Authenticator::hs256(support::SECRET).unwrap();
    let plane = av1();
    let bearer = format!("Bearer {}", token(Right::Subscribe, 60));
    let with = |authorization| {
        let request = Request { authorization, ..post(support::offer("firefox-watch")) };
        WHEP.answer(&request, &guarded, &plane, &Settings::default(), now())
    };
    assert_eq!(with(None).status, 401, "nothing is offered to strangers");
    let response = with(Some(&bearer));
    let session = session_of(&response);
    let answer = answer_to(&response);
    let complete = complete(&session, &answer);
    assert_eq!(WHEP.answer(&complete, &guarded, &plane, &Settings::default(), now()).status, 401);
    let complete = Request { authorization: Some(&bearer), ..complete };
    assert_eq!(WHEP.answer(&complete, &guarded, &plane, &Settings::default(), now()).status, 204);
}
