//! Files for TLS, good and bad.

use super::material::Material;
use super::*;
use crate::config::{ClientCertificates, TlsConfig, TlsVersion};

fn load(config: &TlsConfig) -> Result<(), TlsError> {
    Material::read(config)?.accepting(config, None).map(drop)
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder for the files") };
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        files.write("good.crt", &signed.cert.pem());
        files.write("good.key", &signed.signing_key.serialize_pem());
        let other = rcgen::KeyPair::generate().expect("a key");
        files.write("other.key", &other.serialize_pem());
        files.write("empty", "");
        // Zeros, where there should be DER.
        for (name, label) in [("garbage.crt", "CERTIFICATE"), ("garbage.key", "PRIVATE KEY")] {
            files.write(name, &format!("-----BEGIN {label}-----\nAAAAAAAA\n-----END {label}-----\n"));
        }
        files.write("broken", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn config(&self, certificate: &str, key: &str, ca: &str) -> TlsConfig {
        let path = |name: &str| self.folder.path().join(name);
        TlsConfig {
            certificate: path(certificate),
            key: path(key),
            ca: Some(path(ca)),
            crl: None,
            client_certificates: ClientCertificates::Required,
            https_client_certificates: ClientCertificates::None,
            min_version: TlsVersion::default(),
            login_from: None,
        }
    }
}

#[test]
fn good_files_are_taken_and_each_bad_one_is_named_with_what_is_wrong_and_what_to_do() {
    let files = Files::new();
    assert!(load(&files.config("good.crt", "good.key", "good.crt")).is_ok());
    for (config, file, setting, reason) in [
        (files.config("absent", "good.key", "good.crt"), "absent", "tls.certificate", "cannot read"),
        (files.config("good.crt", "absent", "good.crt"), "absent", "tls.key", "cannot read"),
        (files.config("good.crt", "good.key", "absent"), "absent", "tls.ca", "cannot read"),
        (files.config("empty", "good.key", "good.crt"), "empty", "tls.certificate", "has no certificate"),
        (files.config("good.key", "good.key", "good.crt"), "good.key", "tls.certificate", "has no certificate"),
        (files.config("good.crt", "good.crt", "good.crt"), "good.crt", "tls.key", "has no private key"),
        (files.config("good.crt", "good.key", "empty"), "empty", "tls.ca", "has no certificate"),
        (files.config("broken", "good.key", "good.crt"), "broken", "tls.certificate", "not a PEM file"),
        (files.config("garbage.crt", "good.key", "good.crt"), "garbage.crt", "tls.certificate", "BadEncoding"),
        (files.config("good.crt", "garbage.key", "good.crt"), "garbage.key", "tls.key", "has a private key that"),
        (files.config("good.crt", "good.key", "garbage.crt"), "garbage.crt", "tls.ca", "BadEncoding"),
        (files.config("good.crt", "other.key", "good.crt"), "other.key", "tls.key", "is not that of the first"),
    ] {
        let error = load(&config).expect_err(file).to_string();
        let path = files.folder.path().join(file).display().to_string();
        assert_eq!(error.matches(&format!("{path}, which is {setting}")).count(), 1, "{error}");
        assert_eq!(error.matches(reason).count(), 1, "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_key_is_said_without_the_key() {
    const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIcanary";
    let files = Files::new();
    let in_octets = format!("{:?}", SECRET.as_bytes());
    for (name, text) in [
        ("one line", format!("-----BEGIN PRIVATE KEY----- {SECRET} -----END PRIVATE KEY-----")),
        ("no end", format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n")),
        ("other end", format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END {SECRET}-----\n")),
        ("cut off", format!("-----BEGIN {SECRET}\n")),
        ("no base64", format!("-----BEGIN PRIVATE KEY-----\n{SECRET}!\n-----END PRIVATE KEY-----\n")),
    ] {
        files.write(name, &text);
        let error = load(&files.config("good.crt", name, "good.crt")).expect_err(name).to_string();
        assert!(error.contains("tls.key") && !error.contains("canary"), "{error}");
        assert!(!error.contains(in_octets.trim_matches(['[', ']'])), "{error}");
    }
}

#[test]
fn an_error_says_everything_once() {
    let files = Files::new();
    for config in [
        files.config("absent", "good.key", "good.crt"),
        files.config("broken", "good.key", "good.crt"),
        files.config("good.crt", "good.key", "garbage.crt"),
        files.config("good.crt", "garbage.key", "good.crt"),
    ] {
        let error = load(&config).expect_err("a bad file");
        assert!(std::error::Error::source(&error).is_none(), "what caused it is in its text: {error}");
    }
}
