//! Standard error, written by a thread of its own: whoever reads it may stop reading, and then lines are dropped and
//! counted instead of clients waiting for it.

use std::io::{ErrorKind, Write};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tracing::warn;

use crate::limits::LOG_QUEUE_BYTES;

/// The lines of this process.
pub(super) static STDERR: LazyLock<Queue> = LazyLock::new(Queue::new);

/// Lines on their way to a stream. At most [`LOG_QUEUE_BYTES`] wait; what does not fit is dropped, and told when there is room again.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Lines that were dropped.
    pub(super) dropped: IntCounter,
}

#[derive(Default)]
struct Waiting {
    lines: String,
    /// The lines before these are being written.
    is_writing: bool,
    /// Lines that were dropped since that was told last.
    dropped: u64,
}

impl Queue {
    fn new() -> Self {
        // The name and the help are well formed, so that it is always made.
        let dropped = IntCounter::new(
            "warren_log_lines_dropped_total",
            "Lines of the log that nobody could be told, because standard error was not read",
        );
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            dropped: dropped.unwrap_or_else(|error| unreachable!("{error}")),
        }
    }

    /// Puts a line in, if there is room for it. It never waits.
    pub(super) fn push(&self, line: &str) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > LOG_QUEUE_BYTES {
            waiting.dropped += 1;
            self.dropped.inc();
            return;
        }
        waiting.lines.push_str(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Writes what is put in. What the stream does not take is dropped: it may be closed, or somebody else has made it one that
    /// does not wait.
    pub(super) fn write_to(&self, mut stream: impl Write) -> ! {
        loop {
            let waiting = self.changed.wait_while(self.lock(), |waiting| waiting.lines.is_empty());
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            waiting.is_writing = true;
            let (lines, dropped) = (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped));
            drop(waiting);
            let lost = write_lines(&mut stream, &lines);
            if lost > 0 {
                // It is told when something can be written again: now that would be lost as well.
                self.dropped.inc_by(lost);
                self.lock().dropped += dropped + lost;
            } else if dropped > 0 {
                warn!(dropped, "standard error was not read; lines were dropped");
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, for at most so long.
    pub(super) fn flush(&self, patience: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), patience, is_busy));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers how many of the lines could not be written to their end.
fn write_lines(stream: &mut impl Write, lines: &str) -> u64 {
    let mut rest = lines.as_bytes();
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(written @ 1..) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    let _ = stream.flush();
    rest.iter().filter(|octet| **octet == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::line::{Lines, Style};

    /// A stream that takes a write when the test lets it, and shows it what was written.
    struct Pipe {
        opened: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.opened.recv().map_err(io::Error::other)?;
            let text = String::from_utf8(octets.to_vec()).map_err(io::Error::other)?;
            self.written.send(text).map_err(io::Error::other)?;
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_for_who_reads_and_what_is_lost_is_counted_and_told() {
        let (open, opened) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let queue = Arc::new(Queue::new());
        let (of_thread, of_layer) = (Arc::clone(&queue), Arc::clone(&queue));
        thread::spawn(move || {
            let layer = Lines::new(Style::Text, move |line: &str| of_layer.push(line));
            tracing::subscriber::with_default(Registry::default().with(layer), || {
                of_thread.write_to(Pipe { opened, written })
            })
        });
        queue.push("first\n");
        queue.flush(Duration::ZERO);
        while !queue.lock().is_writing {
            thread::yield_now();
        }
        // Nobody reads it now. Lines of 64 octets: as many as there is room for, and one more.
        let line = format!("{:063}\n", 7);
        let room = LOG_QUEUE_BYTES / line.len();
        (0..=room).for_each(|_| queue.push(&line));
        assert_eq!(queue.dropped.get(), 1);
        open.send(()).expect("the thread runs");
        assert_eq!(lines.recv().expect("a line"), "first\n");
        open.send(()).expect("the thread runs");
        assert_eq!(lines.recv().expect("lines"), line.repeat(room));
        open.send(()).expect("the thread runs");
        let told = lines.recv().expect("a line");
        assert!(told.contains("lines were dropped dropped=1") && told.lines().count() == 1, "{told}");
        queue.flush(Duration::from_secs(60));
        assert!(queue.lock().lines.is_empty() && queue.dropped.get() == 1);
    }

    /// A stream that takes five octets and then nothing until it is opened.
    struct Full {
        opened: Arc<AtomicBool>,
        room: usize,
        written: mpsc::Sender<String>,
    }

    impl Write for Full {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let room = if self.opened.load(Ordering::Acquire) { octets.len() } else { self.room.min(octets.len()) };
            if room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= room.min(self.room);
            let text = String::from_utf8(octets[..room].to_vec()).map_err(io::Error::other)?;
            self.written.send(text).map_err(io::Error::other)?;
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_the_stream_does_not_take_are_counted_and_told_when_it_takes_some_again() {
        let (written, lines) = mpsc::channel();
        let (queue, opened) = (Arc::new(Queue::new()), Arc::new(AtomicBool::new(false)));
        let (of_thread, of_layer) = (Arc::clone(&queue), Arc::clone(&queue));
        let stream = Full { opened: Arc::clone(&opened), room: 5, written };
        queue.push("one\ntwo\nthree\n");
        thread::spawn(move || {
            let layer = Lines::new(Style::Text, move |line: &str| of_layer.push(line));
            tracing::subscriber::with_default(Registry::default().with(layer), || of_thread.write_to(stream))
        });
        assert_eq!(lines.recv().expect("a part"), "one\nt");
        queue.flush(Duration::from_secs(60));
        assert_eq!(queue.dropped.get(), 2);
        queue.push("four\n");
        queue.flush(Duration::from_secs(60));
        assert_eq!(queue.dropped.get(), 3, "it takes nothing, and nothing is told");
        opened.store(true, Ordering::Release);
        queue.push("five\n");
        assert_eq!(lines.recv().expect("a line"), "five\n");
        let told = lines.recv().expect("a line");
        assert!(told.contains("lines were dropped dropped=3") && told.lines().count() == 1, "{told}");
    }
}
