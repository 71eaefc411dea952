//! The EC2 client against a scripted server: what is sent, what is repeated, and what is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use support::{Arrived, Step, Stub};
use tokio::time::Instant;
use vpc_aws::Ec2Settings;
use vpc_aws::ec2::shapes::{
    Action, AnyRequest, AssignPrivateIpAddresses, CreateNetworkInterface, DeleteNetworkInterface, DescribeSubnets,
    DescribeVpcs, DescribeVpcsResponse, Done, ErrorAnswer, Query, Timestamp, Vpc, answer_to_xml,
};
use vpc_aws::ec2::signature::{self, Received, Secret};
use vpc_aws::ec2::{
    Advice, CallRecord, Client, Credentials, Ec2Error, ErrorClass, Observer, Outcome, SharedCredentialsProvider,
};

const KEY: &str = "AKIALABEXAMPLE00000A";

/// 2026-11-21T07:05:09Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_244_709)
}

fn credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(KEY, "lab-secret", None, None, "test"))
}

fn client(stub: &Stub) -> Client {
    client_with(stub, credentials(), Ec2Settings::default())
}

fn client_with(stub: &Stub, credentials: SharedCredentialsProvider, settings: Ec2Settings) -> Client {
    Client::builder(settings, "eu-central-1", credentials)
        .clock(Arc::new(now))
        .jitter(Arc::new(|| 1.0))
        .http(stub.transport())
        .build()
        .unwrap()
}

fn vpcs(ids: &[&str], next_token: Option<&str>) -> Step {
    let vpc = |id: &&str| Vpc {
        vpc_id: id.parse().unwrap(),
        owner_id: None,
        state: None,
        cidr_block: "10.20.0.0/16".parse().unwrap(),
        cidr_block_associations: Vec::new(),
        ipv6_cidr_block_associations: Vec::new(),
        dhcp_options_id: None,
        instance_tenancy: None,
        is_default: None,
        tags: Vec::new(),
    };
    let body = DescribeVpcsResponse { vpcs: ids.iter().map(vpc).collect(), next_token: next_token.map(str::to_owned) };
    Step::answer(200, answer_to_xml::<DescribeVpcs>("r-1", &body))
}

fn refusal(status: u16, code: &str, message: &str) -> Step {
    let answer = ErrorAnswer { code: code.into(), message: message.into(), request_id: "r-2".into() };
    Step::answer(status, answer.to_xml())
}

fn assign() -> AssignPrivateIpAddresses {
    AssignPrivateIpAddresses::addresses("eni-0a".parse().unwrap(), 2)
}

fn create(token: Option<&str>) -> CreateNetworkInterface {
    let mut create = CreateNetworkInterface::new("subnet-0b".parse().unwrap());
    create.client_token = token.map(str::to_owned);
    create
}

/// Takes the request as a server does: signature, then parameters.
fn accept(request: &Arrived) -> AnyRequest {
    let headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let received = Received {
        method: &request.method,
        path: &request.path,
        query: "",
        headers: &headers,
        body: request.body.as_bytes(),
    };
    let secret = Secret { secret_key: "lab-secret".into(), session_token: None, expired: false };
    let signer = signature::verify(&received, Some("eu-central-1"), now(), |key| (key == KEY).then_some(secret));
    assert_eq!(signer.unwrap().access_key, KEY);
    AnyRequest::from_query(&Query::parse(request.body.as_bytes())).unwrap()
}

#[tokio::test]
async fn a_call_over_tcp_is_signed_and_answered() {
    let stub = Stub::script([vpcs(&["vpc-1"], None)]);
    let url = stub.listen().await;
    let settings = Ec2Settings { endpoint: Some(url.clone()), ..Ec2Settings::default() };
    let client = Client::builder(settings, "eu-central-1", credentials())
        .clock(Arc::new(now))
        .version("v1.2.3")
        .build()
        .unwrap();
    for _ in 0..2 {
        let answer = client.call(&DescribeVpcs::default()).await.unwrap();
        assert_eq!(answer.vpcs[0].vpc_id.as_str(), "vpc-1");
    }
    let [request, _] = &stub.arrived()[..] else { panic!("two requests") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/"));
    assert_eq!(request.header("host"), Some(url.trim_start_matches("http://")));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded; charset=utf-8"));
    let agent = request.header("user-agent").unwrap();
    assert!(agent.ends_with(" amazon-vpc-cni-k8s/v1.2.3"), "{agent}");
    assert_eq!(accept(request), DescribeVpcs::default().into());
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_waited_out_with_growing_waits() {
    let stub = Stub::script([
        refusal(500, "InternalError", "An internal error has occurred"),
        refusal(500, "InternalError", "An internal error has occurred"),
        vpcs(&[], None),
    ]);
    let started = Instant::now();
    client(&stub).call(&DescribeVpcs::default()).await.unwrap();
    assert_eq!(stub.arrived().len(), 3);
    // With a jitter of 1: 0.5 s, then 1 s.
    assert_eq!(started.elapsed(), Duration::from_millis(1500));
}

/// The bucket is the account's, and refused requests count too: whoever paces the calls decides when to come back.
#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_not_repeated_at_once() {
    let stub = Stub::script([refusal(503, "RequestLimitExceeded", "Request limit exceeded.")]);
    let error = client(&stub).call(&assign()).await.unwrap_err();
    assert_eq!(
        (error.class.clone(), error.outcome, error.advice()),
        (ErrorClass::Throttled, Outcome::NotDone, Advice::Again)
    );
    assert_eq!((error.attempts, stub.arrived().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_never_followed_by_a_second_assignment() {
    let losses = [
        (Step::Hang, ErrorClass::Timeout),
        (Step::Drop, ErrorClass::Transport),
        (refusal(500, "InternalError", "An internal error has occurred"), ErrorClass::ServerSide),
        (Step::answer(502, "<html>bad gateway</html>"), ErrorClass::ServerSide),
        (Step::answer(200, "<half"), ErrorClass::BadAnswer),
    ];
    for (loss, class) in losses {
        let stub = Stub::script([loss.clone()]);
        let error = client(&stub).call(&assign()).await.unwrap_err();
        assert_eq!(
            (&error.class, error.outcome, error.advice(), error.attempts),
            (&class, Outcome::Unknown, Advice::LookFirst, 1),
            "{loss:?}: {error}"
        );
        assert_eq!(error.resource.as_deref(), Some("eni-0a"));
        assert_eq!(stub.arrived().len(), 1, "{loss:?}");

        let stub = Stub::script([loss.clone()]);
        client(&stub).call(&create(None)).await.unwrap_err();
        assert_eq!(stub.arrived().len(), 1, "{loss:?}: created twice without a token");

        let stub = Stub::script([loss.clone()]);
        let error = client(&stub).call(&create(Some("t-1"))).await.unwrap_err();
        assert_eq!(error.attempts, 3, "{loss:?}");
        let tokens = stub.arrived().iter().all(|r| r.body.contains("ClientToken=t-1"));
        assert!(tokens && stub.arrived().len() == 3, "{loss:?}");
    }
}

/// A refusal says nothing of the attempt before it: whoever hears it is told that there was one.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_attempt_says_that_one_was_lost() {
    let exhausted = || refusal(400, "InsufficientFreeAddressesInSubnet", "The subnet has not enough free addresses.");
    let throttled = || refusal(503, "RequestLimitExceeded", "Request limit exceeded.");
    let rows = [
        (vec![Step::Hang, exhausted()], true),
        (vec![Step::Drop, throttled()], true),
        (vec![Step::Hang, Step::Hang, exhausted()], true),
        (vec![exhausted()], false),
        (vec![throttled()], false),
    ];
    for (steps, lost) in rows {
        let attempts = steps.len();
        let stub = Stub::script(steps.clone());
        let error = client(&stub).call(&create(Some("t-1"))).await.unwrap_err();
        assert_eq!((error.outcome, error.lost_before), (Outcome::NotDone, lost), "{steps:?}: {error}");
        assert_eq!(stub.arrived().len(), attempts);
    }
    let stub = Stub::script([Step::Hang]);
    let error = client(&stub).call(&assign()).await.unwrap_err();
    assert_eq!((error.outcome, error.lost_before), (Outcome::Unknown, false), "there was none before");
}

#[tokio::test]
async fn real_connections_break_in_the_same_ways() {
    for (loss, class) in [(Step::Drop, ErrorClass::Transport), (Step::Cut, ErrorClass::Transport)] {
        let stub = Stub::script([loss.clone()]);
        let settings = Ec2Settings { endpoint: Some(stub.listen().await), ..Ec2Settings::default() };
        let client = Client::builder(settings, "eu-central-1", credentials()).build().unwrap();
        let error = client.call(&assign()).await.unwrap_err();
        assert_eq!((&error.class, error.outcome), (&class, Outcome::Unknown), "{loss:?}: {error}");
        assert_eq!(stub.arrived().len(), 1);
    }
}

#[tokio::test]
async fn what_was_never_sent_was_not_done() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = Ec2Settings { endpoint: Some(url), ..Ec2Settings::default() };
    let client = Client::builder(settings, "eu-central-1", credentials()).jitter(Arc::new(|| 0.0)).build().unwrap();
    let error = client.call(&assign()).await.unwrap_err();
    assert_eq!((&error.class, error.outcome), (&ErrorClass::Transport, Outcome::NotDone), "{error}");
    assert_eq!((error.advice(), error.attempts), (Advice::Again, 3));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_and_the_whole_call_end_in_time() {
    let stub = Stub::script([Step::Hang]);
    let started = Instant::now();
    let error = client(&stub).call(&DescribeVpcs::default()).await.unwrap_err();
    assert_eq!((error.class, error.attempts), (ErrorClass::Timeout, 3));
    // Three attempts of 10 s, waits of 0.5 s and 1 s.
    assert_eq!(started.elapsed(), Duration::from_millis(31_500));

    let started = Instant::now();
    let error = client(&stub).call_within(&DescribeVpcs::default(), Duration::from_secs(12)).await.unwrap_err();
    assert_eq!((&error.class, error.attempts), (&ErrorClass::Timeout, 2));
    assert!(error.message.contains("1.5 s"), "{error}");
    assert_eq!(started.elapsed(), Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn ec2_is_given_the_time_it_asks_for_unless_that_is_too_long() {
    let busy = |seconds: &str| refusal(503, "Unavailable", "").with("retry-after", seconds);
    let stub = Stub::script([busy("7"), vpcs(&[], None)]);
    let started = Instant::now();
    client(&stub).call(&DescribeVpcs::default()).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(7));

    let stub = Stub::script([busy("60"), vpcs(&[], None)]);
    let error = client(&stub).call(&DescribeVpcs::default()).await.unwrap_err();
    assert_eq!((error.attempts, error.retry_after), (1, Some(Duration::from_secs(60))));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_comes_back_at_once_with_its_type() {
    let message = "The networkInterface ID 'eni-0a' does not exist";
    let stub = Stub::script([refusal(400, "InvalidNetworkInterfaceID.NotFound", message)]);
    let request = DeleteNetworkInterface { network_interface_id: "eni-0a".parse().unwrap(), dry_run: None };
    let error = client(&stub).call(&request).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.class, ErrorClass::NotFound { id: Some("eni-0a".into()) });
    assert_eq!(error.request_id.as_deref(), Some("r-2"));
    assert_eq!(stub.arrived().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_budget_for_retries_is_shared_and_runs_out() {
    let stub = Stub::script([refusal(500, "InternalError", "")]);
    let client = client(&stub);
    let mut attempts = Vec::new();
    for _ in 0..60 {
        attempts.push(client.call(&DescribeVpcs::default()).await.unwrap_err().attempts);
    }
    // 500 units at 5 each are 100 retries: two in each of the first 50 calls.
    assert_eq!(attempts.iter().sum::<u32>(), 60 + 100);
    assert_eq!(attempts[59], 1);
}

#[tokio::test]
async fn all_pages_are_read() {
    let stub = Stub::new(|request| match accept(request) {
        AnyRequest::DescribeVpcs(DescribeVpcs { next_token: None, max_results: Some(5), .. }) => {
            vpcs(&["vpc-1", "vpc-2"], Some("page 2"))
        }
        AnyRequest::DescribeVpcs(DescribeVpcs { next_token: Some(token), max_results: Some(5), .. }) => {
            assert_eq!(token, "page 2");
            vpcs(&["vpc-3"], None)
        }
        other => panic!("{other:?}"),
    });
    let request = DescribeVpcs { max_results: Some(5), ..Default::default() };
    let all = client(&stub).all_pages(&request).await.unwrap();
    assert_eq!(all.iter().map(|vpc| vpc.vpc_id.as_str()).collect::<Vec<_>>(), ["vpc-1", "vpc-2", "vpc-3"]);

    let stub = Stub::script([vpcs(&["vpc-1"], Some("again"))]);
    let error = client(&stub).all_pages(&request).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::BadAnswer);
    assert_eq!(stub.arrived().len(), 2);
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_from_the_answer() {
    // The server's clock is 20 minutes ahead.
    let server = now() + Duration::from_secs(1200);
    let stub = Stub::new(move |request| {
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let received =
            Received { method: "POST", path: "/", query: "", headers: &headers, body: request.body.as_bytes() };
        let secret = Secret { secret_key: "lab-secret".into(), session_token: None, expired: false };
        match signature::verify(&received, None, server, |_| Some(secret)) {
            Ok(_) => vpcs(&[], None),
            Err(e) => refusal(e.status(), e.code(), &e.to_string()).with("date", "Sat, 21 Nov 2026 07:25:09 GMT"),
        }
    });
    let client = client(&stub);
    client.call(&DescribeVpcs::default()).await.unwrap();
    assert_eq!(stub.arrived().len(), 2);
    client.call(&DescribeVpcs::default()).await.unwrap();
    assert_eq!(stub.arrived().len(), 3, "the correction is kept");
}

/// Gives a new key with each fetch.
#[derive(Debug)]
struct Rotating {
    fetches: AtomicU32,
    life: Option<Duration>,
    broken: Mutex<bool>,
}

#[derive(Clone, Debug)]
struct Source(Arc<Rotating>);

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        if *self.0.broken.lock().unwrap() {
            return future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("the source is down")));
        }
        let key = format!("KEY{}", self.0.fetches.fetch_add(1, Ordering::SeqCst));
        let expiry = self.0.life.map(|life| now() + life);
        future::ProvideCredentials::ready(Ok(Credentials::new(key, "lab-secret", None, expiry, "test")))
    }
}

fn rotating(life: Option<Duration>) -> (Source, SharedCredentialsProvider) {
    let source = Source(Arc::new(Rotating { fetches: AtomicU32::new(0), life, broken: Mutex::new(false) }));
    (source.clone(), SharedCredentialsProvider::new(source))
}

#[tokio::test]
async fn credentials_are_kept_until_shortly_before_they_expire() {
    let stub = Stub::script([vpcs(&[], None)]);
    let (source, provider) = rotating(Some(Duration::from_secs(3600)));
    let client = client_with(&stub, provider, Ec2Settings::default());
    for _ in 0..3 {
        client.call(&DescribeVpcs::default()).await.unwrap();
    }
    assert_eq!(source.0.fetches.load(Ordering::SeqCst), 1);

    // Four minutes left: fetched anew each time, and the old ones serve while the source is down.
    let (source, provider) = rotating(Some(Duration::from_secs(240)));
    let client = client_with(&stub, provider, Ec2Settings::default());
    client.call(&DescribeVpcs::default()).await.unwrap();
    client.call(&DescribeVpcs::default()).await.unwrap();
    assert_eq!(source.0.fetches.load(Ordering::SeqCst), 2);
    *source.0.broken.lock().unwrap() = true;
    client.call(&DescribeVpcs::default()).await.unwrap();
}

#[tokio::test]
async fn rejected_credentials_are_fetched_anew_once() {
    let stub = Stub::new(|request| {
        let old = request.header("authorization").unwrap().contains("KEY0/");
        if old { refusal(401, "AuthFailure", "not valid") } else { vpcs(&[], None) }
    });
    let (_, provider) = rotating(None);
    client_with(&stub, provider, Ec2Settings::default()).call(&DescribeVpcs::default()).await.unwrap();
    assert_eq!(stub.arrived().len(), 2);

    let stub = Stub::script([refusal(401, "AuthFailure", "not valid")]);
    let error = client(&stub).call(&DescribeVpcs::default()).await.unwrap_err();
    assert_eq!((&error.class, stub.arrived().len()), (&ErrorClass::Credentials, 2), "{error}");
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let stub = Stub::script([vpcs(&[], None)]);
    let (source, provider) = rotating(None);
    *source.0.broken.lock().unwrap() = true;
    let client = client_with(&stub, provider, Ec2Settings::default());
    let error = client.call(&DescribeVpcs::default()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Credentials);
    let text = error.to_string();
    assert!(text.contains("the source is down") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    assert!(stub.arrived().is_empty());
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn attempt_failed(&self, error: &Ec2Error, again_in: Option<Duration>) {
        self.0.lock().unwrap().push(format!("{} {again_in:?}", error.code));
    }
    fn call_done(&self, call: &CallRecord<'_>) {
        let code = call.error.map_or("200", |error| error.code.as_str());
        self.0.lock().unwrap().push(format!("{} {} {code} {:?}", call.action, call.attempts, call.duration));
    }
}

#[tokio::test(start_paused = true)]
async fn the_observer_hears_of_each_call_once_and_of_each_failed_attempt() {
    let stub = Stub::script([refusal(500, "InternalError", ""), refusal(400, "InvalidSubnetID.NotFound", "x")]);
    let log = Arc::new(Log::default());
    let client = Client::builder(Ec2Settings::default(), "eu-central-1", credentials())
        .clock(Arc::new(now))
        .jitter(Arc::new(|| 0.5))
        .observer(Arc::clone(&log) as Arc<dyn Observer>)
        .http(stub.transport())
        .build()
        .unwrap();
    client.call(&DescribeSubnets::default()).await.unwrap_err();
    assert_eq!(
        *log.0.lock().unwrap(),
        [
            "InternalError Some(250ms)",
            "InvalidSubnetID.NotFound None",
            "DescribeSubnets 2 InvalidSubnetID.NotFound 250ms"
        ]
    );
}

#[test]
fn answers_and_times_of_other_makers_are_taken() {
    use vpc_aws::ec2::shapes::{answer_from_xml, scalar::Scalar};
    let done = answer_from_xml::<DeleteNetworkInterface>(
        "<DeleteNetworkInterfaceResponse><requestId>1</requestId><return>true</return></DeleteNetworkInterfaceResponse>",
    );
    assert_eq!(done.unwrap().body, Done::default());
    assert_eq!(DeleteNetworkInterface::NAME, "DeleteNetworkInterface");
    assert!(Timestamp::parse("2026-07-01T21:45:27Z").is_some());
}
