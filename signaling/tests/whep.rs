//! WHEP by its rules (draft-ietf-wish-whep), where they differ from WHIP's.

mod support;

use sluice_signaling::{
    endpoint::Settings,
    http::{Method, Request, Response},
    token::{Authenticator, Right},
    whep::WHEP,
};
use support::{
    CHROMIUM_WATCH, FakePlane, OBS, assert_problem, from, h264, now, opus, patch, post, session_of, text, token,
};

fn ask(plane: &FakePlane, request: &Request<'_>) -> Response {
    WHEP.answer(request, &Authenticator::open(), plane, &Settings::default(), now())
}

fn live() -> FakePlane {
    FakePlane::live(&[h264("profile-level-id=42e01f"), opus()])
}

#[test]
fn a_post_makes_a_session() {
    let plane = live();
    let response = ask(&plane, &post(CHROMIUM_WATCH));
    assert_eq!(response.status, 201, "{}", text(&response));
    let session = session_of(&response);
    assert_eq!(response.header_value("location"), Some(format!("/whep/cam1/{session}").as_str()));
    assert!(text(&response).contains("a=sendonly") && !text(&response).contains("a=recvonly"));
    assert!(response.header_value("etag").is_some());
    assert_eq!(ask(&plane, &patch(&session, Some("*"), "a=end-of-candidates\r\n")).status, 204);
    assert_eq!(ask(&plane, &Request::new(Method::Delete, "cam1", Some(&session), from())).status, 200);
}

#[test]
fn a_stream_that_is_not_live_is_409_with_retry_after() {
    let response = ask(&FakePlane::default(), &post(CHROMIUM_WATCH));
    assert_problem(&response, 409, "not-live");
    assert_eq!(response.header_value("retry-after"), Some("2"));
    assert!(text(&response).contains("nobody publishes"));
    let fetched = FakePlane { why_not_live: Some("the source a: it refuses".into()), ..FakePlane::default() };
    let response = ask(&fetched, &post(CHROMIUM_WATCH));
    assert_problem(&response, 409, "not-live");
    assert!(text(&response).contains("the source a: it refuses"), "{}", text(&response));
    // What would fail anyway is said first.
    assert_problem(&ask(&FakePlane::default(), &post("hello")), 400, "malformed-sdp");
}

#[test]
fn a_stream_that_is_not_live_is_waited_for_where_the_server_is_set_so() {
    let (plane, waiting) = (FakePlane::default(), Settings { wait_until_live: true, ..Settings::default() });
    let ask = |offer| WHEP.answer(&post(offer), &Authenticator::open(), &plane, &waiting, now());
    let response = ask(CHROMIUM_WATCH);
    assert_eq!(response.status, 201, "{}", text(&response));
    // All that can be forwarded is agreed on: nobody knows what the publisher will bring.
    for name in ["VP8", "VP9", "H264", "AV1", "opus"] {
        assert!(text(&response).contains(&format!(" {name}/")), "{name} in {}", text(&response));
    }
    assert_problem(&ask(OBS), 422, "unusable-offer");
    assert_problem(&ask("hello"), 400, "malformed-sdp");
}

#[test]
fn a_publishers_offer_is_422() {
    assert_problem(&ask(&live(), &post(OBS)), 422, "unusable-offer");
}

#[test]
fn a_player_finds_out_that_this_is_whep() {
    // URL discoverability: HEAD and GET alike, without a token.
    for method in [Method::Get, Method::Head] {
        let request = Request::new(method, "cam1", None, from());
        let guarded = Authenticator::hs256(support::SECRET).unwrap();
        let response = WHEP.answer(&request, &guarded, &FakePlane::default(), &Settings::default(), now());
        assert_eq!((response.status, response.body.len()), (200, 0));
        assert_eq!(response.header_value("content-type"), Some("application/sdp"));
    }
}

#[test]
fn a_token_in_the_endpoints_url_is_in_the_sessions_url_too() {
    let guarded = Authenticator::hs256(support::SECRET).unwrap();
    let plane = live();
    let answer = |request: &Request<'_>, authenticator| {
        let response = WHEP.answer(request, authenticator, &plane, &Settings::default(), now());
        assert_eq!(response.status, 201, "{}", text(&response));
        response.header_value("location").unwrap().to_owned()
    };
    let token = token(Right::Subscribe, 60);
    let bearer = format!("Bearer {token}");
    let by_url = Request { query_token: Some(&token), ..post(CHROMIUM_WATCH) };
    let location = answer(&by_url, &guarded);
    let (path, query) = location.split_once('?').unwrap();
    assert_eq!(query, format!("token={token}"));
    let session = path.rsplit('/').next().unwrap();
    let delete = Request { query_token: Some(&token), ..Request::new(Method::Delete, "cam1", Some(session), from()) };
    assert_eq!(WHEP.answer(&delete, &guarded, &plane, &Settings::default(), now()).status, 200);

    let by_header = Request { authorization: Some(&bearer), query_token: Some(&token), ..post(CHROMIUM_WATCH) };
    assert!(!answer(&by_header, &guarded).contains('?'), "a client that sends headers needs none in its URLs");
    let unread = Request { query_token: Some("a\r\nb"), ..post(CHROMIUM_WATCH) };
    assert!(!answer(&unread, &Authenticator::open()).contains('?'), "what nobody verified is not repeated");
}

#[test]
fn watching_takes_the_right_to_subscribe() {
    let guarded = Authenticator::hs256(support::SECRET).unwrap();
    let with = |right| {
        let bearer = format!("Bearer {}", token(right, 60));
        let request = Request { authorization: Some(&bearer), ..post(CHROMIUM_WATCH) };
        WHEP.answer(&request, &guarded, &live(), &Settings::default(), now()).status
    };
    assert_eq!(with(Right::Subscribe), 201);
    assert_eq!(with(Right::Publish), 403);
}

/// The answer's header extensions to a viewer whose section of pictures offers `more` and has this mid.
fn extensions_agreed(mid: &str, more: &str) -> Vec<String> {
    let offer = CHROMIUM_WATCH.replace("a=mid:1", &format!("a=mid:{mid}\r\na=extmap:12 {more}"));
    let offer = offer.replace("a=group:BUNDLE 0 1", &format!("a=group:BUNDLE 0 {mid}"));
    let response = ask(&live(), &post(&offer));
    assert_eq!(response.status, 201, "{}", text(&response));
    let answer = text(&response).split("m=video").nth(1).unwrap();
    answer.lines().filter_map(|line| Some(line.strip_prefix("a=extmap:")?.to_owned())).collect()
}

#[test]
fn a_viewer_gets_the_header_extensions_that_it_offered_and_that_are_sent() {
    const CAPTURE: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    let agreed = extensions_agreed("1", CAPTURE);
    let has = |uri: &str| agreed.iter().any(|line| line.ends_with(uri));
    assert!(has(MID) && has("/playout-delay") && agreed.contains(&format!("12 {CAPTURE}")), "{agreed:?}");
    assert!(has("/abs-send-time"), "the browser's estimate rests on it: {agreed:?}");
    // The estimate is the viewer's, not ours, and a viewer has one encoding.
    assert!(!has("extensions-01") && !has("rtp-stream-id"), "{agreed:?}");
    assert!(!extensions_agreed("1", "urn:x").iter().any(|line| line.ends_with(CAPTURE)), "nobody offered it");
    // RFC 8285 section 4.2: 16 bytes are the most that an element says.
    assert!(extensions_agreed("sixteen.letters.", "urn:x").iter().any(|line| line.ends_with(MID)));
    assert!(!extensions_agreed("seventeen.letters", "urn:x").iter().any(|line| line.ends_with(MID)));
}
