use super::*;

fn file(text: &str) -> Sources {
    Sources { file: Some(("sluice.toml".into(), text.into())), ..Sources::default() }
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    Sources { environment, ..Sources::default() }
}

fn problems(sources: &Sources) -> Vec<String> {
    Config::load(sources).expect_err("should be refused").0.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(text: &str, start: &str, contains: &[&str]) {
    let problems = problems(&file(text));
    let [problem] = &problems[..] else { panic!("one problem expected: {problems:?}") };
    assert!(problem.starts_with(start), "{problem}");
    for part in contains {
        assert!(problem.contains(part), "{part:?} in {problem}");
    }
}

#[test]
fn nothing_set_means_the_defaults() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.webrtc.listen.to_string(), "[::]:8189");
    assert_eq!(config.rtmp.listen.to_string(), "127.0.0.1:1935");
}

/// Names every field: a field without a key, or a key without a field, does not pass (or compile).
#[test]
fn every_field_is_a_setting_and_every_setting_a_field() {
    let mut keys: Vec<String> = Vec::new();
    macro_rules! section {
        ($config:ident . $section:ident: $type:ident { $($field:ident),* }) => {
            let $type { $($field: _),* } = &$config.$section;
            keys.extend([$(concat!(stringify!($section), ".", stringify!($field)).to_owned()),*]);
        };
    }
    let config = Config::default();
    let Config {
        http: _,
        webrtc: _,
        ice: _,
        rtmp: _,
        auth: _,
        publish: _,
        whep: _,
        hls: _,
        relay: _,
        transcode: _,
        log: _,
    } = &config;
    section!(config.http: HttpConfig { listen, connections_max, trusted_proxies, client_requests_per_s, client_requests_burst, overflow_to });
    section!(config.webrtc: WebrtcConfig { listen, advertise, workers, join_burst_mbps, playout_delay_max_ms, sessions_max });
    section!(config.ice: IceConfig { servers, turn_secret, turn_ttl_s, turn_username, turn_credential });
    section!(config.rtmp: RtmpConfig { listen, enabled, tls, plain, reconnect_to, connections_max });
    section!(config.auth: AuthConfig { mode, hs256_secret, allow_open });
    section!(config.publish: PublishConfig { on_conflict, hand_back_s });
    section!(config.whep: WhepConfig { not_live, wait_max_s });
    section!(config.hls: HlsConfig { enabled, always_on, output, part_ms, segment_s, window_segments, dvr_s, window_max_mb, opus, idle_s, away_s, streams_max, waiting_max, client_waiting_max });
    section!(config.relay: RelayConfig { push, pull });
    section!(config.transcode: TranscodeConfig { b_frames, ffmpeg, encoder, streams_max, ladder });
    section!(config.log: LogConfig { format, level });
    assert_eq!(keys, SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>());
}

#[test]
fn a_file_sets_what_it_names() {
    let config = Config::load(&file(
        "[http]\nlisten = '[::1]:0'\n[webrtc]\nadvertise = ['203.0.113.7', '[2001:db8::1]:443']\nworkers = 3\n\
         [rtmp]\nenabled = false\n[auth]\nmode = 'jwt'\nhs256_secret = '0123456789abcdef0123456789abcdef'\n\
         [publish]\non_conflict = 'reject'\n[log]\nformat = 'json'\nlevel = 'debug'\n",
    ))
    .unwrap();
    assert_eq!(config.http.listen.to_string(), "[::1]:0");
    assert_eq!(config.webrtc.advertise.len(), 2);
    assert_eq!(config.webrtc.advertise[1].port, Some(443));
    assert_eq!(config.webrtc.workers, 3);
    assert!(!config.rtmp.enabled);
    assert_eq!(config.auth.mode, AuthMode::Jwt);
    assert_eq!(config.publish.on_conflict, OnConflict::Reject);
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "debug"));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut sources = file("[webrtc]\nworkers = 1\njoin_burst_mbps = 1\nsessions_max = 1\n");
    sources.environment = vec![
        ("SLUICE_WEBRTC__JOIN_BURST_MBPS".into(), "2".into()),
        ("SLUICE_WEBRTC__SESSIONS_MAX".into(), "2".into()),
        ("SLUICE_WEBRTC__ADVERTISE".into(), "203.0.113.7, [2001:db8::1]:5,".into()),
        ("SLUICE_HTTP__TRUSTED_PROXIES".into(), "127.0.0.1, 10.0.0.0/8".into()),
        ("SLUICE_RTMP__ENABLED".into(), "false".into()),
        ("SLUICE_HOME".into(), "ignored: no section".into()),
    ];
    sources.flags = vec![("webrtc.sessions_max", "3".into())];
    let config = Config::load(&sources).unwrap();
    let webrtc = &config.webrtc;
    assert_eq!((webrtc.workers, webrtc.join_burst_mbps, webrtc.sessions_max), (1, 2, 3));
    assert_eq!(webrtc.advertise.len(), 2);
    let proxies: Vec<_> = config.http.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["127.0.0.1/32", "10.0.0.0/8"]);
    assert!(!config.rtmp.enabled);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_known_key() {
    refused("[http]\n\nlisen = 'x'\n", "sluice.toml:3: http.lisen: ", &["unknown key", "http.listen"]);
    refused("http.workers = 2\n", "sluice.toml:1: http.workers: ", &["webrtc.workers"]);
    refused("\n[webrct]\nlisten = 'x'\n", "sluice.toml:2: webrct: ", &["[webrtc]"]);
    refused("allow_open = true\n", "sluice.toml:1: allow_open: ", &["auth.allow_open"]);
    let said = problems(&environment(&[("SLUICE_HTTP__LISEN", "x")]));
    assert!(said[0].starts_with("SLUICE_HTTP__LISEN: http.lisen: unknown key"), "{said:?}");
    assert!(said[0].contains("SLUICE_HTTP__LISTEN"), "{said:?}");
}

#[test]
fn a_value_of_the_wrong_kind_names_its_line_and_what_is_expected() {
    refused("[http]\nlisten = 8080\n", "sluice.toml:2: http.listen: expected an address and port", &[]);
    refused("[http]\nlisten = 'localhost'\n", "sluice.toml:2: http.listen: expected an address and port", &[]);
    refused("[webrtc]\nworkers = -1\n", "sluice.toml:2: webrtc.workers: expected a number of threads", &[]);
    refused("[webrtc]\nadvertise = ['a.b']\n", "sluice.toml:2: webrtc.advertise: ", &["\"a.b\"", "IP:port"]);
    let proxies = "sluice.toml:2: http.trusted_proxies: expected a list of addresses and CIDR ranges";
    refused("[http]\ntrusted_proxies = ['nginx']\n", proxies, &["\"nginx\""]);
    refused("[http]\ntrusted_proxies = ['0.0.0.0/0']\n", proxies, &["anybody could claim"]);
    refused("[hls]\noutput = '/srv/hls'\n", "sluice.toml:2: hls.output: expected a place such as", &["\"/srv/hls\""]);
    refused(
        "[hls]\noutput = 's3://b'\nenabled = false\n",
        "sluice.toml:2: hls.output: there is nothing",
        &["hls.enabled"],
    );
    let twice = "[relay]\npull = ['a rtmp://h/live/KEY', 'a rtmp://g/live/KEY']\n";
    refused(twice, "sluice.toml:2: relay.pull: a is there twice", &["one source"]);
    refused("[relay]\npull = ['a* rtmp://h/live/KEY']\n", "sluice.toml:2: relay.pull: expected a list", &["no glob"]);
    assert!(!problems(&file("[relay]\npull = ['a rtmp://u:KEY@h/live/k']\n")).join(" ").contains("KEY@"));
    refused("[rtmp]\nplain = false\n", "sluice.toml:2: rtmp.plain: without rtmp.tls nothing would be taken", &[]);
    refused("[http]\noverflow_to = 'b'\n", "sluice.toml:2: http.overflow_to: expected a URL such as", &["\"b\""]);
    refused("[auth]\nmode = 'jtw'\n", "sluice.toml:2: auth.mode: expected \"open\" or \"jwt\"", &["jtw"]);
    refused("[rtmp]\nenabled = 'yes'\n", "sluice.toml:2: rtmp.enabled: expected true or false", &[]);
    refused("http = 1\n", "sluice.toml:1: http: expected a section ([http]), found a number", &[]);
    let said = problems(&environment(&[("SLUICE_WEBRTC__WORKERS", "many")]));
    assert!(said[0].starts_with("SLUICE_WEBRTC__WORKERS: webrtc.workers: expected a number of threads"), "{said:?}");
}

#[test]
fn text_that_is_no_toml_names_its_line() {
    refused("[http]\nlisten = = 1\n", "sluice.toml:2: no TOML: ", &[]);
    refused("[http]\nlisten = '[::1]:1'\nlisten = '[::1]:2'\n", "sluice.toml:3: no TOML: ", &["duplicate"]);
}

#[test]
fn every_problem_is_named_at_once() {
    let said = problems(&file("[http]\nlisen = 1\n[webrtc]\nworkers = 'x'\n[logs]\n"));
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn values_out_of_range_name_the_range() {
    refused("[webrtc]\nsessions_max = 0\n", "sluice.toml:2: webrtc.sessions_max: 0 is out of range", &["1 to 1000000"]);
    refused("[http]\nconnections_max = 0\n", "sluice.toml:2: http.connections_max: ", &["1 to 65536"]);
    refused("[http]\nclient_requests_burst = 0\n", "sluice.toml:2: http.client_requests_burst: ", &["1 to 100000"]);
    refused("[log]\nlevel = 'a=b=c'\n", "sluice.toml:2: log.level: ", &["no filter"]);
}

#[test]
fn targets_are_bounded_and_what_their_urls_hold_is_not_repeated() {
    let targets = |count: usize| format!("[relay]\npush = [{}]\n", "'cam1 rtmp://h/live/k',".repeat(count));
    refused(&targets(257), "sluice.toml:2: relay.push: 257 targets are listed", &["256 at most"]);
    Config::load(&file(&targets(256))).unwrap();
    let user = "[relay]\npush = ['cam1 rtmp://me:hunter2@h/live/k']\n";
    let instead = ["user and password in a URL are not sent", "rtmp://host/app/key?token="];
    refused(user, "sluice.toml:2: relay.push: ", &instead);
    assert!(!Config::load(&file(user)).unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn secrets_that_are_no_list_of_texts_are_not_repeated() {
    let known = "\"cam1 rtmp://h/live/k\"";
    for key in ["push", "pull"] {
        for value in [
            "'cam1 rtmp://h/live/hunter2'",
            "\"\"\"cam1 rtmp://h/live/hunter2\"\"\"",
            "778899",
            "7788.99",
            "['cam1 rtmp://h/live/hunter2', 778899]",
            "[KNOWN, 778899]",
            "[KNOWN, ['cam1 rtmp://h/live/hunter2']]",
            "[KNOWN, { cam1 = 'rtmp://h/live/hunter2' }]",
            "{ cam1 = 'rtmp://h/live/hunter2' }",
            "[['hunter2', 778899]]",
            "[1979-05-27T07:32:00Z]",
        ] {
            let text = format!("[relay]\n{key} = {}\n", value.replace("KNOWN", known));
            let start =
                format!("sluice.toml:2: relay.{key}: expected a list of streams and URLs, such as [\"cam1 rtmp");
            refused(&text, &start, &[]);
            let said = problems(&file(&text)).join("\n");
            for secret in ["hunter2", "778899", "7788.99", "1979"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
        let table = format!("[relay.{key}]\ncam1 = 'rtmp://h/live/hunter2'\n");
        assert!(!problems(&file(&table)).join("\n").contains("hunter2"));
    }
    // What is wrong with a text is told without repeating it.
    refused(
        "[relay]\npull = ['cam1 srt://h/live/k']\n",
        "sluice.toml:2: relay.pull: expected a list",
        &["begins with"],
    );
}

#[test]
fn open_auth_beyond_loopback_is_refused_with_both_ways_out() {
    let ways_out = ["auth.mode = \"jwt\"", "auth.allow_open = true"];
    refused("[http]\nlisten = '0.0.0.0:8080'\n", "sluice.toml:2: http.listen: 0.0.0.0:8080 can be reached", &ways_out);
    refused("[rtmp]\nlisten = '[::]:1935'\n", "sluice.toml:2: rtmp.listen: [::]:1935 can be reached", &ways_out);
    for fine in [
        "[http]\nlisten = '0.0.0.0:8080'\n[auth]\nallow_open = true\n",
        "[http]\nlisten = '0.0.0.0:8080'\n[auth]\nmode = 'jwt'\nhs256_secret = '0123456789abcdef0123456789abcdef'\n",
        "[rtmp]\nlisten = '[::]:1935'\nenabled = false\n",
        "[http]\nlisten = '[::ffff:127.0.0.1]:8080'\n",
        "[webrtc]\nlisten = '0.0.0.0:8189'\n",
    ] {
        Config::load(&file(fine)).unwrap();
    }
}

#[test]
fn a_short_or_missing_secret_is_refused_and_never_repeated() {
    refused("[auth]\nhs256_secret = 'hunter2'\n", "sluice.toml:2: auth.hs256_secret: the secret has 7 bytes", &["32"]);
    refused("[auth]\nmode = 'jwt'\n", "default: auth.hs256_secret: ", &["no secret", "32 bytes"]);
    for text in ["[auth]\nhs256_secret = 'hunter2'\n", "[auth]\nhs256_secret = 778899\n"] {
        let said = problems(&file(text)).join("\n");
        assert!(!said.contains("hunter2") && !said.contains("778899"), "{said}");
    }
    let secret = AuthConfig { hs256_secret: Some("hunter2".into()), ..AuthConfig::default() };
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn turn_servers_take_credentials_of_one_kind() {
    let turn = "[ice]\nservers = ['stun:stun.example.net', 'turn:turn.example.net?transport=tcp']\n";
    let both = ["ice.turn_secret", "ice.turn_username"];
    refused(turn, "sluice.toml:2: ice.servers: ", &both);
    refused(&format!("{turn}turn_username = 'a'\n"), "sluice.toml:3: ice.turn_username: ", &["ice.turn_credential"]);
    refused(&format!("{turn}turn_credential = 'a'\n"), "sluice.toml:3: ice.turn_credential: ", &["ice.turn_username"]);
    let all = format!("{turn}turn_secret = 'hunter2'\nturn_username = 'a'\nturn_credential = 'hunter3'\n");
    refused(&all, "sluice.toml:3: ice.turn_secret: ", &["one or the other"]);
    refused(&format!("{turn}turn_secret = ''\n"), "sluice.toml:3: ice.turn_secret: ", &["at least one letter"]);
    refused("[ice]\nservers = ['turn.example.net']\n", "sluice.toml:2: ice.servers: expected a list", &["turns:"]);
    refused("[ice]\nturn_ttl_s = 5\n", "sluice.toml:2: ice.turn_ttl_s: 5 is out of range", &["60 to 2592000"]);
    refused("[ice]\nturn_secret = 778899\n", "sluice.toml:2: ice.turn_secret: expected", &[]);
    for fine in ["turn_secret = 'hunter2'\n", "turn_username = 'a'\nturn_credential = 'hunter2'\n"] {
        let config = Config::load(&file(&format!("{turn}{fine}"))).unwrap();
        assert_eq!(config.ice.servers.len(), 2);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    let said = problems(&file(&all)).join("\n");
    assert!(!said.contains("hunter2") && !said.contains("hunter3"), "{said}");
}

#[test]
fn two_doors_cannot_share_a_port() {
    refused("[rtmp]\nlisten = '127.0.0.1:8080'\n", "sluice.toml:2: rtmp.listen: TCP port 8080", &["http.listen"]);
    let said = problems(&file("[http]\nlisten = '127.0.0.1:8189'\n"));
    assert!(said[0].contains("webrtc.listen"), "{said:?}");
}

#[test]
fn settings_know_their_variable_and_flag() {
    let setting = Setting::find("webrtc.join_burst_mbps").unwrap();
    assert_eq!(setting.variable(), "SLUICE_WEBRTC__JOIN_BURST_MBPS");
    assert_eq!(setting.flag(), "webrtc-join-burst-mbps");
    let other = Config { rtmp: RtmpConfig { enabled: false, ..RtmpConfig::default() }, ..Config::default() };
    let changed: Vec<_> = SETTINGS.iter().filter(|setting| setting.differs(&Config::default(), &other)).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].key, "rtmp.enabled");
}
