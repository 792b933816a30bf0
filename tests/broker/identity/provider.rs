//! An identity provider: a server that speaks HTTPS, says where its keys are, and signs tokens.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, SanType, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a token for the broker has in `aud`.
pub(crate) const AUDIENCE: &str = "rabbitmq";

/// A running provider; it ends with the value.
pub(crate) struct Provider {
    /// What its tokens have in `iss`.
    pub(crate) issuer: String,
    folder: TempDir,
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    issuer: String,
    /// What it answers when asked for its keys: a status line's code and a body.
    keys: Mutex<(u16, Vec<u8>)>,
    /// How often it was asked for them.
    asked: AtomicUsize,
    stopping: AtomicBool,
    tls: Arc<ServerConfig>,
}

/// A key that signs tokens.
pub(crate) struct Key {
    id: String,
    pair: KeyPair,
}

impl Provider {
    /// A provider that publishes these keys.
    pub(crate) fn start(keys: &[&Key]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let pair = KeyPair::generate()?;
        let certificate = params.self_signed(&pair)?;
        let folder = TempDir::new()?;
        std::fs::write(folder.path().join("ca.crt"), certificate.pem())?;
        let issuer = format!("https://{address}/realm");
        let state = Arc::new(State {
            issuer: issuer.clone(),
            keys: Mutex::default(),
            asked: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            tls: tls(certificate.der().clone(), &pair)?,
        });
        let provider = Self { issuer, folder, address, state: state.clone() };
        provider.publish(keys);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let state = state.clone();
                // A client that goes away in the middle is its own affair.
                thread::spawn(move || state.serve(stream).ok());
            }
        });
        Ok(provider)
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
        self.answer(200, json!({ "keys": keys }).to_string().into_bytes());
    }

    /// Answers this from now on when asked for the keys.
    pub(crate) fn answer(&self, status: u16, body: Vec<u8>) {
        *self.state.keys.lock().unwrap_or_else(PoisonError::into_inner) = (status, body);
    }

    /// How often it was asked for its keys.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// The section of a broker's configuration that trusts it.
    pub(crate) fn section(&self) -> String {
        let ca = self.folder.path().join("ca.crt");
        format!(
            "[[authentication.issuers]]\nissuer = '{}'\naudience = '{AUDIENCE}'\nca = '{}'\n",
            self.issuer,
            ca.display()
        )
    }

    /// Claims of a token of alice that is valid for so long, with these scopes.
    pub(crate) fn claims(&self, lifetime: Duration, scope: &str) -> Value {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + lifetime;
        json!({"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "scope": scope, "exp": expires.as_secs_f64()})
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // It may be gone already.
        TcpStream::connect(self.address).ok();
    }
}

fn tls(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Arc<ServerConfig>> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key)?))
}

impl State {
    /// Answers one request.
    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = StreamOwned::new(ServerConnection::new(self.tls.clone())?, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet)?;
            head.push(octet[0]);
        }
        let head = String::from_utf8(head)?;
        let (status, body) = match head.split(' ').nth(1) {
            Some("/realm/.well-known/openid-configuration") => {
                let discovery = json!({"issuer": self.issuer, "jwks_uri": format!("{}/keys", self.issuer)});
                (200, discovery.to_string().into_bytes())
            }
            Some("/realm/keys") => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
            _ => (404, Vec::new()),
        };
        let location = if status == 302 { "Location: https://localhost/keys\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} answer\r\n{location}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok(())
    }
}

impl Key {
    pub(crate) fn ed25519(id: &str) -> Result<Self> {
        Ok(Self { id: id.to_owned(), pair: KeyPair::generate_for(&PKCS_ED25519)? })
    }

    pub(crate) fn rsa(id: &str) -> Result<Self> {
        Ok(Self { id: id.to_owned(), pair: KeyPair::generate_for(&PKCS_RSA_SHA256)? })
    }

    fn is_rsa(&self) -> bool {
        self.pair.algorithm() == &PKCS_RSA_SHA256
    }

    fn public(&self) -> Value {
        let octets = self.pair.public_key_raw();
        if !self.is_rsa() {
            return json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": base64(octets)});
        }
        // A sequence of two integers (RFC 8017 A.1.1): 270 octets for a modulus of 2048 bits and the exponent 65537.
        let (modulus, exponent) = (&octets[9..9 + 256], &octets[octets.len() - 3..]);
        json!({"kty": "RSA", "use": "sig", "kid": self.id, "n": base64(modulus), "e": base64(exponent)})
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> Result<String> {
        let algorithm = if self.is_rsa() { "RS256" } else { "EdDSA" };
        self.token_with(&json!({"alg": algorithm, "kid": self.id, "typ": "JWT"}), claims)
    }

    /// A token with that head.
    pub(crate) fn token_with(&self, head: &Value, claims: &Value) -> Result<String> {
        let signed = format!("{}.{}", base64(head.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let signature = base64(&self.pair.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }
}

fn base64(octets: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(octets)
}
