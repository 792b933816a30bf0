//! The files that settings name, as far as they can be looked at without starting a node.

use std::path::Path;
use std::time::SystemTime;

use super::{Config, ConfigError, Mistakes, Settings, TlsConfig};
use crate::authentication::{check_authorities, check_secret};
use crate::definitions;
use crate::tls;

impl Settings {
    /// Reads the files that settings name, and names everything that is wrong with them: certificates and keys, authorities,
    /// files with names, passwords and tokens, definitions.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what it should.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let mut mistakes = Mistakes::default();
        self.config.check_files(&mut mistakes);
        mistakes.locate(&self.origins);
        mistakes.into_result()
    }
}

impl Config {
    fn check_files(&self, mistakes: &mut Mistakes) {
        let Self { definitions, tls, default_user, authentication, telemetry, .. } = self;
        if let Some(Err(error)) = definitions.as_deref().map(definitions::load) {
            mistakes.add("definitions", error.to_string());
        }
        if let Some(tls) = tls {
            check_tls(tls, mistakes);
        }
        if let Some(user) = default_user {
            secret("default_user.name_file", &user.name_file, mistakes);
            secret("default_user.password_file", &user.password_file, mistakes);
        }
        if let Some(kubernetes) = &authentication.kubernetes {
            authorities("authentication.kubernetes.ca", Some(&kubernetes.ca), mistakes);
            secret("authentication.kubernetes.token_file", &kubernetes.token_file, mistakes);
        }
        for issuer in &authentication.issuers {
            authorities("authentication.issuers", issuer.ca.as_deref(), mistakes);
        }
        if let Some(traces) = &telemetry.traces {
            authorities("telemetry.traces.ca", traces.ca.as_deref(), mistakes);
        }
    }
}

fn check_tls(tls: &TlsConfig, mistakes: &mut Mistakes) {
    for error in tls::mistakes(tls, SystemTime::now()) {
        mistakes.add(error.setting(), error.to_string());
    }
}

fn secret(key: &'static str, path: &Path, mistakes: &mut Mistakes) {
    if let Err(error) = check_secret(path) {
        mistakes.add(key, format!("{error}; name a file that is there and that the node may read"));
    }
}

/// Those that clients of the node's believe in.
fn authorities(key: &'static str, path: Option<&Path>, mistakes: &mut Mistakes) {
    if let Some(Err(error)) = path.map(check_authorities) {
        mistakes.add(key, format!("{error}; name a PEM file with the authorities to trust"));
    }
}
