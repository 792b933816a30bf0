//! RabbitMQ's client for Java, and Spring's listeners and templates over it. Their own tests are not in a registry and
//! need rabbitmqctl, so programs of ours use them.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use warren_tests::command::output_of;
use warren_tests::programs::install_missing;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::suite::{Installation, Quick, Run, Suite, cases_of, put};

pub(crate) const CLIENT: Suite = Suite {
    name: "java-client",
    version: "5.32.0",
    covers: "the six tutorials, confirms and returns, exceptions, exchange to exchange, quorum queues, recovery",
    rabbitmq: Tally { passed: 14, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::Nothing,
    manages: false,
    install: |installation| install(installation, "Tutorials", TUTORIALS),
    recipe: &[CLIENT_POM, TUTORIALS],
    run: |run| launch(run, "Tutorials"),
};

pub(crate) const SPRING: Suite = Suite {
    name: "spring-rabbit",
    version: "3.2.8",
    covers: "RabbitAdmin, RabbitTemplate, both kinds of listener container, correlated confirms, retries and dead letters",
    rabbitmq: Tally { passed: 6, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::Nothing,
    manages: false,
    install: |installation| install(installation, "Spring", LISTENERS),
    recipe: &[SPRING_POM, LISTENERS],
    run: |run| launch(run, "Spring"),
};

const TUTORIALS: &str = include_str!("../programs/java/Tutorials.java");
const LISTENERS: &str = include_str!("../programs/java/Spring.java");
const CLIENT_POM: &str = include_str!("../programs/java/client.xml");
const SPRING_POM: &str = include_str!("../programs/java/spring.xml");

/// Fetches the jars that the program needs, and compiles it.
fn install(installation: &Installation<'_>, program: &str, text: &str) -> Result<()> {
    install_missing(&[("javac", "default-jdk-headless"), ("mvn", "maven")])?;
    let folder = installation.folder;
    put(folder, "pom.xml", if program == "Spring" { SPRING_POM } else { CLIENT_POM })?;
    put(folder, &format!("{program}.java"), text)?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"]);
    output_of(maven.current_dir(folder))?;
    let mut javac = Command::new("javac");
    javac.args(["-cp", "jars/*", &format!("{program}.java")]).current_dir(folder);
    output_of(&mut javac).map(drop)
}

fn launch(run: &Run<'_>, program: &str) -> Result<Vec<Case>> {
    cases_of(Command::new("java").args(["-cp", "jars/*:.", program]).current_dir(run.folder))
}
