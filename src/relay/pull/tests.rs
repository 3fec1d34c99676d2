//! Sources that cannot be reached, and who is told.

use tokio::net::TcpListener;

use super::*;

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
