//! The sections together: the documented example, what is refused, and where the bounds are.

use super::*;

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Config::parse("").expect("valid"), Config::default());
}

#[test]
fn every_setting_can_be_given() {
    let text = r#"
        data_dir = "/var/lib/warren"
        definitions = "/etc/warren/definitions.json"
        max_message_bytes = 134217728
        [listeners]
        amqp = ["0.0.0.0:5672"]
        amqps = ["0.0.0.0:5671"]
        metrics = "0.0.0.0:15692"
        [tls]
        certificate = "/etc/tls/tls.crt"
        key = "/etc/tls/tls.key"
        ca = "/etc/tls/ca.crt"
        client_certificates = "optional"
        [log]
        segment_bytes = 4194304
        checkpoint_bytes = 16777216
        [default_user]
        name_file = "/run/user"
        password_file = "/run/password"
    "#;
    let config = Config::parse(text).expect("valid");
    assert_eq!(config.data_dir, Path::new("/var/lib/warren"));
    assert_eq!(config.definitions.as_deref(), Some(Path::new("/etc/warren/definitions.json")));
    assert_eq!(config.listeners.amqp, ["0.0.0.0:5672".parse().expect("an address")]);
    assert_eq!(config.amqps(), ["0.0.0.0:5671".parse().expect("an address")]);
    let tls = config.tls.clone().expect("given");
    assert_eq!(
        (tls.key.as_path(), tls.client_certificates),
        (Path::new("/etc/tls/tls.key"), ClientCertificates::Optional)
    );
    assert_eq!(config.max_message_bytes, 128 << 20);
    let log = LogConfig { segment_bytes: Some(4 << 20), checkpoint_bytes: Some(16 << 20) };
    assert_eq!(config.log, log);
    assert_eq!(config.default_user.expect("given").password_file, Path::new("/run/password"));
}

#[test]
fn the_documented_example_is_valid_and_names_the_defaults() {
    let text = include_str!("../../../docs/configuration.md");
    let example = text.split("```").nth(1).and_then(|block| block.strip_prefix("toml")).expect("an example");
    let config = Config::parse(example).expect("valid").checked().expect("sensible");
    let default = Config::default();
    assert_eq!((&config.data_dir, config.max_message_bytes), (&default.data_dir, default.max_message_bytes));
    assert_eq!(config.listeners, Listeners { amqps: config.listeners.amqps.clone(), ..default.listeners });
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, expected) in [
        ("data_dri = \"x\"", "data_dri"),
        ("[listeners]\namqp = [\"here\"]", "line 2"),
        ("[default_user]\nname_file = \"x\"", "password_file"),
    ] {
        let error = Config::parse(text).expect_err("invalid").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// What is wrong with well-formed settings; empty: nothing.
fn mistakes(text: &str) -> String {
    let checked = Config::parse(text).expect("well-formed").checked();
    checked.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    for (text, expected) in [
        ("[listeners]\namqp = []", "listeners.amqp: it is empty"),
        ("[listeners]\namqps = [\"[::1]:5671\"]", "listeners.amqps: it needs a section [tls]"),
        (&format!("{tls}client_certificates = \"optional\""), "tls.client_certificates: it needs tls.ca"),
        (&format!("{tls}client_certificates = \"required\""), "tls.client_certificates: it needs tls.ca"),
    ] {
        assert!(mistakes(text).starts_with(expected), "{text}: {}", mistakes(text));
    }
    let only_tls = Config::parse(&format!("{tls}[listeners]\namqp = []")).expect("settings");
    assert_eq!(only_tls.checked().expect("TLS alone is enough").amqps().len(), 2);
}

#[test]
fn all_that_is_wrong_is_named() {
    let text = "data_dir = ''\nmax_message_bytes = 0\n[log]\nsegment_bytes = 1\ncheckpoint_bytes = 1";
    let mistakes = mistakes(text);
    let keys: Vec<_> = mistakes.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key).collect();
    assert_eq!(keys, ["data_dir", "max_message_bytes", "log.segment_bytes", "log.checkpoint_bytes"]);
}

#[test]
fn the_folder_and_the_logs_lengths_are_checked_at_their_bounds() {
    for good in ["log.segment_bytes = 8192", "log.segment_bytes = 1073741824", "log.checkpoint_bytes = 4096"] {
        assert_eq!(mistakes(good), "", "{good}");
    }
    for (bad, key) in [
        ("data_dir = ''", "data_dir"),
        ("log.segment_bytes = 4096", "log.segment_bytes"),
        ("log.segment_bytes = 12287", "log.segment_bytes"),
        ("log.segment_bytes = 1073745920", "log.segment_bytes"),
        ("log.checkpoint_bytes = 4095", "log.checkpoint_bytes"),
    ] {
        assert!(mistakes(bad).starts_with(key), "{bad}");
    }
}

#[test]
fn the_largest_message_may_have_128_mib_and_not_an_octet_more() {
    for (bytes, taken) in [(0, false), (1, true), (128 << 20, true), ((128 << 20) + 1, false)] {
        let config = Config { max_message_bytes: bytes, ..Config::default() };
        assert_eq!(config.checked().is_ok(), taken, "{bytes}");
    }
}
