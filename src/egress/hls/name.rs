//! Names of media under a stream's URL: which object, and a code that only the stream's playlists tell.
//!
//! Caches may keep media for everybody, so a name must be as good as a token: 96 bits of an HMAC under a key that lives and dies with
//! one packaging of a stream. Whoever knows some names, such as a viewer whose token has ended, cannot tell the next one's.

use std::fmt::{self, Write as _};

use aws_lc_rs::{constant_time, hmac};

use super::RenditionIndex;

/// Of an HMAC-SHA256, what stands in a name: nobody finds one of 2^96 by asking.
const CODE_BYTES: usize = 12;

/// What a name can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaObject {
    /// Counted from 0 within its rendition.
    Initialization(u64),
    /// By its media sequence number.
    Segment(u64),
    /// Counted from 0 within its rendition, over all segments: a hinted part keeps its name whichever segment it comes to be in.
    Part(u64),
}

impl MediaObject {
    fn letter(self) -> char {
        match self {
            Self::Initialization(_) => 'i',
            Self::Segment(_) => 's',
            Self::Part(_) => 'p',
        }
    }

    fn number(self) -> u64 {
        let (Self::Initialization(number) | Self::Segment(number) | Self::Part(number)) = self;
        number
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Initialization(_) => "mp4",
            Self::Segment(_) | Self::Part(_) => "m4s",
        }
    }
}

/// Makes and checks the names of one packaging of a stream.
#[derive(Clone)]
pub struct MediaNames {
    key: hmac::Key,
}

/// Without the key.
impl fmt::Debug for MediaNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaNames").finish_non_exhaustive()
    }
}

impl MediaNames {
    /// With a key that nobody else has.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// `0-p17-8c1f….m4s`.
    pub fn name(&self, rendition: RenditionIndex, object: MediaObject) -> String {
        let mut name = format!("{}-{}{}", rendition.0, object.letter(), object.number());
        let code = hmac::sign(&self.key, name.as_bytes());
        name.push('-');
        for byte in code.as_ref().iter().take(CODE_BYTES) {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name.push('.');
        name.push_str(object.extension());
        name
    }

    /// What a name stands for; `None` unless it is one that [`name`](Self::name) gives.
    pub fn object(&self, name: &str) -> Option<(RenditionIndex, MediaObject)> {
        let mut parts = name.splitn(3, '-');
        let rendition = RenditionIndex(parts.next()?.parse().ok()?);
        let object = parts.next()?;
        let letter = object.chars().next()?;
        let number = object.get(letter.len_utf8()..)?.parse().ok()?;
        let object = match letter {
            'i' => MediaObject::Initialization(number),
            's' => MediaObject::Segment(number),
            'p' => MediaObject::Part(number),
            _ => return None,
        };
        let genuine = self.name(rendition, object);
        constant_time::verify_slices_are_equal(genuine.as_bytes(), name.as_bytes()).ok()?;
        Some((rendition, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_object_and_nothing_near_it_stands_for_any() {
        let names = MediaNames::new([7; 32]);
        for object in [MediaObject::Initialization(0), MediaObject::Segment(1_700_000_000), MediaObject::Part(u64::MAX)]
        {
            let name = names.name(RenditionIndex(3), object);
            assert_eq!(names.object(&name), Some((RenditionIndex(3), object)), "{name}");
            assert_eq!(MediaNames::new([8; 32]).object(&name), None, "of another packaging");
            for other in [
                name.replacen('3', "03", 1),
                name.replacen('3', "+3", 1),
                name.replacen('3', "4", 1),
                name.to_uppercase(),
                name.replace('.', ""),
                format!("{name} "),
                format!("/{name}"),
            ] {
                assert_eq!(names.object(&other), None, "{other}");
            }
        }
        for nonsense in ["", "-", "--", "0-p-", "0-é1-", "0-p18446744073709551616-00.m4s", "256-p1-00.m4s"] {
            assert_eq!(names.object(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn the_next_name_cannot_be_told_from_the_last() {
        let names = MediaNames::new([7; 32]);
        let code = |number| {
            names.name(RenditionIndex(0), MediaObject::Part(number)).split('-').next_back().map(str::to_owned).unwrap()
        };
        assert_ne!(code(1), code(2));
        assert_eq!(code(1).len(), 2 * CODE_BYTES + ".m4s".len());
    }
}
