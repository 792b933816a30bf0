//! The suites, a file for each client.

mod aio_pika;
mod aiormq;
mod amqp091_go;
mod amqplib;
mod celery;
mod debian;
mod java;
mod kombu;
mod lapin;
mod pika;
mod py_amqp;
mod tutorials;

use warren_tests::trial::suite::Suite;

/// All of them; the longest first, for runs of several at a time.
pub(crate) const ALL: [Suite; 15] = [
    celery::SUITE,
    amqp091_go::SUITE,
    aiormq::SUITE,
    aio_pika::SUITE,
    kombu::SUITE,
    lapin::SUITE,
    py_amqp::SUITE,
    pika::SUITE,
    amqplib::SUITE,
    java::CLIENT,
    java::SPRING,
    tutorials::GO,
    tutorials::RUST,
    debian::BUNNY,
    debian::PHP,
];
