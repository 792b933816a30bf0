//! What the machine could do at that moment, measured by the plainest code there is: no broker is faster than that.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;

use crate::cores::{Cores, stay_on};
use crate::load::histogram;

/// Length of the file that is written to; it is written through once before, so that no write has to extend it.
const FILE_LEN: u64 = 64 << 20;
const SYNC_TIME: Duration = Duration::from_millis(200);
const STREAM_TIME: Duration = Duration::from_millis(200);
const PING_TIME: Duration = Duration::from_millis(100);
const COPY_TIME: Duration = Duration::from_millis(50);
const COPY_LEN: usize = 32 << 20;

/// The machine's limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Octets per second through one TCP connection over loopback, from the load's processors to the broker's.
    pub(crate) loopback: f64,
    /// Median of a round trip of 64 octets over it, in microseconds.
    pub(crate) round_trip: f64,
    /// One write of 1 KiB and its fdatasync.
    pub(crate) sync_1k: SyncTime,
    /// One write of 16 KiB and its fdatasync.
    pub(crate) sync_16k: SyncTime,
    /// One write of 200 KiB and its fdatasync.
    pub(crate) sync_200k: SyncTime,
    /// Octets per second that one processor copies in memory.
    pub(crate) copy: f64,
}

/// How long a write and its fdatasync take, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct SyncTime {
    /// All of them, divided by their number.
    pub(crate) mean: f64,
    /// Half are not longer.
    pub(crate) p50: f64,
    /// 99 of 100 are not longer.
    pub(crate) p99: f64,
}

/// A file on the disk that the brokers use.
#[derive(Debug)]
pub(crate) struct SyncFile(File);

impl SyncFile {
    /// Makes the file in `folder`; it has no name any more when this returns.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut file = tempfile::tempfile_in(folder).context("make a file to sync")?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_LEN >> 20 {
            file.write_all(&zeros).context("write a file to sync")?;
        }
        file.sync_all().context("sync a file")?;
        // Otherwise it stays in memory in pieces of a megabyte, each of which costs more to sync than what was written.
        fadvise(&file, 0, None, Advice::DontNeed).context("forget a file to sync")?;
        Ok(Self(file))
    }

    fn time(&self, len: usize) -> Result<SyncTime> {
        let (octets, mut times, mut at, begin) = (vec![1; len], histogram(), 0, Instant::now());
        while begin.elapsed() < SYNC_TIME {
            let one = Instant::now();
            self.0.write_all_at(&octets, at).context("write to a file")?;
            self.0.sync_data().context("sync a file")?;
            times.saturating_record(one.elapsed().as_nanos() as u64);
            at += len as u64;
            if at + len as u64 > FILE_LEN {
                at = 0;
            }
        }
        let quantile = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Ok(SyncTime { mean: times.mean() / 1e3, p50: quantile(0.5), p99: quantile(0.99) })
    }
}

impl Limits {
    /// Measures for about a second.
    ///
    /// # Errors
    /// Loopback or the disk do not work.
    pub(crate) fn measure(file: &SyncFile, cores: &Cores) -> Result<Self> {
        Ok(Self {
            loopback: loopback(cores)?,
            round_trip: round_trip(cores)?,
            sync_1k: file.time(1 << 10)?,
            sync_16k: file.time(16 << 10)?,
            sync_200k: file.time(200 << 10)?,
            copy: copy(),
        })
    }

    /// The sync of a write of about `len` octets.
    pub(crate) fn sync_of(&self, len: usize) -> SyncTime {
        match len {
            0..=4_096 => self.sync_1k,
            4_097..=65_536 => self.sync_16k,
            _ => self.sync_200k,
        }
    }
}

fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let near = TcpStream::connect(listener.local_addr()?).context("connect")?;
    let (far, _) = listener.accept().context("accept")?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

fn loopback(cores: &Cores) -> Result<f64> {
    let (mut near, mut far) = pair()?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || -> Result<u64> {
            stay_on(&cores.broker)?;
            let (mut octets, mut received) = (vec![0; 256 << 10], 0);
            loop {
                match far.read(&mut octets)? {
                    0 => return Ok(received),
                    len => received += len as u64,
                }
            }
        });
        let (octets, begin) = (vec![1; 64 << 10], Instant::now());
        while begin.elapsed() < STREAM_TIME {
            near.write_all(&octets).context("send over loopback")?;
        }
        drop(near);
        let Ok(received) = receiver.join() else { bail!("the receiver panicked") };
        Ok(received? as f64 / begin.elapsed().as_secs_f64())
    })
}

fn round_trip(cores: &Cores) -> Result<f64> {
    let (mut near, mut far) = pair()?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            stay_on(&cores.broker)?;
            let mut octets = [0; 64];
            while far.read_exact(&mut octets).is_ok() {
                far.write_all(&octets)?;
            }
            Ok(())
        });
        let (mut octets, mut times, begin) = ([1; 64], histogram(), Instant::now());
        while begin.elapsed() < PING_TIME {
            let one = Instant::now();
            near.write_all(&octets).context("send over loopback")?;
            near.read_exact(&mut octets).context("receive over loopback")?;
            times.saturating_record(one.elapsed().as_nanos() as u64);
        }
        drop(near);
        let Ok(echoed) = echo.join() else { bail!("the echo panicked") };
        echoed?;
        Ok(times.value_at_quantile(0.5) as f64 / 1e3)
    })
}

fn copy() -> f64 {
    let (from, mut to, mut copied, begin) = (vec![1_u8; COPY_LEN], vec![0; COPY_LEN], 0_u64, Instant::now());
    while begin.elapsed() < COPY_TIME {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        copied += COPY_LEN as u64;
    }
    copied as f64 / begin.elapsed().as_secs_f64()
}
