//! ICE restarts by their rules (RFC 9725 section 4.3.3, draft-ietf-wish-whep ICE Restarts), for publishers and viewers alike.

mod support;

use sluice_signaling::{
    endpoint::{Door, Settings},
    http::{Request, Response},
    ice::TrickleFragment,
    token::Authenticator,
    whep::WHEP,
    whip::WHIP,
};
use support::{CHROMIUM_WATCH, FakePlane, OBS, assert_problem, h264, now, opus, patch, post, session_of, text};

fn ask(door: &Door, plane: &FakePlane, request: &Request<'_>) -> Response {
    door.answer(request, &Authenticator::open(), plane, &Settings::default(), now())
}

/// Runs a rule against both doors: with the session and its ETag.
fn for_each_door(rule: impl Fn(&Door, &FakePlane, &str, &str)) {
    for (door, offer) in [(&WHIP, OBS), (&WHEP, CHROMIUM_WATCH)] {
        let plane = FakePlane::live(&[h264("profile-level-id=42e01f"), opus()]);
        let opened = ask(door, &plane, &post(offer));
        rule(door, &plane, &session_of(&opened), opened.header_value("etag").unwrap());
    }
}

/// A client's fragment with credentials of this number.
fn fragment(number: u32) -> String {
    format!(
        "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
         a=ice-ufrag:new{number}\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp{number:02}\r\n\
         a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
    )
}

#[test]
fn section_4_3_3_a_restart_is_200_with_our_fragment_and_a_new_strong_etag() {
    for_each_door(|door, plane, session, tag| {
        for if_match in ["*", "\"*\""] {
            let number = if if_match == "*" { 1 } else { 2 };
            let response = ask(door, plane, &patch(session, Some(if_match), &fragment(number)));
            assert_eq!(response.status, 200, "{}", text(&response));
            assert_eq!(response.header_value("content-type"), Some("application/trickle-ice-sdpfrag"));
            let new_tag = response.header_value("etag").unwrap();
            assert!(new_tag.starts_with('"') && new_tag.ends_with('"') && new_tag != tag, "{new_tag}");

            let ours = TrickleFragment::parse(text(&response)).unwrap();
            assert_eq!(format!("\"{}\"", ours.credentials.unwrap().ufrag), new_tag);
            assert_eq!(ours.candidates.len(), 2, "UDP and TCP");
            assert!(ours.end_of_candidates);
        }
        assert_eq!(plane.sessions(), 1, "in the same session");
    });
}

#[test]
fn section_4_3_3_the_fragment_says_of_ice_what_the_answer_said_and_stands_in_the_clients_section() {
    for_each_door(|door, plane, session, _| {
        let response = ask(door, plane, &patch(session, Some("*"), &fragment(1)));
        let lines: Vec<&str> = text(&response).split("\r\n").collect();
        assert_eq!(
            lines[..5],
            [
                "a=ice-lite",
                "a=ice-options:trickle ice2",
                "a=group:BUNDLE 0 1",
                "m=audio 9 UDP/TLS/RTP/SAVPF 111",
                "a=mid:0"
            ]
        );
        // A client that names no section gets none.
        let bare = "a=ice-ufrag:bare\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp\r\n";
        let response = ask(door, plane, &patch(session, Some("*"), bare));
        assert_eq!(response.status, 200);
        assert!(!text(&response).contains("m=") && TrickleFragment::parse(text(&response)).is_ok());
    });
}

#[test]
fn section_4_3_3_new_credentials_are_a_restart_also_under_the_present_etag() {
    for_each_door(|door, plane, session, tag| {
        assert_eq!(ask(door, plane, &patch(session, Some(tag), &fragment(1))).status, 200);
    });
}

#[test]
fn section_4_3_3_a_refused_restart_leaves_the_session_as_it_is() {
    for_each_door(|door, plane, session, tag| {
        let half = "a=ice-ufrag:newU\r\n";
        assert_problem(&ask(door, plane, &patch(session, Some("*"), half)), 400, "malformed-fragment");
        let short = "a=ice-ufrag:newU\r\na=ice-pwd:short\r\n";
        assert_problem(&ask(door, plane, &patch(session, Some("*"), short)), 400, "malformed-fragment");
        assert_problem(&ask(door, plane, &patch(session, None, &fragment(1))), 428, "precondition-required");
        let old = patch(session, Some("\"old\""), "");
        assert_problem(&ask(door, plane, &Request { body: fragment(1).as_bytes(), ..old }), 412, "old-ice-session");
        let wrong_type = Request { content_type: Some("application/json"), ..patch(session, Some("*"), "{}") };
        assert_problem(&ask(door, plane, &wrong_type), 415, "wrong-content-type");
        assert_eq!(plane.sessions(), 1);
        let trickle = ask(door, plane, &patch(session, Some(tag), "a=end-of-candidates\r\n"));
        assert_eq!(trickle.status, 204, "the ICE session of before is the present one");
    });
}

#[test]
fn section_4_3_1_after_a_restart_the_old_etag_is_412_and_the_new_one_trickles() {
    for_each_door(|door, plane, session, tag| {
        let restarted = ask(door, plane, &patch(session, Some("*"), &fragment(1)));
        let new_tag = restarted.header_value("etag").unwrap();
        // A trickle that the restart overtook.
        let late = ask(door, plane, &patch(session, Some(tag), "a=end-of-candidates\r\n"));
        assert_problem(&late, 412, "old-ice-session");
        let trickle = ask(door, plane, &patch(session, Some(new_tag), &fragment(1)));
        assert_eq!((trickle.status, trickle.header_value("etag")), (204, None), "the same credentials: no restart");
    });
}

#[test]
fn section_4_3_3_a_restart_asked_for_again_is_answered_again_while_its_client_cannot_have_used_the_answer() {
    for_each_door(|door, plane, session, _| {
        let first = ask(door, plane, &patch(session, Some("*"), &fragment(1)));
        // The response was lost, and something on the way, or the client, sends the request once more.
        let again = ask(door, plane, &patch(session, Some("*"), &fragment(1)));
        assert_eq!((again.status, text(&again)), (200, text(&first)), "the same ICE session");
        assert_eq!(again.header_value("etag"), first.header_value("etag"));
        // Section 4.3.2: whoever knows the entity tag has been answered and adds candidates.
        let tag = first.header_value("etag").unwrap();
        let trickle = ask(door, plane, &patch(session, Some(tag), &fragment(1)));
        assert_eq!((trickle.status, trickle.header_value("etag"), text(&trickle)), (204, None, ""));
        // So has whoever sent checks with our new credentials.
        plane.nominate();
        assert_eq!(ask(door, plane, &patch(session, Some("*"), &fragment(1))).status, 204);
    });
}

#[test]
fn rfc_8445_section_9_credentials_of_an_earlier_ice_session_restart_nothing() {
    // RFC 8840 section 4.4: what an earlier ICE session's fragment says is not taken for the present one.
    for_each_door(|door, plane, session, _| {
        let first = ask(door, plane, &patch(session, Some("*"), &fragment(1)));
        assert_eq!(first.status, 200);
        let second = ask(door, plane, &patch(session, Some("*"), &fragment(2)));
        let late = ask(door, plane, &patch(session, Some("*"), &fragment(1)));
        assert_problem(&late, 409, "old-ice-credentials");
        let tag = second.header_value("etag").unwrap();
        assert_eq!(ask(door, plane, &patch(session, Some(tag), &fragment(2))).status, 204, "the second one stands");
    });
}

#[test]
fn restarts_may_be_repeated_and_each_has_its_own_etag() {
    for_each_door(|door, plane, session, tag| {
        let mut tags = vec![tag.to_owned()];
        for number in 1..50 {
            let response = ask(door, plane, &patch(session, Some("*"), &fragment(number)));
            tags.push(response.header_value("etag").unwrap().to_owned());
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 50);
    });
}

#[test]
fn any_order_of_trickles_and_restarts_leaves_one_present_ice_session() {
    use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
    for_each_door(|door, plane, session, tag| {
        let mut random = StdRng::seed_from_u64(9);
        // What the client was told, oldest first: ETag, and the number of its credentials with it.
        let mut told = vec![(tag.to_owned(), 0)];
        for number in 1..500 {
            let (tag, of) = told.choose(&mut random).unwrap().clone();
            let present = told.last().unwrap().0 == tag;
            match random.random_range(0..3) {
                0 => {
                    let response = ask(door, plane, &patch(session, Some("*"), &fragment(number)));
                    assert_eq!(response.status, 200);
                    told.push((response.header_value("etag").unwrap().to_owned(), number));
                }
                1 => {
                    let response = ask(door, plane, &patch(session, Some(&tag), "a=end-of-candidates\r\n"));
                    assert_eq!(response.status, if present { 204 } else { 412 });
                }
                _ if of > 0 => {
                    let response = ask(door, plane, &patch(session, Some("*"), &fragment(of)));
                    assert_eq!(response.status, if present { 200 } else { 409 });
                    // The same restart again, not another.
                    assert!(!present || response.header_value("etag") == Some(&tag));
                }
                _ => {}
            }
        }
    });
}
