//! Load balancing and redirections (RFC 9725 section 4.5, draft-ietf-wish-whep Load Balancing and Redirections).

mod support;

use sluice_signaling::{
    endpoint::{Door, Settings},
    error::Problem,
    http::{Method, Request, Response},
    token::Authenticator,
    whep::WHEP,
    whip::WHIP,
};
use support::{CHROMIUM_WATCH, FakePlane, OBS, SECRET, assert_problem, from, h264, now, opus, patch, post, token};

const DOORS: [(&Door, &str); 2] = [(&WHIP, OBS), (&WHEP, CHROMIUM_WATCH)];

fn unavailable() -> Option<Problem> {
    Some(Problem::new(503, "full", "The server is full", "it has as many sessions as it may").retry_after(5))
}

/// A node that takes no sessions.
fn full() -> FakePlane {
    FakePlane { unavailable: unavailable(), ..FakePlane::live(&[h264("profile-level-id=42e01f"), opus()]) }
}

fn overflowing() -> Settings {
    Settings { overflow_to: Some("https://b.example.net/live".parse().unwrap()), ..Settings::default() }
}

fn ask(door: &Door, plane: &FakePlane, request: &Request<'_>, settings: &Settings) -> Response {
    door.answer(request, &Authenticator::open(), plane, settings, now())
}

#[test]
fn section_4_5_a_full_or_draining_node_redirects_by_307_to_the_other_one() {
    for (door, offer) in DOORS {
        let response = ask(door, &full(), &post(offer), &overflowing());
        assert_eq!((response.status, response.body.len()), (307, 0));
        let expected = format!("https://b.example.net/live{}/cam1?redirected=1", door.prefix);
        assert_eq!(response.header_value("location"), Some(expected.as_str()));
        assert_eq!(response.header_value("cache-control"), Some("no-store"));
    }
}

#[test]
fn section_4_5_without_another_node_it_is_503_with_retry_after() {
    for (door, offer) in DOORS {
        let response = ask(door, &full(), &post(offer), &Settings::default());
        assert_problem(&response, 503, "full");
        assert_eq!(response.header_value("retry-after"), Some("5"));
    }
}

#[test]
fn section_4_5_a_node_that_became_full_meanwhile_redirects_as_well() {
    for (door, offer) in DOORS {
        let plane = FakePlane { unavailable: None, refuse: unavailable(), ..full() };
        assert_eq!(ask(door, &plane, &post(offer), &overflowing()).status, 307);
        let conflict = Some(Problem::new(409, "stream-has-publisher", "The stream already has a publisher", ""));
        let plane = FakePlane { refuse: conflict, ..plane };
        assert_eq!(ask(door, &plane, &post(offer), &overflowing()).status, 409, "no other node helps there");
    }
}

#[test]
fn two_full_nodes_do_not_send_a_client_to_and_fro() {
    for (door, offer) in DOORS {
        let request = Request { is_redirected: true, ..post(offer) };
        assert_problem(&ask(door, &full(), &request, &overflowing()), 503, "full");
    }
}

#[test]
fn a_node_with_room_redirects_nobody_and_a_full_one_only_newcomers() {
    for (door, offer) in DOORS {
        let plane = FakePlane { unavailable: None, ..full() };
        let opened = ask(door, &plane, &post(offer), &overflowing());
        assert_eq!(opened.status, 201);
        let plane = FakePlane { unavailable: unavailable(), ..plane };
        let session = support::session_of(&opened);
        let trickle = patch(&session, Some("*"), "a=end-of-candidates\r\n");
        assert_eq!(ask(door, &plane, &trickle, &overflowing()).status, 204);
        let options = Request::new(Method::Options, "cam1", None, from());
        assert_eq!(ask(door, &plane, &options, &overflowing()).status, 200);
        let delete = Request::new(Method::Delete, "cam1", Some(&session), from());
        assert_eq!(ask(door, &plane, &delete, &overflowing()).status, 200);
    }
}

#[test]
fn the_token_is_checked_first_and_one_of_the_url_goes_along() {
    let guarded = Authenticator::hs256(SECRET).unwrap();
    for (door, offer) in DOORS {
        let stranger = door.answer(&post(offer), &guarded, &full(), &overflowing(), now());
        assert_problem(&stranger, 401, "unauthorized");
        let token = token(door.right, 60);
        let request = Request { query_token: Some(&token), ..post(offer) };
        let response = door.answer(&request, &guarded, &full(), &overflowing(), now());
        let location = response.header_value("location").unwrap();
        assert!(location.ends_with(&format!("?redirected=1&token={token}")), "{location}");
        let bearer = format!("Bearer {token}");
        let request = Request { authorization: Some(&bearer), ..post(offer) };
        let response = door.answer(&request, &guarded, &full(), &overflowing(), now());
        assert!(!response.header_value("location").unwrap().contains(&token), "what was in a header stays out of URLs");
    }
}
