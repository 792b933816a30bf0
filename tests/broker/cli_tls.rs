//! Commands that ask a node over TLS, and what they say when that comes to nothing.

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use warren_tests::harness::{Broker, DataFolder, Settings};

use super::cli::run;
use super::pki::{Authority, Identity};

/// A folder for files, and brokers whose management API speaks TLS.
struct Files(DataFolder);

impl Files {
    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn broker(&self, data: &DataFolder, server: &Identity, more: &str) -> Result<Broker> {
        let (certificate, key) = (self.write("s.crt", &server.certificate)?, self.write("s.key", &server.key)?);
        let config = format!(
            "[listeners]\namqps = ['127.0.0.1:0']\nmanagement_https = ['127.0.0.1:0']\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}"
        );
        Broker::start_with(data, Settings { config: &config, ..Settings::default() })
    }
}

/// Where the node takes the management API over TLS.
fn https_port(broker: &Broker) -> Result<u16> {
    let ready = broker.wait_for_line(|line| line["message"] == "ready")?;
    let addresses = ready["management_https"].as_str().context("it says where")?.trim_matches(['[', ']']);
    Ok(addresses.parse::<std::net::SocketAddr>()?.port())
}

#[test]
fn a_node_is_asked_over_tls_and_what_goes_wrong_is_said_in_words() -> Result<()> {
    let (files, data) = (Files(DataFolder::new()?), DataFolder::new()?);
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let only_by_name = authority.sign(|params| drop(params.subject_alt_names.pop()))?;
    let broker = files.broker(&data, &only_by_name, "")?;
    let port = https_port(&broker)?;
    let ca = files.write("ca.crt", &authority.pem())?;
    let stranger = files.write("stranger.crt", &stranger.pem())?;
    let garbage = files.write("garbage", "x")?;
    let broken = files.write("broken", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")?;
    let no_x509 = files.write("no_x509", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")?;
    let (named, addressed) = (format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}"));
    let to_plain = format!("https://{}", broker.management);
    let plain = format!("http://localhost:{port}");
    let said = run(&["health", "--url", &named, "--ca", &ca], &[])?;
    ensure!(said.code == Some(0), "{}", said.errors);
    for (url, ca, code, why, hint) in [
        (&named, &garbage, 2, "garbage, which is --ca, has no certificate", "name a PEM file"),
        (&named, &broken, 2, "broken, which is --ca, is not a PEM file", "name a PEM file"),
        (&named, &no_x509, 2, "has a certificate that cannot be made out", "name a PEM file"),
        (&named, &"/nowhere".to_owned(), 2, "/nowhere cannot be read: No such file", "name a file that is there"),
        (&named, &stranger, 6, "from none of the authorities in --ca", "the authority that signed the server's"),
        (&addressed, &ca, 6, "is for localhost, and not for 127.0.0.1", "that the certificate is for"),
        (&to_plain, &ca, 6, "does not speak TLS", "give http:// instead of https://"),
        (&plain, &ca, 6, "does not answer as HTTP does", "give https:// and --ca"),
    ] {
        let said = run(&["health", "--url", url, "--ca", ca], &[])?;
        ensure!(said.code == Some(code) && said.errors.contains(why), "{url} {ca}: {:?} {}", said.code, said.errors);
        let (_, given) = said.errors.split_once("\nhint: ").context("a hint")?;
        ensure!(given.contains(hint), "{url} {ca}: {}", said.errors);
        ensure!(
            !said.errors.contains(['{', '(']) || why.contains("No such"),
            "a sentence, and no values of Rust: {}",
            said.errors
        );
    }
    Ok(())
}

#[test]
fn certificates_that_are_no_servers_or_out_of_their_time_are_named_as_that() -> Result<()> {
    let files = Files(DataFolder::new()?);
    let authority = Authority::new()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    let (key, serial) = (KeyPair::generate()?, 1.into());
    let key_pem = key.serialize_pem();
    let own = CertifiedIssuer::self_signed(params, key)?;
    let self_signed = Identity { certificate: own.pem(), key: key_pem, serial };
    let old = authority.sign(|params| params.not_after = date_time_ymd(2021, 1, 1))?;
    for (server, ca, expected) in [
        (self_signed, own.pem(), "the certificate that the server shows is an authority's own"),
        (old, authority.pem(), "the server's certificate has expired"),
    ] {
        let data = DataFolder::new()?;
        let broker = files.broker(&data, &server, "")?;
        let (url, ca) = (format!("https://localhost:{}", https_port(&broker)?), files.write("ca.crt", &ca)?);
        let said = run(&["health", "--url", &url, "--ca", &ca], &[])?;
        ensure!(said.code == Some(6) && said.errors.contains(expected), "{:?} {}", said.code, said.errors);
        ensure!(said.errors.contains("\nhint: have "), "{}", said.errors);
    }
    Ok(())
}

#[test]
fn a_server_that_wants_a_clients_certificate_is_named_as_that() -> Result<()> {
    let (files, data) = (Files(DataFolder::new()?), DataFolder::new()?);
    let authority = Authority::new()?;
    let ca = files.write("ca.crt", &authority.pem())?;
    let broker = files.broker(
        &data,
        &authority.sign(|_| ())?,
        &format!("ca = {ca:?}\nhttps_client_certificates = 'required'\n"),
    )?;
    let url = format!("https://localhost:{}", https_port(&broker)?);
    let said = run(&["health", "--url", &url, "--ca", &ca], &[])?;
    ensure!(said.code == Some(6) && said.errors.contains("wants a client's certificate"), "{}", said.errors);
    Ok(())
}
