//! Sources that cannot be reached, and who is told.

use sluice_signaling::priority::Priority;
use tokio::net::TcpListener;

use super::*;
use crate::{
    config::OnConflict,
    media::SessionId,
    track::{EndReason, LayerIndex, Publication, PublisherControl, PublisherInfo, TrackIndex},
};

struct Nobody;

impl PublisherControl for Nobody {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}
    fn end(&self, _: EndReason) {}
}

fn publish(pulls: &Pulls, stream: &str, protocol: Protocol, priority: Priority) -> Publication {
    let info = PublisherInfo {
        session: SessionId::random(),
        protocol,
        priority,
        remote: "192.0.2.7:4000".parse().unwrap(),
        user_agent: String::new(),
        subject: None,
    };
    let since = SystemTime::UNIX_EPOCH;
    pulls.streams.publish(&name(stream), info, Arc::new(Nobody), OnConflict::Takeover, since).unwrap()
}

fn pulls(sources: &[String]) -> (Arc<Pulls>, CancellationToken) {
    let stop = CancellationToken::new();
    let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
    let clients = (Connector::new(false).unwrap(), Endpoints::new(true).unwrap());
    (Pulls::new(sources, clients, Arc::default(), Metrics::new(), false, stop.clone()), stop)
}

fn name(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// A port that nobody listens at.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn whoever_wants_a_stream_is_told_at_once_that_its_source_has_failed() {
    let port = closed_port().await;
    for url in
        [format!("rtmp://127.0.0.1:{port}/live/secret"), format!("http://127.0.0.1:{port}/whep/secret-and-long-enough")]
    {
        let (pulls, stop) = pulls(&[format!("cam1 {url} on-demand")]);
        let (_changed, changes) = watch::channel(());
        let running = tokio::spawn(pulls.clone().run(changes));
        let cam1 = name("cam1");
        assert!(pulls.is_on_demand(&cam1) && !pulls.is_on_demand(&name("cam2")));
        let report = pulls.report(&cam1).unwrap();
        assert_eq!((report.state, report.attempts), (PullState::Idle, 0));
        let asked = Instant::now();
        pulls.want(&cam1).expect("its source is connected first").await;
        assert!(asked.elapsed() < HELD_MAX, "{:?}", asked.elapsed());
        let report = pulls.report(&cam1).unwrap();
        assert_eq!((report.state, report.attempts), (PullState::Retrying, 1));
        let why = pulls.why_not_live(&cam1).unwrap();
        assert!(why.starts_with("the source ") && why.contains("refused") && !why.contains("secret"), "{why}");
        // Once it is known, nobody is held.
        let asked = Instant::now();
        pulls.want(&cam1).expect("it is not live").await;
        assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
        stop.cancel();
        running.await.unwrap();
    }
}

#[tokio::test]
async fn a_new_demand_does_not_wait_for_the_failures_of_an_old_one() {
    let (pulls, stop) = pulls(&[format!("cam1 rtmp://127.0.0.1:{}/live/key on-demand", closed_port().await)]);
    let (_changed, changes) = watch::channel(());
    let running = tokio::spawn(pulls.clone().run(changes));
    let source = pulls.sources[&name("cam1")].clone();
    let reaches = async |is_there: &dyn Fn(&PullReport) -> bool| {
        let asked = Instant::now();
        while !is_there(&source.report.lock()) {
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", source.report.lock());
            sleep(Duration::from_millis(10)).await;
        }
        asked.elapsed()
    };
    source.want();
    reaches(&|report| report.attempts == 2 && report.state == PullState::Retrying).await;
    // As if nobody had asked for ten seconds.
    *source.wanted.lock() = None;
    reaches(&|report| report.state == PullState::Idle).await;
    source.want();
    reaches(&|report| report.attempts == 3 && report.state == PullState::Retrying).await;
    let waited = reaches(&|report| report.attempts == 4).await;
    // A third failure would be followed by two seconds.
    assert!(waited < Duration::from_millis(1_500), "{waited:?}");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn streams_that_are_fetched_are_known_and_others_are_nobody_s_business() {
    let (pulls, _stop) =
        pulls(&["cam1 rtmp://h.example.net/live/key".into(), "cam2 https://h.example.net/whep/2".into()]);
    let known: Vec<_> = pulls.streams.all().iter().map(|stream| stream.name().to_string()).collect();
    pulls.streams.prune();
    assert_eq!((known.len(), pulls.streams.all().len()), (2, 2), "also while nobody publishes them");
    assert_eq!(pulls.report(&name("cam1")).unwrap().state, PullState::Connecting);
    assert!(pulls.report(&name("cam3")).is_none() && pulls.why_not_live(&name("cam3")).is_none());
    // Those that are fetched all the time are not waited for.
    assert!(pulls.want(&name("cam1")).is_none() && pulls.want(&name("cam3")).is_none());
}

#[tokio::test]
async fn a_stream_s_path_is_its_source_s_as_long_as_it_comes_from_there() {
    let (pulls, _stop) = pulls(&["cam1 https://h.example.net/whep/1".into()]);
    let told = "000000000000000a 000000000000000b";
    *pulls.sources[&name("cam1")].path.lock() = Path::of_header(told);
    let here = pulls.node.to_string();
    let path = |stream: &str| pulls.path(&name(stream));
    assert_eq!((path("cam1"), path("cam2")), (here.clone(), here.clone()));
    let fetched = publish(&pulls, "cam1", Protocol::WhepPull, Priority::Primary);
    assert_eq!(path("cam1"), format!("{told} {here}"));
    let published = publish(&pulls, "cam1", Protocol::Whip, Priority::Primary);
    drop(fetched);
    assert_eq!(path("cam1"), here, "its publisher is here");
    drop(published);
    // A source that stands by beside a backup sends nobody anything.
    let _backup = publish(&pulls, "cam1", Protocol::Rtmp, Priority::Backup);
    let _fetched = publish(&pulls, "cam1", Protocol::WhepPull, Priority::Primary);
    assert_eq!(path("cam1"), here);
}

#[tokio::test]
async fn a_source_stands_by_until_a_backup_has_handed_over() {
    let (pulls, _stop) = pulls(&["cam1 rtmp://h.example.net/live/key".into()]);
    let source = pulls.sources[&name("cam1")].clone();
    let state = || pulls.report(&name("cam1")).unwrap().state;
    let backup = publish(&pulls, "cam1", Protocol::Whip, Priority::Backup);
    let _fetched = publish(&pulls, "cam1", Protocol::RtmpPull, Priority::Primary);
    let mut standing = source::Standing::new(&source, &pulls);
    standing.live();
    assert!(standing.is_wanted());
    assert_eq!((state(), state().as_str()), (PullState::StandingBy, "standby"));
    drop(backup);
    assert!(standing.is_wanted());
    assert_eq!(state(), PullState::Live);
    // A backup that comes stands by itself.
    let _backup = publish(&pulls, "cam1", Protocol::Whip, Priority::Backup);
    assert!(standing.is_wanted());
    assert_eq!(state(), PullState::Live);
}

#[tokio::test]
async fn when_a_stream_had_a_publisher_last_is_kept_in_mind() {
    let (pulls, _stop) = pulls(&["cam1 https://h.example.net/whep/1".into()]);
    let source = &pulls.sources[&name("cam1")];
    assert_eq!(source.published_ago(), None);
    let publication = publish(&pulls, "cam1", Protocol::Rtmp, Priority::Backup);
    let brief = Duration::from_secs(1);
    assert!(source.published_ago().is_some_and(|ago| ago < brief));
    drop(publication);
    source.published.lock().last = Instant::now().checked_sub(Duration::from_secs(5));
    let ago = source.published_ago().unwrap();
    assert!(ago < brief, "it was there when it was looked last, 5 s ago, and left since: {ago:?}");
    source.published.lock().last = Instant::now().checked_sub(Duration::from_secs(5));
    let ago = source.published_ago().unwrap();
    assert!(ago >= Duration::from_secs(5), "it is gone: {ago:?}");
}
