//! AMF0 values out of a peer's bytes (AMF0 specification), bounded in depth and number; where they change over to AMF3, see [`super::amf3`].
//!
//! `rml_rtmp`'s own reader is used to write only: reading, it follows nested objects as deep as the message goes (a
//! command of some kilobytes overflows the stack), panics on commands of fewer than three values, and knows neither
//! dates nor long strings, which encoders put into `onMetaData`.

use std::collections::HashMap;

use rml_rtmp::rml_amf0::Amf0Value;

use super::amf3::References;

/// Objects within objects. Real commands have one level, metadata two.
const DEPTH_MAX: u32 = 8;
/// Values in one message, keys not counted.
const VALUES_MAX: u32 = 512;

/// The bytes are no AMF0, or more of it than is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAmf {
    #[error("AMF data is cut short")]
    Truncated,
    #[error("AMF type {0:#04x} is not known")]
    UnknownType(u8),
    #[error("AMF values nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("more than {VALUES_MAX} AMF values, or too much text, in one message")]
    TooMany,
}

/// All values of a message. Text that is not UTF-8 is mended; dates become numbers, references and the like null.
///
/// # Errors
/// [`BadAmf`].
pub fn read_all(bytes: &[u8]) -> Result<Vec<Amf0Value>, BadAmf> {
    let mut reader = Reader { rest: bytes, values: 0, references: References::default() };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    values: u32,
    pub(super) references: References,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], BadAmf> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BadAmf::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadAmf> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(BadAmf::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn short_text(&mut self) -> Result<String, BadAmf> {
        let length = u16::from_be_bytes(self.array()?);
        Ok(String::from_utf8_lossy(self.take(usize::from(length))?).into_owned())
    }

    /// Another value, or what is kept like one.
    pub(super) fn count_value(&mut self, depth: u32) -> Result<(), BadAmf> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(BadAmf::TooMany);
        }
        if depth > DEPTH_MAX { Err(BadAmf::TooDeep) } else { Ok(()) }
    }

    fn value(&mut self, depth: u32) -> Result<Amf0Value, BadAmf> {
        self.count_value(depth)?;
        let [kind] = self.array()?;
        Ok(match kind {
            0x00 => Amf0Value::Number(f64::from_be_bytes(self.array()?)),
            0x01 => Amf0Value::Boolean(self.array()? != [0]),
            0x02 => Amf0Value::Utf8String(self.short_text()?),
            0x03 => Amf0Value::Object(self.properties(depth)?),
            0x05 | 0x06 | 0x0d => Amf0Value::Null,
            0x07 => {
                self.take(2)?;
                Amf0Value::Null
            }
            0x08 => {
                self.take(4)?; // a count that nobody relies on
                Amf0Value::Object(self.properties(depth)?)
            }
            0x0a => {
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Amf0Value::StrictArray(values)
            }
            0x0b => {
                let time = f64::from_be_bytes(self.array()?);
                self.take(2)?; // a time zone that is always zero
                Amf0Value::Number(time)
            }
            0x0c | 0x0f => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                Amf0Value::Utf8String(String::from_utf8_lossy(self.take(length)?).into_owned())
            }
            0x10 => {
                self.short_text()?; // the class's name
                Amf0Value::Object(self.properties(depth)?)
            }
            0x11 => self.amf3_value(depth)?,
            other => return Err(BadAmf::UnknownType(other)),
        })
    }

    fn properties(&mut self, depth: u32) -> Result<HashMap<String, Amf0Value>, BadAmf> {
        let mut properties = HashMap::new();
        loop {
            let name = self.short_text()?;
            if name.is_empty() && self.rest.first() == Some(&0x09) {
                self.take(1)?;
                return Ok(properties);
            }
            let value = self.value(depth + 1)?;
            properties.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let object = HashMap::from([("app".to_owned(), Amf0Value::Utf8String("live".into()))]);
        let values = vec![
            Amf0Value::Utf8String("connect".into()),
            Amf0Value::Number(1.0),
            Amf0Value::Object(object),
            Amf0Value::Null,
            Amf0Value::Boolean(true),
        ];
        let bytes = rml_rtmp::rml_amf0::serialize(&values).unwrap();
        assert_eq!(read_all(&bytes).unwrap(), values);
        for cut in 1..bytes.len() {
            let _ = read_all(&bytes[..cut]);
        }
    }

    #[test]
    fn dates_and_long_strings_are_read() {
        let mut bytes = vec![0x0b];
        bytes.extend(7.0f64.to_be_bytes());
        bytes.extend([0, 0, 0x0c, 0, 0, 0, 2, b'h', b'i']);
        assert_eq!(read_all(&bytes).unwrap(), [Amf0Value::Number(7.0), Amf0Value::Utf8String("hi".into())]);
    }

    #[test]
    fn nesting_and_numbers_are_bounded() {
        let nested = [0x03, 0, 1, b'a'].repeat(8_000);
        assert_eq!(read_all(&nested), Err(BadAmf::TooDeep));
        assert_eq!(read_all(&[0x05; 1_000]), Err(BadAmf::TooMany));
        assert_eq!(read_all(&[0x0a, 0xff, 0xff, 0xff, 0xff]), Err(BadAmf::Truncated));
        assert_eq!(read_all(&[0x0c, 0xff, 0xff, 0xff, 0xff]), Err(BadAmf::Truncated));
        assert_eq!(read_all(&[0x12]), Err(BadAmf::UnknownType(0x12)));
    }
}
