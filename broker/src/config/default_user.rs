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
    /// A file with the password that comes next, which counts already. It may be missing. Default: none.
    #[serde(default)]
    pub next_password_file: Option<PathBuf>,
    /// A file with the password before, which still counts. It may be missing. Default: none.
    #[serde(default)]
    pub previous_password_file: Option<PathBuf>,
    /// A file with the time when the password before ends: seconds since the Unix epoch, in decimal digits; with anything else it
    /// has ended. While the file is missing, it does not end. Default: none.
    #[serde(default)]
    pub previous_password_until_file: Option<PathBuf>,
}
