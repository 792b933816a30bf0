//! How pages of metrics reach those who ask for them: what asking costs the node is bounded, whoever asks, and however slowly
//! it is read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use thiserror::Error;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::limits::{SCRAPE_TIMEOUT, SUMS_LIFETIME};

/// The last page of sums. Whoever comes while one is made waits for it, and who comes within [`SUMS_LIFETIME`] is given the
/// same: to make one, all shards walk all their queues.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums(Arc<Mutex<Option<(Instant, Bytes)>>>);

impl Sums {
    /// The page, which `make` makes if it is time for another.
    ///
    /// # Errors
    /// What `make` said; whoever comes next has it made again.
    pub(crate) async fn page<E>(&self, make: impl Future<Output = Result<String, E>>) -> Result<Bytes, E> {
        let mut last = self.0.lock().await;
        let now = Instant::now();
        if let Some((_, page)) = last.as_ref().filter(|(made, _)| now.duration_since(*made) < SUMS_LIFETIME) {
            return Ok(page.clone());
        }
        let page = Bytes::from(make.await?);
        *last = Some((now, page.clone()));
        Ok(page)
    }
}

/// Whoever was to read the page has gone, or does not read it.
#[derive(Debug)]
pub(super) struct Gone;

/// Where a page's pieces go that is written while it is sent.
#[derive(Debug)]
pub(super) struct Pieces {
    sender: mpsc::Sender<Bytes>,
    /// For how long the reader may yet be waited for.
    patience: Duration,
}

impl Pieces {
    /// Sends a piece when the reader has room for it.
    ///
    /// # Errors
    /// The reader has gone, or was waited for long enough.
    pub(super) async fn send(&mut self, piece: Bytes) -> Result<(), Gone> {
        let begin = Instant::now();
        let sent = timeout(self.patience, self.sender.send(piece)).await;
        self.patience = self.patience.saturating_sub(begin.elapsed());
        if let Ok(Ok(())) = sent { Ok(()) } else { Err(Gone) }
    }
}

/// A page was not read in time.
#[derive(Debug, Error)]
#[error("the page was not read in time")]
struct CutOff;

/// A page that `write` writes while it is sent; until it is written, or its reader was waited for [`SCRAPE_TIMEOUT`] in all, it
/// holds `permit`.
pub(super) fn piecewise<W>(permit: OwnedSemaphorePermit, write: impl FnOnce(Pieces) -> W) -> Body
where
    W: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, mut received) = mpsc::channel(1);
    let (whole, mut is_whole) = oneshot::channel();
    // The page ends for its reader when this one is gone too: not before it is known whether it is whole.
    let open = sender.clone();
    let write = write(Pieces { sender, patience: SCRAPE_TIMEOUT });
    tokio::spawn(async move {
        let _held = (permit, open);
        if write.await.is_ok() {
            // Nobody may be left to know.
            let _ = whole.send(());
        }
    });
    Body::from_stream(stream::poll_fn(move |context| {
        received.poll_recv(context).map(|piece| match piece {
            Some(piece) => Some(Ok(piece)),
            // A page that ends early must not look as if there were no more.
            None => is_whole.try_recv().err().map(|_| Err(CutOff)),
        })
    }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::to_bytes;
    use futures::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::time::{advance, pause, sleep};

    use super::*;

    async fn numbered(mut pieces: Pieces, count: u8) -> Result<(), Gone> {
        for piece in 0..count {
            pieces.send(Bytes::from(vec![piece])).await?;
        }
        Ok(())
    }

    fn permit(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        Arc::clone(permits).try_acquire_owned().expect("a permit")
    }

    #[tokio::test]
    async fn a_page_that_is_read_comes_whole_and_its_place_is_free() {
        let permits = Arc::new(Semaphore::new(1));
        let page = piecewise(permit(&permits), |pieces| numbered(pieces, 9));
        assert_eq!(to_bytes(page, 100).await.expect("whole"), (0..9).collect::<Vec<u8>>());
        let place = permits.acquire().await;
        assert!(place.is_ok());
    }

    #[tokio::test]
    async fn a_page_that_is_not_read_is_cut_off_after_thirty_seconds_and_gives_its_place_back() {
        pause();
        let permits = Arc::new(Semaphore::new(1));
        let page = piecewise(permit(&permits), |pieces| numbered(pieces, 9));
        sleep(SCRAPE_TIMEOUT - Duration::from_millis(1)).await;
        assert_eq!(permits.available_permits(), 0);
        sleep(Duration::from_millis(2)).await;
        assert_eq!(permits.available_permits(), 1);
        assert!(to_bytes(page, 100).await.is_err(), "half a page does not look like a whole one");
    }

    #[tokio::test]
    async fn a_page_that_takes_long_to_make_is_not_cut_off() {
        pause();
        let permits = Arc::new(Semaphore::new(1));
        let page = piecewise(permit(&permits), |mut pieces| async move {
            sleep(SCRAPE_TIMEOUT * 2).await;
            numbered(Pieces { sender: pieces.sender.clone(), patience: pieces.patience }, 1).await?;
            sleep(SCRAPE_TIMEOUT * 2).await;
            pieces.send(Bytes::from_static(&[1])).await
        });
        assert_eq!(to_bytes(page, 100).await.expect("whole"), [0, 1][..]);
    }

    #[tokio::test]
    async fn however_many_ask_for_sums_they_are_made_once_a_second() {
        pause();
        let (sums, made) = (Sums::default(), AtomicUsize::new(0));
        let make = || async {
            made.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            Ok::<_, Infallible>("sums".to_owned())
        };
        let pages = join_all((0..1_000).map(|_| sums.page(make()))).await;
        assert!(pages.into_iter().all(|page| page.is_ok_and(|page| page == "sums")));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        advance(SUMS_LIFETIME).await;
        assert!(sums.page(make()).await.is_ok());
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }
}
