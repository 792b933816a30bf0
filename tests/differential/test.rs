//! The same random scripts against us and against RabbitMQ: what clients see has to be the same.
//!
//! Every run plays the same scripts, so that it says something about what was changed. `WARREN_SEED` gives it others and
//! `WARREN_SCRIPTS` more of them: so are differences found that nobody has seen. A script that is answered differently is
//! cut down to the steps that matter before it is shown.

mod known;
mod player;
mod script;
mod text;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use warren_storage::Random;
use warren_tests::harness::{Broker, DataFolder};
use warren_tests::rabbitmq::{Chroot, Server};

use player::Player;
use script::Step;

/// The first script's seed; the next one's is one more.
const SEED: u64 = 1;
/// Scripts of a run, and steps of a script.
const SCRIPTS: u64 = 60;
const STEPS: usize = 40;

/// What RabbitMQ is told so that it permits what it permits by default today and announced to give up.
const CONFIG: &str = "deprecated_features.permit.transient_nonexcl_queues = true\n\
                      deprecated_features.permit.global_qos = true";

/// Both brokers.
struct Pair {
    ours: SocketAddr,
    theirs: SocketAddr,
    /// Runs so far, for names.
    runs: u64,
}

/// How a script was answered.
enum Verdict {
    Same,
    /// Different in a way that has a reason.
    Known(&'static str),
    Different {
        step: usize,
        ours: Vec<String>,
        theirs: Vec<String>,
    },
}

impl Pair {
    fn compare(&mut self, script: &[Step]) -> Result<Verdict> {
        self.runs += 1;
        let prefix = format!("run-{}-", self.runs);
        let mut ours = Player::new(self.ours, &prefix, script)?;
        let mut theirs = Player::new(self.theirs, &prefix, script)?;
        for (number, step) in script.iter().enumerate() {
            let (seen, expected) = (ours.perform(step)?, theirs.perform(step)?);
            if seen != expected {
                return Ok(match known::reason(&script[..=number], &seen, &expected) {
                    Some(reason) => Verdict::Known(reason),
                    None => Verdict::Different { step: number, ours: seen, theirs: expected },
                });
            }
        }
        Ok(Verdict::Same)
    }

    /// The shortest script that we find by leaving out steps and that is answered differently too.
    fn shorten(&mut self, mut script: Vec<Step>) -> Result<Vec<Step>> {
        let mut at = script.len();
        while at > 0 {
            at -= 1;
            let mut shorter = script.clone();
            shorter.remove(at);
            if let Verdict::Different { step, .. } = self.compare(&shorter)? {
                shorter.truncate(step + 1);
                at = at.min(shorter.len());
                script = shorter;
            }
        }
        Ok(script)
    }

    fn describe(&mut self, script: &[Step]) -> Result<String> {
        let mut text = String::new();
        for step in script {
            writeln!(text, "  {}.{} {:?}", step.place.connection, step.place.channel, step.deed)?;
        }
        if let Verdict::Different { ours, theirs, .. } = self.compare(script)? {
            writeln!(text, "  RabbitMQ:\n    {}\n  Warren:\n    {}", theirs.join("\n    "), ours.join("\n    "))?;
        }
        Ok(text)
    }
}

#[test]
fn random_scripts_are_answered_as_rabbitmq_answers_them() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seed = number("WARREN_SEED").unwrap_or(SEED);
    let scripts = number("WARREN_SCRIPTS").unwrap_or(SCRIPTS);
    println!("seed {seed}; to repeat: WARREN_SEED={seed} cargo test -p warren-tests --test differential");
    let rabbitmq = Server::start(&Chroot::of_rabbitmq()?, CONFIG)?;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut pair = Pair { ours: broker.address, theirs: rabbitmq.address, runs: 0 };
    let (mut known, mut different, mut steps, mut unsteady) = (BTreeMap::new(), Vec::new(), 0, 0);
    for number in 0..scripts {
        let script = script::script(&mut Random(seed.wrapping_add(number)), STEPS);
        match pair.compare(&script)? {
            Verdict::Same => steps += script.len(),
            Verdict::Known(reason) => *known.entry(reason).or_insert(0) += 1,
            // What RabbitMQ answers is now and then a matter of chance; a difference has to be there twice.
            Verdict::Different { step, .. }
                if !matches!(pair.compare(&script[..=step])?, Verdict::Different { .. }) =>
            {
                unsteady += 1;
            }
            Verdict::Different { step, .. } => {
                let shortened = pair.shorten(script[..=step].to_vec())?;
                let described = pair.describe(&shortened)?;
                println!("script {number}:\n{described}");
                different.push(described);
            }
        }
    }
    println!(
        "{scripts} scripts, {steps} steps in those answered alike; {unsteady} unsteady; known differences: {known:?}"
    );
    ensure!(different.is_empty(), "{} scripts were answered differently", different.len());
    Ok(())
}
