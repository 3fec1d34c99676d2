//! The load generator against a tiny server: real sockets, HTTP, ICE, DTLS and SRTP; forwarding by the book, one packet at a time.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{delete, post},
};
use bytes::BytesMut;
use clap::Parser;
use sluice_signaling::{
    codec::{Codec, TrackFormat},
    ice::IceCredentials,
    media_plane::{Direction, SenderIds, TransportParams},
    name::SessionId,
    sdp::{CandidateTransport, IceCandidate, MediaOffer, Setup, answer, negotiate_egress, negotiate_ingest},
};

use super::{BenchError, load::Load, report, whep::Args};
use crate::{
    media::{ExtendedSeq, RtpPacket, SeqExtender},
    transport::{
        Certificate, Check, DatagramKind, DtlsRole, Link, Path, Received, Transport, TransportConfig, classify,
        stun::BindingRequest,
    },
};

struct Opened {
    direction: Direction,
    local: IceCredentials,
    transport: Transport,
}

#[derive(Clone)]
struct Doors {
    media: SocketAddr,
    certificate: Arc<Certificate>,
    sessions: mpsc::Sender<Opened>,
}

/// `dropped`: of so many packets to viewers one is not sent; 0 sends all.
struct TinyServer {
    http: SocketAddr,
    stop: Arc<AtomicBool>,
    dropped: u64,
    media: Option<std::thread::JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
}

impl TinyServer {
    fn start(dropped: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let (sessions, opened) = mpsc::channel();
        let certificate = Certificate::generate().unwrap();
        let doors = Doors { media: socket.local_addr().unwrap(), certificate, sessions };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let http = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/{kind}/{stream}", post(open))
            .route("/session/{id}", delete(|| async { StatusCode::OK }))
            .with_state(doors);
        runtime.spawn(async move { axum::serve(listener, router).await });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let media = std::thread::spawn(move || forward(&socket, &opened, &stopped, dropped));
        Self { http, stop, dropped, media: Some(media), runtime }
    }

    fn args(&self, more: &[&str]) -> Args {
        let url = format!("http://{}/whep/cam", self.http);
        let words = ["x", "--url", &url, "--quiet", "--duration", "500ms"];
        Cli::parse_from(words.iter().chain(more)).args
    }
}

impl Drop for TinyServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(media) = self.media.take() {
            assert!(media.join().is_ok() || std::thread::panicking());
        }
        let _ = (&self.runtime, self.dropped);
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

async fn open(
    State(doors): State<Doors>,
    UrlPath((kind, stream)): UrlPath<(String, String)>,
    body: String,
) -> Result<impl IntoResponse, (StatusCode, String)> {
    if stream != "cam" {
        return Err((StatusCode::CONFLICT, r#"{"detail":"nobody publishes it"}"#.into()));
    }
    let direction = if kind == "whip" { Direction::Ingest } else { Direction::Egress };
    let offer = MediaOffer::parse(&body).unwrap();
    let format = |codec, fmtp: &str, channels| TrackFormat { codec, fmtp: fmtp.into(), channels };
    let live = [format(Codec::H264, "profile-level-id=42e01f;packetization-mode=1", 1), format(Codec::Opus, "", 2)];
    let negotiated = match direction {
        Direction::Ingest => negotiate_ingest(&offer, None).unwrap(),
        Direction::Egress => negotiate_egress(&offer, &live).unwrap(),
    };
    let local = IceCredentials::random();
    let config = TransportConfig {
        role: DtlsRole::Server,
        remote_fingerprints: offer.fingerprints.clone(),
        certificate: doors.certificate.clone(),
        consent_timeout: Duration::from_secs(30),
    };
    let transport = Transport::new(config, Instant::now()).unwrap();
    let candidate = IceCandidate {
        transport: CandidateTransport::Udp,
        ip: doors.media.ip(),
        port: doors.media.port(),
        priority: 1,
    };
    let senders = negotiated.media.iter().zip(1..).map(|(_, ssrc)| SenderIds { ssrc, rtx_ssrc: None }).collect();
    let params = TransportParams {
        session: SessionId::random(),
        ice: local.clone(),
        fingerprint: doors.certificate.fingerprint(),
        setup: Setup::Passive,
        candidates: vec![candidate],
        senders,
    };
    let sdp = answer(&offer, direction, &negotiated, &params);
    doors.sessions.send(Opened { direction, local, transport }).unwrap();
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/session/{}", params.session))], sdp))
}

/// Everything the publisher sends goes to every connected viewer, resealed.
fn forward(socket: &UdpSocket, opened: &mpsc::Receiver<Opened>, stop: &AtomicBool, dropped: u64) {
    let mut sessions: HashMap<String, Opened> = HashMap::new();
    let mut by_address: HashMap<SocketAddr, String> = HashMap::new();
    let mut extenders: HashMap<u32, SeqExtender> = HashMap::new();
    let mut buffer = [0; 2_048];
    let mut sent = 0u64;
    while !stop.load(Ordering::Relaxed) {
        sessions.extend(opened.try_iter().map(|session| (session.local.ufrag.clone(), session)));
        let now = Instant::now();
        for session in sessions.values_mut() {
            if session.transport.poll_timeout().is_some_and(|due| due <= now) {
                session.transport.handle_timeout(now);
            }
            while let Some(transmit) = session.transport.poll_transmit() {
                socket.send_to(&transmit.datagram, transmit.path.remote).unwrap();
            }
            while session.transport.poll_event().is_some() {}
        }
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let datagram = &buffer[..len];
        let path = Path { remote: from, local_ip: None, link: Link::Udp };
        if classify(datagram) == DatagramKind::Stun {
            let request = BindingRequest::parse(datagram).unwrap();
            let Some(session) = sessions.get_mut(request.local_ufrag) else { continue };
            assert!(request.verify(&session.local.pwd));
            let mut response = Vec::new();
            request.answer(from, &session.local.pwd, &mut response);
            socket.send_to(&response, from).unwrap();
            session.transport.handle_check(now, path, Check::of_first(request.use_candidate));
            by_address.insert(from, request.local_ufrag.to_owned());
            continue;
        }
        let Some(session) = by_address.get(&from).and_then(|ufrag| sessions.get_mut(ufrag)) else { continue };
        let received = session.transport.handle_datagram(now, path, BytesMut::from(datagram));
        let (Received::Rtp(packet), Direction::Ingest) = (received, session.direction) else { continue };
        let header = RtpPacket::parse(packet.clone(), &Default::default()).unwrap().header;
        let ExtendedSeq(index) = extenders.entry(header.ssrc).or_default().extend(header.sequence);
        for viewer in sessions.values().filter(|session| session.direction == Direction::Egress) {
            let (Some(sealer), Some(path)) = (viewer.transport.sealer(), viewer.transport.path()) else { continue };
            sent += 1;
            if dropped > 0 && sent.is_multiple_of(dropped) {
                continue;
            }
            let mut copy = packet.to_vec();
            copy.resize(copy.len() + sealer.overhead_bytes(), 0);
            // A stream's first cycle is number 0 to SRTP, and 1 to the extender.
            sealer.seal(&mut copy, 12, header.ssrc, index - (1 << 16));
            socket.send_to(&copy, path.remote).unwrap();
        }
    }
}

#[test]
fn viewers_join_and_are_measured_from_the_publishers_stamp_to_their_sockets() {
    let server = TinyServer::start(0);
    let pid = std::process::id().to_string();
    let args = server.args(&["--viewers", "5", "--publish", "--publish-gop", "10", "--server-pid", &pid]);
    let figures = Load::new(&args).unwrap().run().unwrap();
    assert_eq!((figures.playing, figures.failures.len()), (5, 0), "{:?}", figures.failures);
    assert_eq!(figures.counts.lost(), 0);
    assert!(figures.counts.packets > 5 * 100, "{} packets", figures.counts.packets);
    let json = report::json(&figures);
    for figure in ["answer", "connected", "first_packet", "first_keyframe"] {
        assert_eq!(json["join"][figure]["count"], 5, "{figure}: {json}");
    }
    assert!(json["one_way_delay"]["count"].as_u64().unwrap() > 100, "{json}");
    assert!(
        json["one_way_delay"]["p50_ms"].as_f64().unwrap() >= json["behind_earliest_copy"]["p50_ms"].as_f64().unwrap()
    );
    assert!(json["server"]["cpu_us_per_packet"].as_f64().unwrap() > 0.0, "{json}");
    assert!(json["frames"].as_str().unwrap().split(',').all(|frame| frame.contains('x')), "{json}");
    assert_eq!(json["audio_packet_bytes"], 12 + 120 + 16);
    assert!(report::table(&figures).contains("5 of 5"));
}

#[test]
fn what_the_network_loses_is_counted() {
    let server = TinyServer::start(50);
    let args = server.args(&["--viewers", "3", "--publish", "--publish-gop", "10", "--nack"]);
    let figures = Load::new(&args).unwrap().run().unwrap();
    let lost = 100.0 * figures.counts.lost() as f64 / figures.counts.expected as f64;
    assert!((1.0..3.0).contains(&lost), "lost {lost} %");
    assert_eq!(figures.playing, 3);
}

#[test]
fn a_refusal_of_the_first_viewer_ends_the_test_with_its_reason() {
    let server = TinyServer::start(0);
    let mut args = server.args(&["--viewers", "2"]);
    args.url.set_path("/whep/other");
    let Err(BenchError::Refused(reason)) = Load::new(&args).unwrap().run() else { panic!("refused") };
    assert!(reason.contains("409") && reason.contains("nobody publishes it"), "{reason}");
    args.url.set_port(Some(1)).unwrap();
    let Err(BenchError::Refused(reason)) = Load::new(&args).unwrap().run() else { panic!("refused") };
    assert!(reason.contains("nobody answers at"), "{reason}");
}

#[test]
fn without_a_publisher_viewers_say_where_they_got_stuck() {
    let server = TinyServer::start(0);
    let args = server.args(&["--viewers", "2", "--join-timeout", "700ms"]);
    let figures = Load::new(&args).unwrap().run().unwrap();
    assert_eq!(figures.playing, 0);
    assert_eq!(
        figures.failures.into_iter().collect::<Vec<_>>(),
        [("connected, but no media came; is anybody publishing?".to_owned(), 2)]
    );
}
