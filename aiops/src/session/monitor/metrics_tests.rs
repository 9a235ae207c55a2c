//! Requests and answers, as text and over sockets.

use std::sync::Arc;
use std::sync::Mutex;

use super::exposition::tests::TOP;
use super::exposition::tests::full;
use super::exposition::tests::read;
use super::*;

fn ask(request: &str, latest: &Latest, age: Duration) -> (String, Answer) {
    let now = latest.clock.mono_ns + u64::try_from(age.as_nanos()).unwrap();
    let answer = answer(request.as_bytes(), &mut latest.clone(), TOP, now);
    (answer.head(), answer)
}

#[test]
fn requests_get_the_answer_that_they_ask_for() {
    let latest = full();
    let status = |request: &str| ask(request, &latest, Duration::ZERO).1.status;
    assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), "200 OK");
    assert_eq!(status("GET /metrics?x=1 HTTP/1.0\n\n"), "200 OK");
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "404 Not Found");
    assert_eq!(status("GET /metrics/x HTTP/1.1\r\n\r\n"), "404 Not Found");
    assert_eq!(
        status("POST /metrics HTTP/1.1\r\n\r\n"),
        "405 Method Not Allowed"
    );
    for bad in [
        "",
        "\r\n\r\n",
        "GET /metrics\r\n\r\n",
        "GET  /metrics HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/2.0\r\n\r\n",
        "get /metrics HTTP/1.1\r\n\r\n",
        "GET metrics HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(status(bad), "400 Bad Request", "{bad:?}");
    }
    let (head, answer) = ask(
        "HEAD /metrics HTTP/1.1\r\nACCEPT: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n",
        &latest,
        Duration::ZERO,
    );
    assert!(head.contains(
        "\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
    ));
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", answer.body.len())));
    assert!(answer.head_only && answer.body.ends_with("# EOF\n"));
    let (head, answer) = ask(
        "GET /metrics HTTP/1.1\r\nX-Accept: application/openmetrics-text\r\n\r\n",
        &latest,
        Duration::ZERO,
    );
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(!answer.body.contains("# EOF"));
    assert!(head.contains("\r\nConnection: close\r\n"));
}

#[test]
fn a_page_is_written_once_for_each_sample_and_format() {
    let mut latest = full();
    let text = |latest: &mut Latest| metrics(false, latest, TOP).body;
    let first = text(&mut latest);
    assert!(Arc::ptr_eq(&first, &text(&mut latest)));
    let open = metrics(true, &mut latest, TOP).body;
    assert!(open.ends_with("# EOF\n") && !first.contains("# EOF"));
    let before = latest.own.ticks;
    latest.own.ticks += 1;
    latest.changed();
    let next = text(&mut latest);
    let line = |ticks: u64| format!("\naiops_self_samples_total {ticks}\n");
    assert!(first.contains(&line(before)) && next.contains(&line(before + 1)));
}

#[test]
fn health_follows_the_age_of_the_newest_sample() {
    let mut latest = full();
    let mut status = |age: u64, interval: u64| {
        latest.interval = Duration::from_secs(interval);
        let now = latest.clock.mono_ns + age * 1_000_000_000;
        answer(b"GET /-/healthy HTTP/1.1\r\n\r\n", &mut latest, TOP, now).status
    };
    assert_eq!(status(59, 5), "200 OK");
    assert_eq!(status(61, 5), "503 Service Unavailable");
    assert_eq!(status(179, 60), "200 OK");
    assert_eq!(status(181, 60), "503 Service Unavailable");
    let nothing = health(&Latest::default(), 0);
    assert_eq!(nothing.status, "503 Service Unavailable");
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// A server on a free port, for as long as the work lasts.
fn served<T, W: Future<Output = T>>(work: impl FnOnce(SocketAddr) -> W) -> T {
    // Far longer than any test: nothing below passes because a clock ran out.
    served_with(Duration::from_secs(3600), work)
}

fn served_with<T, W: Future<Output = T>>(
    patience: Duration,
    work: impl FnOnce(SocketAddr) -> W,
) -> T {
    in_runtime(async {
        let listener = bind("127.0.0.1:0", false).unwrap();
        let address = listener.local_addr().unwrap();
        let mut latest = full();
        latest.clock = clock::now();
        let shared: Shared = Arc::new(Mutex::new(latest));
        let server = tokio::spawn(serve(listener, shared, TOP, patience));
        let done = work(address).await;
        server.abort();
        done
    })
}

#[test]
fn the_port_answers_and_closes() {
    served(|address| async move {
        let request =
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
        let answer = exchange(address, request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(read(body).contains_key("aiops_system_mem_total_bytes"));
        let head = exchange(address, b"HEAD /-/healthy HTTP/1.1\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        // In pieces, as a slow network brings it.
        let mut stream = TcpStream::connect(address).await.unwrap();
        for piece in ["GET /-/hea", "lthy HT", "TP/1.1\r", "\n\r", "\n"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            yield_now().await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn too_large_a_request_is_refused() {
    served(|address| async move {
        let request = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat();
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let answer = exchange(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    served(|address| async move {
        let mut idle = Vec::new();
        for round in 0..3 {
            // Some say nothing, some a little.
            for said in [&b""[..], b"GET /met", b"GET /metrics HTTP/1.1\r\nX: y\r\n"] {
                for _ in 0..MOST_CONNECTIONS {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.write_all(said).await.unwrap();
                    idle.push(stream);
                }
            }
            let answer = exchange(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{round}: {answer}"
            );
        }
        // The oldest lost its place, without a word.
        let mut first = Vec::new();
        let _ = idle[0].read_to_end(&mut first).await;
        assert!(first.is_empty());
    });
}

#[test]
fn a_request_that_does_not_end_is_given_up() {
    served_with(Duration::from_millis(1), |address| async move {
        let answer = exchange(address, b"GET /met").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
}

#[test]
fn of_requests_in_a_row_the_first_is_answered() {
    served(|address| async move {
        let two = b"GET /-/healthy HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n";
        let answer = exchange(address, two).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    });
}

#[test]
fn ports_that_cannot_be_had_are_explained() {
    let said = |addr: &str, public| {
        let error = bind(addr, public).unwrap_err();
        let remedy = error
            .downcast_ref::<diag::Hint>()
            .map(|hint| format!("{hint:?}"));
        (format!("{error:#}"), remedy.expect("a remedy"))
    };
    in_runtime(async {
        for bad in [
            "9464",
            "localhost:9464",
            "127.0.0.1",
            ":9464",
            "127.0.0.1:99999",
            "",
        ] {
            let (error, remedy) = said(bad, false);
            assert_eq!(
                error,
                format!("--metrics: not an IP address and a port, {bad}")
            );
            assert!(remedy.contains("--metrics 127.0.0.1:9464"), "{remedy}");
        }
        for open in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"] {
            let (error, remedy) = said(open, false);
            assert_eq!(
                error,
                format!("--metrics: other hosts could read it, {open}")
            );
            assert!(remedy.contains("--metrics-public"), "{remedy}");
        }
        let public = bind("0.0.0.0:0", true).unwrap();
        assert!(public.local_addr().unwrap().ip().is_unspecified());
        let held = bind("127.0.0.1:0", false).unwrap();
        let address = held.local_addr().unwrap().to_string();
        let (error, remedy) = said(&address, false);
        assert!(
            error.starts_with(&format!("--metrics: cannot listen, {address}: ")),
            "{error}"
        );
        assert!(remedy.contains("ss -ltnp"), "{remedy}");
        let (_, remedy) = said("192.0.2.1:9464", true);
        assert!(remedy.contains("ip address"), "{remedy}");
    });
}
