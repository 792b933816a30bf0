//! Who counts for the limits of users and virtual hosts.

use crate::error::Exception;
use crate::topology::OpenConnections;

/// Counts connections and channels over all sessions of a node.
///
/// To ask how many there are and to be one more of them is one step. Of many that are opened in the same moment, as many
/// as a limit says are let in, and no more.
pub trait Census {
    /// Counts this session's connection as one of that user and of that virtual host if `check` agrees, which is told how
    /// many there are without it. It counts until the session is closed.
    ///
    /// # Errors
    /// What `check` said; then nothing is counted.
    fn open_connection(
        &mut self,
        user: &str,
        vhost: &str,
        check: &mut dyn FnMut(OpenConnections) -> Result<(), Exception>,
    ) -> Result<(), Exception>;

    /// Counts one more channel of this session's user if `check` agrees, which is told how many that user has without it.
    /// `own` of these are this session's; those that it had and has no more are thereby given back.
    ///
    /// # Errors
    /// What `check` said; then nothing is counted.
    fn open_channel(
        &mut self,
        own: usize,
        check: &mut dyn FnMut(usize) -> Result<(), Exception>,
    ) -> Result<(), Exception>;
}

/// Of a node with one connection.
impl Census for () {
    fn open_connection(
        &mut self,
        _user: &str,
        _vhost: &str,
        check: &mut dyn FnMut(OpenConnections) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        check(OpenConnections::default())
    }

    fn open_channel(
        &mut self,
        own: usize,
        check: &mut dyn FnMut(usize) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        check(own)
    }
}
