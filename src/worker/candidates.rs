//! The addresses that answers name: those told to advertise, or this machine's own (RFC 8839 section 5.1, RFC 6544).

use std::net::{IpAddr, SocketAddr};

use sluice_signaling::sdp::{CandidateTransport, IceCandidate};

use crate::config::Advertise;

/// Addresses in one answer; a machine with more has them cut, best first.
const ADDRESSES_MAX: usize = 8;
/// RFC 8445 section 5.1.2.2: host candidates.
const HOST_PREFERENCE: u32 = 126;
/// RFC 6544 section 4.2: TCP ranks below UDP; passive's direction preference.
const TCP_TYPE_PREFERENCE: u32 = 90;
const TCP_PASSIVE_PREFERENCE: u32 = 4;

/// The candidates of every answer. `interfaces` are this machine's addresses, used when nothing is advertised.
pub fn candidates(
    listen: SocketAddr,
    advertise: &[Advertise],
    interfaces: &[IpAddr],
    with_tcp: bool,
) -> Vec<IceCandidate> {
    let listed: Vec<(IpAddr, u16)> = if !advertise.is_empty() {
        advertise.iter().map(|told| (told.ip, told.port.unwrap_or(listen.port()))).collect()
    } else if !listen.ip().is_unspecified() {
        vec![(listen.ip().to_canonical(), listen.port())]
    } else {
        let mut own: Vec<IpAddr> =
            interfaces.iter().copied().filter(|ip| is_usable(ip) && (ip.is_ipv4() || listen.is_ipv6())).collect();
        // Loopback last: browsers ignore it unless told otherwise, and it is of use on this machine only.
        own.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
        own.into_iter().map(|ip| (ip, listen.port())).collect()
    };
    let mut addresses: Vec<(IpAddr, u16)> = Vec::new();
    for address in listed {
        // One candidate per address and transport, also where a setting or an interface says it twice.
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let udp = addresses.iter().enumerate().map(|(at, (ip, port))| IceCandidate {
        transport: CandidateTransport::Udp,
        ip: *ip,
        port: *port,
        priority: priority(HOST_PREFERENCE, u32::from(u16::MAX) - at as u32),
    });
    let tcp = addresses.iter().enumerate().filter(|_| with_tcp).map(|(at, (ip, port))| IceCandidate {
        transport: CandidateTransport::TcpPassive,
        ip: *ip,
        port: *port,
        priority: priority(TCP_TYPE_PREFERENCE, TCP_PASSIVE_PREFERENCE << 13 | (0x1fff - at as u32)),
    });
    udp.chain(tcp).collect()
}

/// This machine's addresses, as its interfaces have them now.
pub fn interfaces() -> Vec<IpAddr> {
    if_addrs::get_if_addrs().map_or_else(
        |error| {
            tracing::warn!(%error, "the interfaces cannot be listed; set webrtc.advertise");
            Vec::new()
        },
        |all| all.into_iter().map(|interface| interface.ip()).collect(),
    )
}

/// RFC 8445 section 5.1.2.1, component 1.
fn priority(type_preference: u32, local_preference: u32) -> u32 {
    type_preference << 24 | local_preference << 8 | 255
}

/// Link-local IPv6 needs a zone that SDP cannot carry.
fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unspecified() && ip.segments()[0] & 0xffc0 != 0xfe80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn own_addresses_are_named_with_loopback_last() {
        let own = ips(&["127.0.0.1", "fe80::1", "192.0.2.7", "2001:db8::7", "::1"]);
        let found = candidates("[::]:8189".parse().unwrap(), &[], &own, true);
        let udp: Vec<_> = found.iter().filter(|c| c.transport == CandidateTransport::Udp).map(|c| c.ip).collect();
        assert_eq!(udp, ips(&["192.0.2.7", "2001:db8::7", "127.0.0.1", "::1"]));
        assert_eq!(found.len(), 8, "each by TCP too");
        assert!(found.is_sorted_by(|a, b| a.priority > b.priority), "best first, UDP before TCP");
    }

    #[test]
    fn an_ipv4_socket_names_no_ipv6_address() {
        let found = candidates("0.0.0.0:8189".parse().unwrap(), &[], &ips(&["192.0.2.7", "2001:db8::7"]), false);
        assert_eq!(found.iter().map(|c| c.ip).collect::<Vec<_>>(), ips(&["192.0.2.7"]));
    }

    #[test]
    fn an_address_that_is_found_or_told_twice_is_named_once() {
        let own = ips(&["192.0.2.7", "192.0.2.8", "192.0.2.7"]);
        assert_eq!(candidates("[::]:8189".parse().unwrap(), &[], &own, true).len(), 4);
        let told = |port| Advertise { ip: "203.0.113.5".parse().unwrap(), port };
        let found =
            candidates("[::]:8189".parse().unwrap(), &[told(None), told(Some(8189)), told(Some(443))], &[], false);
        assert_eq!(found.iter().map(|c| c.port).collect::<Vec<_>>(), [8189, 443]);
    }

    #[test]
    fn what_is_advertised_replaces_what_is_found() {
        let told = [
            Advertise { ip: "203.0.113.5".parse().unwrap(), port: None },
            Advertise { ip: "203.0.113.6".parse().unwrap(), port: Some(443) },
        ];
        let found = candidates("[::]:8189".parse().unwrap(), &told, &ips(&["192.0.2.7"]), false);
        let named: Vec<_> = found.iter().map(|c| SocketAddr::new(c.ip, c.port).to_string()).collect();
        assert_eq!(named, ["203.0.113.5:8189", "203.0.113.6:443"]);
    }
}
