//! WHEP's extensions by their rules (WHEP extensions draft): server-sent events, and video layer selection.

mod support;

use sluice_signaling::{
    endpoint::Settings,
    extensions::Resource,
    http::{JSON_TYPE, Method, Request, Response},
    media_plane::{LayerChoice, LayerInfo},
    token::{Authenticator, Right},
    whep::WHEP,
    whip::WHIP,
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

fn opened(plane: &FakePlane) -> String {
    session_of(&ask(plane, &post(CHROMIUM_WATCH)))
}

fn on<'a>(method: Method, session: &'a str, resource: Resource<'a>) -> Request<'a> {
    Request { resource: Some(resource), ..Request::new(method, "cam1", Some(session), from()) }
}

fn events<'a>(session: &'a str, body: &'a str) -> Request<'a> {
    Request { content_type: Some(JSON_TYPE), body: body.as_bytes(), ..on(Method::Post, session, Resource::Events) }
}

fn layer<'a>(session: &'a str, body: &'a str) -> Request<'a> {
    Request { content_type: Some(JSON_TYPE), body: body.as_bytes(), ..on(Method::Post, session, Resource::Layer) }
}

fn links(response: &Response) -> Vec<&str> {
    response.headers.iter().filter(|(name, _)| *name == "Link").map(|(_, value)| value.as_str()).collect()
}

#[test]
fn the_201_advertises_both_extensions_with_the_events_there_are() {
    let response = ask(&live(), &post(CHROMIUM_WATCH));
    let session = session_of(&response);
    assert_eq!(
        links(&response),
        [
            format!(
                "</whep/cam1/{session}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; \
                 events=\"active,inactive,layers,reconnect,viewercount\""
            ),
            format!("</whep/cam1/{session}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        ]
    );
    let whip = WHIP.answer(&post(OBS), &Authenticator::open(), &live(), &Settings::default(), now());
    assert_eq!((whip.status, links(&whip).len()), (201, 0), "they are WHEP's");
}

#[test]
fn a_post_of_wanted_events_makes_a_stream_that_is_read_at_its_location() {
    let plane = live();
    let session = opened(&plane);
    let created = ask(&plane, &events(&session, r#"["active","inactive"]"#));
    assert_eq!((created.status, created.body.len()), (201, 0), "{}", text(&created));
    assert_eq!(created.header_value("location"), Some(format!("/whep/cam1/{session}/events/1").as_str()));
    let read = ask(&plane, &on(Method::Get, &session, Resource::EventStream("1")));
    assert_eq!(read.status, 200);
    assert_eq!(read.header_value("content-type"), Some("text/event-stream"));
    assert!(read.events.is_some(), "the body is for whoever speaks HTTP");
    let head = ask(&plane, &on(Method::Head, &session, Resource::EventStream("1")));
    assert_eq!((head.status, head.events), (200, None));
    // No body: all events.
    let all = Request { content_type: None, ..events(&session, "") };
    assert_eq!(ask(&plane, &all).status, 201);
}

#[test]
fn an_unknown_event_is_400_naming_it_and_no_stream_is_made() {
    let plane = live();
    let session = opened(&plane);
    let refused = ask(&plane, &events(&session, r#"["active","scte35"]"#));
    assert_problem(&refused, 400, "bad-events");
    assert!(text(&refused).contains("scte35") && text(&refused).contains("viewercount"), "{}", text(&refused));
    assert_problem(&ask(&plane, &events(&session, "{")), 400, "bad-events");
    let typed = Request { content_type: Some("text/plain"), ..events(&session, "[]") };
    assert_problem(&ask(&plane, &typed), 415, "wrong-content-type");
    assert_problem(&ask(&plane, &on(Method::Get, &session, Resource::EventStream("1"))), 404, "no-event-stream");
}

#[test]
fn a_deleted_event_stream_is_404() {
    let plane = live();
    let session = opened(&plane);
    ask(&plane, &events(&session, ""));
    let delete = on(Method::Delete, &session, Resource::EventStream("1"));
    assert_eq!(ask(&plane, &delete).status, 200);
    assert_problem(&ask(&plane, &delete), 404, "no-event-stream");
    assert_problem(&ask(&plane, &on(Method::Get, &session, Resource::EventStream("1"))), 404, "no-event-stream");
    assert_problem(&ask(&plane, &on(Method::Get, &session, Resource::EventStream("x"))), 404, "no-event-stream");
}

#[test]
fn all_event_streams_end_with_the_session() {
    let plane = live();
    let session = opened(&plane);
    ask(&plane, &events(&session, ""));
    ask(&plane, &Request::new(Method::Delete, "cam1", Some(&session), from()));
    assert_problem(&ask(&plane, &on(Method::Get, &session, Resource::EventStream("1"))), 404, "no-session");
    assert_problem(&ask(&plane, &events(&session, "")), 404, "no-session");
}

#[test]
fn a_sessions_event_streams_are_bounded() {
    let plane = live();
    let session = opened(&plane);
    let made = (0..10).filter(|_| ask(&plane, &events(&session, "")).status == 201).count();
    assert_eq!(made, 4);
    assert_problem(&ask(&plane, &events(&session, "")), 429, "too-many-event-streams");
}

#[test]
fn the_extensions_take_the_sessions_token() {
    let guarded = Authenticator::hs256(support::SECRET).unwrap();
    let plane = live();
    let (good, other) =
        (format!("Bearer {}", token(Right::Subscribe, 60)), format!("Bearer {}", token(Right::Publish, 60)));
    let ask = |request: Request<'_>| WHEP.answer(&request, &guarded, &plane, &Settings::default(), now()).status;
    let opened = Request { authorization: Some(&good), ..post(CHROMIUM_WATCH) };
    let session = session_of(&WHEP.answer(&opened, &guarded, &plane, &Settings::default(), now()));
    for request in [events(&session, ""), layer(&session, "{}")] {
        assert_eq!(ask(request), 401);
        assert_eq!(ask(Request { authorization: Some(&other), ..request }), 403);
    }
    assert_eq!(ask(Request { authorization: Some(&good), ..events(&session, "") }), 201);
    let read = on(Method::Get, &session, Resource::EventStream("1"));
    assert_eq!(ask(read), 401);
    assert_eq!(ask(Request { authorization: Some(&good), ..read }), 200);
    // What a browser's EventSource can send.
    let bare = good.strip_prefix("Bearer ");
    assert_eq!(ask(Request { query_token: bare, ..read }), 200);
}

#[test]
fn a_client_that_shows_its_token_in_urls_gets_urls_with_it() {
    let guarded = Authenticator::hs256(support::SECRET).unwrap();
    let plane = live();
    let token = token(Right::Subscribe, 60);
    let ask = |request: Request<'_>| WHEP.answer(&request, &guarded, &plane, &Settings::default(), now());
    let response = ask(Request { query_token: Some(&token), ..post(CHROMIUM_WATCH) });
    assert!(links(&response).iter().all(|link| link.contains(&format!("?token={token}>; "))), "{response:?}");
    let location = response.header_value("location").unwrap();
    let session = location.rsplit('/').next().unwrap().split('?').next().unwrap();
    let created = ask(Request { query_token: Some(&token), ..events(session, "") });
    let expected = format!("/whep/cam1/{session}/events/1?token={token}");
    assert_eq!(created.header_value("location"), Some(expected.as_str()));
}

#[test]
fn a_layer_is_selected_by_rid_or_bounds_and_the_choice_taken_back() {
    let info = |rid: &str| LayerInfo {
        media_id: 1,
        encoding_id: Some(rid.into()),
        width: None,
        height: None,
        bitrate_bps: 1,
        active: true,
    };
    let plane = FakePlane { layers: vec![info("h"), info("q")], ..live() };
    let session = opened(&plane);
    for body in [r#"{"mediaId":"1","rid":"q"}"#, r#"{"maxHeight":360}"#, r#"{"mediaId":"1"}"#] {
        let response = ask(&plane, &layer(&session, body));
        assert_eq!((response.status, response.body.len()), (200, 0), "{body}: {}", text(&response));
    }
    let within = LayerChoice::Within { width_max: None, height_max: Some(360) };
    assert_eq!(*plane.chosen.lock().unwrap(), [LayerChoice::Encoding("q".into()), within, LayerChoice::Automatic]);
    assert_problem(&ask(&plane, &layer(&session, r#"{"rid":"x"}"#)), 422, "no-such-layer");
    assert_problem(&ask(&plane, &layer(&session, "rid=q")), 400, "bad-layer-selection");
    assert_eq!(plane.chosen.lock().unwrap().len(), 3);
}

#[test]
fn methods_are_named_where_others_are_tried_and_by_options() {
    let plane = live();
    let session = opened(&plane);
    for (resource, allow) in [
        (Resource::Events, "POST, OPTIONS"),
        (Resource::EventStream("1"), "GET, HEAD, DELETE, OPTIONS"),
        (Resource::Layer, "POST, OPTIONS"),
    ] {
        let options = ask(&plane, &on(Method::Options, &session, resource));
        assert_eq!((options.status, options.header_value("allow")), (200, Some(allow)));
        let wrong = ask(&plane, &on(Method::Patch, &session, resource));
        assert_problem(&wrong, 405, "method-not-allowed");
        assert_eq!(wrong.header_value("allow"), Some(allow));
    }
}

#[test]
fn an_offer_of_ours_advertises_them_and_they_wait_for_its_answer() {
    let av1 = sluice_signaling::codec::TrackFormat {
        codec: sluice_signaling::codec::Codec::Av1,
        fmtp: String::new(),
        channels: 1,
    };
    let plane = FakePlane::live(&[av1]);
    let response = ask(&plane, &post(support::offer("firefox-watch")));
    assert_eq!((response.status, links(&response).len()), (406, 2), "there will be no 201");
    let session = session_of(&response);
    assert_problem(&ask(&plane, &events(&session, "")), 409, "not-answered");
    assert_problem(&ask(&plane, &layer(&session, "{}")), 409, "not-answered");
    assert_problem(&ask(&plane, &patch(&session, None, "")), 409, "not-answered");
}
