//! A real server answers here as the API server does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Barrier;

use super::*;
use crate::limits::{FAILURES_PER_MINUTE, REVIEW_TIMEOUT, REVIEWS_OF_SOURCE_AT_ONCE};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const BILLING: &str = "system:serviceaccount:shop:billing";

/// An API server that knows tokens by their claim `good`.
struct ApiServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// How many questions it had at once at most.
    at_once: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
    reviews: Arc<Reviews>,
}

impl ApiServer {
    /// It answers so many questions together, when they all are there.
    async fn answering(together: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let server = Self::at(listener.local_addr().expect("an address"));
        let (asked, at_once) = (Arc::clone(&server.asked), Arc::clone(&server.at_once));
        let (barrier, under_way) = (Arc::new(Barrier::new(together)), Arc::<AtomicUsize>::default());
        let answer = async move |question: String| {
            asked.fetch_add(1, Ordering::SeqCst);
            at_once.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            barrier.wait().await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            let question: Value = serde_json::from_str(&question).expect("JSON");
            let token = question["spec"]["token"].as_str().expect("a token").as_bytes().to_vec();
            let good = Token::parse(&token).expect("a token").unverified().get("good").is_some();
            let user = json!({"username": BILLING});
            json!({"status": {"authenticated": good, "audiences": ["warren"], "user": user}}).to_string()
        };
        let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(answer));
        tokio::spawn(async { axum::serve(listener, router).await });
        server
    }

    fn at(address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "our-own").expect("written");
        let config = format!("audience = 'warren'\napi_server = 'http://{address}'\ntoken_file = {token:?}");
        let accounts = ServiceAccounts::without_tls(toml::from_str(&config).expect("settings"));
        let reviews = Arc::new(Reviews::new(accounts));
        Self { address, asked: Arc::default(), at_once: Arc::default(), _folder: folder, reviews }
    }

    async fn login(&self, token: &str) -> Result<Arc<str>, LoginError> {
        let parsed = Token::parse(token.as_bytes()).expect("a token");
        self.reviews.login(Holder { octets: token.as_bytes(), token: &parsed, peer: PEER }, Throttled::Yes).await
    }

    /// Whether nothing counts against the account there.
    fn is_free(&self) -> bool {
        let now = Instant::now();
        self.reviews.refused.turn(BILLING, PEER, now) == Some(now)
    }
}

/// One of many tokens of the account, which the API server knows or not.
fn token(number: usize, good: bool) -> String {
    let mut claims = json!({"sub": BILLING, "number": number});
    if good {
        claims["good"] = json!(true);
    }
    let [head, claims] = [json!({"alg": "RS256"}), claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{head}.{claims}.c2lnbmF0dXJl")
}

#[tokio::test]
async fn valid_logins_of_one_account_at_once_are_all_let_in_and_few_are_asked_about_together() {
    // Were there fewer at once, none would ever be answered.
    let server = ApiServer::answering(REVIEWS_OF_SOURCE_AT_ONCE).await;
    let tokens: Vec<_> = (0..5 * REVIEWS_OF_SOURCE_AT_ONCE).map(|number| token(number, true)).collect();
    for result in join_all(tokens.iter().map(|token| server.login(token))).await {
        assert_eq!(&*result.expect("it is valid"), BILLING);
    }
    assert_eq!(server.at_once.load(Ordering::SeqCst), REVIEWS_OF_SOURCE_AT_ONCE);
    assert!(server.is_free());
}

#[tokio::test]
async fn who_comes_with_a_token_that_is_asked_about_waits_for_that_answer() {
    let server = ApiServer::answering(1).await;
    for (token, is_good) in [(token(0, true), true), (token(1, false), false)] {
        server.asked.store(0, Ordering::SeqCst);
        let results = join_all((0..100).map(|_| server.login(&token))).await;
        assert!(results.iter().all(|result| result.is_ok() == is_good), "{results:?}");
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn tokens_that_the_api_server_does_not_know_count_and_five_are_free() {
    let server = ApiServer::answering(1).await;
    // A little of the first comes back while the others fail.
    let failing = FAILURES_PER_MINUTE as usize + 1;
    for number in 0..failing {
        assert!(server.is_free(), "{number}");
        let refused = server.login(&token(number, false)).await;
        assert!(matches!(refused, Err(LoginError::Review(ReviewError::Unauthenticated))), "{refused:?}");
    }
    assert!(!server.is_free());
    assert!(server.login(&token(0, false)).await.is_err(), "it is known");
    // Further ones wait for their turns, and beyond a few nobody is asked about them.
    let guesses: Vec<_> = (100..200).map(|number| token(number, false)).collect();
    let results = join_all(guesses.iter().map(|token| server.login(token))).await;
    let unasked = results.iter().filter(|result| matches!(result, Err(LoginError::TooManyFailures))).count();
    assert_eq!(results.len() - unasked, server.asked.load(Ordering::SeqCst) - failing);
    assert!(unasked > 85, "{unasked}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_counts_against_nobody_though_they_do_not_wait_for_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let server = ApiServer::at(listener.local_addr().expect("an address"));
    let begin = Instant::now();
    for number in 0..50 {
        let gone = timeout(Duration::from_millis(10), server.login(&token(number, true))).await;
        assert!(gone.is_err(), "{gone:?}");
    }
    // It is remembered for a while, so that others are told at once.
    let refused = server.login(&token(0, true)).await;
    assert!(matches!(refused, Err(LoginError::Review(ReviewError::Unavailable(_)))), "{refused:?}");
    assert!(begin.elapsed() < Duration::from_millis(warren_core::limits::HANDSHAKE_MILLIS));
    let told = Instant::now();
    assert!(server.login(&token(0, true)).await.is_err());
    assert_eq!(told, Instant::now());
    assert!(server.is_free());
    assert!(REVIEW_TIMEOUT < REVIEW_PATIENCE);
    assert!(TcpListener::bind(server.address).await.is_err(), "somebody is there and says nothing");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_kubernetes_does_not_know_any_more_is_revoked_and_an_outage_revokes_none() {
    let server = ApiServer::at((Ipv4Addr::LOCALHOST, 1).into());
    let said = |outcome: Result<Arc<str>, ReviewError>| {
        let review = Review { outcome, until: Instant::now() + Duration::from_secs(7_200) };
        let answer = Answer(watch::channel(Some(review)).1);
        server.reviews.answers().insert(digest(b"token"), answer);
    };
    for outcome in [Ok(Arc::from(BILLING)), Err(ReviewError::Unavailable("down".into()))] {
        said(outcome);
        let revoked = timeout(Duration::from_secs(3_600), server.reviews.revoked(b"token")).await;
        assert!(revoked.is_err(), "it is not");
    }
    said(Err(ReviewError::Unauthenticated));
    let begin = Instant::now();
    server.reviews.revoked(b"token").await;
    assert!((REVIEW_LIFETIME..=REVIEW_INTERVAL).contains(&begin.elapsed()));
}

#[test]
fn connections_that_came_together_ask_again_at_different_times() {
    let mut pauses: Vec<_> = (0..1_000).map(|_| first_pause(random())).collect();
    pauses.sort();
    assert!(pauses[0] >= REVIEW_LIFETIME && pauses[999] < REVIEW_INTERVAL, "{pauses:?}");
    // In each tenth of the time there are some.
    let tenth = (REVIEW_INTERVAL - REVIEW_LIFETIME) / 10;
    for number in 0..10 {
        let begin = REVIEW_LIFETIME + tenth * number;
        assert!(pauses.iter().any(|pause| (begin..begin + tenth).contains(pause)), "none in {begin:?}");
    }
}

#[tokio::test]
async fn few_are_asked_about_again_at_once_and_leave_room_for_logins() {
    // Both of those and the login are answered together, and not before.
    let server = ApiServer::answering(REVIEWS_AGAIN_AT_ONCE + 1).await;
    let tokens: Vec<_> = (0..REVIEWS_AT_ONCE + REVIEWS_AGAIN_AT_ONCE).map(|number| token(number, true)).collect();
    let again = join_all(tokens.iter().map(|token| server.reviews.again(token.as_bytes())));
    let login = token(1_000, true);
    tokio::select! {
        _ = again => panic!("the server waits for the login"),
        login = server.login(&login) => assert_eq!(&*login.expect("it is valid"), BILLING),
    }
}
