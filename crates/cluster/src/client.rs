//! The way to the API server, and whether it is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ApiError;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long one request may take, watches aside.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Where the address and the credentials come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// `$KUBECONFIG` or `~/.kube/config` where there is one, else the service account of the pod.
    #[default]
    Inferred,
    /// This kubeconfig file.
    File(PathBuf),
}

/// Why there is no client. None of these is about the network: nothing is asked of the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's service account.
    #[error("neither a kubeconfig nor a service account was found")]
    Inferred(#[source] Box<InferConfigError>),
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// Certificates, keys or addresses that cannot be used.
    #[error("cannot use the address, certificates or credentials of the API server")]
    Credentials(#[source] Box<kube::Error>),
}

/// Whether the API server answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reachability {
    /// Nothing was asked yet.
    #[default]
    Unknown,
    /// It answered the last request, with an error perhaps.
    Reachable,
    /// It did not, for this reason.
    Unreachable(String),
}

/// A client of the API server that counts every answer towards [`Reachability`]. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: kube::Client,
    reachability: Arc<watch::Sender<Reachability>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("reachability", &*self.reachability.borrow()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the server that `source` names. Nothing is asked of it: an absent server is no error here.
    ///
    /// # Errors
    /// When there is no such source, or its certificates or credentials cannot be used.
    pub async fn new(source: &Source) -> Result<Self, ClientError> {
        let mut config = match source {
            Source::Inferred => {
                kube::Config::infer().await.map_err(|source| ClientError::Inferred(Box::new(source)))?
            }
            Source::File(path) => from_file(path.clone()).await?,
        };
        config.connect_timeout = Some(CONNECT_LIMIT);
        config.write_timeout = Some(CALL_LIMIT);
        // What a refusal or a silence means differs with the request: whoever asks decides when to ask again.
        config.default_retry = false;
        let inner = kube::Client::try_from(config).map_err(|source| ClientError::Credentials(Box::new(source)))?;
        Ok(Self { inner, reachability: Arc::new(watch::Sender::new(Reachability::Unknown)) })
    }

    /// Whether the API server answers, as of the last request or watch.
    #[must_use]
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.reachability.subscribe()
    }

    /// The namespace of the kubeconfig's context or of the pod.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.inner.default_namespace()
    }

    /// The version of the API server, such as `v1.34.4`.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn server_version(&self) -> Result<String, ApiError> {
        let version = self.call("ask for the version", self.inner.apiserver_version()).await?;
        Ok(version.git_version)
    }

    pub(crate) fn kube(&self) -> kube::Client {
        self.inner.clone()
    }

    /// Waits for one answer, for at most ten seconds.
    pub(crate) async fn call<T>(
        &self,
        action: impl Into<String>,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        let action = action.into();
        let outcome = match timeout(CALL_LIMIT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ApiError::new(action, error)),
            Err(_elapsed) => Err(ApiError::TimedOut { action, limit: CALL_LIMIT }),
        };
        match &outcome {
            Err(error) if !error.shows_reachable() => self.unreachable(error),
            Ok(_) | Err(_) => self.reachable(),
        }
        outcome
    }

    pub(crate) fn reachable(&self) {
        self.note(Reachability::Reachable);
    }

    pub(crate) fn unreachable(&self, error: &ApiError) {
        self.note(Reachability::Unreachable(cotenant_model::cause::chain(error, ": ")));
    }

    fn note(&self, now: Reachability) {
        self.reachability.send_if_modified(|last| {
            let before = std::mem::replace(last, now);
            if std::mem::discriminant(&before) != std::mem::discriminant(last) {
                say(&before, last);
            }
            before != *last
        });
    }
}

/// A turn is said once, however often it is found again.
fn say(before: &Reachability, now: &Reachability) {
    if let Reachability::Unreachable(why) = now {
        tracing::warn!("the API server is away: {why}");
    } else if *before != Reachability::Unknown {
        say_back();
    }
}

fn say_back() {
    tracing::info!("the API server answers again");
}

async fn from_file(path: PathBuf) -> Result<kube::Config, ClientError> {
    let unusable = |source: KubeconfigError| ClientError::File { path: path.clone(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(&path).map_err(unusable)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(unusable)
}
