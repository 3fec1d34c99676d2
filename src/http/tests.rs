//! The routes as a client sees them.

mod house;

use axum::body::Body;
use serde_json::Value;
use sluice_signaling::{
    codec::{Codec, TrackFormat},
    token::{Claims, OneOrMany, Right},
};

pub(super) use self::house::{Fake, House, Publisher, SECRET, house, open_house, signed};
use self::house::{token, viewer};
use super::*;
use crate::{
    media::{ExtendedSeq, testing},
    track::{Batch, EndReason, LayerIndex, TrackIndex, TrackPacket},
};

#[tokio::test]
async fn nothing_here_and_wrong_methods_are_problems() {
    let house = open_house();
    house.get("/nowhere").await.is_problem(404);
    house.get("/api/v2/streams").await.is_problem(404);
    let answer = house.send("POST", "/healthz", &[], Body::empty()).await;
    answer.is_problem(405);
    assert!(answer.header("allow").contains("GET"), "{:?}", answer.headers);
    house.send("PUT", "/api/v1/streams", &[], Body::empty()).await.is_problem(405);
    house.get("/api/v1/streams/%ff").await.is_problem(400);
    house.send("POST", "/whip/%ff", &[], Body::empty()).await.is_problem(400);
}

#[tokio::test]
async fn ready_until_full_or_draining_and_then_no_new_sessions() {
    let house = open_house();
    assert_eq!(house.get("/healthz").await.status, 200);
    assert_eq!(house.get("/readyz").await.status, 200);
    *house.fake.unavailable.lock() = Some(problem::draining());
    assert_eq!(house.get("/healthz").await.status, 200);
    house.get("/readyz").await.is_problem(503);
    for path in ["/whip/cam1", "/whep/cam1"] {
        let answer = house.send("POST", path, &[("content-type", "application/sdp")], "v=0\r\n").await;
        answer.is_problem(503);
        assert_eq!(answer.header("retry-after"), "5");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "pages must be able to read it");
        assert!(house.get(path).await.status.is_success(), "GET is a success always (RFC 9725 section 4.1)");
        assert_eq!(house.send("HEAD", path, &[], Body::empty()).await.status, 503);
    }
    *house.fake.unavailable.lock() = None;
    assert_eq!(house.get("/readyz").await.status, 200, "there is room again");
}

#[tokio::test]
async fn who_fetches_a_stream_is_told_the_nodes_that_it_comes_through() {
    let live = Some(TrackFormat { codec: Codec::Vp8, fmtp: String::new(), channels: 1 });
    let house = house(Authenticator::open(), Fake { live, ..Fake::default() });
    let post = async |path: &str, offer: &'static str| {
        let answer = house.send("POST", path, &[("content-type", "application/sdp")], offer).await;
        (answer.status.as_u16(), answer.header("sluice-path").to_owned())
    };
    let watches = include_str!("../../signaling/tests/fixtures/chromium-watch.sdp");
    let (status, path) = post("/whep/cam1", watches).await;
    assert_eq!(status, 201);
    assert!(path.len() == 16 && path.bytes().all(|digit| digit.is_ascii_hexdigit()), "{path:?}: this node's id");
    assert_eq!(post("/whep/cam1", "v=0\r\n").await, (422, String::new()), "a refusal says nothing");
    let publishes = include_str!("../../signaling/tests/fixtures/chromium-publish.sdp");
    assert_eq!(post("/whip/cam1", publishes).await, (201, String::new()), "a publisher need not know");
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let house = open_house();
    let session = "/whep/cam1/7c0bd4f5-2a6b-4f38-9f0b-6b8f2a3f9a51";
    // A proxy's clients, each with its own share.
    let client = |ip: &'static str| [("x-forwarded-for", ip), ("origin", "https://player.example")];
    for (method, path) in [("POST", "/whip/cam1"), ("PATCH", session), ("DELETE", session)] {
        for _ in 0..3 {
            let answer = house.send(method, path, &client("203.0.113.7"), Body::empty()).await;
            assert!(answer.status.is_client_error() && answer.status != 429, "{method} {}", answer.status);
        }
        let answer = house.send(method, path, &client("203.0.113.7"), Body::empty()).await;
        answer.is_problem(429);
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "pages must be able to read it");
        assert_ne!(house.send(method, path, &client("203.0.113.8"), Body::empty()).await.status, 429);
    }
    assert_eq!(house.send("OPTIONS", session, &client("203.0.113.7"), Body::empty()).await.status, 200);
    assert_eq!(house.metrics.rate_limited.get(), 3);
}

#[tokio::test]
async fn bodies_beyond_the_bound_are_refused() {
    let house = open_house();
    let headers = [("content-type", "application/sdp")];
    house.send("POST", "/whip/cam1", &headers, vec![b'x'; (64 << 10) + 1]).await.is_problem(413);
    house.send("POST", "/whip/cam1", &headers, vec![b'x'; 1 << 20]).await.is_problem(413);
    house.send("POST", "/whip/cam1", &headers, vec![b'x'; 64 << 10]).await.is_problem(400);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let house = open_house();
    let body = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    house.send("POST", "/whip/cam1", &[("content-type", "application/sdp")], body).await.is_problem(408);
}

#[tokio::test]
async fn signalling_paths_are_open_to_pages_of_every_origin_and_the_api_to_none() {
    let house = open_house();
    let origin = ("origin", "https://player.example");
    let preflight = [origin, ("access-control-request-method", "POST")];
    for path in ["/whip/cam1", "/whep/cam1", "/whep/cam1/7c0bd4f5-2a6b-4f38-9f0b-6b8f2a3f9a51"] {
        let answer = house.send("OPTIONS", path, &preflight, Body::empty()).await;
        assert!(answer.status.is_success(), "{path} {}", answer.status);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        for method in ["POST", "PATCH", "DELETE"] {
            assert!(answer.header("access-control-allow-methods").contains(method));
        }
        for name in ["Authorization", "Content-Type", "If-Match"] {
            assert!(answer.header("access-control-allow-headers").contains(name));
        }
    }
    let answer = house.send("POST", "/whep/cam1", &[origin], Body::empty()).await;
    assert!(answer.status.is_client_error());
    for name in ["Location", "ETag", "Link", "Retry-After", "Accept-Patch"] {
        assert!(answer.header("access-control-expose-headers").contains(name), "{name}");
    }
    let answer = house.send("GET", "/api/v1/streams", &[origin], Body::empty()).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn live_streams_are_shown_with_publisher_tracks_and_viewers() {
    let fake = Fake { viewer: Some(viewer("cam1")), ..Fake::default() };
    let house = house(Authenticator::open(), fake);
    assert_eq!(house.get("/api/v1/streams").await.json(), serde_json::json!({ "streams": [] }));
    let _publication = house.publish("cam1", Arc::default());
    let list = house.get("/api/v1/streams").await.json();
    let stream = &list["streams"][0];
    assert_eq!((&stream["name"], &stream["live"]), (&"cam1".into(), &true.into()));
    assert_eq!(stream["since"], "2023-11-14T22:13:20.123Z");
    assert_eq!(stream["publisher"]["protocol"], "rtmp");
    assert_eq!(stream["publisher"]["subject"], "alice");
    assert_eq!(stream["tracks"][0]["codec"], "H264");
    assert_eq!(stream["notices"][0]["code"], "b-frames-dropped");
    assert_eq!(stream["viewer_count"], 0);
    let detail = house.get("/api/v1/streams/cam1").await.json();
    assert_eq!(detail["name"], "cam1");
    assert_eq!(detail["viewers"][0]["packets_sent"], 12);
    assert_eq!(detail["viewers"][0]["connected"], true);
    assert_eq!(detail["viewers"][0]["round_trip_ms"], 38.512);
    assert_eq!(detail["viewers"][0]["lost_share"], 0.25);
    assert_eq!(detail["viewers"][0]["bandwidth_bps"], 4_200_000);
    assert_eq!(stream["tracks"][0]["width"], Value::Null, "no keyframe has said it");
    house.get("/api/v1/streams/cam2").await.is_problem(404);
    house.get("/api/v1/streams/-").await.is_problem(400);
}

#[tokio::test]
async fn the_size_of_pictures_is_shown_once_a_keyframe_has_said_it() {
    let house = open_house();
    let mut publication = house.publish("cam1", Arc::default());
    let set: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0x3c, 0x0f, 0x16,
        0x2e, 0x48,
    ];
    let packet = |seq, keyframe_start, payload: &'static [u8]| {
        let (arrival, payload) = (testing::epoch(), payload.into());
        Arc::new(TrackPacket {
            seq: ExtendedSeq(seq),
            time_ticks: 0,
            arrival,
            marker: true,
            keyframe_start,
            capture: None,
            payload,
        })
    };
    let packets = vec![packet(1, true, set), packet(2, false, &[0x41, 0x88])];
    let batch = Batch { track: TrackIndex(0), layer: LayerIndex(0), packets };
    publication.push(testing::epoch(), vec![batch]).unwrap();
    let track = &house.get("/api/v1/streams").await.json()["streams"][0]["tracks"][0];
    assert_eq!((&track["width"], &track["height"]), (&640.into(), &360.into()));
}

#[tokio::test]
async fn everybody_may_know_where_rtmp_is() {
    let house = house(Authenticator::hs256(SECRET).unwrap(), Fake::default());
    assert_eq!(house.get("/api/v1/doors").await.json(), serde_json::json!({ "rtmp_port": 1936 }));
}

#[tokio::test]
async fn a_trusted_proxys_client_is_whom_tokens_see() {
    let house = house(Authenticator::hs256(SECRET).unwrap(), Fake::default());
    let ip = Some(OneOrMany(vec!["203.0.113.0/24".into()]));
    let bearer = signed(Right::Admin, "*", Claims { ip, ..Claims::default() });
    let ask = async |client: &str| {
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", client)];
        house.send("GET", "/api/v1/streams", &headers, Body::empty()).await.status.as_u16()
    };
    assert_eq!(ask("203.0.113.7").await, 200);
    assert_eq!(ask("192.0.2.7").await, 403);
    assert_eq!(ask("203.0.113.7, 192.0.2.7").await, 403, "what a client says of itself counts for nothing");
}

#[tokio::test]
async fn a_publisher_is_kicked() {
    let house = open_house();
    let publisher = Arc::new(Publisher::default());
    let publication = house.publish("cam1", publisher.clone());
    let path = "/api/v1/streams/cam1/publisher";
    assert_eq!(house.send("DELETE", path, &[], Body::empty()).await.status, 204);
    assert_eq!(*publisher.0.lock(), [EndReason::Kicked]);
    drop(publication);
    house.send("DELETE", path, &[], Body::empty()).await.is_problem(404);
}

#[tokio::test]
async fn a_viewer_is_kicked_under_its_own_stream_only() {
    let (name, state) = viewer("cam1");
    let session = state.session;
    let house = house(Authenticator::open(), Fake { viewer: Some((name, state)), ..Fake::default() });
    for path in [format!("/api/v1/streams/cam2/viewers/{session}"), "/api/v1/streams/cam1/viewers/x".into()] {
        house.send("DELETE", &path, &[], Body::empty()).await.is_problem(404);
    }
    assert!(house.fake.ended.lock().is_empty());
    let path = format!("/api/v1/streams/cam1/viewers/{session}");
    assert_eq!(house.send("DELETE", &path, &[], Body::empty()).await.status, 204);
    assert_eq!(*house.fake.ended.lock(), [(session, EndReason::Kicked)]);
}

#[tokio::test]
async fn without_tokens_pages_of_other_origins_cannot_kick() {
    let house = open_house();
    let publisher = Arc::new(Publisher::default());
    let _publication = house.publish("cam1", publisher.clone());
    let headers = [("origin", "https://evil.example")];
    house.send("DELETE", "/api/v1/streams/cam1/publisher", &headers, Body::empty()).await.is_problem(403);
    assert!(publisher.0.lock().is_empty());
    let headers = [("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")];
    let answer = house.send("DELETE", "/api/v1/streams/cam1/publisher", &headers, Body::empty()).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn with_tokens_the_api_is_for_admins() {
    let house = house(Authenticator::hs256(SECRET).unwrap(), Fake::default());
    let _publication = house.publish("cam1", Arc::default());
    let answer = house.get("/api/v1/streams").await;
    answer.is_problem(401);
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    let ask = async |path: &str, token: &str| house.send("GET", path, &[("authorization", token)], Body::empty()).await;
    ask("/api/v1/streams", &token(Right::Publish, "*")).await.is_problem(403);
    ask("/api/v1/streams", &token(Right::Admin, "cam1")).await.is_problem(403);
    assert_eq!(ask("/api/v1/streams", &token(Right::Admin, "*")).await.status, 200);
    assert_eq!(ask("/api/v1/streams/cam1", &token(Right::Admin, "cam*")).await.status, 200);
    ask("/api/v1/streams/cam1", &token(Right::Admin, "room-*")).await.is_problem(403);
    let in_query = token(Right::Admin, "*").replace("Bearer ", "/api/v1/streams?token=");
    assert_eq!(house.get(&in_query).await.status, 200);
    let text = house.metrics.render();
    assert!(text.contains("sluice_auth_failures_total{reason=\"missing\"} 1"), "{text}");
    assert!(text.contains("sluice_auth_failures_total{reason=\"wrong_right\"} 1"), "{text}");
    assert_eq!(house.get("/api/v1/openapi.json").await.status, 200);
}

#[tokio::test]
async fn signalling_counts_who_was_refused() {
    let house = house(Authenticator::hs256(SECRET).unwrap(), Fake::default());
    let answer = house.send("POST", "/whip/cam1", &[("content-type", "application/sdp")], "v=0\r\n").await;
    answer.is_problem(401);
    assert!(house.metrics.render().contains("sluice_sessions_total{protocol=\"whip\",outcome=\"refused\"} 1"));
    assert!(house.metrics.render().contains("sluice_auth_failures_total{reason=\"missing\"} 1"));
}

#[tokio::test]
async fn the_api_describes_every_path_it_has() {
    let house = open_house();
    let description = house.get("/api/v1/openapi.json").await.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().cloned().collect();
    let expected = [
        "/api/v1/doors",
        "/api/v1/streams",
        "/api/v1/streams/{stream}",
        "/api/v1/streams/{stream}/publisher",
        "/api/v1/streams/{stream}/standby",
        "/api/v1/streams/{stream}/viewers/{session}",
    ];
    assert_eq!(paths, expected);
    assert!(description["components"]["schemas"]["StreamDetail"].is_object());
    assert_eq!(description["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

#[tokio::test]
async fn metrics_say_what_is_on_now() {
    let house = open_house();
    let publication = house.publish("cam1", Arc::default());
    let answer = house.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    assert!(answer.body.lines().any(|line| line == "sluice_streams 1"), "{}", answer.body);
    drop(publication);
    assert!(house.get("/metrics").await.body.contains("sluice_streams 0"));
}
