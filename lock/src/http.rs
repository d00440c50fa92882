//! Fences over HTTP: a tower layer before whatever is written to, and the status that each error stands for.
//!
//! A holder sends its fence in the header `X-Fence-Token`; who has been overtaken is answered 409. With the feature `tower`.
//!
//! ```
//! use lock::http::FenceLayer;
//! use tower_layer::Layer as _;
//! # #[derive(Clone)]
//! # struct Orders;
//! # let orders = Orders;
//!
//! // With axum: Router::new().route("/orders/{id}", post(write)).layer(FenceLayer::new())
//! let guarded = FenceLayer::new().layer(orders);
//! # let _ = guarded;
//! ```

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::HeaderMap;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::HeaderName;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;
use tokio::sync::Mutex;
use tower_layer::Layer;
use tower_service::Service;

/// The header in which a writer sends its fence.
pub const FENCE_HEADER: HeaderName = HeaderName::from_static("x-fence-token");

/// Refuses requests whose fence is lower than one that has been let through to the same path.
///
/// | request | answer |
/// |---|---|
/// | `GET`, `HEAD` and other safe methods | passed on, with or without a fence |
/// | no `X-Fence-Token` | 428 Precondition Required |
/// | one that is no fence | 400 Bad Request |
/// | a lower one than has been let through | 409 Conflict |
/// | any other | passed on, with the [`Fence`] among the request's extensions |
///
/// Requests to one path are passed on one at a time, so that no write is overtaken between the check and its end.
///
/// What has been let through is remembered in this process, a few dozen bytes for each path: right for a
/// resource that lives in it as well. Where the data is in a database, which several processes write to or which outlives
/// this one, use [`checked_by_handler`](Self::checked_by_handler), and compare in the transaction that writes.
#[derive(Clone, Debug, Default)]
pub struct FenceLayer {
    seen: Option<Arc<Seen>>,
}

impl FenceLayer {
    /// Remembers fences from here on; clones remember together.
    pub fn new() -> Self {
        Self { seen: Some(Arc::default()) }
    }

    /// Only reads the header; the handler has to compare the [`Fence`] that it finds among the request's
    /// extensions, and to answer with the [`status_of`] the error.
    pub fn checked_by_handler() -> Self {
        Self { seen: None }
    }
}

impl<S> Layer<S> for FenceLayer {
    type Service = FenceService<S>;

    fn layer(&self, inner: S) -> FenceService<S> {
        FenceService { inner, seen: self.seen.clone() }
    }
}

/// What [`FenceLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct FenceService<S> {
    inner: S,
    seen: Option<Arc<Seen>>,
}

impl<S, B, R> Service<Request<B>> for FenceService<S>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send> + Clone + Send + 'static,
    B: Send + 'static,
    R: From<String> + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is the one to be called.
        let later = self.inner.clone();
        let inner = mem::replace(&mut self.inner, later);
        Box::pin(pass(inner, self.seen.clone(), request))
    }
}

/// The highest fence that has been let through to each path; locked while a request is under way.
type Seen = std::sync::Mutex<HashMap<String, Arc<Mutex<Option<Fence>>>>>;

async fn pass<S, B, R>(
    mut inner: S,
    seen: Option<Arc<Seen>>,
    mut request: Request<B>,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<String>,
{
    if request.method().is_safe() {
        return inner.call(request).await;
    }
    let fence = match fence_of(request.headers()) {
        Ok(Some(fence)) => fence,
        Ok(None) => {
            let missing = format!("send the fence of your lock in {FENCE_HEADER}");
            return Ok(refusal(StatusCode::PRECONDITION_REQUIRED, missing));
        }
        Err(error) => return Ok(refusal(StatusCode::BAD_REQUEST, error)),
    };
    request.extensions_mut().insert(fence);
    let Some(seen) = seen else { return inner.call(request).await };
    let place = place(&seen, request.uri().path());
    let mut highest = place.lock().await;
    if let Err(stale) = highest.map_or(Ok(()), |highest| fence.check_against(highest)) {
        return Ok(refusal(status_of(&stale), stale));
    }
    // Also if the write then fails: there is a later holder.
    *highest = Some(fence);
    inner.call(request).await
}

fn place(seen: &Seen, path: &str) -> Arc<Mutex<Option<Fence>>> {
    let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match seen.get(path) {
        Some(place) => place.clone(),
        None => seen.entry(path.to_owned()).or_default().clone(),
    }
}

/// Reads the fence that a request came with, if it has one.
///
/// # Errors
///
/// `InvalidInput` if what it has is no fence.
pub fn fence_of(headers: &HeaderMap) -> Result<Option<Fence>> {
    let Some(value) = headers.get(FENCE_HEADER) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let fence = number.and_then(|number| Fence::new(number).ok());
    fence.map(Some).ok_or_else(|| {
        let message = format!("{FENCE_HEADER} has to be the fence of a lock, a whole number");
        Error::new(ErrorKind::InvalidInput, message)
    })
}

/// Returns the status by which a service tells its clients of an error.
///
/// | kind | status |
/// |---|---|
/// | `Lost`, `NotHeld` | 409 Conflict: somebody else has had the lock since |
/// | `Held`, `Timeout` | 423 Locked: try again |
/// | `InvalidInput` | 400 Bad Request |
/// | `Unavailable`, `Closed` | 503 Service Unavailable: try again |
/// | all else | 500 Internal Server Error |
pub fn status_of(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Lost | ErrorKind::NotHeld => StatusCode::CONFLICT,
        ErrorKind::Held | ErrorKind::Timeout => StatusCode::LOCKED,
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Unavailable | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refusal<R: From<String>>(status: StatusCode, why: impl Display) -> Response<R> {
    let mut response = Response::new(R::from(format!("{why}\n")));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    /// Takes a while, and answers with the fence that it was given.
    #[derive(Clone)]
    struct Slow;

    impl Service<Request<()>> for Slow {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let fence = request.extensions().get::<Fence>().map(|fence| fence.get());
                Ok(Response::new(format!("{fence:?}")))
            })
        }
    }

    async fn ask(
        service: &FenceService<Slow>,
        method: &str,
        path: &str,
        fence: Option<&str>,
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(fence) = fence {
            request = request.header("X-Fence-Token", fence);
        }
        let answer = service.clone().call(request.body(()).unwrap()).await.unwrap();
        (answer.status().as_u16(), answer.into_body())
    }

    #[tokio::test]
    async fn a_lower_fence_is_refused_on_its_path_alone() {
        let service = FenceLayer::new().layer(Slow);
        assert_eq!(ask(&service, "POST", "/a", Some("7")).await, (200, "Some(7)".into()));
        assert_eq!(ask(&service, "POST", "/a", Some("7")).await.0, 200, "as often as it likes");
        let stale = "the write is refused: fence 6 is stale, 7 has written\n";
        assert_eq!(ask(&service, "PUT", "/a", Some("6")).await, (409, stale.into()));
        assert_eq!(ask(&service, "POST", "/b", Some("6")).await.0, 200);
        assert_eq!(ask(&service, "POST", "/a", Some("8")).await.0, 200);
    }

    #[tokio::test]
    async fn only_reading_needs_no_fence() {
        let service = FenceLayer::new().layer(Slow);
        assert_eq!(ask(&service, "GET", "/a", None).await, (200, "None".into()));
        assert_eq!(ask(&service, "POST", "/a", None).await.0, 428);
        for fence in ["", "x", "-1", "0", "9007199254740992", "1.0"] {
            assert_eq!(ask(&service, "POST", "/a", Some(fence)).await.0, 400, "{fence:?}");
        }
    }

    #[tokio::test]
    async fn a_write_is_not_overtaken_between_its_check_and_its_end() {
        let service = FenceLayer::new().layer(Slow);
        let begun = std::time::Instant::now();
        let both = tokio::join!(
            ask(&service, "POST", "/a", Some("1")),
            ask(&service, "POST", "/a", Some("2")),
        );
        assert_eq!((both.0.0, both.1.0), (200, 200));
        assert!(begun.elapsed() >= Duration::from_millis(100), "one after the other");
    }

    #[tokio::test]
    async fn a_handler_that_checks_by_itself_gets_every_fence() {
        let service = FenceLayer::checked_by_handler().layer(Slow);
        assert_eq!(ask(&service, "POST", "/a", Some("7")).await.0, 200);
        assert_eq!(ask(&service, "POST", "/a", Some("6")).await, (200, "Some(6)".into()));
        assert_eq!(ask(&service, "POST", "/a", None).await.0, 428);
    }

    #[test]
    fn contention_loss_and_outage_are_told_apart() {
        let status = |kind| status_of(&Error::new(kind, "")).as_u16();
        assert_eq!([status(ErrorKind::Held), status(ErrorKind::Timeout)], [423, 423]);
        assert_eq!([status(ErrorKind::Lost), status(ErrorKind::Unavailable)], [409, 503]);
        assert_eq!([status(ErrorKind::InvalidInput), status(ErrorKind::Corrupt)], [400, 500]);
    }
}
