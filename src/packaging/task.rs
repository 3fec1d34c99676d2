//! The task of one packaged stream: the driver that [`crate::egress::hls::Packager`] describes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::stream::PackagedStream;
use crate::{
    egress::hls::{Packager, PackagerSettings},
    track::{FRAME_QUEUE_MAX_DELIVERIES, FrameInterest},
};

/// Packages until the stream is stopped, or its publisher was away for too long.
pub(super) async fn run(packaged: Arc<PackagedStream>, settings: PackagerSettings, away_max: Duration) {
    let (sender, mut deliveries) = mpsc::channel(FRAME_QUEUE_MAX_DELIVERIES);
    let stream = packaged.stream().clone();
    // Dropped at the end, which ends the deliveries.
    let _subscription =
        stream.subscribe_frames(FrameInterest::AllLayers, Arc::new(move |delivery| sender.try_send(delivery).is_ok()));
    let mut packager = Packager::new(settings);
    let mut outputs = Vec::new();
    let mut away_since: Option<Instant> = None;
    let cause = loop {
        let poll_due = packager.poll_due().map(Instant::from_std);
        let away_until = away_since.map(|since| since + away_max);
        tokio::select! {
            biased;
            () = packaged.stopped() => return packaged.release(),
            () = at(away_until) => break "its publisher stays away",
            Some(delivery) = deliveries.recv() => {
                packager.handle(Instant::now().into_std(), SystemTime::now(), delivery, &mut outputs);
            }
            () = at(poll_due) => packager.poll(Instant::now().into_std(), SystemTime::now(), &mut outputs),
        }
        packaged.take(&mut outputs, packager.refusal());
        let now = Instant::now();
        while let Some((track, layer)) = packager.poll_keyframe() {
            stream.request_keyframe(now.into_std(), track, layer);
        }
        away_since = if stream.is_live() { None } else { away_since.or(Some(now)) };
    };
    packaged.end(cause);
}

/// At that time, or never.
pub(super) async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
