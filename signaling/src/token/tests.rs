use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_S: u64 = 1_800_000_000;

fn now() -> SystemTime {
    at(NOW_S)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn house() -> Authenticator {
    Authenticator::hs256(SECRET).unwrap()
}

fn claims() -> Claims {
    Claims {
        exp: NOW_S + 60,
        sub: Some("alice".into()),
        jti: Some("t1".into()),
        stream: OneOrMany(vec!["cam1".into(), "room-*".into()]),
        can: Rights(vec![Right::Publish]),
        ..Claims::default()
    }
}

fn presenter(token: &str) -> Presenter<'_> {
    Presenter { token: Some(token), ip: [192, 0, 2, 7].into(), origin: None }
}

fn publish(token: &str, stream: &str) -> Result<Grant, Denied> {
    house().authorise(&presenter(token), Right::Publish, &stream.parse().unwrap(), now())
}

fn signed(claims: &Claims) -> String {
    house().sign(claims).unwrap()
}

/// A token with any JSON in it, rightly signed.
fn signed_json(json: &serde_json::Value) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), json, &EncodingKey::from_secret(SECRET)).unwrap()
}

#[test]
fn a_good_token_grants_until_its_exp() {
    let grant = publish(&signed(&claims()), "cam1").unwrap();
    assert_eq!(grant.subject.as_deref(), Some("alice"));
    assert_eq!(grant.token_id.as_deref(), Some("t1"));
    assert_eq!(grant.expires, Some(at(NOW_S + 60)));
    assert!(publish(&signed(&claims()), "room-12").is_ok());
}

#[test]
fn exp_is_strict_and_nbf_has_the_documented_leeway() {
    let with = |exp, nbf| publish(&signed(&Claims { exp, nbf, ..claims() }), "cam1").err();
    assert_eq!(with(NOW_S, None), Some(Denied::Expired));
    assert_eq!(with(NOW_S - 1, None), Some(Denied::Expired));
    assert_eq!(with(NOW_S + 1, None), None);
    assert_eq!(with(NOW_S + 60, Some(NOW_S + 10)), None);
    assert_eq!(with(NOW_S + 60, Some(NOW_S + 11)), Some(Denied::NotYetValid));
    assert_eq!(with(u64::MAX, None), Some(Denied::Malformed));
    assert_eq!(with(NOW_S + 60, Some(u64::MAX)), Some(Denied::NotYetValid));
}

#[test]
fn exp_is_required_and_a_number() {
    for json in [
        serde_json::json!({ "stream": "cam1", "can": ["publish"] }),
        serde_json::json!({ "exp": "1900000000", "stream": "cam1", "can": ["publish"] }),
        serde_json::json!({ "exp": -5, "stream": "cam1", "can": ["publish"] }),
        serde_json::json!({ "exp": null, "stream": "cam1", "can": ["publish"] }),
        serde_json::json!([1]),
    ] {
        assert_eq!(publish(&signed_json(&json), "cam1"), Err(Denied::Malformed), "{json}");
    }
    let fraction = signed_json(&serde_json::json!({ "exp": NOW_S as f64 + 5.9, "stream": "cam1", "can": ["publish"] }));
    assert_eq!(publish(&fraction, "cam1").unwrap().expires, Some(at(NOW_S + 5)));
}

#[test]
fn rights_and_streams_are_not_widened() {
    let token = signed(&claims());
    assert_eq!(publish(&token, "cam2"), Err(Denied::WrongStream));
    let subscribe = house().authorise(&presenter(&token), Right::Subscribe, &"cam1".parse().unwrap(), now());
    assert_eq!(subscribe, Err(Denied::WrongRight));
    let admin = signed(&Claims { can: Rights(vec![Right::Admin]), ..claims() });
    assert_eq!(publish(&admin, "cam1"), Err(Denied::WrongRight));
    let nothing = signed_json(&serde_json::json!({ "exp": NOW_S + 5 }));
    assert_eq!(publish(&nothing, "cam1"), Err(Denied::WrongStream));
    let unknown = signed_json(&serde_json::json!({ "exp": NOW_S + 5, "stream": "cam1", "can": ["record", "publish"] }));
    assert!(publish(&unknown, "cam1").is_ok());
}

#[test]
fn the_whole_server_takes_admin_on_every_stream() {
    let ask = |stream: &str, can| {
        let token = signed(&Claims { stream: OneOrMany(vec![stream.into()]), can: Rights(vec![can]), ..claims() });
        house().authorise_admin(&presenter(&token), now()).map(drop)
    };
    assert_eq!(ask("*", Right::Admin), Ok(()));
    assert_eq!(ask("room-*", Right::Admin), Err(Denied::WrongStream));
    assert_eq!(ask("*", Right::Publish), Err(Denied::WrongRight));
}

#[test]
fn origins_narrow_a_token() {
    let token = signed(&Claims { origin: Some(OneOrMany(vec!["https://example.com".into()])), ..claims() });
    let from = |origin| {
        let presenter = Presenter { origin, ..presenter(&token) };
        house().authorise(&presenter, Right::Publish, &"cam1".parse().unwrap(), now()).err()
    };
    assert_eq!(from(Some("https://example.com")), None);
    assert_eq!(from(Some("https://EXAMPLE.com")), None);
    assert_eq!(from(Some("https://example.com:8443")), Some(Denied::WrongOrigin));
    assert_eq!(from(None), Some(Denied::WrongOrigin));
}

#[test]
fn addresses_narrow_a_token() {
    let from = |range: &str, ip: &str| {
        let token = signed(&Claims { ip: Some(OneOrMany(vec![range.into()])), ..claims() });
        let presenter = Presenter { ip: ip.parse().unwrap(), ..presenter(&token) };
        house().authorise(&presenter, Right::Publish, &"cam1".parse().unwrap(), now()).err()
    };
    assert_eq!(from("192.0.2.0/24", "192.0.2.9"), None);
    assert_eq!(from("192.0.2.0/24", "::ffff:192.0.2.9"), None);
    assert_eq!(from("192.0.2.0/24", "192.0.3.9"), Some(Denied::WrongIp));
    assert_eq!(from("192.0.2.9", "192.0.2.9"), None);
    assert_eq!(from("2001:db8::/32", "2001:db8::1"), None);
    assert_eq!(from("2001:db8::/32", "192.0.2.9"), Some(Denied::WrongIp));
    assert_eq!(from("192.0.2.0/240", "192.0.2.9"), Some(Denied::Malformed));
}

#[test]
fn the_algorithm_is_pinned() {
    let with = |header: Header, secret: &[u8]| {
        let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap();
        publish(&token, "cam1").err()
    };
    assert_eq!(with(Header::new(Algorithm::HS384), SECRET), Some(Denied::WrongAlgorithm));
    assert_eq!(with(Header::new(Algorithm::HS256), b"another secret of 32 bytes......"), Some(Denied::BadSignature));
    let critical = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::HS256) };
    assert_eq!(with(critical, SECRET), Some(Denied::Malformed));
    // {"alg":"none"}, and no signature.
    let payload = signed(&claims()).split('.').nth(1).unwrap().to_owned();
    assert!(publish(&format!("eyJhbGciOiJub25lIn0.{payload}."), "cam1").is_err());
}

#[test]
fn nonsense_is_refused_and_nothing_panics() {
    assert_eq!(publish("", "cam1"), Err(Denied::Missing));
    assert_eq!(publish(&"a".repeat(TOKEN_MAX_BYTES + 1), "cam1"), Err(Denied::TooLong));
    for token in [".", "..", "a.b", "a.b.c", "a.b.c.d", "\u{1F600}", "eyJ.eyJ.x"] {
        assert_eq!(publish(token, "cam1"), Err(Denied::Malformed), "{token}");
    }
}

#[test]
fn a_changed_token_is_never_taken() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let token = signed(&claims());
    let mut random = StdRng::seed_from_u64(7);
    let mut refused = 0;
    for _ in 0..5_000 {
        let mut bytes = token.clone().into_bytes();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..3) {
                0 => bytes[at] = random.random_range(b'!'..=b'~'),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.random_range(b'!'..=b'~')),
            }
        }
        let changed = String::from_utf8(bytes).unwrap();
        match publish(&changed, "cam1") {
            Ok(_) => assert_eq!(changed, token),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 4_900, "{refused}");
}

#[test]
fn open_mode_asks_for_nothing_and_signs_nothing() {
    let open = Authenticator::open();
    let nobody = Presenter { token: None, ip: [192, 0, 2, 7].into(), origin: None };
    assert_eq!(open.authorise(&nobody, Right::Publish, &"cam1".parse().unwrap(), now()), Ok(Grant::default()));
    assert_eq!(open.authorise_admin(&nobody, now()), Ok(Grant::default()));
    assert_eq!(open.sign(&claims()), Err(SignError::NoSecret));
}

#[test]
fn short_secrets_are_refused_and_no_secret_is_shown() {
    assert_eq!(Authenticator::hs256(&SECRET[1..]).unwrap_err(), WeakSecret { bytes: 31 });
    assert!(!format!("{:?}", house()).contains("0123"));
    assert!(!format!("{:?}", presenter("sesame")).contains("sesame"));
}

#[test]
fn the_bearer_header_wins_over_the_query() {
    let token = |authorization, query| Presenter::new(authorization, query, [192, 0, 2, 7].into(), None).token;
    assert_eq!(token(Some("Bearer abc"), Some("def")), Some("abc"));
    assert_eq!(token(Some("bearer  abc "), None), Some("abc"));
    assert_eq!(token(Some("Basic abc"), Some("def")), Some("def"));
    assert_eq!(token(Some("Bearer"), None), None);
    assert_eq!(token(None, None), None);
}

#[test]
fn every_refusal_says_what_it_should() {
    for denied in [Denied::Missing, Denied::Malformed, Denied::BadSignature, Denied::Expired, Denied::NotYetValid] {
        assert_eq!(denied.problem().status, 401);
        assert!(denied.www_authenticate().unwrap().starts_with("Bearer realm=\"sluice\""));
    }
    assert!(!Denied::Missing.www_authenticate().unwrap().contains("error"), "RFC 6750 section 3.1");
    for denied in [Denied::WrongStream, Denied::WrongRight, Denied::WrongOrigin, Denied::WrongIp] {
        assert_eq!(denied.problem().status, 403);
        assert_eq!(denied.www_authenticate(), None);
    }
}

#[test]
fn one_stream_is_written_as_a_string() {
    let one = serde_json::to_value(Claims { stream: OneOrMany(vec!["a".into()]), ..claims() }).unwrap();
    assert_eq!(one["stream"], "a");
    assert_eq!(one["can"], serde_json::json!(["publish"]));
    assert!(one.get("origin").is_none());
    let two = serde_json::to_value(claims()).unwrap();
    assert_eq!(two["stream"], serde_json::json!(["cam1", "room-*"]));
}
