//! The metrics port: the newest figures for Prometheus, over plain HTTP.
//!
//! It reads one request, answers it and closes. A request is small, quick, and one of few at a time, or it is not
//! served: whoever can reach the port cannot make the daemon large or slow. Figures are written by [`exposition`] while
//! the lock is held, once for each sample and format however often they are asked for; nothing is sent before it is
//! released.

mod exposition;
mod page;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio::time::timeout;

use super::Settings;
use super::latest::Latest;
use super::latest::Shared;
use crate::diag;
use crate::source::clock;
use page::Form;

/// Most connections at once; the next one takes the place of the oldest, which had its time.
const MOST_CONNECTIONS: usize = 16;
/// Most groups of processes, whatever the settings say.
const MOST_GROUPS: usize = 100;
/// Most bytes of a request up to the end of its headers.
const MOST_REQUEST: usize = 8 << 10;
/// How long a request may take to arrive.
const PATIENCE_IN: Duration = Duration::from_secs(1);
/// How long its answer may take to leave.
const PATIENCE_OUT: Duration = Duration::from_secs(5);
/// Samples are not called stale before this, however short the interval is.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// So many intervals without a sample are stale.
const STALE_INTERVALS: u32 = 3;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Opens the port. Needs a tokio runtime around it. Unless `public`, only loopback addresses are taken: what is
/// served names processes, users and cgroups, and asks nobody for a password.
///
/// # Errors
/// `addr` is no `IP:port`, others could reach it, or the system refuses; each with its remedy.
fn bind(addr: &str, public: bool) -> anyhow::Result<TcpListener> {
    let address = address(addr, public)?;
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map_err(|error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "`ss -ltnp 'sport = :{}'` tells who has it; end that, or choose another port",
                address.port()
            ),
            io::ErrorKind::AddrNotAvailable => {
                "`ip address` lists the addresses of this host; 127.0.0.1 is always one".to_owned()
            }
            io::ErrorKind::PermissionDenied => "choose a port above 1023".to_owned(),
            _ => "choose another address or port, or go without --metrics".to_owned(),
        };
        let error =
            anyhow::Error::new(error).context(format!("--metrics: cannot listen, {address}"));
        diag::hint(error, remedy)
    })
}

/// The address that metrics are served at, where it may be.
///
/// # Errors
/// It is none, or other hosts could read there; with a remedy.
pub fn address(addr: &str, public: bool) -> anyhow::Result<SocketAddr> {
    let address: SocketAddr = addr.parse().map_err(|_| {
        let error = anyhow::anyhow!("--metrics: not an IP address and a port, {addr}");
        diag::hint(error, "for example `--metrics 127.0.0.1:9464`")
    })?;
    if !public && !address.ip().to_canonical().is_loopback() {
        let error = anyhow::anyhow!("--metrics: other hosts could read it, {address}");
        return Err(diag::hint(
            error,
            format!(
                "use 127.0.0.1:{}, or add --metrics-public where a firewall guards the port: names of processes, \
                 users and cgroups are served without a password",
                address.port()
            ),
        ));
    }
    Ok(address)
}

/// An open port that does not answer yet.
#[derive(Debug)]
pub(super) struct Port {
    listener: TcpListener,
    top: usize,
}

impl Port {
    /// Opens what the settings ask for, if anything; as [`bind`].
    ///
    /// # Errors
    /// As [`bind`].
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(addr) = &settings.metrics else {
            return Ok(None);
        };
        Ok(Some(Self {
            listener: bind(addr, settings.metrics_public)?,
            top: settings.top,
        }))
    }

    /// Answers from now on, beside the loop, until the runtime ends.
    pub(super) fn start(self, latest: &Shared) {
        if let Ok(address) = self.listener.local_addr() {
            diag::note(&format!("metrics at http://{address}/metrics"));
        }
        tokio::spawn(serve(
            self.listener,
            Shared::clone(latest),
            self.top,
            PATIENCE_IN,
        ));
    }
}

/// Answers requests until it is dropped. The `top` largest groups of processes are told.
///
/// A scraper is answered within milliseconds, so the oldest connection is the one that has nothing to say: clients
/// that hold all places are put out, they do not keep others out.
async fn serve(listener: TcpListener, latest: Shared, top: usize, patience: Duration) {
    let top = top.min(MOST_GROUPS);
    let mut open = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while open.try_join_next().is_some() {}
                order.retain(|one| !one.is_finished());
                if order.len() >= MOST_CONNECTIONS
                    && let Some(oldest) = order.pop_front()
                {
                    oldest.abort();
                }
                order.push_back(open.spawn(converse(
                    stream,
                    Shared::clone(&latest),
                    top,
                    patience,
                )));
                // It is heard before the next one comes, and so is the loop that takes samples.
                yield_now().await;
            }
            // Out of file descriptors, usually: it passes, or the next second says the same.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// One request and its answer; the request may take `patience` to arrive.
async fn converse(mut stream: TcpStream, latest: Shared, top: usize, patience: Duration) {
    let answer = match timeout(patience, read_head(&mut stream)).await {
        Ok(Ok(Some(head))) => {
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            answer(&head, &mut latest, top, clock::mono_ns())
        }
        Ok(Ok(None)) => Answer::error("431 Request Header Fields Too Large"),
        Ok(Err(_)) => return,
        Err(_) => Answer::error("408 Request Timeout"),
    };
    // Nobody is told of a client that went away, or that does not read.
    let _ = timeout(PATIENCE_OUT, send(&mut stream, &answer)).await;
}

/// Everything up to the empty line; `None`: too much.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 && head.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..count]);
        let ends = |end: &[u8]| head.windows(end.len()).any(|part| part == end);
        if count == 0 || ends(b"\r\n\r\n") || ends(b"\n\n") {
            return Ok((head.len() <= MOST_REQUEST).then_some(head));
        }
        if head.len() > MOST_REQUEST {
            return Ok(None);
        }
    }
}

async fn send(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(answer.head().as_bytes()).await?;
    if !answer.head_only {
        stream.write_all(answer.body.as_bytes()).await?;
    }
    stream.shutdown().await?;
    // What the client still sends is taken off: closing over unread bytes would tear down the answer with them.
    let mut rest = [0; 1024];
    for _ in 0..64 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// What is sent back.
#[derive(Debug)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: Arc<str>,
    /// The request was HEAD.
    head_only: bool,
}

impl Answer {
    fn text(status: &'static str, body: impl Into<Arc<str>>) -> Self {
        Self {
            status,
            content_type: PLAIN,
            body: body.into(),
            head_only: false,
        }
    }

    fn error(status: &'static str) -> Self {
        Self::text(status, format!("{status}\n"))
    }

    fn head(&self) -> String {
        let allow = if self.status.starts_with("405") {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        )
    }
}

/// Method and path of a request; `None`: it is no HTTP/1.
fn request_line(head: &str) -> Option<(&str, &str)> {
    let mut words = head.lines().next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let sound = words.next().is_none()
        && !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_uppercase())
        && target.starts_with('/')
        && matches!(version, "HTTP/1.0" | "HTTP/1.1");
    let path = target.split('?').next()?;
    sound.then_some((method, path))
}

/// Whether the client asks for OpenMetrics; else it gets the older text format.
fn wants_openmetrics(head: &str) -> bool {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("accept"))
        .any(|(_, value)| value.to_ascii_lowercase().contains(page::OPENMETRICS))
}

fn answer(head: &[u8], latest: &mut Latest, top: usize, now_ns: u64) -> Answer {
    let Some((head, (method, path))) = std::str::from_utf8(head)
        .ok()
        .and_then(|head| Some((head, request_line(head)?)))
    else {
        return Answer::error("400 Bad Request");
    };
    let get = matches!(method, "GET" | "HEAD");
    let mut answer = match path {
        "/metrics" | "/-/healthy" if !get => Answer::error("405 Method Not Allowed"),
        "/metrics" => metrics(wants_openmetrics(head), latest, top),
        "/-/healthy" => health(latest, now_ns),
        _ => Answer::text(
            "404 Not Found",
            "404 Not Found: /metrics and /-/healthy are here\n",
        ),
    };
    answer.head_only = method == "HEAD";
    answer
}

fn metrics(openmetrics: bool, latest: &mut Latest, top: usize) -> Answer {
    let form = if openmetrics {
        Form::OpenMetrics
    } else {
        Form::Text
    };
    let place = usize::from(openmetrics);
    let body = match &latest.pages[place] {
        Some(body) => Arc::clone(body),
        None => {
            let mut body = String::new();
            exposition::render(latest, top, form, &mut body);
            let body: Arc<str> = body.into();
            latest.pages[place] = Some(Arc::clone(&body));
            body
        }
    };
    Answer {
        content_type: form.content_type(),
        ..Answer::text("200 OK", body)
    }
}

/// Well as long as samples are taken.
fn health(latest: &Latest, now_ns: u64) -> Answer {
    const SICK: &str = "503 Service Unavailable";
    if latest.sample.is_none() {
        return Answer::text(SICK, "no sample was taken yet\n");
    }
    let age = Duration::from_nanos(now_ns.saturating_sub(latest.clock.mono_ns));
    let body = format!("the last sample is {:.1} s old\n", age.as_secs_f64());
    if age
        > latest
            .interval
            .saturating_mul(STALE_INTERVALS)
            .max(STALE_AFTER)
    {
        return Answer::text(SICK, body);
    }
    Answer::text("200 OK", body)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
