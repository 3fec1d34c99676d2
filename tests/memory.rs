//! What a viewer costs in memory once it watches: its entry in the table, its transport and its sender. A counting allocator
//! says what of it is on Rust's heap; the process's resident pages say all of it, cipher contexts behind pointers of C too.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use sluice::{
    egress::whep::{DatagramOut, Output, Scratch, SenderSettings, StreamNumbers, WhepSender},
    media::{Codec, ExtendedSeq, SessionId, TrackFormat},
    rtp::rtcp::{NtpTime, write_nack, write_receiver_report},
    track::{
        Batch, Delivery, LayerIndex, News, Replica, Snapshot, TrackIndex, TrackPacket, TrackSnapshot, WorkerIndex,
    },
    transport::{Certificate, Check, DtlsRole, Link, Path, Received, Transport, TransportConfig},
    worker::{IceSession, Pending, SessionEntry, SessionInfo},
};
use sluice_signaling::{
    ice::IceCredentials,
    media_plane::{Direction, SenderIds},
    sdp::{MediaOffer, cname, negotiate_egress},
};

/// Twice what was measured (the test prints it), and a third of the 64 KB that the whole server may take for a viewer: the rest is for
/// the worker's tables, HTTP and what the allocator cannot give back.
const RESIDENT_BYTES_MAX: usize = 20 << 10;
/// Half as much again as was measured: one more buffer of a few datagrams, or a handshake that is not put
/// away, would exceed it.
const HEAP_BYTES_MAX: i64 = 9 << 10;
const VIEWERS: usize = 200;
const PICTURES: u64 = 300;
const PACKETS_PER_PICTURE: u64 = 8;
const GOP_PICTURES: u64 = 60;
/// Most join between two keyframes, and have pictures to catch up with.
const FIRST_SEEN: u64 = 90;

thread_local! {
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: i64) {
    LIVE_BYTES.with(|live| live.set(live.get() + bytes));
}

// SAFETY: every call is the system allocator's; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live_bytes() -> i64 {
    LIVE_BYTES.with(Cell::get)
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4096
}

struct Nowhere;

impl DatagramOut for Nowhere {
    fn send(&mut self, _contents: &[u8], _segment_bytes: usize) {}
}

/// A viewer as the worker keeps it.
struct Viewer {
    _entry: Arc<SessionEntry>,
    transport: Transport,
    sender: WhepSender,
}

const BROWSER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 50_000);
const PATH: Path = Path { remote: BROWSER, local_ip: None, link: Link::Udp };

struct House {
    certificates: [Arc<Certificate>; 2],
    offer: MediaOffer,
    formats: [TrackFormat; 2],
    now: Instant,
}

impl House {
    /// A browser asked, was answered, and is connected.
    fn viewer(&self) -> Viewer {
        let [ours, theirs] = &self.certificates;
        let config = |role, own: &Arc<Certificate>, other: &Arc<Certificate>| TransportConfig {
            role,
            remote_fingerprints: vec![other.fingerprint()],
            certificate: own.clone(),
            consent_timeout: Duration::from_secs(30),
        };
        let media = negotiate_egress(&self.offer, &self.formats).unwrap();
        let accepted = media.media.iter().filter(|section| section.is_accepted()).count() as u32;
        let senders: Vec<_> = (0..accepted).map(|at| SenderIds { ssrc: 10 + at, rtx_ssrc: Some(20 + at) }).collect();
        let info = SessionInfo {
            id: SessionId::random(),
            direction: Direction::Egress,
            stream: "cam1".parse().unwrap(),
            ice: Arc::new(IceSession::first(IceCredentials::random(), IceCredentials::random())),
            from: BROWSER,
            video_line: None,
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156".into(),
            priority: Default::default(),
            subject: Some("alice".into()),
            expires: None,
            video_codecs: Vec::new(),
            since: SystemTime::UNIX_EPOCH,
            offered_at: self.now,
        };
        let id = info.id;
        let transport = config(DtlsRole::Server, ours, theirs);
        let entry = Arc::new(SessionEntry::new(info, Pending { transport, media, senders }));
        let pending = entry.claim(WorkerIndex(0)).unwrap();
        let mut transport = Transport::new(pending.transport.clone(), self.now).unwrap();
        let mut browser = Transport::new(config(DtlsRole::Client, theirs, ours), self.now).unwrap();
        transport.handle_check(self.now, PATH, Check::of_first(true));
        browser.handle_check(self.now, PATH, Check::of_first(true));
        while relay(self.now, &mut browser, &mut transport) + relay(self.now, &mut transport, &mut browser) > 0 {}
        assert!(transport.is_connected() && browser.is_connected());
        while transport.poll_event().is_some() {}
        // The first report tells the server that the handshake may be put away.
        let mut report = Vec::new();
        write_receiver_report(&mut report, 1, &[]);
        let report = browser.seal_rtcp(&report).unwrap();
        assert!(matches!(transport.handle_datagram(self.now, PATH, report), Received::Rtcp(_)));
        let numbers = || StreamNumbers { first_seq: 100, first_rtx_seq: 100, time_offset_ticks: 0 };
        let settings = SenderSettings { join_burst_mbps: 40, playout_delay_max_ms: 100 };
        let sender =
            WhepSender::new(self.now, self.now, &pending.media, &pending.senders, numbers, cname(id), settings);
        Viewer { _entry: entry, transport, sender }
    }
}

/// Brings over what one side has to say; how many datagrams that were.
fn relay(now: Instant, from: &mut Transport, to: &mut Transport) -> usize {
    let mut count = 0;
    while let Some(transmit) = from.poll_transmit() {
        to.handle_datagram(now, PATH, transmit.datagram);
        count += 1;
    }
    count
}

impl Viewer {
    /// Looks at the clock, takes what the browser says, sends what is new: a worker's round. How many packets went out.
    fn round(&mut self, now: Instant, replica: &Replica, scratch: &mut Scratch, compound: &[u8]) -> u32 {
        self.transport.handle_check(now, PATH, Check::of_first(true));
        if self.transport.poll_timeout().is_some_and(|due| due <= now) {
            self.transport.handle_timeout(now);
        }
        if self.sender.is_waiting() {
            self.sender.follow(now, replica);
        }
        let ntp = NtpTime::from_system(SystemTime::UNIX_EPOCH);
        let mut reports = Vec::new();
        if self.sender.poll_report(now, ntp, replica, &mut reports) {
            let sealed: Option<BytesMut> = self.transport.seal_rtcp(&reports);
            assert!(sealed.is_some());
        }
        let mut output = Output { sealer: self.transport.sealer().unwrap(), scratch, out: &mut Nowhere };
        let mut packets = self.sender.handle_rtcp(now, ntp, compound, replica, &mut output).resent.packets;
        packets += self.sender.send(now, replica, None, &mut output).sent.packets;
        assert!(self.transport.is_connected() && self.transport.poll_transmit().is_none());
        packets
    }
}

fn picture(number: u64, start: Instant) -> Delivery {
    let packet = |at: u64| {
        Arc::new(TrackPacket {
            seq: ExtendedSeq(number * PACKETS_PER_PICTURE + at),
            time_ticks: number * 3_000,
            arrival: start + Duration::from_millis(number * 33),
            marker: at + 1 == PACKETS_PER_PICTURE,
            keyframe_start: number.is_multiple_of(GOP_PICTURES) && at == 0,
            capture: None,
            payload: Bytes::from(vec![0; 1_100]),
        })
    };
    let packets: Vec<_> = (0..PACKETS_PER_PICTURE).map(packet).collect();
    Delivery::Packets(Arc::new([Batch { track: TrackIndex(0), layer: LayerIndex(0), packets }]))
}

#[test]
#[allow(clippy::disallowed_methods, reason = "an `Instant` has no other origin")]
fn a_viewer_who_watches_costs_less_memory_than_is_promised() {
    let start = Instant::now();
    let video = TrackFormat {
        codec: Codec::H264,
        fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".into(),
        channels: 1,
    };
    let audio = TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 };
    let track = TrackSnapshot::single(video.clone(), Vec::new());
    let mut replica = Replica::default();
    let snapshot = Snapshot { publication: 1, sound_lags: false, tracks: vec![track] };
    replica.apply(Delivery::Snapshot(Arc::new(snapshot)), &mut News::default());
    let mut house = House {
        certificates: [Certificate::generate().unwrap(), Certificate::generate().unwrap()],
        offer: MediaOffer::parse(include_str!("../signaling/tests/fixtures/chromium-watch.sdp")).unwrap(),
        formats: [video, audio],
        now: start,
    };
    let mut scratch = Scratch::default();
    for number in 0..FIRST_SEEN {
        replica.apply(picture(number, start), &mut News::default());
    }
    house.now = start + Duration::from_millis(FIRST_SEEN * 33);
    // What the first of all viewers takes for everybody (tables of the cryptography, say) is nobody's.
    drop(house.viewer());

    let (heap_before, resident_before) = (live_bytes(), resident_bytes());
    let mut viewers: Vec<_> = (0..VIEWERS).map(|_| house.viewer()).collect();
    let (mut ring_bytes, mut packets) = (0, 0);
    for number in FIRST_SEEN..PICTURES {
        let now = start + Duration::from_millis(number * 33);
        let before = live_bytes();
        replica.apply(picture(number, start), &mut News::default());
        ring_bytes += live_bytes() - before;
        let mut losses = Vec::new();
        // Video is the offer's first or second section.
        let lost = (100 + (number - FIRST_SEEN) * PACKETS_PER_PICTURE) as u16;
        for ssrc in 10..12 {
            write_nack(&mut losses, 1, ssrc, &[lost, lost + 1]);
        }
        for viewer in &mut viewers {
            packets += viewer.round(now, &replica, &mut scratch, &losses);
        }
    }
    let every_picture = (PICTURES - FIRST_SEEN) * PACKETS_PER_PICTURE * VIEWERS as u64;
    assert!(u64::from(packets) > every_picture, "{packets} packets went out, losses and the join among them");
    let heap_bytes = (live_bytes() - heap_before - ring_bytes) / VIEWERS as i64;
    let resident_bytes = resident_bytes().saturating_sub(resident_before) / VIEWERS;
    eprintln!("a viewer: {heap_bytes} bytes on the heap, {resident_bytes} bytes resident");
    assert!(heap_bytes < HEAP_BYTES_MAX, "{heap_bytes} bytes on the heap for each viewer");
    assert!(resident_bytes < RESIDENT_BYTES_MAX, "{resident_bytes} bytes resident for each viewer");
}
