//! The floor: what forwarding a stream to N viewers costs at the least on this machine. Per packet: a header, one copy of
//! the payload, AES-128-GCM in place (RFC 7714), and per frame one UDP GSO send to each viewer's socket on loopback; Opus
//! packets, which cannot be grouped, one send each. The receiving end is the load generator's own reader on another thread.
//!
//! In: the frame sizes to send, as `sluice bench whep --json` gives them, at the stream's own pace (a sender that never
//! rests has warmer caches than any server). Out: the sending thread's CPU time per packet. Not in it: receiving the
//! stream, RTCP, retransmission, timers, choosing what to send.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use clap::Parser;
use mio::{Events, Poll, Token};
use nix::time::{ClockId, clock_gettime};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use sluice::bench::wire::{Reader, Wire};

const HEADER_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const DATAGRAM_MIN_BYTES: usize = HEADER_BYTES + TAG_BYTES + 1;
const DATAGRAM_MAX_BYTES: usize = 1_500;
/// The largest UDP datagram, which bounds a GSO send too.
const SEND_MAX_BYTES: usize = 65_507;
/// Kernels before 6.9 take no more segments in one call.
const SEGMENTS_MAX: usize = 64;

/// What forwarding costs at the least: header, copy, seal and GSO send on loopback
#[derive(Debug, Parser)]
struct Args {
    /// Reading sockets
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Frames to send in turn, each as PACKETSxBYTES of whole datagrams; by default 2 Mb/s at 30 frames/s
    #[arg(long, default_value = "8x1060,7x1080,7x1080,8x1060,7x1080")]
    frames: String,
    /// Frames per second
    #[arg(long, default_value_t = 30.0)]
    fps: f64,
    /// Opus packets per second; 0 for none
    #[arg(long, default_value_t = 50.0)]
    audio_rate: f64,
    /// Bytes of an Opus packet's datagram
    #[arg(long, default_value_t = 190)]
    audio_bytes: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`, without meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    packets: usize,
    datagram_bytes: usize,
}

fn parse_frames(text: &str) -> Result<Vec<Frame>, String> {
    let frame = |part: &str| {
        let (packets, bytes) = part.split_once('x')?;
        let frame = Frame { packets: packets.parse().ok()?, datagram_bytes: bytes.parse().ok()? };
        let sizes = DATAGRAM_MIN_BYTES..=DATAGRAM_MAX_BYTES;
        ((1..=2_000).contains(&frame.packets) && sizes.contains(&frame.datagram_bytes)).then_some(frame)
    };
    let parse = |part: &str| {
        frame(part.trim()).ok_or_else(|| {
            format!("{part:?} is no frame: PACKETSxBYTES, such as 8x1172, with datagrams of 29 to 1500 bytes")
        })
    };
    text.split(',').map(parse).collect()
}

/// Seals packets into one buffer and sends it.
struct Sender {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    segments_max: usize,
    key: LessSafeKey,
    buffer: Vec<u8>,
    source: Vec<u8>,
    sent: u64,
    sequence: u32,
}

impl Sender {
    fn new() -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| io::Error::other("no AES-128-GCM"))?;
        Ok(Self {
            segments_max: state.max_gso_segments().clamp(1, SEGMENTS_MAX),
            socket,
            state,
            key: LessSafeKey::new(key),
            buffer: vec![0; SEND_MAX_BYTES],
            source: vec![0x5a; DATAGRAM_MAX_BYTES],
            sent: 0,
            sequence: 0,
        })
    }

    /// One frame to one viewer: as few sends as its size allows.
    fn frame(&mut self, frame: Frame, to: SocketAddr, ssrc: u32) -> io::Result<()> {
        let per_send = self.segments_max.min(SEND_MAX_BYTES / frame.datagram_bytes);
        let mut left = frame.packets;
        while left > 0 {
            let packets = left.min(per_send);
            let bytes = packets * frame.datagram_bytes;
            for at in (0..bytes).step_by(frame.datagram_bytes) {
                self.seal(at, frame.datagram_bytes, ssrc)?;
            }
            self.send(bytes, frame.datagram_bytes, to)?;
            self.sent += packets as u64;
            left -= packets;
        }
        Ok(())
    }

    fn seal(&mut self, at: usize, datagram_bytes: usize, ssrc: u32) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let packet = &mut self.buffer[at..at + datagram_bytes];
        let (header, rest) = packet.split_at_mut(HEADER_BYTES);
        let (payload, tag) = rest.split_at_mut(datagram_bytes - HEADER_BYTES - TAG_BYTES);
        header[..2].copy_from_slice(&[0x80, 96]);
        header[2..4].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..].copy_from_slice(&ssrc.to_be_bytes());
        payload.copy_from_slice(&self.source[..payload.len()]);
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[8..].copy_from_slice(&self.sequence.to_be_bytes());
        let sealed = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), payload)
            .map_err(|_| io::Error::other("sealing failed"))?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    fn send(&mut self, bytes: usize, datagram_bytes: usize, to: SocketAddr) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: &self.buffer[..bytes],
            segment_size: Some(datagram_bytes),
            src_ip: None,
        };
        loop {
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => return other,
            }
        }
    }
}

/// Reads all sockets until told to stop; counts packets.
fn read(mut poll: Poll, wires: &[Wire], received: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut events = Events::with_capacity(512);
    let mut reader = Reader::default();
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        let mut packets = 0;
        for event in &events {
            if let Some(wire) = wires.get(event.token().0) {
                reader.drain(wire, |batch| packets += batch.datagrams().count() as u64);
            }
        }
        received.fetch_add(packets, Ordering::Relaxed);
    }
    Ok(())
}

fn thread_cpu() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Packets sent, CPU they took, packets received.
fn measure(args: &Args, frames: &[Frame]) -> io::Result<(u64, Duration, u64)> {
    let poll = Poll::new()?;
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut wires = Vec::with_capacity(args.viewers);
    let mut viewers = Vec::with_capacity(args.viewers);
    for id in 0..args.viewers {
        let mut wire = Wire::towards(anywhere)?;
        wire.register(poll.registry(), Token(id))?;
        viewers.push(SocketAddr::from(([127, 0, 0, 1], wire.local_port()?)));
        wires.push(wire);
    }
    let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let reading = {
        let (received, stop) = (received.clone(), stop.clone());
        std::thread::spawn(move || read(poll, &wires, &received, &stop))
    };
    let mut sender = Sender::new()?;
    let started = Instant::now();
    let (cpu, until) = (thread_cpu()?, started + Duration::from_secs_f64(args.seconds));
    let audio = Frame { packets: 1, datagram_bytes: args.audio_bytes };
    let (mut frame, mut sound) = (0u32, 0u32);
    loop {
        let frame_due = started + Duration::from_secs_f64(f64::from(frame) / args.fps);
        let sound_due = match args.audio_rate > 0.0 {
            true => started + Duration::from_secs_f64(f64::from(sound) / args.audio_rate),
            false => until,
        };
        let due = frame_due.min(sound_due);
        if due >= until {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let next = if due == frame_due {
            frame += 1;
            frames[(frame as usize - 1) % frames.len()]
        } else {
            sound += 1;
            audio
        };
        for (id, viewer) in viewers.iter().enumerate() {
            sender.frame(next, *viewer, id as u32)?;
        }
    }
    let cpu = thread_cpu()?.saturating_sub(cpu);
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    reading.join().map_err(|_| io::Error::other("the reading thread ended early"))??;
    Ok((sender.sent, cpu, received.load(Ordering::Relaxed)))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let frames = parse_frames(&args.frames)?;
    if args.audio_rate > 0.0 && !(DATAGRAM_MIN_BYTES..=DATAGRAM_MAX_BYTES).contains(&args.audio_bytes) {
        return Err(format!("--audio-bytes has to be {DATAGRAM_MIN_BYTES} to {DATAGRAM_MAX_BYTES}").into());
    }
    let (sent, cpu, received) = measure(&args, &frames)?;
    let ns = cpu.as_nanos() as f64 / sent.max(1) as f64;
    let lost = sent - received.min(sent);
    if args.json {
        let figures = serde_json::json!({
            "ns_per_packet": ns.round(),
            "packets": sent,
            "lost": lost,
            "viewers": args.viewers,
            "cpu_percent": (cpu.as_secs_f64() / args.seconds * 1e4).round() / 100.0,
        });
        println!("{figures}");
    } else {
        println!("floor: {ns:.0} ns CPU per packet ({sent} packets to {} sockets, {lost} lost)", args.viewers);
    }
    Ok(())
}
