//! Publishers that leave, come again, and take over, as HLS players see it.

use std::{sync::Arc, time::Duration};

use super::{get, msn, packaged, uri};
use crate::{
    egress::hls::Output,
    http::tests::{Publisher, open_house},
    media::{Codec, TrackFormat},
    packaging::testing::{AUDIO, VIDEO, begin, begin_alone, leave},
};

#[tokio::test(start_paused = true)]
async fn a_layer_that_stopped_is_gone_and_a_publisher_that_left_is_waited_for() {
    let house = open_house();
    let (publication, packaged) = packaged(&house);
    let first = msn(&get(&house, "/hls/cam1/r0.m3u8").await.text());
    drop(publication);
    leave(&packaged);
    let open = get(&house, "/hls/cam1/r0.m3u8").await;
    assert!(open.status == 200 && !open.text().contains("ENDLIST"));
    let back = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        begin(&packaged);
    };
    let next = format!("/hls/cam1/r0.m3u8?_HLS_msn={}&_HLS_part=0", first + 1);
    let (answer, ()) = tokio::join!(get(&house, &next), back);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("#EXT-X-DISCONTINUITY\n"), "{}", answer.text());
    packaged.take(&mut vec![Output::Ended { rendition: VIDEO }], None);
    get(&house, "/hls/cam1/r0.m3u8").await.is_problem(404);
    assert_eq!(get(&house, "/hls/cam1/r1.m3u8").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_publisher_stays_away_ends_and_begins_anew_with_the_next() {
    let house = open_house();
    let (publication, packaged) = packaged(&house);
    let first = msn(&get(&house, "/hls/cam1/r0.m3u8").await.text());
    drop(publication);
    leave(&packaged);
    let blocked = format!("/hls/cam1/r0.m3u8?_HLS_msn={}", first + 1);
    get(&house, &blocked).await.is_problem(503);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ended = get(&house, &blocked).await;
    assert!(ended.text().ends_with("#EXT-X-ENDLIST\n"), "{}", ended.text());
    let _publication = house.publish("cam1", Arc::<Publisher>::default());
    let again = house.packaging.open(&"cam1".parse().unwrap()).unwrap();
    assert!(!Arc::ptr_eq(&packaged, &again));
}

#[tokio::test(start_paused = true)]
async fn sound_that_comes_a_little_after_the_pictures_of_a_new_publisher_is_waited_for() {
    let house = open_house();
    let (first, packaged) = packaged(&house);
    let sound = get(&house, "/hls/cam1/r1.m3u8").await.text();
    drop(first);
    leave(&packaged);
    let mut second = house.publish("cam1", Arc::<Publisher>::default());
    second.add_track(TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 }).unwrap();
    begin_alone(&packaged, VIDEO);
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        begin_alone(&packaged, AUDIO);
    };
    let begun = tokio::time::Instant::now();
    let hinted = format!("/hls/cam1/{}", uri(&sound, "#EXT-X-PRELOAD-HINT:"));
    let next = format!("/hls/cam1/r1.m3u8?_HLS_msn={}&_HLS_part=0", msn(&sound) + 1);
    let (index, media, playlist, ()) =
        tokio::join!(get(&house, "/hls/cam1/index.m3u8"), get(&house, &hinted), get(&house, &next), later);
    assert_eq!(begun.elapsed(), Duration::from_millis(300));
    assert!(index.text().contains("TYPE=AUDIO"), "a newcomer is told of the sound: {}", index.text());
    assert_eq!((media.status, playlist.status), (200, 200));
    // One that has no sound is not waited for any longer than that takes.
    leave(&packaged);
    drop(second);
    let mut third = house.publish("cam1", Arc::<Publisher>::default());
    third.add_track(TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 }).unwrap();
    begin_alone(&packaged, VIDEO);
    let begun = tokio::time::Instant::now();
    let index = get(&house, "/hls/cam1/index.m3u8").await;
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(index.status == 200 && !index.text().contains("TYPE=AUDIO"), "{}", index.text());
}
