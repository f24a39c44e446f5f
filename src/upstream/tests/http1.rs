//! HTTP/1.1: when a connection serves again, and what each way to fail says of a request's fate.

use super::super::connect::ConnectError;
use super::*;

const MOMENT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_connection_serves_again_and_each_request_has_its_host() {
    let (heads, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let pair = Pair::plain(move |_, mut stream| {
        let heads = heads.clone();
        async move {
            loop {
                let head = read_request(&mut stream).await;
                if head.is_empty() || heads.send(head).is_err() {
                    break;
                }
                stream.write_all(ANSWER.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    for round in 0..3 {
        let connection = pair.connect().await;
        assert_eq!(connection.is_reused(), round > 0);
        let exchanged = exchange(connection).await.unwrap();
        assert_eq!((exchanged.status.as_u16(), &*exchanged.body), (200, &b"{}"[..]));
        assert_eq!(exchanged.headers["content-length"], "2");
        let head = seen.recv().await.unwrap();
        assert!(head.starts_with("PUT /path HTTP/1.1\r\n"), "{head}");
        let host = format!("\r\nhost: {}\r\n", &pair.server.name()["http://".len()..]);
        assert_eq!(head.matches(&host).count(), 1, "{head}");
    }
    assert_eq!(pair.accepted(), 1);
    assert_eq!(pair.metrics.upstream_connections.get(), 1);
    let fresh = pair.server.connect(true, soon()).await.unwrap();
    assert!(!fresh.is_reused());
    wait_for("the second connection", || pair.accepted() == 2).await;
    drop(fresh);
    let metrics = Arc::clone(&pair.metrics);
    drop(pair);
    wait_for("the end of all", || metrics.upstream_connections.get() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_that_the_server_has_closed_is_not_used() {
    for answer in [ANSWER, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"] {
        let pair = Pair::plain(move |_, mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        for _ in 0..2 {
            let connection = pair.connect().await;
            assert!(!connection.is_reused());
            exchange(connection).await.unwrap();
            pair.wait_for_open(0).await;
        }
    }
}

#[tokio::test]
async fn what_was_written_to_nobody_is_told_as_not_sent() {
    let pair = Pair::plain(|_, _| std::future::ready(())).await;
    let connection = pair.connect().await;
    pair.wait_for_open(0).await;
    let fault = exchange(connection).await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::NotSent(_)), "{fault:?}");
    // The same on a connection that has served before.
    let end = Arc::new(tokio::sync::Notify::new());
    let ended = Arc::clone(&end);
    let pair = Pair::plain(move |_, mut stream| {
        let ended = Arc::clone(&ended);
        async move {
            read_request(&mut stream).await;
            stream.write_all(ANSWER.as_bytes()).await.unwrap();
            ended.notified().await;
        }
    })
    .await;
    pair.exchange().await.unwrap();
    let connection = pair.connect().await;
    assert!(connection.is_reused());
    end.notify_one();
    pair.wait_for_open(0).await;
    let fault = exchange(connection).await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::NotSent(_)), "{fault:?}");
}

#[tokio::test]
async fn only_a_connection_that_has_served_can_be_stale() {
    let pair = Pair::plain(|number, mut stream| async move {
        if number == 0 {
            read_request(&mut stream).await;
            stream.write_all(ANSWER.as_bytes()).await.unwrap();
        }
        read_request(&mut stream).await;
    })
    .await;
    pair.exchange().await.unwrap();
    let connection = pair.connect().await;
    assert!(connection.is_reused());
    let fault = exchange(connection).await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::Stale(_)), "{fault:?}");
    let fault = pair.exchange().await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::Broken(_) | ExchangeFault::CutOff(..)), "{fault:?}");
    assert_eq!(pair.accepted(), 2);
}

/// It has had the request for longer than a connection's end and a request can cross.
#[tokio::test]
async fn a_connection_that_ends_while_the_request_is_worked_on_is_not_stale() {
    let pair = Pair::plain(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(ANSWER.as_bytes()).await.unwrap();
        read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    })
    .await;
    pair.exchange().await.unwrap();
    let connection = pair.connect().await;
    assert!(connection.is_reused());
    let fault = exchange(connection).await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::Broken(_)), "{fault:?}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_stale() {
    let pair = Pair::plain(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(ANSWER.as_bytes()).await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"H").await.unwrap();
    })
    .await;
    pair.exchange().await.unwrap();
    let fault = pair.exchange().await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::Broken(_) | ExchangeFault::CutOff(..)), "{fault:?}");
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_breaks_off_is_broken() {
    for answer in [
        "220 mail.example.com ESMTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ] {
        let pair = Pair::plain(move |_, mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let fault = pair.exchange().await.unwrap_err();
        assert!(
            matches!(fault, ExchangeFault::Broken(_) | ExchangeFault::CutOff(..)),
            "{answer}: {fault:?}"
        );
        pair.wait_for_open(0).await;
    }
    let headers: String = (0..101).map(|number| format!("H{number}: x\r\n")).collect();
    let long = "x".repeat(70_000);
    for head in [headers, format!("H: {long}\r\n")] {
        let pair = Pair::plain(move |_, mut stream| {
            let answer = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\n{{}}");
            async move {
                read_request(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
        .await;
        let fault = pair.exchange().await.unwrap_err();
        assert!(matches!(fault, ExchangeFault::Broken(_) | ExchangeFault::CutOff(..)), "{fault:?}");
    }
}

#[tokio::test]
async fn what_takes_too_long_ends_in_time_and_its_connection_with_it() {
    let cases = [
        ("", ExchangeFault::NoHead),
        ("HTTP/1.1 100 Continue\r\n\r\n", ExchangeFault::NoHead),
        ("HTTP/1.1 200 OK\r\nContent-", ExchangeFault::NoHead),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
            ExchangeFault::NoEnd(http::StatusCode::OK),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
            ExchangeFault::NoEnd(http::StatusCode::OK),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
            ExchangeFault::NoEnd(http::StatusCode::OK),
        ),
    ];
    for (answer, expected) in cases {
        let pair = Pair::plain(move |_, mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            read_request(&mut stream).await;
        })
        .await;
        // The head has come by then on any machine, or the test says NoHead instead of NoEnd.
        let (head_by, whole_by) = if expected == ExchangeFault::NoHead {
            (Instant::now() + MOMENT, soon())
        } else {
            (soon(), Instant::now() + MOMENT * 20)
        };
        let connection = pair.connect().await;
        let exchanged = connection.exchange(request(), head_by, whole_by, LARGEST).await;
        assert_eq!(exchanged.unwrap_err(), expected, "{answer}");
        pair.wait_for_open(0).await;
    }
}

#[tokio::test]
async fn an_exchange_that_nobody_waits_for_closes_its_connection() {
    let pair =
        Pair::plain(
            |_, mut stream| async move { while !read_request(&mut stream).await.is_empty() {} },
        )
        .await;
    let waited = tokio::time::timeout(MOMENT, pair.exchange()).await;
    assert!(waited.is_err());
    pair.wait_for_open(0).await;
}

#[tokio::test]
async fn a_server_that_reads_nothing_keeps_no_connection() {
    let pair = Pair::plain(|_, stream| async move {
        tokio::time::sleep(PATIENCE * 2).await;
        drop(stream);
    })
    .await;
    let long = Full::new(Bytes::from(vec![b'x'; 64 << 20]));
    let request = Request::put("/path").body(long).unwrap();
    let (connection, moment) = (pair.connect().await, Instant::now() + MOMENT);
    let fault = connection.exchange(request, moment, soon(), LARGEST).await.unwrap_err();
    assert_eq!(fault, ExchangeFault::NoHead);
    pair.wait_for_open(0).await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_on() {
    let long = "x".repeat(LARGEST + 1);
    let told = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LARGEST + 1);
    let size = LARGEST + 1;
    let untold =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{long}\r\n");
    for answer in [told, untold] {
        let pair = Pair::plain(move |_, stream| {
            let answer = answer.clone();
            async move { answer_all(stream, &answer).await }
        })
        .await;
        assert_eq!(
            pair.exchange().await.unwrap_err(),
            ExchangeFault::TooLarge(http::StatusCode::OK, LARGEST)
        );
        pair.wait_for_open(0).await;
    }
    let just = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGEST}\r\n\r\n{}", &long[1..]);
    let pair = Pair::plain(move |_, stream| {
        let just = just.clone();
        async move { answer_all(stream, &just).await }
    })
    .await;
    assert_eq!(pair.exchange().await.unwrap().body.len(), LARGEST);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
    let pair = Pair::plain(move |number, stream| async move {
        let answer = if number == 0 { format!("{ANSWER}{second}") } else { ANSWER.to_owned() };
        answer_all(stream, &answer).await;
    })
    .await;
    assert_eq!(&*pair.exchange().await.unwrap().body, b"{}");
    let connection = pair.connect().await;
    assert!(!connection.is_reused(), "it has said more than it was asked");
    assert_eq!(&*exchange(connection).await.unwrap().body, b"{}");
}

#[tokio::test]
async fn no_more_connections_are_kept_than_may_be_used() {
    let pair = Pair::plain(|_, stream| async move { answer_all(stream, ANSWER).await }).await;
    let mut connections = Vec::new();
    for _ in 0..12 {
        connections.push(pair.connect().await);
    }
    pair.wait_for_open(12).await;
    for connection in connections {
        exchange(connection).await.unwrap();
    }
    pair.wait_for_open(8).await;
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_told_from_one_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let listening = Listening { address, accepted: Arc::default() };
    let pair = Pair::new(listening, &format!("http://{address}"), config::Tls::default());
    let Err(error) = pair.server.connect(false, soon()).await else { panic!("connected") };
    assert!(matches!(&error, ConnectError::Io(why) if why.contains("refused")), "{error:?}");
    let silent = listen(|_, stream| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(stream);
    })
    .await;
    let url = format!("https://{}", silent.address);
    let pair = Pair::new(silent, &url, config::Tls::default());
    let Err(error) = pair.server.connect(false, Instant::now() + MOMENT).await else {
        panic!("connected")
    };
    assert_eq!(error, ConnectError::TimedOut("the TLS handshake did not end"));
    pair.wait_for_open(0).await;
}
