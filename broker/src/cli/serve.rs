//! `warren-broker serve`: runs a node until it is told to stop.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};
use warren_broker::{Node, telemetry};

use super::settings::SettingsFlags;

pub(super) const EXAMPLES: &str = "\
Examples:
  warren-broker serve
  warren-broker serve --config /etc/warren/warren.toml
  warren-broker serve --data-dir /tmp/warren --amqp 127.0.0.1:5673 --metrics 127.0.0.1:0
  warren-broker serve --set log.segment_bytes=4194304

docs/configuration.md describes every setting; docs/definitions.md has an example of a file of definitions.";

pub(super) fn run(flags: &SettingsFlags) -> anyhow::Result<()> {
    let settings = flags.load()?;
    let _telemetry = telemetry::init(&settings.config.logging)?;
    for variable in &settings.ignored_variables {
        warn!(variable, "there is no such setting; the variable is ignored");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let ran = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let grace = settings.config.shutdown.grace();
        let node = Node::start(settings.config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(end_in_any_case(grace, terminate, interrupt));
        node.stop().await;
        Ok(())
    });
    // A thread that reads from a volume that does not answer has nothing that anybody waits for any more.
    runtime.shutdown_timeout(LAST_THREADS);
    ran
}

/// Ends the process when somebody asks a second time, or when the node has not stopped in time: a disk that does not answer
/// must not hold it. What is not durable then was not confirmed either.
async fn end_in_any_case(grace: Duration, mut terminate: Signal, mut interrupt: Signal) {
    let code = tokio::select! {
        _ = terminate.recv() => INTERRUPTED,
        _ = interrupt.recv() => INTERRUPTED,
        // What is left to do behind the bound is quick, if it is done at all.
        () = tokio::time::sleep(grace + Duration::from_secs(1)) => FAILED,
    };
    error!(code, "ending at once; messages whose acknowledgements are not durable are delivered again");
    telemetry::flush();
    std::process::exit(code);
}

/// How long threads that read or compute may go on when the node has stopped.
const LAST_THREADS: Duration = Duration::from_millis(500);

const FAILED: i32 = 1;
const INTERRUPTED: i32 = 130;
