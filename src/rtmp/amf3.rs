//! AMF3 values out of a peer's bytes (AMF3 specification), where a message in AMF0 changes over to it. They become AMF0's.
//!
//! Strings, objects and traits may be references to ones before. So a message of some kilobytes could grow to any size: what strings come to
//! is bounded, and a reference to an object is null.

use std::{collections::HashMap, rc::Rc};

use rml_rtmp::rml_amf0::Amf0Value;

use super::amf::{BadAmf, Reader};

/// Bytes of text in one message, references counted as what they refer to.
const TEXT_MAX_BYTES: usize = 64 * 1024;

/// What references refer to, of one message. As many as there are values in it at the most.
#[derive(Default)]
pub(super) struct References {
    strings: Vec<String>,
    traits: Vec<Rc<Traits>>,
    text_bytes: usize,
}

/// Of a class: its sealed members, and whether others follow by name.
struct Traits {
    members: Vec<String>,
    is_dynamic: bool,
}

impl Reader<'_> {
    /// A value, its marker included.
    pub(super) fn amf3_value(&mut self, depth: u32) -> Result<Amf0Value, BadAmf> {
        self.count_value(depth)?;
        let [marker] = self.array()?;
        Ok(match marker {
            0x00 => Amf0Value::Undefined,
            0x01 => Amf0Value::Null,
            0x02 => Amf0Value::Boolean(false),
            0x03 => Amf0Value::Boolean(true),
            // 29 bits, of which the highest is the sign.
            0x04 => Amf0Value::Number(f64::from((self.u29()? << 3) as i32 >> 3)),
            0x05 => Amf0Value::Number(f64::from_be_bytes(self.array()?)),
            0x06 => Amf0Value::Utf8String(self.amf3_text()?),
            0x07 | 0x0b | 0x0c => {
                self.sized(|bytes| Amf0Value::Utf8String(String::from_utf8_lossy(bytes).into_owned()))?
            }
            0x08 => match self.inline()? {
                Some(_) => Amf0Value::Number(f64::from_be_bytes(self.array()?)),
                None => Amf0Value::Null,
            },
            0x09 => self.amf3_array(depth)?,
            0x0a => self.amf3_object(depth)?,
            other => return Err(BadAmf::UnknownType(other)),
        })
    }

    /// Up to four bytes, seven bits each and eight in the last (section 1.3.1).
    fn u29(&mut self) -> Result<u32, BadAmf> {
        let mut value = 0;
        for _ in 0..3 {
            let [byte] = self.array()?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let [byte] = self.array()?;
        Ok(value << 8 | u32::from(byte))
    }

    /// What goes before a value that may be a reference: none for one, else the number that it says.
    fn inline(&mut self) -> Result<Option<usize>, BadAmf> {
        let head = self.u29()?;
        Ok((head & 1 == 1).then_some((head >> 1) as usize))
    }

    fn sized(&mut self, read: impl Fn(&[u8]) -> Amf0Value) -> Result<Amf0Value, BadAmf> {
        match self.inline()? {
            Some(bytes) => {
                self.count_text(bytes)?;
                Ok(read(self.take(bytes)?))
            }
            None => Ok(Amf0Value::Null),
        }
    }

    fn count_text(&mut self, bytes: usize) -> Result<(), BadAmf> {
        self.references.text_bytes = self.references.text_bytes.saturating_add(bytes);
        if self.references.text_bytes > TEXT_MAX_BYTES { Err(BadAmf::TooMany) } else { Ok(()) }
    }

    fn amf3_text(&mut self) -> Result<String, BadAmf> {
        let head = self.u29()?;
        let number = (head >> 1) as usize;
        if head & 1 == 0 {
            let text = self.references.strings.get(number).cloned().ok_or(BadAmf::Truncated)?;
            self.count_text(text.len())?;
            return Ok(text);
        }
        self.count_text(number)?;
        let text = String::from_utf8_lossy(self.take(number)?).into_owned();
        // The empty one is never referred to (section 1.3.2).
        if !text.is_empty() {
            self.count_value(0)?;
            self.references.strings.push(text.clone());
        }
        Ok(text)
    }

    /// Named values, up to the empty name, then those that are counted.
    fn amf3_array(&mut self, depth: u32) -> Result<Amf0Value, BadAmf> {
        let Some(count) = self.inline()? else { return Ok(Amf0Value::Null) };
        let named = self.named(depth)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.amf3_value(depth + 1)?);
        }
        Ok(if named.is_empty() { Amf0Value::StrictArray(values) } else { Amf0Value::Object(named) })
    }

    fn named(&mut self, depth: u32) -> Result<HashMap<String, Amf0Value>, BadAmf> {
        let mut named = HashMap::new();
        loop {
            let name = self.amf3_text()?;
            if name.is_empty() {
                return Ok(named);
            }
            let value = self.amf3_value(depth + 1)?;
            named.insert(name, value);
        }
    }

    fn amf3_object(&mut self, depth: u32) -> Result<Amf0Value, BadAmf> {
        /// Its bytes are its class's business, and nobody knows how many there are.
        const EXTERNALIZABLE: usize = 0b10;
        const DYNAMIC: usize = 0b100;
        let Some(head) = self.inline()? else { return Ok(Amf0Value::Null) };
        let traits = if head & 1 == 0 {
            self.references.traits.get(head >> 1).cloned().ok_or(BadAmf::Truncated)?
        } else {
            if head & EXTERNALIZABLE != 0 {
                return Err(BadAmf::UnknownType(0x0a));
            }
            self.amf3_text()?; // the class's name
            let mut members = Vec::new();
            for _ in 0..head >> 3 {
                self.count_value(0)?;
                members.push(self.amf3_text()?);
            }
            let traits = Rc::new(Traits { members, is_dynamic: head & DYNAMIC != 0 });
            self.references.traits.push(traits.clone());
            traits
        };
        let mut properties = HashMap::new();
        for member in &traits.members {
            // Each object of the class has names of its own, whether it says them or refers to them.
            self.count_text(member.len())?;
            let value = self.amf3_value(depth + 1)?;
            properties.insert(member.clone(), value);
        }
        if traits.is_dynamic {
            properties.extend(self.named(depth)?);
        }
        Ok(Amf0Value::Object(properties))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::amf::read_all, *};

    /// A value behind the marker that changes over to AMF3.
    fn read(bytes: &[u8]) -> Result<Amf0Value, BadAmf> {
        read_all(&[&[0x11], bytes].concat()).map(|values| values.into_iter().next().unwrap())
    }

    fn text(text: &str) -> Amf0Value {
        Amf0Value::Utf8String(text.into())
    }

    #[test]
    fn plain_values_are_read() {
        assert_eq!(read(&[0x00]), Ok(Amf0Value::Undefined));
        assert_eq!(read(&[0x03]), Ok(Amf0Value::Boolean(true)));
        assert_eq!(read(&[0x04, 0x7f]), Ok(Amf0Value::Number(127.0)));
        assert_eq!(read(&[0x04, 0x81, 0x00]), Ok(Amf0Value::Number(128.0)));
        assert_eq!(read(&[0x04, 0xff, 0xff, 0xff, 0xff]), Ok(Amf0Value::Number(-1.0)));
        assert_eq!(read(&[0x05, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]), Ok(Amf0Value::Number(1.0)));
        assert_eq!(read(b"\x06\x07abc"), Ok(text("abc")));
        assert_eq!(read(&[0x08, 1, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]), Ok(Amf0Value::Number(1.0)));
        assert_eq!(read(&[0x0a, 0]), Ok(Amf0Value::Null), "a reference");
    }

    #[test]
    fn objects_arrays_and_references_are_read() {
        let Ok(Amf0Value::Object(object)) = read(b"\x0a\x0b\x01\x07app\x06\x09live\x0btcUrl\x06\x02\x01") else {
            panic!()
        };
        assert_eq!(object["app"], text("live"));
        assert_eq!(object["tcUrl"], text("live"), "the string before, by its number");
        // A class with one sealed member, then another object of it.
        let two = b"\x09\x05\x01\x0a\x13\x01\x03a\x04\x05\x0a\x01\x04\x06";
        let Ok(Amf0Value::StrictArray(values)) = read(two) else { panic!() };
        let members: Vec<_> = values
            .iter()
            .map(|value| match value {
                Amf0Value::Object(object) => object["a"].clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(members, [Amf0Value::Number(5.0), Amf0Value::Number(6.0)]);
    }

    /// An array of objects of one class, with a member of so many bytes; the first says the class, the others refer to it.
    fn objects_of_one_class(objects: usize, name_bytes: usize) -> Vec<u8> {
        let u29 = |value: usize| [0x80 | (value >> 14) as u8, 0x80 | (value >> 7) as u8, value as u8 & 0x7f];
        let mut bytes =
            [&[0x09][..], &u29(objects << 1 | 1), &[0x01, 0x0a, 0x13, 0x01], &u29(name_bytes << 1 | 1)].concat();
        bytes.extend(vec![b'a'; name_bytes]);
        bytes.push(0x01);
        bytes.extend([0x0a, 0x01, 0x01].repeat(objects - 1));
        bytes
    }

    #[test]
    fn names_of_members_are_counted_for_each_object_that_has_them() {
        // 32 KiB of a peer's bytes, which would become 7.5 MB.
        assert_eq!(read(&objects_of_one_class(250, 30_000)), Err(BadAmf::TooMany));
        let name_bytes = 1_000;
        // Counted once more where the class is said.
        let objects = TEXT_MAX_BYTES / name_bytes - 1;
        let Ok(Amf0Value::StrictArray(values)) = read(&objects_of_one_class(objects, name_bytes)) else { panic!() };
        assert_eq!(values.len(), objects);
        assert_eq!(read(&objects_of_one_class(objects + 1, name_bytes)), Err(BadAmf::TooMany));
    }

    #[test]
    fn nothing_grows_beyond_its_bound() {
        let nested = [0x09, 0x03, 0x01].repeat(40);
        assert_eq!(read(&nested), Err(BadAmf::TooDeep));
        // A kilobyte of text, referred to again and again.
        let mut bomb = vec![0x09, 0x83, 0x01, 0x01, 0x06, 0x90, 0x01];
        bomb.extend([b'a'; 1_024]);
        bomb.extend([0x06, 0x00].repeat(191));
        assert_eq!(read(&bomb), Err(BadAmf::TooMany));
        for cut in
            [&[0x04, 0xff][..], b"\x06\x09abc", &[0x06, 0x02], &[0x0a, 0x05], &[0x09, 0xff, 0xff, 0xff, 0xff, 0x01]]
        {
            assert!(read(cut).is_err(), "{cut:?}");
        }
        assert_eq!(read(&[0x0a, 0x07, 0x01]), Err(BadAmf::UnknownType(0x0a)), "bytes of a class's own");
    }
}
