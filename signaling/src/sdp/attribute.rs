//! Single attribute values: candidates, fingerprints, codecs, extensions. Each returns what it read, or why it is malformed.

use std::net::IpAddr;

use super::{
    CandidateTransport, ExtensionIds, Feedback, Fingerprint, IceCandidate, OfferedLayer, Setup,
    offer::{FORMATS_MAX, NAME_MAX_BYTES, RESTRICTIONS_MAX_BYTES},
};

type Malformed = &'static str;

/// `a=candidate` (RFC 8839 section 5.1, RFC 6544 section 4.5). `None` for one that is sound but of no use here: a name instead of an
/// address, another component or transport.
pub(crate) fn candidate(value: &str) -> Result<Option<IceCandidate>, Malformed> {
    let mut words = value.split_ascii_whitespace();
    let mut next = || words.next().ok_or("a candidate has at least eight words");
    let (_foundation, component, transport) = (next()?, next()?, next()?);
    let priority = next()?.parse::<u32>().map_err(|_| "a candidate's priority is a number below 2^32")?;
    let address = next()?;
    let port = next()?.parse::<u16>().map_err(|_| "a candidate's port is a number below 65536")?;
    if next()? != "typ" {
        return Err("a candidate's seventh word is \"typ\"");
    }
    let _kind = next()?;
    if component.parse::<u16>().map_err(|_| "a candidate's component is a number")? != 1 {
        return Ok(None);
    }
    let transport = if transport.eq_ignore_ascii_case("udp") {
        CandidateTransport::Udp
    } else if transport.eq_ignore_ascii_case("tcp") {
        match words.skip_while(|word| *word != "tcptype").nth(1) {
            Some("active") => CandidateTransport::TcpActive,
            Some("passive") => CandidateTransport::TcpPassive,
            _ => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    Ok(address.parse::<IpAddr>().ok().map(|ip| IceCandidate { transport, ip, port, priority }))
}

/// `a=fingerprint` (RFC 8122 section 5). `None` for a hash function that is too weak or unknown.
pub(super) fn fingerprint(value: &str) -> Result<Option<Fingerprint>, Malformed> {
    let (algorithm, digits) = value.split_once(' ').ok_or("a fingerprint is a hash function and a value")?;
    let algorithm = algorithm.to_ascii_lowercase();
    let bytes = match algorithm.as_str() {
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return Ok(None),
    };
    let digest: Option<Vec<u8>> = digits.trim().split(':').map(hex_byte).collect();
    let digest = digest.ok_or("a fingerprint's value is pairs of hexadecimal digits with colons between them")?;
    if digest.len() != bytes {
        return Err("a fingerprint's value has another length than its hash function");
    }
    Ok(Some(Fingerprint { algorithm, digest }))
}

/// Exactly two hexadecimal digits.
pub(super) fn hex_byte(pair: &str) -> Option<u8> {
    let digits = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

/// `a=setup` (RFC 4145 section 4, RFC 8842).
pub(super) fn setup(value: &str) -> Result<Setup, Malformed> {
    match value.trim() {
        "actpass" => Ok(Setup::ActPass),
        "active" => Ok(Setup::Active),
        "passive" => Ok(Setup::Passive),
        _ => Err("setup is actpass, active or passive"),
    }
}

/// `a=rtpmap` without its payload type: encoding name, clock rate, channels (RFC 8866 section 6.6).
pub(super) fn rtpmap(value: &str) -> Result<(&str, u32, u8), Malformed> {
    let mut parts = value.trim().split('/');
    let name = parts.next().filter(|name| !name.is_empty()).ok_or("an rtpmap has an encoding name")?;
    let clock = parts.next().and_then(|rate| rate.parse().ok()).ok_or("an rtpmap has a clock rate")?;
    let channels = parts.next().map_or(Ok(1), str::parse).map_err(|_| "an rtpmap's channels are a number below 256")?;
    Ok((name, clock, channels))
}

/// A payload type and the rest of an attribute that begins with one.
pub(super) fn payload_type(value: &str) -> Result<(u8, &str), Malformed> {
    let (number, rest) = value.split_once(' ').unwrap_or((value, ""));
    match number.parse::<u8>() {
        Ok(number) if number < 128 => Ok((number, rest.trim())),
        _ => Err("a payload type is a number from 0 to 127"),
    }
}

/// Adds what an `a=rtcp-fb` says (RFC 4585 section 4.2, RFC 5104 section 7.1); unknown feedback is passed over.
pub(super) fn feedback(value: &str, feedback: &mut Feedback) {
    let mut words = value.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some("nack"), None) => feedback.nack = true,
        (Some("nack"), Some("pli")) => feedback.pli = true,
        (Some("ccm"), Some("fir")) => feedback.fir = true,
        (Some("transport-cc"), None) => feedback.transport_cc = true,
        (Some("goog-remb"), None) => feedback.remb = true,
        _ => {}
    }
}

/// Notes an `a=extmap` (RFC 8285 section 5) of an extension we know. Ids past 14 would need two-byte headers; such an extension is left
/// out of the answer, so nobody uses it.
pub(super) fn extension(value: &str, ids: &mut ExtensionIds) -> Result<(), Malformed> {
    let (id, rest) = value.split_once(' ').ok_or("an extmap is an id and a URI")?;
    let id = id.split('/').next().and_then(|id| id.parse::<u16>().ok()).ok_or("an extmap's id is a number")?;
    let uri = rest.split_ascii_whitespace().next().ok_or("an extmap is an id and a URI")?;
    let Some(id) = u8::try_from(id).ok().filter(|id| (1..=14).contains(id)) else { return Ok(()) };
    if let Some(slot) = slot(ids, uri) {
        slot.get_or_insert(id);
    }
    Ok(())
}

pub(super) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub(super) const REPAIRED_RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
pub(super) const ABS_SEND_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
pub(super) const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub(super) const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
pub(super) const ABS_CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

fn slot<'a>(ids: &'a mut ExtensionIds, uri: &str) -> Option<&'a mut Option<u8>> {
    Some(match uri {
        MID_URI => &mut ids.mid,
        RID_URI => &mut ids.rid,
        REPAIRED_RID_URI => &mut ids.repaired_rid,
        ABS_SEND_TIME_URI => &mut ids.abs_send_time,
        TRANSPORT_CC_URI => &mut ids.transport_cc,
        PLAYOUT_DELAY_URI => &mut ids.playout_delay,
        ABS_CAPTURE_TIME_URI => &mut ids.abs_capture_time,
        _ => return None,
    })
}

/// The layers that an `a=simulcast` sends, each with its alternatives, best first (RFC 8853 section 5.1). A leading `~` means that it is
/// paused to begin with, which is no matter here: a layer is active while it comes.
pub(super) fn simulcast_send(value: &str) -> impl Iterator<Item = impl Iterator<Item = &str>> {
    let mut words = value.split_ascii_whitespace();
    let mut send = "";
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction == "send" {
            send = list;
        }
    }
    send.split(';').map(|layer| layer.split(',').map(|rid| rid.trim_start_matches('~')).filter(|rid| !rid.is_empty()))
}

/// An `a=rid` of direction `send` (RFC 8851 section 4); `None` for one of the other direction.
pub(super) fn rid_send(value: &str) -> Result<Option<OfferedLayer>, Malformed> {
    let mut words = value.split_ascii_whitespace();
    let (Some(rid), Some("send")) = (words.next(), words.next()) else { return Ok(None) };
    let sound =
        rid.len() <= NAME_MAX_BYTES && rid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !sound {
        return Err("a rid has 1 to 64 letters and digits");
    }
    let mut layer = OfferedLayer { rid: rid.to_owned(), payload_types: Vec::new(), restrictions: String::new() };
    for restriction in words.flat_map(|word| word.split(';')).filter(|restriction| !restriction.is_empty()) {
        if let Some(list) = restriction.strip_prefix("pt=") {
            layer.payload_types = list.split(',').filter_map(|number| number.parse().ok()).take(FORMATS_MAX).collect();
        } else if layer.restrictions.len() + 1 + restriction.len() <= RESTRICTIONS_MAX_BYTES {
            let separator = if layer.restrictions.is_empty() { "" } else { ";" };
            layer.restrictions.push_str(separator);
            layer.restrictions.push_str(restriction);
        }
    }
    Ok(Some(layer))
}

/// One parameter of a format (`a=fmtp`), by its name without regard to case.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_no_use_are_no_error() {
        let read = |text| candidate(text).unwrap();
        let udp = read("1 1 UDP 2130706431 2001:db8::1 39132 typ host").unwrap();
        assert_eq!((udp.transport, udp.port), (CandidateTransport::Udp, 39132));
        let tcp = read("1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0").unwrap();
        assert_eq!(tcp.transport, CandidateTransport::TcpActive);
        assert_eq!(read("1 2 udp 1 192.0.2.1 9 typ host"), None, "RTCP's component");
        assert_eq!(read("1 1 udp 1 8a6f.local 9 typ host"), None, "an mDNS name");
        assert_eq!(read("1 1 ssltcp 1 192.0.2.1 443 typ host"), None);
        assert_eq!(read("1 1 tcp 1 192.0.2.1 9 typ host"), None, "RFC 6544 section 4.5 wants a tcptype");
        for bad in
            ["", "1 1 udp 1 192.0.2.1 9 typ", "1 1 udp 1 192.0.2.1 99999 typ host", "1 1 udp 1 192.0.2.1 9 x host"]
        {
            assert!(candidate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fingerprints_are_checked_for_their_length() {
        let digest = ["ab"; 32].join(":");
        let read = fingerprint(&format!("SHA-256 {digest}")).unwrap().unwrap();
        assert_eq!((read.algorithm.as_str(), read.digest.len()), ("sha-256", 32));
        assert_eq!(read.to_string(), format!("sha-256 {}", digest.to_uppercase()));
        assert_eq!(fingerprint("md5 00:11").unwrap(), None);
        for bad in ["sha-256", "sha-256 ab:cd", "sha-512 ab", &format!("sha-256 {}", ["+a"; 32].join(":"))] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn simulcast_lists_are_read() {
        let read = |value| -> Vec<Vec<&str>> { simulcast_send(value).map(Iterator::collect).collect() };
        assert_eq!(read("send q;h;f"), [["q"], ["h"], ["f"]]);
        assert_eq!(read("recv a send 1,2;~3"), [vec!["1", "2"], vec!["3"]]);
        assert_eq!(read("send ~1,~2;3 recv a"), [vec!["1", "2"], vec!["3"]]);
        for nothing in ["recv a", "send", "send ;;,", "", "~"] {
            assert!(read(nothing).iter().all(Vec::is_empty), "{nothing}");
        }
    }

    #[test]
    fn rids_are_read_with_what_restricts_them() {
        let read = |value| rid_send(value).unwrap();
        let plain = read("h send").unwrap();
        assert_eq!((plain.rid.as_str(), plain.payload_types.len(), plain.restrictions.as_str()), ("h", 0, ""));
        let full = read("1 send pt=96,97;max-width=1280;max-fps=30").unwrap();
        assert_eq!((full.payload_types, full.restrictions.as_str()), (vec![96, 97], "max-width=1280;max-fps=30"));
        assert_eq!(read("h recv"), None);
        assert_eq!(read("h"), None);
        assert!(rid_send("a.b send").is_err());
        assert!(rid_send(&format!("{} send", "a".repeat(65))).is_err());
        let long = read(&format!("h send {}", "max-fps=30;".repeat(100))).unwrap();
        assert!(long.restrictions.len() <= RESTRICTIONS_MAX_BYTES);
    }

    #[test]
    fn extension_ids_of_two_byte_headers_are_left_out() {
        let mut ids = ExtensionIds::default();
        extension(&format!("4/recvonly {MID_URI}"), &mut ids).unwrap();
        extension(&format!("15 {RID_URI}"), &mut ids).unwrap();
        extension(&format!("300 {TRANSPORT_CC_URI}"), &mut ids).unwrap();
        assert_eq!(ids, ExtensionIds { mid: Some(4), ..ExtensionIds::default() });
        assert!(extension("x urn:a", &mut ids).is_err());
        assert!(extension("4", &mut ids).is_err());
    }

    #[test]
    fn format_parameters_are_found() {
        assert_eq!(parameter("a=1; Profile-Level-Id = 42e01f;b", "profile-level-id"), Some("42e01f"));
        assert_eq!(parameter("a=1", "b"), None);
    }
}
