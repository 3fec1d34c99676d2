//! Event streams of viewers' sessions, written as server-sent events (WHATWG HTML, "Server-sent events").
//!
//! In: an event stream that signalling has allowed to be read. Out: a body that lasts as long as the session, the stream and the
//! connection do. It looks when a publisher comes or goes anywhere, and once a second for what moves by itself (viewers, bitrates).
//! A client that takes no bytes is closed by the listener; nothing is kept for it meanwhile.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event as SseEvent, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use sluice_signaling::{
    error::Problem,
    events::{Event, EventStreamId, News, Reader, Telling},
    http as plain,
    media_plane::WatchedSession,
    name::{SessionId, StreamName},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Services, problem};

/// How often a session is looked at that nothing was heard of.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A comment this often keeps proxies from closing the connection, and finds peers that are gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// What a client is asked to wait when all places are taken, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// What all event streams share.
pub struct EventPlaces {
    /// Marked when a publisher came or went.
    changes: watch::Receiver<()>,
    places: Arc<Semaphore>,
    /// Cancelled when the server begins to stop.
    drain: CancellationToken,
}

impl EventPlaces {
    /// At most half of the listener's connections are lent to event streams, so that these never keep anyone from signalling.
    pub fn new(changes: watch::Receiver<()>, drain: CancellationToken, connections_max: u32) -> Self {
        let places = (connections_max / 2).max(1);
        Self { changes, places: Arc::new(Semaphore::new(places as usize)), drain }
    }
}

/// Writes an event stream into the response that signalling gave.
pub fn respond(
    services: &Services,
    stream: &str,
    session: SessionId,
    id: EventStreamId,
    head: plain::Response,
) -> Response {
    let Some(watched) = services.plane.watched(session) else {
        return problem::respond(&problem::not_found("the session has just ended"));
    };
    let Some(reader) = watched.event_streams().read(id) else {
        return problem::respond(&problem::not_found("the event stream has just ended"));
    };
    let Ok(place) = services.events.places.clone().try_acquire_owned() else {
        let detail = "as many event streams are read as this server serves at one time";
        return problem::respond(
            &Problem::new(503, "unavailable", "No more event streams now", detail).retry_after(RETRY_AFTER_S),
        );
    };
    let telling = Teller {
        watched,
        id,
        reader,
        changes: services.events.changes.clone(),
        drain: services.events.drain.clone(),
        elsewhere: elsewhere(services, stream),
        waiting: VecDeque::new(),
        is_over: false,
        _place: place,
    };
    let body = Sse::new(telling.into_stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL));
    let (head, _) = problem::written(head).into_parts();
    Response::from_parts(head, body.into_response().into_body())
}

/// Where viewers of the stream go when this server stops: this one may be gone before they have asked it.
fn elsewhere(services: &Services, stream: &str) -> Option<String> {
    let stream: StreamName = stream.parse().ok()?;
    services.signalling.overflow_to.as_ref().map(|node| node.endpoint("/whep", &stream))
}

/// One GET on an event stream.
struct Teller {
    watched: Arc<dyn WatchedSession>,
    id: EventStreamId,
    reader: Reader,
    changes: watch::Receiver<()>,
    drain: CancellationToken,
    /// Where its client is to go then.
    elsewhere: Option<String>,
    /// Found at one look, and not written yet: one of each kind at the most.
    waiting: VecDeque<Event>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Teller {
    fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        stream::unfold(self, async |mut teller| {
            let event = teller.next().await?;
            Some((Ok(SseEvent::default().event(event.event_type.as_str()).data(event.data)), teller))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            self.changes.mark_unchanged();
            let draining = self.drain.is_cancelled();
            let news = if draining { News::ComeAgain(self.elsewhere.clone()) } else { self.watched.news() };
            match self.watched.event_streams().tell(self.id, self.reader, &news) {
                Telling::Events(events) => self.waiting.extend(events),
                Telling::Last(events) => {
                    self.waiting.extend(events);
                    self.is_over = true;
                }
            }
            if self.waiting.is_empty() && !self.is_over {
                tokio::select! {
                    Ok(()) = self.changes.changed() => {}
                    () = self.drain.cancelled() => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use sluice_signaling::events::{EventStreams, EventType};

    use super::*;

    struct Watched {
        news: Mutex<News>,
        streams: EventStreams,
    }

    impl WatchedSession for Watched {
        fn news(&self) -> News {
            self.news.lock().clone()
        }
        fn event_streams(&self) -> &EventStreams {
            &self.streams
        }
    }

    fn present(live: bool, viewers: usize) -> News {
        News::Present { live, viewers, layers: Vec::new() }
    }

    fn open(news: News) -> (Arc<Watched>, Teller, watch::Sender<()>) {
        let (changed, changes) = watch::channel(());
        let watched = Arc::new(Watched { news: Mutex::new(news), streams: EventStreams::default() });
        let id = watched.streams.create(EventType::ALL.to_vec()).unwrap();
        let teller = Teller {
            reader: watched.streams.read(id).unwrap(),
            watched: watched.clone(),
            id,
            changes,
            drain: CancellationToken::new(),
            elsewhere: Some("https://b.example.net/whep/cam1".into()),
            waiting: VecDeque::new(),
            is_over: false,
            _place: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        };
        (watched, teller, changed)
    }

    async fn names(teller: &mut Teller, count: usize) -> Vec<&'static str> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(teller.next().await.unwrap().event_type.as_str());
        }
        names
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_when_they_happen_and_counts_within_a_second() {
        let (watched, mut teller, changed) = open(present(true, 1));
        assert_eq!(names(&mut teller, 2).await, ["active", "viewercount"]);
        let began = tokio::time::Instant::now();
        *watched.news.lock() = present(false, 1);
        changed.send_replace(());
        assert_eq!(names(&mut teller, 1).await, ["inactive"]);
        assert_eq!(began.elapsed(), Duration::ZERO, "at once");
        *watched.news.lock() = present(false, 2);
        assert_eq!(names(&mut teller, 1).await, ["viewercount"]);
        assert!(began.elapsed() <= LOOK_INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_sends_its_viewers_elsewhere_and_ends_the_stream() {
        let (_watched, mut teller, _changed) = open(present(false, 1));
        assert_eq!(names(&mut teller, 1).await, ["viewercount"]);
        teller.drain.cancel();
        let reconnect = teller.next().await.unwrap();
        assert_eq!(reconnect.event_type.as_str(), "reconnect");
        assert_eq!(reconnect.data, r#"{"url":"https://b.example.net/whep/cam1"}"#);
        assert_eq!(teller.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sessions_end_and_a_later_reader_end_the_stream() {
        let (watched, mut teller, _changed) = open(News::Over);
        assert_eq!(teller.next().await, None);
        let (other, mut teller, _changed) = open(present(true, 1));
        other.streams.read(teller.id).unwrap();
        assert_eq!(teller.next().await, None);
        drop(watched);
    }
}
