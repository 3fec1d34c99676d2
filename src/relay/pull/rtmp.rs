//! The I/O shell of a source by RTMP.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{sleep_until, timeout},
};
use tracing::info;

use super::source::{Ended, LOOK_INTERVAL, Standing};
use crate::{
    config::RtmpUrl,
    ingest::{
        PullEnding,
        rtmp::{PullContext, PullSession},
    },
    media::SessionId,
    relay::dial::Connection,
    track::{EndReason, LayerIndex, Protocol, PublisherControl, TrackIndex},
    transcode::LazySoundThread,
};

/// Several of a 10 Mb/s stream's pictures, or a part of a large keyframe.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// What a source is told are some hundred bytes.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// To say goodbye in.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(500);

/// Posts the tree's word to the task; a source by RTMP cannot be asked for a keyframe.
struct Control(watch::Sender<Option<EndReason>>);

impl PublisherControl for Control {
    fn request_keyframe(&self, _track: TrackIndex, _layer: LayerIndex) {}

    fn end(&self, reason: EndReason) {
        self.0.send_replace(Some(reason));
    }
}

/// One connection, from its beginning to its end.
pub(super) async fn fetch(url: &RtmpUrl, standing: &mut Standing<'_>) -> Ended {
    let pulls = standing.pulls();
    let connected = tokio::select! {
        connected = pulls.connector.connect_to(url) => connected,
        () = pulls.stop.cancelled() => return Ended::Unwanted,
    };
    let (mut connection, peer) = match connected {
        Ok(connected) => connected,
        Err(reason) => return Ended::Lost(PullEnding::Failed(format!("it cannot be reached: {reason}"))),
    };
    let (end, ends) = watch::channel(None);
    let id = SessionId::random();
    let context = PullContext {
        streams: pulls.streams.clone(),
        metrics: pulls.metrics.clone(),
        stream: standing.source().settings.stream.clone(),
        reencodes: pulls.reencodes,
    };
    let session =
        PullSession::new(context, url.clone(), id, peer, Arc::new(Control(end)), Instant::now(), SystemTime::now());
    let mut fetching = Fetching { session, sound: LazySoundThread::default(), ends, id };
    let ended = fetching.drive(&mut *connection, standing).await;
    fetching.session.say_goodbye();
    let _ = timeout(GOODBYE_DEADLINE, async {
        connection.write_all(&fetching.session.take_output()).await?;
        connection.shutdown().await
    })
    .await;
    ended
}

struct Fetching {
    session: PullSession,
    sound: LazySoundThread,
    ends: watch::Receiver<Option<EndReason>>,
    id: SessionId,
}

impl Fetching {
    async fn drive(&mut self, connection: &mut dyn Connection, standing: &mut Standing<'_>) -> Ended {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut was_live = false;
        let ended = loop {
            let output = self.session.take_output();
            if !output.is_empty() && !matches!(timeout(WRITE_DEADLINE, connection.write_all(&output)).await, Ok(Ok(())))
            {
                self.session.handle_closed("the connection is lost");
            }
            if let Some(ending) = self.session.ending() {
                break Ended::Lost(ending.clone());
            }
            let due = standing.due().map_or(self.session.poll_timeout(), |due| due.min(self.session.poll_timeout()));
            tokio::select! {
                read = connection.read(&mut buffer) => match read {
                    Ok(0) => self.session.handle_closed("it closed the connection"),
                    Ok(count) => {
                        standing.received(count);
                        self.session.handle_bytes(Instant::now(), buffer.get(..count).unwrap_or_default());
                    }
                    Err(error) => self.session.handle_closed(&format!("the connection is lost: {error}")),
                },
                event = self.sound.next() => self.session.handle_sound(Instant::now(), event),
                Ok(()) = self.ends.changed() => {
                    if let Some(reason) = *self.ends.borrow_and_update() {
                        self.session.handle_end(reason);
                    }
                }
                () = sleep_until(due.into()) => self.session.handle_timeout(Instant::now()),
                _ = look.tick() => if !standing.is_wanted() { break Ended::Unwanted },
                () = standing.pulls().stop.cancelled() => {
                    self.session.handle_end(EndReason::Draining);
                    break Ended::Unwanted;
                }
            }
            self.forward_sound();
            if self.session.is_live() {
                was_live = true;
                standing.live();
            }
        };
        if was_live {
            self.count(&ended, standing);
        }
        ended
    }

    /// The session is over, as other publishers' are.
    fn count(&mut self, ended: &Ended, standing: &Standing<'_>) {
        if self.session.ending().is_none() {
            self.session.handle_end(EndReason::Deleted);
        }
        let outcome = self.session.ending().map_or("ended", PullEnding::outcome);
        standing.pulls().metrics.count_session(Protocol::RtmpPull.as_str(), outcome);
        match ended {
            Ended::Unwanted => info!(session = %self.id, outcome, "session over"),
            Ended::Lost(ending) => info!(session = %self.id, outcome, "session over: {ending}"),
        }
    }

    fn forward_sound(&mut self) {
        while let Some(input) = self.session.poll_sound() {
            self.sound.send(|| self.id.to_string().chars().take(8).collect(), input);
        }
        let dropped = self.sound.take_dropped();
        if dropped > 0 {
            self.session.handle_sound_dropped(dropped);
        }
    }
}
