//! The clients for Ruby and PHP, from Debian's packages, used by programs of ours.

use std::process::Command;
use std::time::Duration;

use warren_tests::programs::install_missing;

use warren_tests::trial::case::Tally;
use warren_tests::trial::suite::{Quick, Suite, cases_of};

pub(crate) const BUNNY: Suite = Suite {
    name: "bunny",
    version: "2.19.0",
    covers: "Ruby: work queues, publish and subscribe, topics, confirms and returns, exceptions, dead letters",
    rabbitmq: Tally { passed: 9, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(120),
    quick: Quick::Nothing,
    manages: false,
    install: |_| install_missing(&[("/usr/share/rubygems-integration/all/gems/bunny-2.19.0", "ruby-bunny")]),
    recipe: &[],
    run: |_| cases_of(Command::new("ruby").args(["-e", include_str!("../programs/tutorials.rb")])),
};

pub(crate) const PHP: Suite = Suite {
    name: "php-amqplib",
    version: "3.5.3",
    covers: "PHP: work queues, publish and subscribe, topics, confirms and returns, exceptions, dead letters",
    rabbitmq: Tally { passed: 9, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(120),
    quick: Quick::Nothing,
    manages: false,
    install: |_| install_missing(&[("php", "php-cli"), ("/usr/share/php/PhpAmqpLib/autoload.php", "php-amqplib")]),
    recipe: &[],
    run: |_| cases_of(Command::new("php").args(["-r", include_str!("../programs/tutorials.php")])),
};
