//! WHIP by its rules (RFC 9725), on a media plane that carries nothing.

mod support;

use sluice_signaling::{
    endpoint::Settings,
    error::Problem,
    http::{BODY_MAX_BYTES, Method, Request, Response},
    priority::Priority,
    sdp::Setup,
    token::{Authenticator, Denied, Right},
    whep::WHEP,
    whip::WHIP,
};
use support::{FakePlane, OBS, assert_problem, backup_token, from, now, patch, post, session_of, text, token};

fn ask(plane: &FakePlane, request: &Request<'_>) -> Response {
    WHIP.answer(request, &Authenticator::open(), plane, &Settings::default(), now())
}

fn ask_guarded(plane: &FakePlane, request: &Request<'_>, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let request = Request { authorization: (!token.is_empty()).then_some(bearer.as_str()), ..*request };
    WHIP.answer(&request, &Authenticator::hs256(support::SECRET).unwrap(), plane, &Settings::default(), now())
}

/// The user name fragment and password of OBS's offer, and one candidate.
const FRAGMENT: &str = "a=ice-ufrag:E2Fr\r\na=ice-pwd:OpQzg1PAwUdeOB244chlgd\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=candidate:2 1 udp 1 x.local 9 typ host\r\n";

#[test]
fn a_post_makes_a_session() {
    // Section 4.2.
    let plane = FakePlane::default();
    let request =
        Request { content_type: Some("application/sdp; charset=utf-8"), user_agent: Some("obs\n30"), ..post(OBS) };
    let response = ask(&plane, &request);
    assert_eq!(response.status, 201, "{}", text(&response));
    assert_eq!(response.header_value("content-type"), Some("application/sdp"));
    let session = session_of(&response);
    assert_eq!(response.header_value("location"), Some(format!("/whip/cam1/{session}").as_str()));
    assert_eq!(response.session.unwrap().to_string(), session);
    let tag = response.header_value("etag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "strong, section 4.3.1: {tag}");
    assert_eq!(response.header_value("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    assert!(text(&response).contains("a=recvonly") && text(&response).contains("a=setup:passive"));
    let opened = plane.last_request();
    assert_eq!((opened.from, opened.remote_setup), (from(), Setup::ActPass));
    assert_eq!((opened.user_agent.as_str(), opened.remote_candidates.len()), ("obs30", 2));
}

#[test]
fn wrong_bodies_are_refused() {
    let plane = FakePlane::default();
    for content_type in [None, Some("text/plain"), Some("application/json")] {
        let response = ask(&plane, &Request { content_type, ..post(OBS) });
        assert_problem(&response, 415, "wrong-content-type");
        assert_eq!(response.header_value("accept-post"), Some("application/sdp"));
    }
    assert_problem(&ask(&plane, &post("hello")), 400, "malformed-sdp");
    assert_problem(&ask(&plane, &Request { body: b"v=0\n\xff\xfe", ..post("") }), 400, "malformed-sdp");
    assert_problem(&ask(&plane, &post(&OBS.replace("sendonly", "recvonly"))), 422, "unusable-offer");
    assert_problem(&ask(&plane, &post(&OBS.replace("opus", "PCMU"))), 422, "no-common-codec");
    let large = "a".repeat(BODY_MAX_BYTES + 1);
    assert_problem(&ask(&plane, &post(&large)), 413, "too-large");
    assert_eq!(plane.sessions(), 0);
}

#[test]
fn bad_stream_names_are_400() {
    for stream in ["", "-cam", "a b", "..", "a%2fb", &"x".repeat(200)] {
        let response = ask(&FakePlane::default(), &Request { stream, ..post(OBS) });
        assert_problem(&response, 400, "bad-stream-name");
    }
}

#[test]
fn the_planes_refusal_is_passed_on() {
    let refuse = Problem::new(503, "draining", "The server is stopping", "try another").retry_after(5);
    let response = ask(&FakePlane { refuse: Some(refuse), ..FakePlane::default() }, &post(OBS));
    assert_problem(&response, 503, "draining");
    assert_eq!(response.header_value("retry-after"), Some("5"));
}

#[test]
fn the_token_is_checked_before_the_body() {
    let plane = FakePlane::default();
    let response = ask_guarded(&plane, &post("hello"), "");
    assert_problem(&response, 401, "unauthorized");
    assert_eq!(response.header_value("www-authenticate"), Some("Bearer realm=\"sluice\""));
    assert_eq!(response.denied, Some(Denied::Missing));
    assert_problem(&ask_guarded(&plane, &post("hello"), "nonsense"), 401, "unauthorized");
    assert_problem(&ask_guarded(&plane, &post("hello"), &token(Right::Subscribe, 60)), 403, "forbidden");
    let other = Request { stream: "cam3", ..post("hello") };
    assert_problem(&ask_guarded(&plane, &other, &token(Right::Publish, 60)), 403, "forbidden");
    assert_problem(&ask_guarded(&plane, &post("hello"), &token(Right::Publish, 60)), 400, "malformed-sdp");
    assert_eq!(ask_guarded(&plane, &post(OBS), &token(Right::Publish, 60)).status, 201);
    assert_eq!(plane.last_request().grant.subject.as_deref(), Some("alice"));
}

#[test]
fn a_token_may_come_in_the_query() {
    let token = token(Right::Publish, 60);
    let response = ask_guarded(&FakePlane::default(), &Request { query_token: Some(&token), ..post(OBS) }, "");
    assert_eq!(response.status, 201);
    // The client has shown that it keeps tokens in URLs; the session's must work for it too.
    let location = response.header_value("location").unwrap();
    assert!(location.starts_with("/whip/cam1/") && location.ends_with(&format!("?token={token}")), "{location}");
}

#[test]
fn a_publisher_says_whether_it_is_the_backup_unless_its_token_does() {
    let plane = FakePlane::default();
    assert_eq!(ask(&plane, &post(OBS)).status, 201);
    assert_eq!(plane.last_request().priority, Priority::Primary);
    assert_eq!(ask(&plane, &Request { query_priority: Some("backup"), ..post(OBS) }).status, 201);
    assert_eq!(plane.last_request().priority, Priority::Backup);
    let asks = Request { query_priority: Some("primary"), ..post(OBS) };
    assert_eq!(ask_guarded(&plane, &asks, &backup_token()).status, 201);
    assert_eq!(plane.last_request().priority, Priority::Backup);
    assert_problem(&ask(&plane, &Request { query_priority: Some("first"), ..post(OBS) }), 400, "bad-priority");
}

#[test]
fn a_trickle_is_204_without_an_etag() {
    // Section 4.3.2.
    let plane = FakePlane::default();
    let opened = ask(&plane, &post(OBS));
    let (session, tag) = (session_of(&opened), opened.header_value("etag").unwrap());
    for if_match in [tag, "*", "\"*\"", &format!("\"x\", {tag}")] {
        let response = ask(&plane, &patch(&session, Some(if_match), FRAGMENT));
        assert_eq!((response.status, response.body.len()), (204, 0), "{if_match}");
        assert_eq!(response.header_value("etag"), None);
    }
    assert_eq!(plane.candidates.lock().unwrap().len(), 4, "names are discarded, and no error");
    assert_eq!(ask(&plane, &patch(&session, Some(tag), "a=end-of-candidates\r\n")).status, 204);
}

#[test]
fn a_patch_needs_the_present_etag() {
    // Section 4.3.1, RFC 6585 section 3, RFC 9110 section 13.1.1.
    let plane = FakePlane::default();
    let opened = ask(&plane, &post(OBS));
    let (session, tag) = (session_of(&opened), opened.header_value("etag").unwrap().to_owned());
    assert_problem(&ask(&plane, &patch(&session, None, FRAGMENT)), 428, "precondition-required");
    assert_problem(&ask(&plane, &patch(&session, Some("\"old\""), FRAGMENT)), 412, "old-ice-session");
    let weak = format!("W/{tag}");
    assert_problem(&ask(&plane, &patch(&session, Some(&weak), FRAGMENT)), 412, "old-ice-session");
    assert_problem(&ask(&plane, &patch(&session, Some(&tag), "a=ice-ufrag:E2Fr")), 400, "malformed-fragment");
    let wrong_type = Request { content_type: Some("application/sdp"), ..patch(&session, Some(&tag), FRAGMENT) };
    let response = ask(&plane, &wrong_type);
    assert_problem(&response, 415, "wrong-content-type");
    assert_eq!(response.header_value("accept-patch"), Some("application/trickle-ice-sdpfrag"));
}

#[test]
fn a_delete_ends_the_session_once() {
    // Section 4.2; any entity tag is ignored.
    let plane = FakePlane::default();
    let session = session_of(&ask(&plane, &post(OBS)));
    let delete = Request { if_match: Some("\"old\""), ..Request::new(Method::Delete, "cam1", Some(&session), from()) };
    let response = ask(&plane, &delete);
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(plane.sessions(), 0);
    assert_problem(&ask(&plane, &delete), 404, "no-session");
    assert_problem(&ask(&plane, &patch(&session, Some("*"), FRAGMENT)), 404, "no-session");
}

#[test]
fn a_session_is_found_under_its_own_url_only() {
    let plane = FakePlane::default();
    let session = session_of(&ask(&plane, &post(OBS)));
    for (stream, session) in [("cam2", session.as_str()), ("cam1", "x"), ("cam1", "")] {
        let delete = Request::new(Method::Delete, stream, Some(session), from());
        assert_problem(&ask(&plane, &delete), 404, "no-session");
    }
    let delete = Request::new(Method::Delete, "cam1", Some(&session), from());
    let by_whep = WHEP.answer(&delete, &Authenticator::open(), &plane, &Settings::default(), now());
    assert_problem(&by_whep, 404, "no-session");
    assert_eq!(plane.sessions(), 1);
}

#[test]
fn a_session_wants_a_token_too() {
    let plane = FakePlane::default();
    let session = session_of(&ask_guarded(&plane, &post(OBS), &token(Right::Publish, 60)));
    let delete = Request::new(Method::Delete, "cam1", Some(&session), from());
    for request in [delete, patch(&session, Some("*"), FRAGMENT), Request { method: Method::Get, ..delete }] {
        assert_problem(&ask_guarded(&plane, &request, ""), 401, "unauthorized");
        assert_problem(&ask_guarded(&plane, &request, &token(Right::Subscribe, 60)), 403, "forbidden");
    }
    assert_eq!(plane.sessions(), 1);
    assert_eq!(ask_guarded(&plane, &delete, &token(Right::Publish, 5)).status, 200);
}

#[test]
fn a_longer_token_of_the_same_subject_renews_the_session() {
    let plane = FakePlane::default();
    let session = session_of(&ask_guarded(&plane, &post(OBS), &token(Right::Publish, 60)));
    let get = Request::new(Method::Get, "cam1", Some(&session), from());
    let renewed = || plane.renewed.lock().unwrap().len();
    for (ttl_s, times) in [(60, 0), (30, 0), (120, 1)] {
        assert_eq!(ask_guarded(&plane, &get, &token(Right::Publish, ttl_s)).status, 204);
        assert_eq!(renewed(), times, "{ttl_s}");
    }
    assert_eq!(ask_guarded(&plane, &patch(&session, Some("*"), FRAGMENT), &token(Right::Publish, 90)).status, 204);
    assert_eq!(renewed(), 2);
    let bob = sluice_signaling::token::Claims {
        exp: 1_800_000_900,
        sub: Some("bob".into()),
        stream: sluice_signaling::token::OneOrMany(vec!["*".into()]),
        can: sluice_signaling::token::Rights(vec![Right::Publish]),
        ..Default::default()
    };
    let bob = Authenticator::hs256(support::SECRET).unwrap().sign(&bob).unwrap();
    assert_eq!(ask_guarded(&plane, &get, &bob).status, 204);
    assert_eq!(renewed(), 2, "another's token renews nothing");
}

#[test]
fn get_and_head_succeed_without_content() {
    // Section 4.1.
    let plane = FakePlane::default();
    let session = session_of(&ask(&plane, &post(OBS)));
    for method in [Method::Get, Method::Head] {
        for session in [None, Some(session.as_str())] {
            let response = ask(&plane, &Request::new(method, "cam1", session, from()));
            assert_eq!((response.status, response.body.len()), (204, 0));
        }
    }
}

#[test]
fn options_say_what_may_be_posted() {
    // Section 4.2; needs no token.
    let plane = FakePlane::default();
    for session in [None, Some("any")] {
        let response = ask_guarded(&plane, &Request::new(Method::Options, "cam1", session, from()), "");
        assert_eq!(response.status, 200);
        assert_eq!(response.header_value("accept-post"), Some("application/sdp"));
    }
}

#[test]
fn other_methods_are_405() {
    let plane = FakePlane::default();
    for (method, session) in [
        (Method::Patch, None),
        (Method::Delete, None),
        (Method::Other, None),
        (Method::Post, Some("x")),
        (Method::Other, Some("x")),
    ] {
        let response = ask(&plane, &Request::new(method, "cam1", session, from()));
        assert_problem(&response, 405, "method-not-allowed");
        assert!(response.header_value("allow").unwrap().contains("OPTIONS"));
    }
}

#[test]
fn any_order_of_requests_leaves_the_sessions_that_it_should() {
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
    let mut random = StdRng::seed_from_u64(3);
    let plane = FakePlane::default();
    let mut alive: Vec<(String, String)> = Vec::new();
    let mut ended: Vec<String> = Vec::new();
    for _ in 0..3_000 {
        let any = alive.choose(&mut random).cloned();
        let (session, tag) = any.unwrap_or(("x".into(), "\"x\"".into()));
        let lives = session != "x";
        match random.random_range(0..6) {
            0 => {
                let response = ask(&plane, &post(OBS));
                alive.push((session_of(&response), response.header_value("etag").unwrap().to_owned()));
            }
            1 => assert_ne!(ask(&plane, &post(&OBS.replace("ice-pwd", "x"))).status, 201),
            2 => {
                let response = ask(&plane, &patch(&session, Some(&tag), FRAGMENT));
                assert_eq!(response.status, if lives { 204 } else { 404 });
            }
            3 => {
                let response = ask(&plane, &patch(&session, Some("\"old\""), FRAGMENT));
                assert_eq!(response.status, if lives { 412 } else { 404 });
            }
            4 => {
                let delete = Request::new(Method::Delete, "cam1", Some(&session), from());
                assert_eq!(ask(&plane, &delete).status, if lives { 200 } else { 404 });
                alive.retain(|(other, _)| *other != session);
                ended.push(session);
            }
            _ => {
                if let Some(gone) = ended.choose(&mut random) {
                    let delete = Request::new(Method::Delete, "cam1", Some(gone), from());
                    assert_eq!(ask(&plane, &delete).status, 404);
                }
            }
        }
        assert_eq!(plane.sessions(), alive.len());
    }
}
