//! `onMetaData`, which encoders send before pictures and sound (FLV 10.1 annex E.5), and services show to those who publish.

use std::collections::HashMap;

use bytes::Bytes;
use rml_rtmp::rml_amf0::{self, Amf0Value};

use crate::codec::{
    aac::AudioSpecificConfig,
    h264::{DecoderConfiguration, parameter_sets::Sps},
};

/// FLV 10.1 annex E.4.3.1 and E.4.2.1.
const H264: f64 = 7.0;
const AAC: f64 = 10.0;

/// The message's body: what an `AVCDecoderConfigurationRecord` and an `AudioSpecificConfig` say, as far as there are any.
pub(super) fn on_meta_data(pictures: Option<&Bytes>, sound: Option<&Bytes>) -> Bytes {
    let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
    let number = |number: u32| Amf0Value::Number(number.into());
    let mut told = HashMap::from([("duration", number(0)), ("encoder", text("Sluice"))]);
    if let Some(record) = pictures {
        told.insert("videocodecid", Amf0Value::Number(H264));
        let sets = DecoderConfiguration::parse(record).ok();
        let sps = sets.and_then(|sets| Sps::parse(sets.parameter_sets.first()?).ok());
        if let Some(sps) = sps {
            told.extend([("width", number(sps.width)), ("height", number(sps.height))]);
            if let Some((pictures, seconds)) = sps.usability.frame_rate.filter(|(_, seconds)| *seconds > 0) {
                told.insert("framerate", Amf0Value::Number(f64::from(pictures) / f64::from(seconds)));
            }
        }
    }
    if let Some(config) = sound {
        told.insert("audiocodecid", Amf0Value::Number(AAC));
        if let Ok(config) = AudioSpecificConfig::parse(config) {
            let channels = config.channels();
            told.extend([
                ("audiosamplerate", number(config.output_rate_hz)),
                ("audiosamplesize", number(16)),
                ("audiochannels", number(channels.into())),
                ("stereo", Amf0Value::Boolean(channels == 2)),
            ]);
        }
    }
    let told = told.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    // Cannot fail: the texts are short.
    let body = rml_amf0::serialize(&vec![text("@setDataFrame"), text("onMetaData"), Amf0Value::Object(told)]);
    body.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::amf;

    #[test]
    fn size_codecs_and_channels_are_told() {
        // 640 x 360, constrained baseline.
        let sps = [
            0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00,
            0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
        ];
        let record =
            [&[1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, sps.len() as u8][..], &sps, &[1, 0, 2, 0x68, 0xce]].concat();
        let record = Bytes::from(record);
        let body = on_meta_data(Some(&record), Some(&Bytes::from_static(&[0x11, 0x90])));
        let values = amf::read_all(&body).unwrap();
        let Some(Amf0Value::Object(told)) = values.last() else { panic!("{values:?}") };
        assert_eq!(values.len(), 3);
        for (name, value) in [
            ("width", 640.0),
            ("height", 360.0),
            ("framerate", 30.0),
            ("videocodecid", 7.0),
            ("audiocodecid", 10.0),
            ("audiosamplerate", 48_000.0),
            ("audiochannels", 2.0),
        ] {
            assert_eq!(told.get(name), Some(&Amf0Value::Number(value)), "{name} of {told:?}");
        }
        assert_eq!(told["stereo"], Amf0Value::Boolean(true));
        let alone = amf::read_all(&on_meta_data(None, None)).unwrap();
        assert!(matches!(alone.last(), Some(Amf0Value::Object(told)) if told.len() == 2));
    }
}
