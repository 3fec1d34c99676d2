//! A token's claims, as JSON has them (RFC 7519 section 4, and the five of our own).

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::Right;
use crate::priority::Priority;

/// What a token says. `exp` is required; without `stream` and `can` it opens nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Claims {
    /// Seconds since 1970 (UTC): the end of the token and of the sessions it opened.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: u64,
    /// Not valid before.
    #[serde(default, deserialize_with = "optional_numeric_date", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    #[serde(default, deserialize_with = "optional_numeric_date", skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Names or globs of streams.
    #[serde(default)]
    pub stream: OneOrMany,
    #[serde(default)]
    pub can: Rights,
    /// Which of a stream's publishers the bearer is; absent: what it asks to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Page origins that may use it; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<OneOrMany>,
    /// CIDR ranges or addresses that may use it; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<OneOrMany>,
}

/// A string, or an array of them; one is written as a string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OneOrMany(pub Vec<String>);

impl Serialize for OneOrMany {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }
            fn visit_str<E>(self, one: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![one.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Strings)
    }
}

/// The rights of `can`. Names that we do not know give nothing and harm nothing: a newer backend may use them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Rights(pub Vec<Right>);

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = OneOrMany::deserialize(deserializer)?;
        Ok(Self(names.0.iter().filter_map(|name| name.parse().ok()).collect()))
    }
}

/// A NumericDate may have a fraction (RFC 7519 section 2); it is cut off, so that a session ends early rather than late.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Whole(u64),
        Fraction(f64),
    }
    match Number::deserialize(deserializer)? {
        Number::Whole(seconds) => Ok(seconds),
        // Past 2^53 a float no longer names a second.
        Number::Fraction(seconds) if (0.0..9_007_199_254_740_992.0).contains(&seconds) => Ok(seconds as u64),
        Number::Fraction(_) => Err(D::Error::custom("not a time")),
    }
}

fn optional_numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    numeric_date(deserializer).map(Some)
}
