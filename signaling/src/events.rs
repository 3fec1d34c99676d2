//! Event streams of a viewer's session (WHEP extensions draft, "Server Sent Events extension"): which events a client wants, what it
//! was told, and what there is to tell now.
//!
//! No queue: an event stream knows what its client was told last, and tells the difference to what is so now. A client that reads
//! slowly, or not for a while, gets the present state rather than a history, and costs nothing meanwhile.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{error::Problem, layers::layers_json, media_plane::LayerInfo};

/// Event streams that one session may have. A player needs one; a page with several parts may open a few.
pub const EVENT_STREAMS_PER_SESSION_MAX: usize = 4;

/// The events of the draft that this server has; `scte35` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Active,
    Inactive,
    Layers,
    Reconnect,
    ViewerCount,
}

impl EventType {
    pub const ALL: [Self; 5] = [Self::Active, Self::Inactive, Self::Layers, Self::Reconnect, Self::ViewerCount];

    /// The name of the `event` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Layers => "layers",
            Self::Reconnect => "reconnect",
            Self::ViewerCount => "viewercount",
        }
    }

    /// All names, as the `events` attribute of `Link` lists them.
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(",")
    }
}

/// What goes to a client as one server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub event_type: EventType,
    /// JSON on one line.
    pub data: String,
}

/// How a session stands, as far as events tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It goes on.
    Present {
        /// Somebody publishes the stream.
        live: bool,
        /// Viewers of the stream, this one among them.
        viewers: usize,
        layers: Vec<LayerInfo>,
    },
    /// It has ended, and its client should come back with a new offer: to this URL, or to where it came from.
    ComeAgain(Option<String>),
    /// It has ended for good.
    Over,
}

/// Names an event stream within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventStreamId(u32);

impl EventStreamId {
    /// From the last segment of its URL.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for EventStreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One GET on an event stream; a later one takes its place, as when a browser's `EventSource` comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader(u32);

/// What a reader is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Telling {
    /// Send these (maybe none), and look again when something has changed.
    Events(Vec<Event>),
    /// Send these and stop: nothing follows.
    Last(Vec<Event>),
}

struct EventStream {
    id: EventStreamId,
    wanted: Vec<EventType>,
    reader: Reader,
    told: Told,
}

/// What the client knows.
#[derive(Default)]
struct Told {
    live: bool,
    viewers: Option<usize>,
    layers: Vec<LayerInfo>,
}

#[derive(Default)]
struct Inner {
    streams: Vec<EventStream>,
    /// Ids given so far; a URL never means another stream later.
    created: u32,
}

/// A session's event streams. They end with the session.
#[derive(Default)]
pub struct EventStreams(Mutex<Inner>);

impl fmt::Debug for EventStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStreams").field("open", &self.lock().streams.len()).finish()
    }
}

impl EventStreams {
    /// Makes an event stream.
    ///
    /// # Errors
    /// 429 at [`EVENT_STREAMS_PER_SESSION_MAX`].
    pub fn create(&self, wanted: Vec<EventType>) -> Result<EventStreamId, Problem> {
        let mut inner = self.lock();
        if inner.streams.len() >= EVENT_STREAMS_PER_SESSION_MAX {
            let detail =
                format!("a session has {EVENT_STREAMS_PER_SESSION_MAX} event streams at most: DELETE one first");
            return Err(Problem::new(429, "too-many-event-streams", "The session has too many event streams", detail));
        }
        inner.created += 1;
        let id = EventStreamId(inner.created);
        inner.streams.push(EventStream { id, wanted, reader: Reader(0), told: Told::default() });
        Ok(id)
    }

    /// Takes an event stream away; whoever reads it is stopped. False when there is none.
    pub fn remove(&self, id: EventStreamId) -> bool {
        let mut inner = self.lock();
        let before = inner.streams.len();
        inner.streams.retain(|stream| stream.id != id);
        inner.streams.len() < before
    }

    /// Whether there is this stream.
    pub fn has(&self, id: EventStreamId) -> bool {
        self.lock().streams.iter().any(|stream| stream.id == id)
    }

    /// Begins to read; `None` when there is no such stream.
    pub fn read(&self, id: EventStreamId) -> Option<Reader> {
        let mut inner = self.lock();
        let stream = inner.streams.iter_mut().find(|stream| stream.id == id)?;
        stream.reader = Reader(stream.reader.0 + 1);
        Some(stream.reader)
    }

    /// What the stream's client does not know yet. It counts as told.
    pub fn tell(&self, id: EventStreamId, reader: Reader, news: &News) -> Telling {
        let mut inner = self.lock();
        let stream = inner.streams.iter_mut().find(|stream| stream.id == id && stream.reader == reader);
        let Some(stream) = stream else { return Telling::Last(Vec::new()) };
        match news {
            News::Present { live, viewers, layers } => {
                let mut events = stream.told.differences(*live, *viewers, layers);
                events.retain(|event| stream.wanted.contains(&event.event_type));
                Telling::Events(events)
            }
            News::ComeAgain(url) => {
                let data = url
                    .as_ref()
                    .map_or_else(|| serde_json::json!({}), |url| serde_json::json!({ "url": url }))
                    .to_string();
                let reconnect = Event { event_type: EventType::Reconnect, data };
                let wanted = stream.wanted.contains(&EventType::Reconnect);
                Telling::Last(wanted.then_some(reconnect).into_iter().collect())
            }
            News::Over => Telling::Last(Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held, and a list is sound at any moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// What has changed. A stream that is not live when its client comes is not called inactive ("inactive event").
    fn differences(&mut self, live: bool, viewers: usize, layers: &[LayerInfo]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut tell = |event_type, data: String| events.push(Event { event_type, data });
        if self.live != live {
            self.live = live;
            tell(if live { EventType::Active } else { EventType::Inactive }, "{}".into());
        }
        if differ(&self.layers, layers) {
            tell(EventType::Layers, layers_json(layers));
            self.layers = layers.to_vec();
        }
        if self.viewers.replace(viewers) != Some(viewers) {
            tell(EventType::ViewerCount, format!("{{\"viewercount\":{viewers}}}"));
        }
        events
    }
}

/// Whether two lists of layers are worth another event: bitrates move all the time, so a quarter up or down counts, and no less.
fn differ(told: &[LayerInfo], now: &[LayerInfo]) -> bool {
    let steady = |told: u64, now: u64| told.abs_diff(now) * 4 <= told;
    told.len() != now.len()
        || told.iter().zip(now).any(|(told, now)| {
            let same = LayerInfo { bitrate_bps: told.bitrate_bps, ..now.clone() };
            *told != same || !steady(told.bitrate_bps, now.bitrate_bps)
        })
}

/// The body of the POST that makes an event stream: a JSON array of names, or nothing, which means all.
///
/// # Errors
/// 400, naming what is unknown.
pub fn wanted(body: &[u8]) -> Result<Vec<EventType>, Problem> {
    let bad = |detail: String| Problem::new(400, "bad-events", "These events cannot be sent", detail);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(EventType::ALL.to_vec());
    }
    let names: Vec<String> = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is no JSON array of names such as [\"active\"]: {error}")))?;
    let known = |name: &String| EventType::ALL.into_iter().find(|event_type| event_type.as_str() == name);
    let unknown: Vec<_> = names.iter().filter(|name| known(name).is_none()).take(8).collect();
    if !unknown.is_empty() {
        return Err(bad(format!("{unknown:?} is not among {}", EventType::names())));
    }
    let mut wanted: Vec<EventType> = Vec::new();
    for event_type in names.iter().filter_map(known) {
        if !wanted.contains(&event_type) {
            wanted.push(event_type);
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(live: bool, viewers: usize) -> News {
        News::Present { live, viewers, layers: Vec::new() }
    }

    /// `event data`, each.
    fn told(streams: &EventStreams, id: EventStreamId, reader: Reader, news: &News) -> Vec<String> {
        let (Telling::Events(events) | Telling::Last(events)) = streams.tell(id, reader, news);
        events.iter().map(|event| format!("{} {}", event.event_type.as_str(), event.data)).collect()
    }

    fn opened(wanted: &[EventType]) -> (EventStreams, EventStreamId, Reader) {
        let streams = EventStreams::default();
        let id = streams.create(wanted.to_vec()).unwrap();
        let reader = streams.read(id).unwrap();
        (streams, id, reader)
    }

    fn layer(rid: &str, bitrate_bps: u64) -> LayerInfo {
        let encoding_id = Some(rid.to_owned());
        LayerInfo { media_id: 0, encoding_id, width: Some(640), height: Some(360), bitrate_bps, active: true }
    }

    #[test]
    fn a_client_is_told_what_is_so_and_then_what_changes() {
        let (streams, id, reader) = opened(&EventType::ALL);
        let all =
            [(present(true, 1), vec!["active {}", "viewercount {\"viewercount\":1}"]), (present(true, 1), vec![])];
        for (news, expected) in all {
            assert_eq!(told(&streams, id, reader, &news), expected);
        }
        assert_eq!(told(&streams, id, reader, &present(false, 1)), ["inactive {}"]);
        assert_eq!(told(&streams, id, reader, &present(true, 2)), ["active {}", "viewercount {\"viewercount\":2}"]);
    }

    #[test]
    fn a_stream_that_is_not_live_at_first_is_not_called_inactive() {
        let (streams, id, reader) = opened(&[EventType::Active, EventType::Inactive]);
        assert!(told(&streams, id, reader, &present(false, 1)).is_empty());
        assert_eq!(told(&streams, id, reader, &present(true, 1)), ["active {}"]);
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        let (streams, id, reader) = opened(&[EventType::ViewerCount]);
        assert_eq!(told(&streams, id, reader, &present(true, 7)), ["viewercount {\"viewercount\":7}"]);
        assert!(told(&streams, id, reader, &present(false, 7)).is_empty());
        assert_eq!(streams.tell(id, reader, &News::ComeAgain(None)), Telling::Last(Vec::new()));
    }

    #[test]
    fn a_client_that_was_away_gets_the_present_state_once() {
        let (streams, id, first) = opened(&EventType::ALL);
        told(&streams, id, first, &present(true, 1));
        let second = streams.read(id).unwrap();
        assert_eq!(
            streams.tell(id, first, &present(false, 9)),
            Telling::Last(Vec::new()),
            "the earlier reader is over"
        );
        assert_eq!(told(&streams, id, second, &present(true, 3)), ["viewercount {\"viewercount\":3}"]);
    }

    #[test]
    fn layers_are_told_when_they_change_and_not_with_every_bit() {
        let (streams, id, reader) = opened(&[EventType::Layers]);
        let count = |layers: &[LayerInfo]| {
            told(&streams, id, reader, &News::Present { live: true, viewers: 1, layers: layers.to_vec() }).len()
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[layer("h", 1_000_000)]), 1);
        assert_eq!(count(&[layer("h", 1_200_000)]), 0, "less than a quarter");
        assert_eq!(count(&[layer("h", 1_300_000)]), 1);
        assert_eq!(count(&[layer("h", 1_300_000), layer("q", 0)]), 1);
        assert_eq!(count(&[layer("h", 1_300_000), LayerInfo { active: false, ..layer("q", 0) }]), 1);
        assert_eq!(count(&[]), 1);
    }

    #[test]
    fn the_end_says_whether_to_come_again() {
        let (streams, id, reader) = opened(&EventType::ALL);
        assert_eq!(told(&streams, id, reader, &News::ComeAgain(None)), ["reconnect {}"]);
        let elsewhere = News::ComeAgain(Some("https://b.example.net/whep/cam1".into()));
        let event = r#"reconnect {"url":"https://b.example.net/whep/cam1"}"#;
        assert_eq!(told(&streams, id, reader, &elsewhere), [event]);
        assert_eq!(streams.tell(id, reader, &News::Over), Telling::Last(Vec::new()));
    }

    #[test]
    fn streams_are_bounded_and_a_removed_one_is_gone_for_its_reader_too() {
        let (streams, id, reader) = opened(&EventType::ALL);
        for _ in 1..EVENT_STREAMS_PER_SESSION_MAX {
            streams.create(Vec::new()).unwrap();
        }
        assert_eq!(streams.create(Vec::new()).unwrap_err().status, 429);
        assert!(streams.remove(id) && !streams.remove(id) && !streams.has(id));
        assert_eq!(streams.tell(id, reader, &present(true, 1)), Telling::Last(Vec::new()));
        assert!(streams.read(id).is_none());
        assert_ne!(streams.create(Vec::new()).unwrap(), id, "its URL means no other");
    }

    #[test]
    fn wishes_are_names_of_events_or_nothing_for_all() {
        assert_eq!(wanted(b" \r\n").unwrap(), EventType::ALL);
        let some = wanted(br#"["viewercount","active","active"]"#).unwrap();
        assert_eq!(some, [EventType::ViewerCount, EventType::Active]);
        assert_eq!(wanted(b"[]").unwrap(), []);
        for (body, named) in
            [(&b"[\"scte35\",\"active\"]"[..], "scte35"), (b"{}", "array"), (b"active", "array"), (b"[1]", "array")]
        {
            let problem = wanted(body).unwrap_err();
            assert_eq!((problem.status, problem.detail.contains(named)), (400, true), "{problem}");
        }
    }
}
