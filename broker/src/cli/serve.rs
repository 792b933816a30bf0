//! `warren-broker serve`: runs a node until it is told to stop.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;
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
    telemetry::init(&settings.config.logging)?;
    for variable in &settings.ignored_variables {
        warn!(variable, "there is no such setting; the variable is ignored");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let node = Node::start(settings.config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        node.stop().await;
        Ok(())
    })
}
