//! `[default_user]`: the node's own user.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A user whose name and password are in files, such as a mounted Kubernetes Secret. They are read at each login.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultUser {
    /// The file with the user's name.
    pub name_file: PathBuf,
    /// The file with the password.
    pub password_file: PathBuf,
}
