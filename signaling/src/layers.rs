//! Layers in JSON (WHEP extensions draft, "layers event" and "Video Layer Selection extension").

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    error::Problem,
    media_plane::{LayerChoice, LayerInfo},
};

/// The data of a `layers` event: an array per `m=` line. Of an inactive layer no bitrate is given. An encoding without a name is
/// spatial layer 0: a layer has one or the other.
pub fn layers_json(layers: &[LayerInfo]) -> String {
    let mut lines: Map<String, Value> = Map::new();
    for layer in layers {
        let mut written = match &layer.encoding_id {
            Some(rid) => json!({ "rid": rid }),
            None => json!({ "spatialLayerId": 0 }),
        };
        for (name, value) in [
            ("bitrate", Some(layer.bitrate_bps).filter(|bitrate| layer.active && *bitrate > 0)),
            ("width", layer.width.map(u64::from)),
            ("height", layer.height.map(u64::from)),
        ] {
            if let Some(value) = value {
                written[name] = value.into();
            }
        }
        let line = lines.entry(layer.media_id.to_string()).or_insert_with(|| json!([]));
        if let Value::Array(line) = line {
            line.push(written);
        }
    }
    Value::Object(lines).to_string()
}

/// What a client asks for. Bounds on spatial and temporal layers say nothing about encodings that have layer 0 only. Unknown fields are passed over, for later versions of the draft.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selection {
    media_id: Option<MediaId>,
    rid: Option<String>,
    spatial_layer_id: Option<u32>,
    temporal_layer_id: Option<u32>,
    max_width: Option<u32>,
    max_height: Option<u32>,
}

/// A string by the draft; a number says the same.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum MediaId {
    Text(String),
    Number(usize),
}

/// Reads the body of a layer selection, for a session that can choose among `layers`.
///
/// # Errors
/// 400 for no JSON of this form, 422 for what cannot be chosen.
pub fn selection(body: &[u8], layers: &[LayerInfo]) -> Result<LayerChoice, Problem> {
    let selection: Selection = serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the body is no JSON object such as {{\"rid\":\"h\"}}: {error}");
        Problem::new(400, "bad-layer-selection", "The body is no layer selection", detail)
    })?;
    let cannot = |detail: String| Problem::new(422, "no-such-layer", "The stream has no such layer", detail);
    if let Some(media_id) = &selection.media_id {
        let of_pictures = |layer: &LayerInfo| match media_id {
            MediaId::Text(text) => *text == layer.media_id.to_string(),
            MediaId::Number(number) => *number == layer.media_id,
        };
        if !layers.iter().any(of_pictures) {
            let lines: Vec<_> = layers.iter().map(|layer| layer.media_id.to_string()).collect();
            let named = lines.first().map_or("none at the moment".into(), |line| format!("m= line {line}"));
            return Err(cannot(format!("layers are chosen on the line of pictures: {named}")));
        }
    }
    if selection.spatial_layer_id.is_some_and(|id| id > 0) {
        return Err(cannot("encodings are told apart by their rid; each has spatial layer 0 only".into()));
    }
    if selection.temporal_layer_id.is_some_and(|id| id > 0) {
        return Err(cannot("temporal layers are not taken apart: an encoding comes with all its pictures".into()));
    }
    if let Some(rid) = selection.rid {
        if layers.iter().all(|layer| layer.encoding_id.as_ref() != Some(&rid)) {
            let known: Vec<_> = layers.iter().filter_map(|layer| layer.encoding_id.as_deref()).collect();
            let known = if known.is_empty() {
                "no encoding has a rid".into()
            } else {
                format!("there are {}", known.join(", "))
            };
            return Err(cannot(format!("no encoding is called {rid:?}: {known}")));
        }
        return Ok(LayerChoice::Encoding(rid));
    }
    Ok(match (selection.max_width, selection.max_height) {
        (None, None) => LayerChoice::Automatic,
        (width_max, height_max) => LayerChoice::Within { width_max, height_max },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<LayerInfo> {
        let layer = |rid: &str, width, bitrate_bps| LayerInfo {
            media_id: 1,
            encoding_id: Some(rid.into()),
            width: Some(width),
            height: Some(width * 9 / 16),
            bitrate_bps,
            active: bitrate_bps > 0,
        };
        vec![layer("h", 1280, 2_000_000), layer("q", 320, 0)]
    }

    #[test]
    fn layers_are_written_by_line_and_inactive_ones_without_a_bitrate() {
        let written: Value = serde_json::from_str(&layers_json(&layers())).unwrap();
        let expected = json!({ "1": [
            { "rid": "h", "bitrate": 2_000_000, "width": 1280, "height": 720 },
            { "rid": "q", "width": 320, "height": 180 },
        ] });
        assert_eq!(written, expected);
        assert!(!layers_json(&layers()).contains('\n'), "one data line");
        let nameless =
            LayerInfo { encoding_id: None, width: None, height: None, bitrate_bps: 0, ..layers()[0].clone() };
        assert_eq!(layers_json(&[nameless]), r#"{"1":[{"spatialLayerId":0}]}"#);
        assert_eq!(layers_json(&[]), "{}");
    }

    #[test]
    fn a_selection_is_a_rid_or_bounds_or_nothing() {
        let within = |width_max, height_max| LayerChoice::Within { width_max, height_max };
        for (body, choice) in [
            (r#"{"rid":"q"}"#, LayerChoice::Encoding("q".into())),
            (r#"{"mediaId":"1","rid":"h","encodingNews":5}"#, LayerChoice::Encoding("h".into())),
            (r#"{"mediaId":1}"#, LayerChoice::Automatic),
            ("{}", LayerChoice::Automatic),
            (r#"{"maxWidth":640}"#, within(Some(640), None)),
            (
                r#"{"maxHeight":360,"maxWidth":640,"maxSpatialLayerId":2,"maxTemporalLayerId":1,"spatialLayerId":0,"temporalLayerId":0}"#,
                within(Some(640), Some(360)),
            ),
        ] {
            assert_eq!(selection(body.as_bytes(), &layers()), Ok(choice), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_chosen_is_said() {
        for (body, status, says) in [
            ("", 400, "JSON"),
            ("[]", 400, "JSON"),
            (r#"{"rid":1}"#, 400, "JSON"),
            (r#"{"maxWidth":-1}"#, 400, "JSON"),
            (r#"{"rid":"x"}"#, 422, "there are h, q"),
            (r#"{"mediaId":"0"}"#, 422, "m= line 1"),
            (r#"{"spatialLayerId":1}"#, 422, "rid"),
            (r#"{"temporalLayerId":1}"#, 422, "temporal"),
        ] {
            let problem = selection(body.as_bytes(), &layers()).unwrap_err();
            assert_eq!((problem.status, problem.detail.contains(says)), (status, true), "{body}: {problem}");
        }
        assert!(selection(br#"{"rid":"h"}"#, &[]).unwrap_err().detail.contains("no encoding has a rid"));
    }
}
