//! The multivariant playlist: each layer of pictures as a variant, highest first, with the sound as a rendition of its own that all
//! share (RFC 8216bis section 4.4.6); of a stream that has sound alone, the sound as the only variant.

use crate::media::MediaKind;

use super::{
    RenditionDescription,
    playlist::{Rendered, VERSION, playlist_name},
    window::{RenditionWindow, Window},
};

const AUDIO_GROUP: &str = "audio";

/// The playlist that names the others.
pub fn multivariant_playlist(window: &Window) -> Rendered {
    let mut out = Rendered::default();
    out.line(format_args!("#EXTM3U"));
    out.line(format_args!("#EXT-X-VERSION:{VERSION}"));
    out.line(format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    // What has stopped is offered to nobody, unless there is nothing else.
    let all: Vec<_> = window.renditions().filter_map(|of| Some((of, of.description()?))).collect();
    let going_on = |(rendition, _): &(&RenditionWindow, &RenditionDescription)| !rendition.is_ended();
    let offered: Vec<_> = if all.iter().any(going_on) { all.iter().copied().filter(going_on).collect() } else { all };
    let of_kind = |kind| offered.iter().copied().filter(move |(_, description)| description.kind == kind);
    let mut pictures: Vec<_> = of_kind(MediaKind::Video).collect();
    let rows = |description: &RenditionDescription| description.size.map_or(0, |size| size.height);
    pictures.sort_by_key(|(_, description)| std::cmp::Reverse(rows(description)));
    let sound = of_kind(MediaKind::Audio).next();
    match sound {
        Some((rendition, description)) if !pictures.is_empty() => write_audio(&mut out, rendition, description),
        _ => {}
    }
    for (rendition, description) in &pictures {
        write_variant(&mut out, rendition, description, sound);
    }
    if let Some((rendition, description)) = sound
        && pictures.is_empty()
    {
        write_variant(&mut out, rendition, description, None);
    }
    out
}

fn write_audio(out: &mut Rendered, rendition: &RenditionWindow, description: &RenditionDescription) {
    let channels = description.channels.map_or_else(String::new, |channels| format!(",CHANNELS=\"{channels}\""));
    out.put(format_args!(
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES{channels},URI=\""
    ));
    out.uri(format_args!("{}", playlist_name(rendition.index())));
    out.line(format_args!("\""));
}

fn write_variant(
    out: &mut Rendered,
    rendition: &RenditionWindow,
    description: &RenditionDescription,
    sound: Option<(&RenditionWindow, &RenditionDescription)>,
) {
    let (mut peak, mut average) = rendition.measured_bps();
    let mut codecs = description.codecs.clone();
    if let Some((sound, of_sound)) = sound {
        let (sound_peak, sound_average) = sound.measured_bps();
        (peak, average) = (peak + sound_peak, average + sound_average);
        codecs = format!("{codecs},{}", of_sound.codecs);
    }
    out.put(format_args!("#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{codecs}\""));
    if let Some(size) = description.size {
        out.put(format_args!(",RESOLUTION={}x{}", size.width, size.height));
    }
    if let Some(rate) = description.frame_rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
        out.put(format_args!(",FRAME-RATE={rate:.3}"));
    }
    if sound.is_some() {
        out.put(format_args!(",AUDIO=\"{AUDIO_GROUP}\""));
    }
    if description.kind == MediaKind::Video {
        out.put(format_args!(",CLOSED-CAPTIONS=NONE"));
    }
    out.line(format_args!(""));
    out.uri(format_args!("{}", playlist_name(rendition.index())));
    out.line(format_args!(""));
}
