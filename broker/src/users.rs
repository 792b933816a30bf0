//! Who may log in.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use warren_core::session::Login;
use warren_core::topology::Identity;

use crate::config::DefaultUser;

/// Checks credentials against the one user that the configuration names, or against `guest`.
#[derive(Debug)]
pub(crate) struct Users {
    default_user: Option<DefaultUser>,
}

/// Why a login was refused; for the log, never for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("user or password is wrong")]
    Credentials,
    #[error("guest may only log in from this host; configure [default_user] for others")]
    GuestFromAfar,
    #[error("cannot read {path}: {source}")]
    Secret { path: String, source: io::Error },
}

impl Users {
    pub(crate) fn new(default_user: Option<DefaultUser>) -> Self {
        Self { default_user }
    }

    /// Who it is if the credentials are right. The files are read at every login, so that a password changed on
    /// disk (a Kubernetes Secret, say) counts from the next login on.
    pub(crate) fn check(&self, login: &Login, peer: IpAddr) -> Result<Identity, LoginError> {
        let (name, password) = match &self.default_user {
            Some(user) => (read_secret(&user.name_file)?, read_secret(&user.password_file)?),
            None if !peer.to_canonical().is_loopback() => return Err(LoginError::GuestFromAfar),
            None => (b"guest".to_vec(), b"guest".to_vec()),
        };
        let name_is_right = equal(&name, login.user.as_bytes());
        let password_is_right = equal(&password, &login.password);
        if name_is_right & password_is_right {
            Ok(Identity::Node(Arc::from(login.user.as_str())))
        } else {
            Err(LoginError::Credentials)
        }
    }
}

/// Whether the files of a user can be read.
pub(crate) fn readable(user: &DefaultUser) -> Result<(), LoginError> {
    read_secret(&user.name_file).and_then(|_| read_secret(&user.password_file)).map(drop)
}

/// Compares by digest, in a time that tells nothing about either side, not even a length.
fn equal(expected: &[u8], given: &[u8]) -> bool {
    Sha256::digest(expected).ct_eq(&Sha256::digest(given)).into()
}

/// A secret's file without the line end that editors put behind it.
fn read_secret(path: &Path) -> Result<Vec<u8>, LoginError> {
    let mut secret =
        std::fs::read(path).map_err(|source| LoginError::Secret { path: path.display().to_string(), source })?;
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    #[test]
    fn guest_logs_in_from_this_host_only() {
        let users = Users::new(None);
        assert!(users.check(&login("guest", "guest"), LOCAL).is_ok());
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        for peer in [IpAddr::V6(Ipv6Addr::LOCALHOST), mapped] {
            assert!(users.check(&login("guest", "guest"), peer).is_ok(), "{peer}");
        }
        assert!(matches!(users.check(&login("guest", "guest"), FAR), Err(LoginError::GuestFromAfar)));
        assert!(matches!(users.check(&login("guest", "wrong"), LOCAL), Err(LoginError::Credentials)));
    }

    #[test]
    fn a_configured_user_replaces_guest_and_its_password_may_change() {
        let folder = tempfile::tempdir().expect("a folder for the secrets");
        let (name_file, password_file) = (folder.path().join("username"), folder.path().join("password"));
        std::fs::write(&name_file, "app\n").expect("written");
        std::fs::write(&password_file, "first").expect("written");
        let users = Users::new(Some(DefaultUser { name_file, password_file: password_file.clone() }));
        assert_eq!(users.check(&login("app", "first"), FAR).expect("right").name().as_ref(), "app");
        assert!(matches!(users.check(&login("guest", "guest"), LOCAL), Err(LoginError::Credentials)));
        std::fs::write(&password_file, "second\n").expect("written");
        assert!(users.check(&login("app", "first"), FAR).is_err());
        assert!(users.check(&login("app", "second"), FAR).is_ok());
        std::fs::remove_file(&password_file).expect("removed");
        assert!(matches!(users.check(&login("app", ""), FAR), Err(LoginError::Secret { .. })));
    }
}
