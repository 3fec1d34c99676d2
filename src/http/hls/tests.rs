mod publishers;

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{HeaderMap, Request},
};
use flate2::read::GzDecoder;
use sluice_signaling::token::{Authenticator, Claims, Right};
use tower::ServiceExt;

use crate::{
    http::tests::{Fake, House, Publisher, SECRET, house, open_house, signed},
    packaging::{
        PackagedStream,
        testing::{AUDIO, VIDEO, begin, part, segments, stop},
    },
    track::Publication,
};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    fn is_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{:?}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
    }
}

async fn send(house: &House, method: &str, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(uri).header("host", "localhost:8080");
    if !headers.iter().any(|(name, _)| *name == "user-agent") {
        request = request.header("user-agent", "AppleCoreMedia/1.0.0.21A329");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = house.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

async fn get(house: &House, uri: &str) -> Answer {
    send(house, "GET", uri, &[]).await
}

/// A stream that is published and packaged, with a part of each rendition.
fn packaged(house: &House) -> (Publication, Arc<PackagedStream>) {
    let publication = house.publish("cam1", Arc::<Publisher>::default());
    let packaged = house.packaging.open(&"cam1".parse().unwrap()).unwrap();
    begin(&packaged);
    (publication, packaged)
}

fn jwt_house() -> House {
    house(Authenticator::hs256(SECRET).unwrap(), Fake::default())
}

/// The URI that follows `start` in a playlist.
fn uri(playlist: &str, start: &str) -> String {
    let line =
        playlist.lines().rfind(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} in {playlist}"));
    match line.split_once("URI=\"") {
        Some((_, rest)) => rest.split('"').next().unwrap().to_owned(),
        None => line.to_owned(),
    }
}

/// The last part's segment and index, from the other rendition's report.
fn msn(playlist: &str) -> u64 {
    let line = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).unwrap();
    line.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_live_is_not_found_and_one_without_a_keyframe_is_late() {
    let house = open_house();
    let answer = get(&house, "/hls/cam1/index.m3u8").await;
    answer.is_problem(404);
    assert_eq!(answer.header("retry-after"), "2");
    get(&house, "/hls/-/index.m3u8").await.is_problem(400);
    get(&house, "/hls/cam1/other.txt").await.is_problem(404);
    get(&house, "/hls/cam1/media/0-p0-00.m4s").await.is_problem(404);
    let publication = house.publish("cam1", Arc::<Publisher>::default());
    let answer = get(&house, "/hls/cam1/index.m3u8").await;
    answer.is_problem(503);
    assert_eq!(answer.header("retry-after"), "2");
    drop(publication);
}

#[tokio::test(start_paused = true)]
async fn a_player_finds_its_way_from_the_index_to_media() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 2);
    let index = get(&house, "/hls/cam1/index.m3u8").await;
    assert_eq!((index.status, index.header("content-type")), (200, "application/vnd.apple.mpegurl"));
    assert_eq!(index.header("access-control-allow-origin"), "*");
    let playlist = get(&house, &format!("/hls/cam1/{}", uri(&index.text(), "r0"))).await;
    assert_eq!(playlist.status, 200);
    assert_eq!(playlist.header("cache-control"), "public, max-age=1");
    assert_eq!(playlist.header("vary"), "Accept-Encoding");
    let text = playlist.text();
    let mut whole = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("#EXT-X-PART:")).take(10) {
        let part = get(&house, &format!("/hls/cam1/{}", uri(line, "#EXT-X-PART:"))).await;
        assert_eq!((part.status, part.header("content-type")), (200, "video/mp4"));
        assert_eq!(part.header("cache-control"), "public, max-age=31536000, immutable");
        whole.extend(part.body);
    }
    let first = text.lines().find(|line| line.starts_with("media/")).unwrap();
    let segment = get(&house, &format!("/hls/cam1/{first}")).await;
    assert_eq!(segment.header("content-length"), whole.len().to_string());
    assert_eq!(segment.body, whole);
    let map = get(&house, &format!("/hls/cam1/{}", uri(&text, "#EXT-X-MAP:"))).await;
    assert_eq!(map.text(), "initialization");
    let head = send(&house, "HEAD", &format!("/hls/cam1/{first}"), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.len().to_string());
}

#[tokio::test(start_paused = true)]
async fn ranges_and_conditions_of_media_and_playlists() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 2);
    let playlist = get(&house, "/hls/cam1/r0.m3u8").await;
    let segment = format!("/hls/cam1/{}", uri(&playlist.text(), "media/"));
    let whole = get(&house, &segment).await;
    let part = send(&house, "GET", &segment, &[("range", "bytes=10-39")]).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &whole.body[10..40]));
    assert_eq!(part.header("content-range"), format!("bytes 10-39/{}", whole.body.len()));
    let beyond = send(&house, "GET", &segment, &[("range", "bytes=100000-")]).await;
    beyond.is_problem(416);
    assert_eq!(beyond.header("content-range"), format!("bytes */{}", whole.body.len()));
    let stale = send(&house, "GET", &segment, &[("range", "bytes=10-39"), ("if-range", "\"x\"")]).await;
    assert_eq!((stale.status, &stale.body), (200, &whole.body));
    for uri in [segment.as_str(), "/hls/cam1/r0.m3u8", "/hls/cam1/index.m3u8"] {
        let etag = get(&house, uri).await.header("etag").to_owned();
        assert!(etag.starts_with('"'), "strong: {etag}");
        let known = send(&house, "GET", uri, &[("if-none-match", &etag)]).await;
        assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, etag.as_str()), "{uri}");
    }
    let before = playlist.header("etag");
    part_of(&packaged);
    let after = send(&house, "GET", "/hls/cam1/r0.m3u8", &[("if-none-match", before)]).await;
    assert_eq!(after.status, 200, "a part came");
}

fn part_of(packaged: &PackagedStream) {
    part(packaged, VIDEO, false);
}

#[tokio::test(start_paused = true)]
async fn playlists_are_packed_for_those_who_take_it() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 3);
    let plain = get(&house, "/hls/cam1/r0.m3u8").await;
    let packed = send(&house, "GET", "/hls/cam1/r0.m3u8", &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_ne!(packed.header("etag"), plain.header("etag"), "another representation");
    let mut text = String::new();
    GzDecoder::new(packed.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text());
    assert!(packed.body.len() < plain.body.len() / 2);
}

#[tokio::test(start_paused = true)]
async fn a_blocking_request_is_answered_when_its_part_is_there() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    let first = msn(&get(&house, "/hls/cam1/r0.m3u8").await.text());
    let begun = tokio::time::Instant::now();
    let next = format!("/hls/cam1/r0.m3u8?_HLS_msn={first}&_HLS_part=1");
    let hinted = format!("/hls/cam1/{}", uri(&get(&house, "/hls/cam1/r0.m3u8").await.text(), "#EXT-X-PRELOAD-HINT:"));
    let later = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        part(&packaged, AUDIO, false);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(house.packaging.waiting().count(), 2);
        part(&packaged, VIDEO, false);
    };
    let (answer, media, ()) = tokio::join!(get(&house, &next), get(&house, &hinted), later);
    assert_eq!(begun.elapsed(), Duration::from_millis(200));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "public, max-age=12");
    assert_eq!(answer.text().matches("#EXT-X-PART:").count(), 2);
    assert_eq!((media.status, media.body.as_slice()), (200, &b"moof and mdat"[..]));
    assert!(answer.text().contains(hinted.trim_start_matches("/hls/cam1/")), "it is listed under its hinted name");
    assert_eq!(house.packaging.waiting().count(), 0);
    let again = get(&house, &next).await;
    assert_eq!((again.body == answer.body, begun.elapsed()), (true, Duration::from_millis(200)), "at once");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_far_ahead_is_refused_and_what_is_late_is_given_up() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 2);
    let first = msn(&get(&house, "/hls/cam1/r0.m3u8").await.text());
    let begun = tokio::time::Instant::now();
    // Segment first + 2 grows.
    for ahead in [
        format!("_HLS_msn={}", first + 4),
        format!("_HLS_msn={}&_HLS_part=16", first + 2),
        format!("_HLS_msn={}&_HLS_part=16", first + 3),
        "_HLS_part=1".into(),
        "_HLS_msn=x".into(),
        "_HLS_skip=1".into(),
    ] {
        get(&house, &format!("/hls/cam1/r0.m3u8?{ahead}")).await.is_problem(400);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let late = get(&house, &format!("/hls/cam1/r0.m3u8?_HLS_msn={}&_HLS_part=15", first + 2)).await;
    late.is_problem(503);
    assert_eq!(begun.elapsed(), Duration::from_secs(6), "three target durations");
    let hinted = uri(&get(&house, "/hls/cam1/r0.m3u8").await.text(), "#EXT-X-PRELOAD-HINT:");
    get(&house, &format!("/hls/cam1/{hinted}")).await.is_problem(404);
    assert_eq!(begun.elapsed(), Duration::from_secs(12));
    let old = get(&house, "/hls/cam1/r0.m3u8?_HLS_msn=1&_HLS_part=3").await;
    assert_eq!(old.status, 200, "the whole playlist, for what has passed");
    get(&house, "/hls/cam1/r7.m3u8").await.is_problem(404);
}

#[tokio::test(start_paused = true)]
async fn players_that_cannot_begin_with_parts_wait_for_a_segment() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    let later = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        segments(&packaged, VIDEO, 1);
    };
    let begun = tokio::time::Instant::now();
    let agent = [("user-agent", "Lavf/61.7.100")];
    let (answer, ()) = tokio::join!(send(&house, "GET", "/hls/cam1/r0.m3u8", &agent), later);
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert!(answer.text().contains("#EXTINF:"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_on_a_server_that_stops_is_told_to_come_again_and_nothing_has_ended() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    let text = get(&house, "/hls/cam1/r0.m3u8").await.text();
    let next = format!("/hls/cam1/r0.m3u8?_HLS_msn={}&_HLS_part=1", msn(&text));
    let hinted = format!("/hls/cam1/{}", uri(&text, "#EXT-X-PRELOAD-HINT:"));
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop(&packaged);
    };
    let begun = tokio::time::Instant::now();
    let (answer, media, ()) = tokio::join!(get(&house, &next), get(&house, &hinted), later);
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    answer.is_problem(503);
    assert_eq!(answer.header("retry-after"), "2");
    media.is_problem(404);
    drop((house, packaged));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_packaged_says_why() {
    let house = open_house();
    let publication = house.publish("cam1", Arc::<Publisher>::default());
    let packaged = house.packaging.open(&"cam1".parse().unwrap()).unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        packaged.take(&mut Vec::new(), Some("players have no VP8 in HLS: publish H.264"));
    };
    let (answer, ()) = tokio::join!(get(&house, "/hls/cam1/index.m3u8"), later);
    answer.is_problem(422);
    assert!(answer.text().contains("publish H.264"), "{}", answer.text());
    drop(publication);
}

#[tokio::test(start_paused = true)]
async fn playlists_are_for_those_who_may_watch_and_media_for_who_knows_its_name() {
    let house = jwt_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 1);
    for uri in ["/hls/cam1/index.m3u8", "/hls/cam1/r0.m3u8?_HLS_msn=x", "/hls/other/index.m3u8"] {
        let refused = get(&house, uri).await;
        refused.is_problem(401);
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    for wrong in
        [signed(Right::Publish, "cam1", Claims::default()), signed(Right::Subscribe, "cam2", Claims::default())]
    {
        send(&house, "GET", "/hls/cam1/index.m3u8", &[("authorization", &wrong)]).await.is_problem(403);
    }
    let bearer = signed(Right::Subscribe, "cam1", Claims::default());
    let clean = send(&house, "GET", "/hls/cam1/r0.m3u8", &[("authorization", &bearer)]).await;
    assert_eq!(clean.status, 200);
    assert_eq!(clean.header("cache-control"), "private, max-age=1");
    assert_eq!(clean.header("vary"), "Accept-Encoding, Authorization, Cookie");
    assert!(!clean.text().contains("token="));
    let media = get(&house, &format!("/hls/cam1/{}", uri(&clean.text(), "media/"))).await;
    assert_eq!((media.status, media.header("cache-control")), (200, "public, max-age=31536000, immutable"));
}

#[tokio::test(start_paused = true)]
async fn a_token_in_the_query_is_carried_into_every_uri() {
    let house = jwt_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 3);
    let bearer = signed(Right::Subscribe, "cam1", Claims::default());
    let token = bearer.strip_prefix("Bearer ").unwrap();
    for name in ["index.m3u8", "r0.m3u8"] {
        let url = format!("/hls/cam1/{name}?token={token}");
        for encoding in ["identity", "gzip"] {
            let answer = send(&house, "GET", &url, &[("accept-encoding", encoding)]).await;
            let mut text = String::new();
            match encoding {
                "gzip" => drop(GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap()),
                _ => text = answer.text(),
            }
            let names = |line: &&str| !line.is_empty() && (!line.starts_with('#') || line.contains("URI="));
            let lines: Vec<_> = text.lines().filter(names).collect();
            assert!(lines.len() >= 2 && lines.iter().all(|line| line.contains(&format!("?token={token}"))), "{text}");
        }
    }
    let playlist = get(&house, &format!("/hls/cam1/r0.m3u8?token={token}")).await.text();
    for start in ["#EXT-X-MAP:", "#EXT-X-PART:", "media/"] {
        assert_eq!(get(&house, &format!("/hls/cam1/{}", uri(&playlist, start))).await.status, 200, "{start}");
    }
    let report = uri(&playlist, "#EXT-X-RENDITION-REPORT:");
    assert_eq!(get(&house, &format!("/hls/cam1/{report}")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_kept_as_a_cookie_where_that_is_wished() {
    let house = jwt_house();
    let (_publication, _packaged) = packaged(&house);
    let bearer = signed(Right::Subscribe, "cam1", Claims::default());
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let url = format!("/hls/cam1/index.m3u8?cookie=yes&token={token}");
    let by_http = get(&house, &url).await;
    let cookie = by_http.header("set-cookie");
    assert!(cookie.starts_with(&format!("sluice_hls={token}; Path=/hls/cam1/; Max-Age=")), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(by_http.header("cache-control"), "no-store");
    assert!(!by_http.text().contains("token="));
    let by_https = send(&house, "GET", &url, &[("x-forwarded-proto", "https")]).await;
    assert!(by_https.header("set-cookie").ends_with("; HttpOnly; SameSite=None; Secure"));
    let pair = cookie.split(';').next().unwrap();
    let answer = send(&house, "GET", "/hls/cam1/r0.m3u8", &[("cookie", &format!("a=b; {pair}"))]).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("token="));
    send(&house, "GET", "/hls/cam1/r0.m3u8", &[("cookie", "sluice_hls=x")]).await.is_problem(401);
}

#[tokio::test(start_paused = true)]
async fn a_tokens_end_ends_a_request_that_waits() {
    let house = jwt_house();
    let (_publication, _packaged) = packaged(&house);
    let bearer = signed(Right::Subscribe, "cam1", Claims::default());
    let text = send(&house, "GET", "/hls/cam1/r0.m3u8", &[("authorization", &bearer)]).await.text();
    let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 4;
    let claims = Claims { exp: soon, ..Claims::default() };
    let claims = Claims {
        stream: sluice_signaling::token::OneOrMany(vec!["cam1".into()]),
        can: sluice_signaling::token::Rights(vec![Right::Subscribe]),
        ..claims
    };
    let token = Authenticator::hs256(SECRET).unwrap().sign(&claims).unwrap();
    let next = format!("/hls/cam1/r0.m3u8?_HLS_msn={}&_HLS_part=1&token={token}", msn(&text));
    let begun = tokio::time::Instant::now();
    get(&house, &next).await.is_problem(401);
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}: before the request is given up", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_and_streams_are_bounded() {
    let house = open_house();
    let (_publication, _packaged) = packaged(&house);
    let first = msn(&get(&house, "/hls/cam1/r0.m3u8").await.text());
    let next = format!("/hls/cam1/r0.m3u8?_HLS_msn={first}&_HLS_part=1");
    let answers = futures_util::future::join_all((0..9).map(|_| get(&house, &next))).await;
    let full: Vec<_> = answers.iter().filter(|answer| answer.text().contains("hls.waiting_max")).collect();
    assert_eq!(full.len(), 1, "eight may wait");
    full[0].is_problem(503);
    let from_afar = [("x-forwarded-for", "203.0.113.7")];
    let answers = futures_util::future::join_all((0..5).map(|_| send(&house, "GET", &next, &from_afar))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 1, "four of one address");
    let _others = ["cam2", "cam3"].map(|name| house.publish(name, Arc::<Publisher>::default()));
    house.packaging.open(&"cam2".parse().unwrap()).unwrap();
    get(&house, "/hls/cam3/index.m3u8").await.is_problem(503);
}

#[tokio::test(start_paused = true)]
async fn viewers_are_counted_while_they_read_and_packaging_stops_when_nobody_does() {
    let house = open_house();
    let (_publication, _packaged) = packaged(&house);
    let sees = async |count: usize| {
        let text = house.metrics.render();
        assert!(text.contains(&format!("sluice_viewers{{protocol=\"hls\"}} {count}\n")), "{count} in {text}");
    };
    for from in ["203.0.113.7", "203.0.113.8", "203.0.113.7"] {
        send(&house, "GET", "/hls/cam1/r0.m3u8", &[("x-forwarded-for", from)]).await;
    }
    sees(2).await;
    assert_eq!(house.streams.get(&"cam1".parse().unwrap()).unwrap().viewer_count(), 2);
    tokio::time::sleep(Duration::from_secs(16)).await;
    house.packaging.sweep();
    sees(0).await;
    assert!(house.metrics.render().contains("sluice_sessions_total{protocol=\"hls\",outcome=\"ended\"} 2\n"));
    assert!(house.packaging.get(&"cam1".parse().unwrap()).is_some());
    tokio::time::sleep(Duration::from_secs(16)).await;
    house.packaging.sweep();
    assert!(house.packaging.get(&"cam1".parse().unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_api_shows_what_is_packaged() {
    let house = open_house();
    let (_publication, packaged) = packaged(&house);
    segments(&packaged, VIDEO, 2);
    send(&house, "GET", "/hls/cam1/r0.m3u8", &[]).await;
    let detail: serde_json::Value = serde_json::from_str(&get(&house, "/api/v1/streams/cam1").await.text()).unwrap();
    let hls = &detail["hls"];
    assert_eq!((&hls["viewer_count"], &detail["viewer_count"]), (&1.into(), &1.into()));
    assert_eq!((&hls["target_duration_s"], &hls["refusal"]), (&2.into(), &serde_json::Value::Null));
    assert!(hls["window_bytes"].as_u64().unwrap() > 21 * 13, "{hls}");
    let video = &hls["renditions"][0];
    assert_eq!((&video["kind"], &video["codecs"]), (&"video".into(), &"avc1.64001f".into()));
    assert_eq!((&video["segments"], &video["window_ms"]), (&3.into(), &4_200.into()));
    assert_eq!(hls["renditions"][1]["kind"], "audio");
    let _other = house.publish("cam2", Arc::<Publisher>::default());
    let detail: serde_json::Value = serde_json::from_str(&get(&house, "/api/v1/streams/cam2").await.text()).unwrap();
    assert_eq!(detail["hls"], serde_json::Value::Null, "nobody asked");
}

#[tokio::test(start_paused = true)]
async fn pages_of_all_origins_may_play() {
    let house = open_house();
    let headers = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    for uri in ["/hls/cam1/index.m3u8", "/hls/cam1/media/0-p0-00.m4s"] {
        let answer = send(&house, "OPTIONS", uri, &headers).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.header("access-control-allow-headers").contains("Authorization"));
        send(&house, "POST", uri, &[]).await.is_problem(405);
    }
}
