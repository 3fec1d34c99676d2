//! Whole servers on loopback, on ports the system chose.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::*;

fn loopback() -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::default();
    config.http.listen = any;
    config.rtmp.listen = any;
    config.webrtc.listen = any;
    config.webrtc.workers = 1;
    config
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut client = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn servers_run_side_by_side_on_ports_of_their_own() {
    let (a, b) = (Server::start(&loopback()).await.unwrap(), Server::start(&loopback()).await.unwrap());
    for server in [&a, &b] {
        let addresses = server.addresses();
        assert_ne!(addresses.http.port(), 0);
        assert_ne!(addresses.webrtc.port(), 0);
        assert!(get(addresses.http, "/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
        TcpStream::connect(addresses.rtmp.unwrap()).await.unwrap();
    }
    assert_ne!(a.addresses().http, b.addresses().http);
    a.drain().await;
    assert!(get(b.addresses().http, "/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
    b.drain().await;
}

#[tokio::test]
async fn a_port_in_use_names_its_setting_and_leaves_nothing_open() {
    let running = Server::start(&loopback()).await.unwrap();
    let addresses = *running.addresses();
    let refusal = async |config: Config| Server::start(&config).await.err().map(|error| error.to_string());
    let mut config = loopback();
    config.http.listen = addresses.http;
    assert!(refusal(config).await.unwrap().starts_with("http.listen: "));
    let mut config = loopback();
    config.rtmp.listen = addresses.rtmp.unwrap();
    assert!(refusal(config).await.unwrap().starts_with("rtmp.listen: "));
    let mut config = loopback();
    config.webrtc.listen = addresses.webrtc;
    assert!(refusal(config).await.unwrap().starts_with("webrtc.listen: "));
    running.drain().await;
}

#[tokio::test]
async fn rtmp_is_off_when_it_is_set_off() {
    let mut config = loopback();
    config.rtmp.enabled = false;
    let server = Server::start(&config).await.unwrap();
    assert_eq!(server.addresses().rtmp, None);
    server.drain().await;
}

#[tokio::test]
async fn draining_ends_in_time_whoever_is_connected_and_frees_the_ports() {
    let server = Server::start(&loopback()).await.unwrap();
    let addresses = *server.addresses();
    let mut idle_http = TcpStream::connect(addresses.http).await.unwrap();
    let mut half_a_request = TcpStream::connect(addresses.http).await.unwrap();
    half_a_request.write_all(b"POST /whip/cam1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nv=0").await.unwrap();
    let mut idle_rtmp = TcpStream::connect(addresses.rtmp.unwrap()).await.unwrap();
    let begun = Instant::now();
    server.drain().await;
    assert!(begun.elapsed() <= DRAIN_TIME + Duration::from_millis(500), "{:?}", begun.elapsed());
    for client in [&mut idle_http, &mut idle_rtmp] {
        let mut rest = Vec::new();
        // Closed or reset: either way it is told.
        let _ = client.read_to_end(&mut rest).await;
    }
    assert!(get(addresses.http, "/readyz").await.is_err(), "the port is closed");
    let mut config = loopback();
    (config.http.listen, config.rtmp.listen) = (addresses.http, addresses.rtmp.unwrap());
    let again = Server::start(&config).await.expect("a port just left can be had");
    again.drain().await;
}

#[tokio::test]
async fn with_tokens_every_door_but_the_probes_wants_one() {
    let mut config = loopback();
    config.auth.mode = AuthMode::Jwt;
    config.auth.hs256_secret = Some("0123456789abcdef0123456789abcdef".into());
    let server = Server::start(&config).await.unwrap();
    let http = server.addresses().http;
    assert!(get(http, "/api/v1/streams").await.unwrap().starts_with("HTTP/1.1 401"));
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        assert!(get(http, path).await.unwrap().starts_with("HTTP/1.1 200"), "{path}");
    }
    server.drain().await;
}
