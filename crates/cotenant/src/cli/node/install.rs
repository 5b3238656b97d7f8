//! `cotenant node install`.

use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_cluster::install::{Installation, Release, Values, ValuesError, to_yaml};
use cotenant_cluster::{Client, Source};

use crate::exit::{Failure, Kind};
use crate::terminal;

/// Install agents and keepers on a cluster without Helm, or print the objects.
///
/// Makes what `helm install RELEASE charts/cotenant --namespace NAMESPACE -f FILE` makes; values files of NVIDIA's device plugin
/// chart are taken as they are.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the objects instead of making them.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    release: ReleaseArguments,
}

/// Which installation is meant.
#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArguments {
    /// Name of the installation, which the names of its objects begin with.
    #[arg(long, default_value = "cotenant", value_name = "NAME")]
    release: String,
    /// Namespace of its objects.
    #[arg(long, short = 'n', default_value = "cotenant", value_name = "NAMESPACE")]
    pub(super) namespace: String,
    /// Values file; may be given several times, the last wins.
    #[arg(long = "values", short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Kubeconfig; the usual places, or the pod's service account, when left out.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl ReleaseArguments {
    /// The installation, with what its values say in vain on standard error.
    pub(super) fn installation(&self) -> Result<Installation, Failure> {
        let mut files = Vec::new();
        for path in &self.values {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(Kind::Input, format!("cannot read `{}`: {error}", path.display())))?;
            files.push((path.display().to_string(), text));
        }
        let unusable = |error: &ValuesError| Failure::from_error(Kind::Input, error);
        let values = Values::new(&files).map_err(|error| unusable(&error))?;
        for ignored in values.ignored() {
            terminal::complain(&format!("note: {ignored}"));
        }
        let release = Release { name: self.release.clone(), namespace: self.namespace.clone() };
        Installation::new(values, release).map_err(|error| unusable(&error))
    }

    /// The way to the API server.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let source = self.kubeconfig.clone().map_or(Source::Inferred, Source::File);
        Client::new(&source).await.map_err(|error| {
            Failure::from_error(Kind::Input, &error).hint("name a kubeconfig with --kubeconfig or in $KUBECONFIG")
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let installation = arguments.release.installation()?;
    let mut objects = vec![installation.namespace_object()];
    objects.extend(installation.objects());
    if arguments.dry_run {
        let text = to_yaml(&objects).map_err(|error| Failure::from_error(Kind::Other, &error))?;
        terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
        return Ok(ExitCode::SUCCESS);
    }
    super::block_on(async {
        let client = arguments.release.client().await?;
        client.apply_objects(&objects).await.map_err(|error| Failure::from_error(Kind::Other, &error))
    })??;
    terminal::complain(&format!(
        "{} objects are made; `kubectl -n {} get daemonsets` shows how far they are",
        objects.len(),
        installation.namespace()
    ));
    Ok(ExitCode::SUCCESS)
}
