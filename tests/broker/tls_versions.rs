//! Every version of TLS, every cipher suite, and what else old versions could do: what the broker takes, and nothing more.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use warren_tests::harness::{Broker, DataFolder, Settings};

use super::pki::{Authority, Volume};

/// A broker for each kind of key.
fn start(key: &KeyPair, min_version: &str) -> Result<(Volume, DataFolder, Broker, SocketAddr)> {
    let server = Authority::new()?.sign_for(key, |_| ())?;
    let volume = Volume::new(&[("tls.crt", &server.certificate), ("tls.key", &server.key)])?;
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| volume.path(name).display().to_string());
    let config = format!(
        "listeners.amqps = [\"127.0.0.1:0\"]\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nmin_version = \"{min_version}\"\n[accept]\nper_second = 100000"
    );
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() })?;
    let address = broker.tls_address.context("the broker takes TLS")?;
    Ok((volume, folder, broker, address))
}

fn keys() -> Result<[KeyPair; 2]> {
    Ok([
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    ])
}

/// What a client says first.
struct Hello<'a> {
    /// The version in the message itself; TLS 1.3 is asked for beside it.
    version: u16,
    suites: &'a [u16],
    /// 0: none, 1: DEFLATE.
    compressions: &'a [u8],
    /// Offers TLS 1.3 and no version before it.
    is_tls13: bool,
}

/// What the server answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It goes on with that suite and that compression.
    Hello { version: u16, suite: u16, compression: u8 },
    /// It has closed, with or without an alert.
    Refused,
}

impl Hello<'_> {
    fn octets(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut extension = |number: u16, value: &[u8]| {
            extensions.extend_from_slice(&number.to_be_bytes());
            extensions.extend_from_slice(&(value.len() as u16).to_be_bytes());
            extensions.extend_from_slice(value);
        };
        // Groups (X25519, P-256, P-384), point formats, signatures (ECDSA, RSA-PSS and RSA, SHA-2 and SHA-1).
        extension(10, &[0, 6, 0, 29, 0, 23, 0, 24]);
        extension(11, &[1, 0]);
        extension(13, &[0, 16, 4, 3, 5, 3, 8, 4, 8, 5, 4, 1, 5, 1, 2, 3, 2, 1]);
        if self.is_tls13 {
            extension(43, &[2, 3, 4]);
            // No key yet: the server asks for one in its hello, which names the suite too.
            extension(51, &[0, 0]);
        }
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.extend_from_slice(&(2 * self.suites.len() as u16).to_be_bytes());
        body.extend(self.suites.iter().flat_map(|suite| suite.to_be_bytes()));
        body.push(self.compressions.len() as u8);
        body.extend_from_slice(self.compressions);
        // Before TLS 1.0 there were none.
        if self.version > 0x0300 {
            body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
            body.extend_from_slice(&extensions);
        }
        let mut message = vec![1, 0];
        message.extend_from_slice(&(body.len() as u16).to_be_bytes());
        message.extend_from_slice(&body);
        let mut record = vec![22];
        record.extend_from_slice(&self.version.min(0x0301).to_be_bytes());
        record.extend_from_slice(&(message.len() as u16).to_be_bytes());
        record.extend_from_slice(&message);
        record
    }

    fn say(&self, address: SocketAddr) -> Result<Answer> {
        answer(address, &self.octets())
    }
}

/// What the server answers to octets.
fn answer(address: SocketAddr, octets: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(octets)?;
    let mut head = [0; 5];
    if stream.read_exact(&mut head).is_err() || head[0] != 22 {
        return Ok(Answer::Refused);
    }
    let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut record)?;
    ensure!(record.first() == Some(&2), "not a ServerHello: {record:?}");
    let session = usize::from(record[38]);
    let suite = u16::from_be_bytes([record[39 + session], record[40 + session]]);
    let is_tls13 = record[42 + session..].windows(6).any(|part| part == [0, 43, 0, 2, 3, 4]);
    let version = if is_tls13 { 0x0304 } else { u16::from_be_bytes([record[4], record[5]]) };
    Ok(Answer::Hello { version, suite, compression: record[41 + session] })
}

/// All suites that have a number in IANA's registry, and those beside them: the old ones, those with elliptic curves, ChaCha20,
/// and those of TLS 1.3.
fn suites() -> impl Iterator<Item = u16> {
    (0x0000..=0x00ff).chain(0xc000..=0xc0ff).chain(0xcca0..=0xccaf).chain(0xd000..=0xd00f).chain(0x1300..=0x1310)
}

/// The suites that the server takes, each offered alone.
fn taken(address: SocketAddr, version: u16, is_tls13: bool) -> Result<BTreeSet<u16>> {
    let mut taken = BTreeSet::new();
    for suite in suites() {
        let hello = Hello { version, suites: &[suite], compressions: &[0], is_tls13 };
        if let Answer::Hello { suite: chosen, compression, version } = hello.say(address)? {
            let expected = if is_tls13 { 0x0304 } else { 0x0303 };
            ensure!((chosen, compression, version) == (suite, 0, expected), "{suite:04x} was answered by {chosen:04x}");
            taken.insert(suite);
        }
    }
    Ok(taken)
}

#[test]
fn of_all_cipher_suites_those_with_ephemeral_keys_and_authenticated_ciphers_are_taken() -> Result<()> {
    // AES-GCM and ChaCha20-Poly1305, with ECDHE before TLS 1.3: signed by ECDSA, and by RSA.
    let before = [[0xc02b, 0xc02c, 0xcca9], [0xc02f, 0xc030, 0xcca8]];
    for (key, before) in keys()?.iter().zip(before) {
        let (_files, _folder, _broker, address) = start(key, "1.2")?;
        ensure!(taken(address, 0x0303, false)? == BTreeSet::from(before));
        ensure!(taken(address, 0x0303, true)? == BTreeSet::from([0x1301, 0x1302, 0x1303]));
    }
    Ok(())
}

#[test]
fn versions_before_tls_1_2_are_refused_whatever_they_offer() -> Result<()> {
    let all: Vec<u16> = suites().collect();
    for key in keys()? {
        let (_files, _folder, _broker, address) = start(&key, "1.2")?;
        for version in [0x0002, 0x0300, 0x0301, 0x0302] {
            let hello = Hello { version, suites: &all, compressions: &[0], is_tls13: false };
            ensure!(hello.say(address)? == Answer::Refused, "{version:04x}");
        }
        // SSL 2 had a frame of its own.
        let ssl2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\x05\x00\x80\x06\x00\x40\x07\x00\xc0\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07";
        ensure!(answer(address, ssl2)? == Answer::Refused, "SSL 2");
    }
    Ok(())
}

#[test]
fn nothing_is_compressed() -> Result<()> {
    let (_files, _folder, _broker, address) = start(&KeyPair::generate()?, "1.2")?;
    for (compressions, expected) in
        [(&[1, 0][..], Answer::Hello { version: 0x0303, suite: 0xc02b, compression: 0 }), (&[1], Answer::Refused)]
    {
        let hello = Hello { version: 0x0303, suites: &[0xc02b], compressions, is_tls13: false };
        ensure!(hello.say(address)? == expected, "{compressions:?}");
    }
    Ok(())
}

#[test]
fn with_1_3_as_the_oldest_version_1_2_is_refused() -> Result<()> {
    let (_files, _folder, _broker, address) = start(&KeyPair::generate()?, "1.3")?;
    ensure!(taken(address, 0x0303, false)?.is_empty());
    ensure!(taken(address, 0x0303, true)? == BTreeSet::from([0x1301, 0x1302, 0x1303]));
    Ok(())
}

/// What OpenSSL's own client says of a connection on which it sends `input`.
fn openssl(address: SocketAddr, arguments: &[&str], input: &str) -> Result<String> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start openssl, which is in the Debian package of that name")?;
    client.stdin.take().context("it has an input")?.write_all(input.as_bytes())?;
    let output = client.wait_with_output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn another_projects_client_finds_the_same_and_cannot_renegotiate() -> Result<()> {
    let (_files, _folder, _broker, address) = start(&KeyPair::generate()?, "1.2")?;
    for (arguments, cipher) in [
        (&["-tls1_2"][..], "Cipher is ECDHE-ECDSA-"),
        (&["-tls1_3"], "Cipher is TLS_"),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "Cipher is (NONE)"),
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "Cipher is (NONE)"),
        (&["-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0"], "Cipher is (NONE)"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"], "Cipher is (NONE)"),
    ] {
        let said = openssl(address, arguments, "")?;
        ensure!(said.contains(cipher), "{arguments:?}: {said}");
        ensure!(!said.contains("Compression: zlib"), "{said}");
    }
    // A line with an R makes it ask for a new handshake on the connection that it has.
    let said = openssl(address, &["-tls1_2"], "R\n")?;
    ensure!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    Ok(())
}
