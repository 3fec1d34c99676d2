//! STUN and TURN servers in `Link` (RFC 9725 section 4.6, draft-ietf-wish-whep STUN/TURN Server Configuration).

mod support;

use std::time::Duration;

use sluice_signaling::{
    endpoint::{Door, Settings},
    http::{Method, Request, Response},
    ice_server::{IceServers, TurnCredentials},
    token::{Authenticator, Right},
    whep::WHEP,
    whip::WHIP,
};
use support::{CHROMIUM_WATCH, FakePlane, OBS, SECRET, from, h264, now, opus, patch, post, session_of, text, token};

const TTL: Duration = Duration::from_secs(3_600);

fn settings(uris: &[&str]) -> Settings {
    let uris = uris.iter().map(|uri| uri.parse().unwrap()).collect();
    let turn = TurnCredentials::TimeLimited { secret: "north".into(), ttl: TTL };
    Settings { ice_servers: IceServers { uris, turn }, ..Settings::default() }
}

fn both() -> Settings {
    settings(&["stun:stun.example.net", "turn:turn.example.net?transport=tcp"])
}

fn plane() -> FakePlane {
    FakePlane::live(&[h264("profile-level-id=42e01f"), opus()])
}

fn links(response: &Response) -> Vec<&str> {
    let links = response.headers.iter().filter(|(name, _)| *name == "Link").map(|(_, value)| value.as_str());
    links.filter(|link| link.contains("ice-server")).collect()
}

/// Asks with a token of 60 s.
fn ask(door: &Door, request: &Request<'_>, settings: &Settings) -> Response {
    let bearer = format!("Bearer {}", token(door.right, 60));
    let request = Request { authorization: Some(&bearer), ..*request };
    door.answer(&request, &Authenticator::hs256(SECRET).unwrap(), &plane(), settings, now())
}

fn options() -> Request<'static> {
    Request::new(Method::Options, "cam1", None, from())
}

#[test]
fn section_4_6_a_201_names_each_server_in_a_link_of_its_own() {
    for (door, offer) in [(&WHIP, OBS), (&WHEP, CHROMIUM_WATCH)] {
        let response = ask(door, &post(offer), &both());
        assert_eq!(response.status, 201, "{}", text(&response));
        let [stun, turn] = links(&response)[..] else { panic!("{:?}", response.headers) };
        assert_eq!(stun, "<stun:stun.example.net>; rel=\"ice-server\"");
        let until = 1_800_000_060;
        let start = format!(
            "<turn:turn.example.net?transport=tcp>; rel=\"ice-server\"; username=\"{until}:alice\"; credential=\""
        );
        assert!(turn.starts_with(&start), "no longer than the token: {turn}");
        assert!(turn.ends_with("\"; credential-type=\"password\""), "{turn}");
        assert_eq!(response.header_value("cache-control"), Some("no-store"));
    }
}

#[test]
fn section_4_6_without_servers_there_is_no_link() {
    for (door, offer) in [(&WHIP, OBS), (&WHEP, CHROMIUM_WATCH)] {
        assert!(links(&ask(door, &post(offer), &settings(&[]))).is_empty());
        assert!(links(&ask(door, &options(), &settings(&[]))).is_empty());
    }
}

#[test]
fn section_4_6_options_names_the_servers_only_when_it_is_no_cors_preflight() {
    for door in [&WHIP, &WHEP] {
        let response = ask(door, &options(), &both());
        assert_eq!((response.status, links(&response).len()), (200, 2));
        let preflight = Request { is_preflight: true, ..options() };
        let response = ask(door, &preflight, &both());
        assert_eq!((response.status, links(&response).len()), (200, 0));
        assert_eq!(response.header_value("accept-post"), Some("application/sdp"));
    }
}

#[test]
fn section_4_6_options_names_no_server_to_who_may_not_open_a_session() {
    let guarded = Authenticator::hs256(SECRET).unwrap();
    let publisher = format!("Bearer {}", token(Right::Publish, 60));
    for authorization in [None, Some("Bearer nonsense"), Some(publisher.as_str())] {
        let request = Request { authorization, ..options() };
        let response = WHEP.answer(&request, &guarded, &plane(), &both(), now());
        assert_eq!((response.status, links(&response).len()), (200, 0), "{authorization:?}");
    }
}

#[test]
fn a_session_that_outlives_its_turn_credentials_gets_others_by_options_and_with_an_ice_restart() {
    const RESTART: &str = "a=ice-ufrag:newU\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
    for (door, offer) in [(&WHIP, OBS), (&WHEP, CHROMIUM_WATCH)] {
        let (plane, settings) = (plane(), both());
        let guarded = Authenticator::hs256(SECRET).unwrap();
        let bearer = format!("Bearer {}", token(door.right, 100_000));
        let ask = |request: &Request<'_>, after_s: u64, authorization: Option<&str>| {
            let request = Request { authorization, ..*request };
            door.answer(&request, &guarded, &plane, &settings, now() + Duration::from_secs(after_s))
        };
        let opened = ask(&post(offer), 0, Some(&bearer));
        let first: Vec<_> = links(&opened).into_iter().map(str::to_owned).collect();
        let session = session_of(&opened);
        let options = Request::new(Method::Options, "cam1", Some(&session), from());
        let later = TTL.as_secs() + 60;
        for renewed in
            [ask(&options, later, Some(&bearer)), ask(&patch(&session, Some("*"), RESTART), later, Some(&bearer))]
        {
            assert_eq!(renewed.status, 200, "{}", text(&renewed));
            let [stun, turn] = links(&renewed)[..] else { panic!("{:?}", renewed.headers) };
            assert!(stun == first[0] && turn != first[1], "{turn}");
            let until = 1_800_000_000 + later + TTL.as_secs();
            assert!(turn.contains(&format!("username=\"{until}:alice\"")), "{turn}");
            assert_eq!(renewed.header_value("cache-control"), Some("no-store"));
        }
        // Candidates bring no credentials; a preflight, a stranger and whoever asks for no session of ours are not told.
        let trickle = ask(&patch(&session, Some("*"), "a=end-of-candidates\r\n"), later, Some(&bearer));
        assert_eq!((trickle.status, links(&trickle).len()), (204, 0));
        let preflight = Request { is_preflight: true, ..options };
        let unknown = Request { session: Some("7c0bd4f5-2a6b-4f38-9f0b-6b8f2a3f9a51"), ..options };
        for (request, authorization) in [(preflight, Some(bearer.as_str())), (options, None), (unknown, Some(&bearer))]
        {
            let response = ask(&request, later, authorization);
            assert_eq!((response.status, links(&response).len()), (200, 0));
        }
    }
}
