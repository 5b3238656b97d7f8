//! The certificates and keys of a cluster.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// The cluster's authority, for as long as a cluster is made.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Whom a certificate is for.
pub(super) struct Subject<'a> {
    /// Name of the files.
    pub(super) file: &'a str,
    /// User.
    pub(super) user: &'a str,
    /// Group, where the user is in one.
    pub(super) group: Option<&'a str>,
}

impl Authority {
    /// A new authority.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = name("cotenant-e2e", None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Writes its certificate, `ca.crt`.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        write(&folder.join("ca.crt"), &self.issuer.pem())
    }

    /// Writes a client's certificate and key.
    pub(super) fn client(&self, folder: &Path, subject: &Subject<'_>) -> anyhow::Result<()> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = name(subject.user, subject.group);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(folder, subject.file, parameters)
    }

    /// Writes a server's certificate and key.
    pub(super) fn server(&self, folder: &Path, file: &str, names: &[&str], addresses: &[IpAddr]) -> anyhow::Result<()> {
        let names = names.iter().copied().map(str::to_owned);
        let all: Vec<String> = names.chain(addresses.iter().map(IpAddr::to_string)).collect();
        let mut parameters = CertificateParams::new(all)?;
        parameters.distinguished_name = name(file, None);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(folder, file, parameters)
    }

    fn sign(&self, folder: &Path, file: &str, mut parameters: CertificateParams) -> anyhow::Result<()> {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate()?;
        write(&folder.join(format!("{file}.crt")), &parameters.signed_by(&key, &self.issuer)?.pem())?;
        write(&folder.join(format!("{file}.key")), &key.serialize_pem())
    }
}

/// Writes the pair that service accounts' tokens are signed and checked with, `sa.key` and `sa.pub`.
pub(super) fn write_token_keys(folder: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    write(&folder.join("sa.key"), &key.serialize_pem())?;
    write(&folder.join("sa.pub"), &key.public_key_pem())
}

/// Writes the configuration of a client whose files are in `keys`, seen as `shown` by its reader.
pub(super) fn write_kubeconfig(path: &Path, server: &str, shown: &Path, file: &str) -> anyhow::Result<()> {
    let keys = shown.display();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: e2e\n\
         clusters:\n- name: e2e\n  cluster: {{server: \"{server}\", certificate-authority: \"{keys}/ca.crt\"}}\n\
         users:\n- name: {file}\n  user: {{client-certificate: \"{keys}/{file}.crt\", client-key: \"{keys}/{file}.key\"}}\n\
         contexts:\n- name: e2e\n  context: {{cluster: e2e, user: {file}}}\n"
    );
    write(path, &text)
}

fn name(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}

/// Writes a file that only its owner may read.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).write(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
