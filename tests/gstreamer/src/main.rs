//! GStreamer as a WHIP and WHEP client, by the elements of gst-plugin-webrtc that stand in pipelines everywhere: publishes a moving
//! picture and a hum until its input is closed, or plays, decodes and counts. One line of JSON at the end.
//!
//!     sluice-gstreamer version
//!     sluice-gstreamer publish URL
//!     sluice-gstreamer play URL PICTURES SOUNDS

#![allow(clippy::disallowed_methods, reason = "a client: it owns its threads")]

use std::{
    io::Read as _,
    process::ExitCode,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use serde_json::{Value, json};

/// A server that takes longer to answer, to connect or to send has failed.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<Value, Failure> {
    gst::init()?;
    gstrswebrtc::plugin_register_static()?;
    match arguments {
        ["version"] => version(),
        ["publish", url] => publish(url),
        ["play", url, pictures, sounds] => play(url, pictures.parse()?, sounds.parse()?),
        _ => Err("usage: sluice-gstreamer version | publish URL | play URL PICTURES SOUNDS".into()),
    }
}

fn version() -> Result<Value, Failure> {
    let plugin = gst::Registry::get().find_plugin("rswebrtc").ok_or("gst-plugin-webrtc is missing")?;
    let (major, minor, micro, _) = gst::version();
    // Its own number comes with the commit it was built from.
    let number = plugin.version();
    let number = number.split('-').next().unwrap_or_default();
    Ok(json!({ "plugin": number, "gstreamer": format!("{major}.{minor}.{micro}") }))
}

/// Ends the pipeline on every way out, so that its elements say goodbye to the server.
struct Running(gst::Pipeline);

impl Running {
    fn start(description: &str) -> Result<Self, Failure> {
        let pipeline = match gst::parse::launch(description)?.downcast::<gst::Pipeline>() {
            Ok(pipeline) => pipeline,
            // What is described as one element is given as that.
            Err(element) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&element)?;
                pipeline
            }
        };
        // The elements would ask a public STUN server; here everybody is near.
        for name in ["whip", "whep"] {
            if let Some(element) = pipeline.by_name(name) {
                element.set_property("stun-server", None::<String>);
            }
        }
        Ok(Self(pipeline))
    }

    fn play(&self) -> Result<(), Failure> {
        self.0.set_state(gst::State::Playing)?;
        Ok(())
    }

    /// What went wrong until now.
    fn failure(&self) -> Option<String> {
        let message = self.0.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(format!("{}: {:?}", error.error(), error.debug())),
            _ => None,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A pipeline that cannot be stopped ends with the process.
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn publish(url: &str) -> Result<Value, Failure> {
    let running = Running::start(&format!(
        "whipclientsink name=whip signaller::whip-endpoint={url} congestion-control=disabled \
            video-caps=video/x-h264 audio-caps=audio/x-opus \
         videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1 ! queue ! whip.video_0 \
         audiotestsrc is-live=true freq=440 volume=0.2 ! audio/x-raw,rate=48000,channels=2 ! queue ! whip.audio_0"
    ))?;
    running.play()?;
    // The tests watch what is sent; this waits to be dismissed.
    let (dismissed, dismissal) = mpsc::channel();
    std::thread::spawn(move || {
        let read = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = dismissed.send(read.map(|_| ()));
    });
    loop {
        if let Some(failure) = running.failure() {
            return Err(failure.into());
        }
        match dismissal.recv_timeout(Duration::from_millis(100)) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            ended => break ended??,
        }
    }
    drop(running);
    Ok(json!({ "published": true }))
}

/// What was decoded of one kind of media.
#[derive(Clone, Copy, Default)]
struct Counted {
    units: u64,
    squares: f64,
    samples: u64,
}

fn play(url: &str, pictures: u64, sounds: u64) -> Result<Value, Failure> {
    let running = Running::start(&format!("whepclientsrc name=whep signaller::whep-endpoint={url}"))?;
    let whep = running.0.by_name("whep").ok_or("no whepclientsrc")?;
    let (decoded, counts) = mpsc::channel::<(&'static str, Counted)>();
    let pipeline = running.0.downgrade();
    let failed: Arc<Mutex<Option<String>>> = Arc::default();
    let failing = failed.clone();
    whep.connect_pad_added(move |_, pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        if let Err(failure) = count(&pipeline, pad, &decoded)
            && let Ok(mut failed) = failing.lock()
        {
            *failed = Some(failure.to_string());
        }
    });
    running.play()?;

    let (mut video, mut audio) = (Counted::default(), Counted::default());
    while video.units < pictures || audio.units < sounds {
        let Ok((kind, counted)) = counts.recv_timeout(PATIENCE) else {
            let why = failed.lock().ok().and_then(|mut failed| failed.take()).or_else(|| running.failure());
            let so_far = format!("{} pictures, {} sounds", video.units, audio.units);
            return Err(format!("{so_far}, then nothing: {why:?}").into());
        };
        *(if kind == "video" { &mut video } else { &mut audio }) = counted;
    }
    let report = json!({
        "video": { "codec": codec(&running.0, "Video"), "units": video.units },
        "audio": { "codec": codec(&running.0, "Audio"), "units": audio.units, "energy": audio.squares / audio.samples as f64 },
    });
    drop(running);
    Ok(report)
}

/// Leads a pad of the source to where its decoded units are counted.
fn count(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    decoded: &mpsc::Sender<(&'static str, Counted)>,
) -> Result<(), Failure> {
    let video = pad.name().starts_with("video");
    let sink = gst::parse::bin_from_description(
        if video {
            "queue ! videoconvert ! video/x-raw ! fakesink name=end sync=false"
        } else {
            "queue ! audioconvert ! audio/x-raw,format=F32LE,layout=interleaved ! fakesink name=end sync=false"
        },
        true,
    )?;
    let end = sink.by_name("end").and_then(|end| end.static_pad("sink")).ok_or("nowhere to count")?;
    let decoded = decoded.clone();
    let counted = Mutex::new(Counted::default());
    end.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let (Some(buffer), Ok(mut counted)) = (info.buffer(), counted.lock()) {
            counted.units += 1;
            if let (false, Ok(bytes)) = (video, buffer.map_readable()) {
                for sample in bytes.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)))
                {
                    counted.squares += f64::from(sample * sample);
                    counted.samples += 1;
                }
            }
            // Nobody listens any more once enough has come.
            let _ = decoded.send((if video { "video" } else { "audio" }, *counted));
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.add(&sink)?;
    sink.sync_state_with_parent()?;
    pad.link(&sink.static_pad("sink").ok_or("no way in")?)?;
    Ok(())
}

/// The codec that a decoder of this kind is fed with.
fn codec(pipeline: &gst::Pipeline, kind: &str) -> Option<String> {
    let decoder = pipeline.iterate_recurse().into_iter().flatten().find(|element| {
        let class = element.metadata("klass").unwrap_or_default();
        class.contains("Decoder") && class.contains(kind) && element.static_pad("sink").is_some()
    })?;
    let caps = decoder.static_pad("sink")?.current_caps()?;
    Some(caps.structure(0)?.name().replace("x-", ""))
}
