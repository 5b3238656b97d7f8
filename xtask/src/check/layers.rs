//! Which crate may depend on which.

use cargo_metadata::{DependencyKind, Metadata};

use super::finding::Finding;

/// The layer of every crate: arrows point to a lower layer only, so the crates of a layer never see each other.
const LAYERS: [(&str, u8); 18] = [
    ("cotenant-model", 0),
    ("cotenant-plan", 1),
    ("cotenant-gpu", 1),
    ("cotenant-mps", 1),
    ("cotenant-kubelet", 1),
    ("cotenant-cluster", 1),
    ("cotenant-aws", 1),
    ("cotenant-llm", 1),
    ("cotenant-cuda", 1),
    ("cotenant-ledger", 1),
    ("cotenant-guard", 1),
    ("cotenant-bench", 2),
    ("cotenant-monitor", 2),
    ("cotenant-node", 2),
    ("cotenant", 3),
    // The tests' own crate stands beside the layers and sees the nouns only.
    (TESTKIT, 1),
    // What runs the program as a whole; chores see all.
    ("e2e", 4),
    ("xtask", 5),
];

const TESTKIT: &str = "cotenant-testkit";

/// A crate of the workspace, as far as layers are concerned.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its `Cargo.toml`, relative to the root.
    pub(super) manifest: String,
    /// Crates of the workspace it depends on.
    pub(super) dependencies: Vec<(String, DependencyKind)>,
}

/// The crates of a workspace with their dependencies on each other.
pub(super) fn packages(metadata: &Metadata) -> Vec<Package> {
    let members = metadata.workspace_packages();
    let is_member = |name: &str| members.iter().any(|member| member.name.as_str() == name);
    members
        .iter()
        .map(|package| Package {
            name: package.name.to_string(),
            manifest: package
                .manifest_path
                .strip_prefix(&metadata.workspace_root)
                .unwrap_or(&package.manifest_path)
                .to_string(),
            dependencies: package
                .dependencies
                .iter()
                .filter(|dependency| dependency.path.is_some() || is_member(&dependency.name))
                .map(|dependency| (dependency.name.clone(), dependency.kind))
                .collect(),
        })
        .collect()
}

/// Every dependency that points the wrong way, and every crate that has no layer yet.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let finding = |what: String| Finding::new(&package.manifest, 1, what);
    let Some(layer) = layer(&package.name) else {
        return vec![finding(format!(
            "`{}` has no layer: add it to LAYERS in xtask/src/check/layers.rs",
            package.name
        ))];
    };
    let wrong = |(name, kind): &(String, DependencyKind)| {
        if name == TESTKIT {
            let allowed = *kind == DependencyKind::Development || layer >= 4;
            return (!allowed).then(|| finding(format!("`{TESTKIT}` is for tests: make it a dev-dependency")));
        }
        match self::layer(name) {
            Some(lower) if lower < layer => None,
            Some(other) => Some(finding(format!(
                "`{}` (layer {layer}) depends on `{name}` (layer {other}): arrows point to a lower layer only",
                package.name
            ))),
            None => Some(finding(format!("`{name}`, which `{}` depends on, has no layer", package.name))),
        }
    };
    package.dependencies.iter().filter_map(wrong).collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, DependencyKind)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        Package { name: name.to_owned(), manifest: format!("crates/{name}/Cargo.toml"), dependencies }
    }

    fn wrong(name: &str, dependency: &str, kind: DependencyKind) -> Vec<String> {
        check(&[package(name, &[(dependency, kind)])]).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        for (from, to) in
            [("cotenant-gpu", "cotenant-model"), ("cotenant-bench", "cotenant-cuda"), ("cotenant", "cotenant-bench")]
        {
            assert_eq!(wrong(from, to, DependencyKind::Normal), Vec::<String>::new());
        }
        assert_eq!(wrong("cotenant-mps", "cotenant-testkit", DependencyKind::Development), Vec::<String>::new());
    }

    #[test]
    fn crates_of_a_layer_never_see_each_other() {
        let expected = "crates/cotenant-gpu/Cargo.toml:1: `cotenant-gpu` (layer 1) depends on `cotenant-mps` (layer 1): \
                        arrows point to a lower layer only";
        assert_eq!(wrong("cotenant-gpu", "cotenant-mps", DependencyKind::Normal), [expected]);
        assert_eq!(wrong("cotenant-model", "cotenant-bench", DependencyKind::Development).len(), 1);
    }

    #[test]
    fn the_testkit_stays_out_of_the_program() {
        let found = wrong("cotenant", "cotenant-testkit", DependencyKind::Normal);
        assert_eq!(found, ["crates/cotenant/Cargo.toml:1: `cotenant-testkit` is for tests: make it a dev-dependency"]);
    }

    #[test]
    fn a_crate_without_a_layer_is_a_failure() {
        assert_eq!(check(&[package("cotenant-utils", &[])]).len(), 1);
        assert_eq!(wrong("cotenant", "cotenant-utils", DependencyKind::Normal).len(), 1);
    }
}
