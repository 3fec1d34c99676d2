//! Which change of a stream makes a session that goes on without something one to be made anew.

use super::*;
use crate::{
    media::{Codec, testing::epoch},
    track::{Snapshot, TrackSnapshot},
};

fn format(codec: Codec) -> TrackFormat {
    let fmtp = if codec == Codec::H264 { "packetization-mode=1;profile-level-id=42e01f" } else { "" };
    TrackFormat { codec, fmtp: fmtp.into(), channels: if codec == Codec::Opus { 2 } else { 1 } }
}

fn publish(feed: &mut PacketFeed, publication: u64, formats: &[TrackFormat]) {
    let tracks = formats.iter().map(|format| TrackSnapshot::single(format.clone(), Vec::new())).collect();
    feed.take(epoch(), Delivery::Snapshot(Arc::new(Snapshot { publication, sound_lags: false, tracks })));
}

#[test]
fn pictures_that_were_refused_stay_out_until_they_come_in_another_format() {
    let (refused, taken) = (format(Codec::Vp9), format(Codec::Opus));
    let agreed = offered(std::slice::from_ref(&taken)).media;
    let mut feed = PacketFeed::new(epoch(), &agreed, || (1, 1));
    let nothing = Refused::default();
    let session = Refused(vec![refused.clone()]);
    assert_eq!(session.told().unwrap(), "the target does not take VP9: the rest is sent");
    assert_eq!(nothing.told(), None);

    publish(&mut feed, 1, &[refused.clone(), taken.clone()]);
    assert!(!session.leaves_more_to_offer(&feed), "it was asked already");
    assert!(nothing.leaves_more_to_offer(&feed), "pictures that come later are offered");
    publish(&mut feed, 2, std::slice::from_ref(&taken));
    assert!(!session.leaves_more_to_offer(&feed));
    for other in
        [format(Codec::H264), format(Codec::Vp8), TrackFormat { fmtp: "profile-id=2".into(), ..refused.clone() }]
    {
        publish(&mut feed, 3, &[other, taken.clone()]);
        assert!(session.leaves_more_to_offer(&feed), "the target may take it");
    }
    publish(&mut feed, 4, &[refused, taken]);
    assert!(!session.leaves_more_to_offer(&feed));
}
