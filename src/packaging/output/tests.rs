//! A store is watched as a CDN would: nothing is named that is not there, and nothing stays for ever.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult,
    memory::InMemory,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    egress::hls::{RenditionIndex, WindowSettings},
    metrics::{Metrics, OutputLabels},
    packaging::{
        PackagedStream,
        testing::{self, AUDIO, VIDEO},
    },
    track::Streams,
};

/// A store in memory that can fail, and that notes playlists which come before all that they name.
#[derive(Debug, Default)]
struct Watched {
    kept: InMemory,
    fails: AtomicBool,
    /// Fails for names with this in it.
    fails_for: parking_lot::Mutex<Option<&'static str>>,
    /// That removing an object takes.
    removes_in: parking_lot::Mutex<Duration>,
    /// Names that led nowhere when a playlist with them came.
    astray: parking_lot::Mutex<Vec<String>>,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

impl Watched {
    fn check(&self, at: &Path) -> object_store::Result<()> {
        let named = self.fails_for.lock().is_some_and(|part| at.as_ref().contains(part));
        if self.fails.load(Ordering::SeqCst) || named {
            let source = format!("no room for {at}").into();
            return Err(object_store::Error::Generic { store: "watched", source });
        }
        Ok(())
    }

    /// Every object and its text, by its path.
    async fn all(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut listed = self.kept.list(None);
        while let Some(object) = listed.next().await {
            let location = object.unwrap().location;
            let bytes = self.kept.get(&location).await.unwrap().bytes().await.unwrap();
            all.insert(location.to_string(), String::from_utf8_lossy(&bytes).into_owned());
        }
        all
    }

    async fn playlist(&self, name: &str) -> String {
        self.all().await.remove(&format!("live/cam1/{name}")).unwrap_or_default()
    }
}

fn uris(playlist: &str) -> impl Iterator<Item = &str> {
    playlist.lines().filter(|line| !line.is_empty()).filter_map(|line| match line.split_once("URI=\"") {
        Some((_, rest)) => rest.split('"').next(),
        None => (!line.starts_with('#')).then_some(line),
    })
}

#[async_trait::async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.check(at)?;
        let text = String::from_utf8_lossy(&Bytes::from(payload.clone())).into_owned();
        if at.as_ref().ends_with(".m3u8") {
            let folder = at.as_ref().rsplit_once('/').unwrap().0;
            for uri in uris(&text) {
                let named = Path::parse(format!("{folder}/{uri}")).unwrap();
                if self.kept.head(&named).await.is_err() {
                    self.astray.lock().push(format!("{at} names {uri}"));
                }
            }
        }
        self.kept.put_opts(at, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.kept.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, opts: GetOptions) -> object_store::Result<GetResult> {
        self.kept.get_opts(at, opts).await
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let removes_in = *self.removes_in.lock();
        let slowly = move |path| async move {
            tokio::time::sleep(removes_in).await;
            path
        };
        self.kept.delete_stream(Box::pin(all.then(slowly)))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.kept.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.kept.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, opts: CopyOptions) -> object_store::Result<()> {
        self.kept.copy_opts(from, to, opts).await
    }
}

struct House {
    store: Arc<Watched>,
    packaged: Arc<PackagedStream>,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    async fn new() -> Self {
        Self::over(Arc::default()).await
    }

    async fn over(store: Arc<Watched>) -> Self {
        let stream = Streams::default().get_or_create(&"cam1".parse().unwrap());
        let (metrics, drain) = (Metrics::new(), CancellationToken::new());
        let settings = WindowSettings { segments: 3, ..testing::settings().window };
        let packaged = Arc::new(PackagedStream::new(stream, settings, 100, metrics.clone(), drain.child_token()));
        let output = Output::new(store.clone(), Path::parse("live").unwrap(), true);
        let tasks = TaskTracker::new();
        tasks.spawn(run(packaged.clone(), output, metrics.clone(), drain.clone()));
        tasks.close();
        let house = Self { store, packaged, metrics, drain, tasks };
        house.settle().await;
        house
    }

    /// All that can be done now is done.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*self.store.astray.lock(), Vec::<String>::new());
    }

    /// So many whole segments of 2 s, as time goes by, and the first part of the next.
    async fn segments(&self, rendition: RenditionIndex, count: usize) {
        for _ in 0..count {
            testing::segments(&self.packaged, rendition, 1);
            self.settle().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    fn failed(&self) -> u64 {
        let labels = OutputLabels { operation: "put", outcome: "failed" };
        self.metrics.hls_output_requests.get_or_create(&labels).get()
    }

    fn state(&self) -> OutputState {
        self.packaged.state().output.unwrap_or_default()
    }
}

fn first_segment(playlist: &str) -> u64 {
    let line = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    line.and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn whole_segments_are_stored_and_then_what_names_them() {
    let house = House::new().await;
    testing::begin(&house.packaged);
    house.settle().await;
    assert_eq!(house.store.all().await, BTreeMap::new(), "parts are not stored");

    house.segments(VIDEO, 2).await;
    assert!(house.store.playlist("r0.m3u8").await.contains("#EXTINF:2.00000,"));
    assert_eq!(house.store.playlist("index.m3u8").await, "", "not before there is sound");
    house.segments(AUDIO, 1).await;
    let index = house.store.playlist("index.m3u8").await;
    assert_eq!(uris(&index).collect::<Vec<_>>(), ["r1.m3u8", "r0.m3u8"]);

    let playlist = house.store.playlist("r0.m3u8").await;
    for not_here in ["PART", "SERVER-CONTROL", "PRELOAD", "REPORT", "ENDLIST"] {
        assert!(!playlist.contains(not_here), "nothing can be waited for: {playlist}");
    }
    assert_eq!(uris(&playlist).count(), 1 + 2, "an initialization, and two segments");
    assert_eq!(house.state(), OutputState { segments: 3, failing: None });
    assert_eq!(house.failed(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_no_player_can_ask_for_is_removed() {
    let house = House::new().await;
    testing::begin_alone(&house.packaged, VIDEO);
    house.segments(VIDEO, 4).await;
    let media = async || house.store.all().await.into_keys().filter(|path| path.ends_with(".m4s")).count();
    assert_eq!(first_segment(&house.store.playlist("r0.m3u8").await), 101);
    assert_eq!(media().await, 4, "the first was listed a moment ago");
    house.segments(VIDEO, 20).await;
    assert_eq!(first_segment(&house.store.playlist("r0.m3u8").await), 121);
    // Three that are listed, and those of the 8 s before: three segments' length and a target duration.
    assert!((7..=8).contains(&media().await), "{}", media().await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_has_what_is_still_listed_once_it_is_back() {
    let house = House::new().await;
    testing::begin_alone(&house.packaged, VIDEO);
    house.segments(VIDEO, 2).await;
    house.store.fails.store(true, Ordering::SeqCst);
    let before = house.store.all().await;
    for at in 0..60 {
        testing::part(&house.packaged, VIDEO, at % 10 == 9);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let failing = house.state().failing.expect("it is told");
    assert!(failing.contains("no room for"), "{failing}");
    assert!(!failing.contains(".m4s"), "names of media are as good as tokens: {failing}");
    assert!((1..=7).contains(&house.failed()), "every two seconds, not at every part: {}", house.failed());
    let left = house.store.all().await;
    assert!(left.keys().all(|path| before.contains_key(path)), "nothing new got in");

    house.store.fails.store(false, Ordering::SeqCst);
    house.segments(VIDEO, 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(house.state().failing, None);
    assert_eq!(first_segment(&house.store.playlist("r0.m3u8").await), 106);
}

#[tokio::test(start_paused = true)]
async fn a_playlist_waits_for_its_last_segment_and_the_others_for_nothing() {
    let house = House::new().await;
    testing::begin(&house.packaged);
    house.segments(VIDEO, 1).await;
    house.segments(AUDIO, 1).await;
    let before = house.store.playlist("r1.m3u8").await;
    *house.store.fails_for.lock() = Some("/1-s");
    house.segments(AUDIO, 1).await;
    house.segments(VIDEO, 1).await;
    assert_eq!(house.store.playlist("r1.m3u8").await, before);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(uris(&house.store.playlist("r0.m3u8").await).count(), 1 + 2);
}

#[tokio::test(start_paused = true)]
async fn the_playlist_that_names_the_others_waits_for_all_of_them() {
    let house = House::new().await;
    *house.store.fails_for.lock() = Some("/r1.m3u8");
    testing::begin(&house.packaged);
    house.segments(AUDIO, 1).await;
    house.segments(VIDEO, 1).await;
    assert_ne!(house.store.playlist("r0.m3u8").await, "");
    assert_eq!(house.store.playlist("index.m3u8").await, "");
    *house.store.fails_for.lock() = None;
    tokio::time::sleep(Duration::from_secs(2)).await;
    house.settle().await;
    assert_eq!(uris(&house.store.playlist("index.m3u8").await).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_says_so_and_is_gone_when_nobody_can_ask_any_more() {
    let house = House::new().await;
    testing::begin(&house.packaged);
    house.segments(VIDEO, 2).await;
    house.segments(AUDIO, 2).await;
    house.packaged.end("the test is over");
    house.settle().await;
    for name in ["r0.m3u8", "r1.m3u8"] {
        let playlist = house.store.playlist(name).await;
        assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(house.store.all().await.len() > 5, "somebody may be watching the end");
    house.tasks.wait().await;
    assert_eq!(house.store.all().await, BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_leaves_all_there_and_the_next_one_removes_it() {
    let first = House::new().await;
    testing::begin_alone(&first.packaged, VIDEO);
    first.segments(VIDEO, 2).await;
    let before = first.store.all().await;
    first.drain.cancel();
    first.packaged.release();
    first.tasks.wait().await;
    assert_eq!(first.store.all().await, before);

    let second = House::over(first.store.clone()).await;
    testing::begin_alone(&second.packaged, VIDEO);
    second.segments(VIDEO, 70).await;
    let left = second.store.all().await.into_keys().filter(|path| before.contains_key(path)).collect::<Vec<_>>();
    assert_eq!(left, ["live/cam1/index.m3u8", "live/cam1/r0.m3u8"], "which are its own by now");
}

#[tokio::test(start_paused = true)]
async fn what_is_new_does_not_wait_for_all_that_is_old_to_go() {
    let store = Arc::<Watched>::default();
    for at in 0..200 {
        let left = Path::parse(format!("live/cam1/media/9-s{at}-0.m4s")).unwrap();
        store.kept.put(&left, PutPayload::default()).await.unwrap();
    }
    *store.removes_in.lock() = Duration::from_secs(1);
    let house = House::over(store).await;
    testing::begin_alone(&house.packaged, VIDEO);
    // The leftovers go after two minutes: 200 s of removing, one by one.
    for at in 0..80 {
        house.segments(VIDEO, 1).await;
        let newest = first_segment(&house.store.playlist("r0.m3u8").await) + 2;
        assert!(at < 3 || newest + 2 >= 100 + at, "segment {at} is there, and the store's last is {newest}");
    }
    let left = house.store.all().await.into_keys().filter(|path| path.contains("/9-s")).count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn files_lie_where_the_server_has_them_and_folders_go_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("hls");
    let output = Output::open(&OutputPlace::Folder(root.clone())).unwrap();
    let stream: StreamName = "room~1.a_b-c".parse().unwrap();
    output
        .put(&stream, "media/0-s1-ff.m4s", vec![Bytes::from("moof"), Bytes::from("mdat")], Content::Media)
        .await
        .unwrap();
    let path = root.join("room~1.a_b-c/media/0-s1-ff.m4s");
    assert_eq!(std::fs::read(&path).unwrap(), b"moofmdat");
    output.delete(&stream, "media/0-s1-ff.m4s").await.unwrap();
    output.delete(&stream, "media/0-s1-ff.m4s").await.expect("what is not there is as good as removed");
    assert!(!path.exists() && !root.join("room~1.a_b-c").exists());
}
