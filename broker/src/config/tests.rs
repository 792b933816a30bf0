//! The settings as a whole: the documented example, layers, what is refused and with which words, and where bounds are.

use std::path::Path;

use super::*;

/// The settings that a file with this text makes.
fn parse(text: &str) -> Result<Config, ConfigError> {
    load(text, &[], &[]).map(|settings| settings.config)
}

fn load(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("warren.toml");
    std::fs::write(&file, text).expect("written");
    let flag = |(key, value): &(&str, &str)| Flag { name: "--set", key: key.to_string(), value: value.to_string() };
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Settings::load(&Sources { file: Some(file), variables, flags: flags.iter().map(flag).collect() })
}

/// What is wrong with settings, a line for each and without the folder of their file; empty: nothing.
fn mistakes(result: Result<Settings, ConfigError>) -> String {
    let error = result.err().map(|error| error.to_string()).unwrap_or_default();
    let name = |line: &str| line.find("warren.toml:").map_or_else(|| line.to_owned(), |start| line[start..].to_owned());
    error.lines().map(name).collect::<Vec<_>>().join("\n")
}

fn file_mistakes(text: &str) -> String {
    mistakes(load(text, &[], &[]))
}

fn documented_example() -> &'static str {
    let text = include_str!("../../../docs/configuration.md");
    text.split("```").nth(1).and_then(|block| block.strip_prefix("toml")).expect("an example")
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").expect("valid"), Config::default());
}

#[test]
fn the_documented_example_names_every_setting_and_the_defaults() {
    let config = parse(documented_example()).expect("valid");
    let default = Config::default();
    assert_eq!((&config.data_dir, config.max_message_bytes), (&default.data_dir, default.max_message_bytes));
    assert_eq!(
        config.listeners,
        Listeners {
            amqps: config.listeners.amqps.clone(),
            metrics_https: config.listeners.metrics_https.clone(),
            management_https: config.listeners.management_https.clone(),
            ..default.listeners
        }
    );
    assert_eq!(config.logging, default.logging);
    let example: toml::Table = documented_example().parse().expect("TOML");
    for setting in schema::settings::<Config>() {
        assert!(layers::find(&example, &setting.key).is_some(), "{} is not documented", setting.key);
    }
}

#[test]
fn an_issuer_is_documented_with_its_defaults_and_wrong_ones_are_refused() {
    let documented = parse(documented_example()).expect("valid").authentication.issuers;
    let plain = "[[authentication.issuers]]\nissuer = 'https://a.example'\naudience = 'rabbitmq'\n";
    let plain_issuer = parse(plain).expect("valid").authentication.issuers.remove(0);
    let IssuerConfig { algorithms, username_claims, scope_aliases, allow_http_on_loopback, .. } = &plain_issuer;
    assert_eq!((algorithms, username_claims), (&documented[0].algorithms, &documented[0].username_claims));
    assert_eq!((scope_aliases, *allow_http_on_loopback), (&documented[0].scope_aliases, false));
    assert_eq!(Some(plain_issuer.prefix()), documented[0].scope_prefix);
    for (text, expected) in [
        (plain.replace("https", "http"), "issuer: it does not begin with https://"),
        (format!("{plain}jwks_uri = 'http://127.0.0.1/'"), "jwks_uri: it does not begin with https://"),
        (plain.replace("'rabbitmq'", "''"), "audience is empty"),
        (format!("{plain}algorithms = []"), "algorithms is empty"),
        (plain.repeat(2), "is there twice"),
        (format!("{plain}algorithms = ['none']"), "none"),
        (format!("{plain}algorithms = ['HS256']"), "HS256"),
    ] {
        let error = load(&text, &[], &[]).expect_err("wrong").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_examples_of_authentication_are_settings() {
    let text = include_str!("../../../docs/authentication.md");
    let examples: Vec<_> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    let config = parse(&examples.concat()).expect("valid").authentication;
    assert_eq!(config.issuers[0].prefix(), "rabbitmq.");
    assert_eq!(config.kubernetes.expect("given").audience, "warren");
}

#[test]
fn later_layers_override_earlier_ones_and_the_origin_of_each_value_is_known() {
    let file = "# a comment\ndata_dir = 'file'\nmax_message_bytes = 1\n\n[log]\nsegment_bytes = 8192\n";
    let variables = [("WARREN_MAX_MESSAGE_BYTES", "2"), ("WARREN_LOG_SEGMENT_BYTES", "16384"), ("PATH", "/bin")];
    let settings = load(file, &variables, &[("log.segment_bytes", "32768")]).expect("valid");
    let config = &settings.config;
    assert_eq!((config.data_dir.as_path(), config.max_message_bytes), (Path::new("file"), 2));
    assert_eq!(config.log.segment_bytes, Some(32_768));
    let origin = |key: &str| settings.origin(key).to_string();
    assert!(origin("data_dir").ends_with("warren.toml:2"), "{}", origin("data_dir"));
    assert_eq!(origin("max_message_bytes"), "WARREN_MAX_MESSAGE_BYTES");
    assert_eq!((origin("log.segment_bytes"), origin("listeners.amqp")), ("--set".into(), "default".into()));
}

#[test]
fn lists_are_separated_by_commas_where_they_are_text() {
    let addresses = |text: &str| text.split(' ').map(|text| text.parse().expect("an address")).collect::<Vec<_>>();
    for text in ["127.0.0.1:1,[::1]:2", " 127.0.0.1:1 , [::1]:2,", "['127.0.0.1:1', '[::1]:2']"] {
        let settings = load("", &[("WARREN_LISTENERS_AMQP", text)], &[]).expect("valid");
        assert_eq!(settings.config.listeners.amqp, addresses("127.0.0.1:1 [::1]:2"), "{text}");
        let settings = load("", &[], &[("listeners.amqp", text)]).expect("valid");
        assert_eq!(settings.config.listeners.amqp, addresses("127.0.0.1:1 [::1]:2"), "{text}");
    }
}

#[test]
fn a_key_that_does_not_exist_is_refused_with_its_line_and_what_was_meant() {
    for (text, expected) in [
        ("\ndata_dri = 'x'", "warren.toml:2: data_dri: there is no such setting; did you mean data_dir?"),
        (
            "[log]\nsegment_byte = 1",
            "warren.toml:2: log.segment_byte: there is no such setting; did you mean log.segment_bytes?",
        ),
        ("amqp = []", "warren.toml:1: amqp: there is no such setting; did you mean listeners.amqp?"),
        ("[listener]\namqp = []", "warren.toml:1: listener: there is no such setting; did you mean listeners?"),
        ("tls = 1", "warren.toml:1: tls: it is a section: write its keys below a line with [its name]"),
        ("colour = 1", "warren.toml:1: colour: there is no such setting; docs/configuration.md names all"),
    ] {
        assert_eq!(file_mistakes(text), expected, "{text}");
    }
    let expected = "--set: log.segment: there is no such setting; did you mean log.segment_bytes?";
    assert_eq!(mistakes(load("", &[], &[("log.segment", "1")])), expected);
}

#[test]
fn variables_that_look_like_settings_are_refused_and_those_of_others_are_named_or_passed_over() {
    for (name, meant) in [
        ("WARREN_DATADIR", "WARREN_DATA_DIR"),
        ("WARREN_LISTENERS_AMPQ", "WARREN_LISTENERS_AMQP"),
        ("WARREN_LOG_FORMAT", "WARREN_LOGGING_FORMAT"),
    ] {
        let expected = format!("{name}: there is no such setting; did you mean {meant}?");
        assert_eq!(mistakes(load("", &[(name, "x")], &[])), expected);
    }
    let links =
        [("WARREN_SERVICE_HOST", "10.0.0.1"), ("WARREN_PORT", "tcp://10.0.0.1:5672"), ("WARREN_LOG_PORT_1_TCP", "")];
    let others = [("WARREN_BROKER", "x"), ("WARREN_CONFIG", "x"), ("OTHER_DATA_DIR", "x")];
    let settings = load("", &[&links[..], &others].concat(), &[]).expect("not ours");
    assert_eq!(settings.ignored_variables, ["WARREN_BROKER"]);
}

#[test]
fn all_that_is_wrong_is_named_with_its_place() {
    let file = "max_message_bytes = 'x'\n[listeners]\namqp = ['here']\n[default_user]\nname_file = 'x'\n[log]\nfoo = 1";
    let variables = [("WARREN_LOG_SEGMENT_BYTES", "many"), ("WARREN_TLS_CLIENT_CERTIFICATES", "maybe")];
    let said = mistakes(load(file, &variables, &[]));
    for expected in [
        "warren.toml:1: max_message_bytes: invalid type: string \"x\", expected u64",
        "warren.toml:3: listeners.amqp: \"here\" is not an IP address and a port, such as 127.0.0.1:5672 or [::1]:5672",
        "warren.toml:4: default_user: missing field `password_file`",
        "warren.toml:7: log.foo: there is no such setting; docs/configuration.md names all",
        "WARREN_LOG_SEGMENT_BYTES: log.segment_bytes: it is \"many\": it has to be a whole number",
        "WARREN_TLS_CLIENT_CERTIFICATES: tls.client_certificates: it is \"maybe\": it may be none, optional, required",
    ] {
        assert!(said.lines().any(|line| line == expected), "{expected} is not in:\n{said}");
    }
    assert_eq!(said.lines().count(), 6, "{said}");
    let said = file_mistakes("data_dir = ''\nmax_message_bytes = 0\n[log]\nsegment_bytes = 1\ncheckpoint_bytes = 1");
    let lines: Vec<_> = said.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["1", "2", "4", "5"], "{said}");
}

#[test]
fn a_section_that_only_variables_make_lacks_what_it_lacks() {
    let said = mistakes(load("", &[("WARREN_TLS_KEY", "k")], &[]));
    assert_eq!(said, "WARREN_TLS_KEY: tls: missing field `certificate`");
    assert_eq!(file_mistakes("[tls]"), "warren.toml:1: tls: missing field `certificate`");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_the_line() {
    let Err(ConfigError::Syntax { path, source }) = parse("\ndata_dir =") else { panic!("it was read") };
    assert!(path.ends_with("warren.toml") && source.to_string().contains("line 2"), "{source}");
    let missing = Sources { file: Some("/nowhere/warren.toml".into()), ..Sources::default() };
    assert!(matches!(Settings::load(&missing), Err(ConfigError::Read { .. })));
}

#[test]
fn what_is_shown_makes_the_same_settings_again() {
    let settings = load(documented_example(), &[("WARREN_LOGGING_FORMAT", "json")], &[]).expect("valid");
    for origins in [false, true] {
        let shown = settings.show(origins).expect("TOML");
        assert_eq!(parse(&shown).expect("valid"), settings.config, "{shown}");
    }
    let shown = settings.show(true).expect("TOML");
    assert!(shown.contains("format = \"json\"  # WARREN_LOGGING_FORMAT\n"), "{shown}");
    assert!(!settings.show(false).expect("TOML").contains('#'));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    for (text, expected) in [
        ("[listeners]\namqp = []", "warren.toml:2: listeners.amqp: it is empty"),
        ("[listeners]\namqps = [\"[::1]:5671\"]", "warren.toml:2: listeners.amqps: it needs a section [tls]"),
        (
            &format!("{tls}client_certificates = \"optional\""),
            "warren.toml:4: tls.client_certificates: it needs tls.ca",
        ),
        (
            &format!("{tls}client_certificates = \"required\""),
            "warren.toml:4: tls.client_certificates: it needs tls.ca",
        ),
        ("[logging]\nfilter = 'inof'", "warren.toml:2: logging.filter: it is \"inof\": use a level"),
    ] {
        assert!(file_mistakes(text).starts_with(expected), "{text}: {}", file_mistakes(text));
    }
    let only_tls = parse(&format!("{tls}[listeners]\namqp = []")).expect("TLS alone is enough");
    assert_eq!(only_tls.amqps().len(), 2);
}

#[test]
fn the_folder_and_the_logs_lengths_are_checked_at_their_bounds() {
    for good in ["log.segment_bytes = 8192", "log.segment_bytes = 1073741824", "log.checkpoint_bytes = 4096"] {
        assert_eq!(file_mistakes(good), "", "{good}");
    }
    for (bad, key) in [
        ("data_dir = ''", "data_dir"),
        ("log.segment_bytes = 4096", "log.segment_bytes"),
        ("log.segment_bytes = 12287", "log.segment_bytes"),
        ("log.segment_bytes = 1073745920", "log.segment_bytes"),
        ("log.checkpoint_bytes = 4095", "log.checkpoint_bytes"),
    ] {
        assert!(file_mistakes(bad).contains(&format!(" {key}: ")), "{bad}");
    }
}

#[test]
fn the_largest_message_may_have_128_mib_and_not_an_octet_more() {
    for (bytes, taken) in [(0, false), (1, true), (128 << 20, true), ((128 << 20) + 1, false)] {
        assert_eq!(parse(&format!("max_message_bytes = {bytes}")).is_ok(), taken, "{bytes}");
    }
}

#[test]
fn the_watermark_of_memory_is_a_part_up_to_8_in_10_or_octets_from_16_mib_on() {
    let watermark =
        |text: &str| parse(&format!("memory.high_watermark = {text}")).map(|config| config.memory.high_watermark);
    for (text, expected) in [
        ("0.4", Watermark::Thousandths(400)),
        ("0.001", Watermark::Thousandths(1)),
        ("0.8", Watermark::Thousandths(800)),
        ("16777216", Watermark::Octets(16 << 20)),
    ] {
        assert_eq!(watermark(text).expect("valid"), expected);
    }
    for text in ["0.0", "0.801", "1.0", "-0.5", "nan", "16777215", "1", "-1", "'0.4'"] {
        let error = watermark(text).expect_err("refused").to_string();
        assert!(
            error.contains("memory.high_watermark: invalid") && error.contains("from 0.001 to 0.8"),
            "{text}: {error}"
        );
    }
    let of_variable = load("", &[("WARREN_MEMORY_HIGH_WATERMARK", "0.25")], &[]).expect("valid");
    assert_eq!(of_variable.config.memory.high_watermark, Watermark::Thousandths(250));
    assert!(of_variable.show(false).expect("TOML").contains("high_watermark = 0.25\n"));
}

#[test]
fn a_node_may_take_a_second_to_an_hour_to_stop() {
    for (seconds, taken) in [(0, false), (1, true), (3_600, true), (3_601, false)] {
        assert_eq!(parse(&format!("shutdown.grace_seconds = {seconds}")).is_ok(), taken, "{seconds}");
    }
}
