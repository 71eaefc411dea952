//! A kubeconfig: as much of it as a daemon needs. Tokens and certificates are understood; programs that make tokens (`exec`) are
//! not, because a node's daemon runs beside none of them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use yaml_rust2::{Yaml, YamlLoader};

use crate::access::{Access, AccessError, Authority, Credentials, Server, read as read_file};

/// Reads the file and follows its current context.
pub(crate) fn read(path: &Path) -> Result<Access, AccessError> {
    let text = String::from_utf8_lossy(&read_file(path)?).into_owned();
    let file = File { path };
    let documents = YamlLoader::load_from_str(&text).map_err(|error| file.wrong(format!("it is not YAML: {error}")))?;
    let root = documents.first().ok_or_else(|| file.wrong("it is empty".to_owned()))?;
    let current =
        text_of(root, "current-context").ok_or_else(|| file.wrong("it has no `current-context`".to_owned()))?;
    let context = file.named(root, "contexts", "context", current)?;
    let cluster = file.named(root, "clusters", "cluster", text_of(context, "cluster").unwrap_or_default())?;
    let user = file.named(root, "users", "user", text_of(context, "user").unwrap_or_default())?;
    if cluster["insecure-skip-tls-verify"].as_bool() == Some(true) {
        let what = "`insecure-skip-tls-verify` is refused: name a `certificate-authority`, or the `tls-server-name`";
        return Err(file.wrong(what.to_owned()));
    }
    let server = Server::parse("server of KUBECONFIG", text_of(cluster, "server").unwrap_or_default())?;
    let mut access = Access::new(server, file.authority(cluster)?, file.credentials(user)?);
    access.server_name = text_of(cluster, "tls-server-name").map(str::to_owned);
    Ok(access)
}

struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn wrong(&self, what: String) -> AccessError {
        AccessError::Kubeconfig { path: self.path.to_owned(), what }
    }

    /// The entry of a list by its name.
    fn named<'y>(&self, root: &'y Yaml, list: &str, field: &str, name: &str) -> Result<&'y Yaml, AccessError> {
        let entries = root[list].as_vec().map(Vec::as_slice).unwrap_or_default();
        let entry = entries.iter().find(|entry| text_of(entry, "name") == Some(name));
        let found = entry.map(|entry| &entry[field]).filter(|found| !found.is_badvalue());
        found.ok_or_else(|| self.wrong(format!("`{list}` has no `{field}` named `{name}`")))
    }

    fn authority(&self, cluster: &Yaml) -> Result<Authority, AccessError> {
        if let Some(data) = self.data(cluster, "certificate-authority-data")? {
            return Ok(Authority::Pem(data));
        }
        Ok(text_of(cluster, "certificate-authority")
            .map_or(Authority::System, |path| Authority::File(self.beside(path))))
    }

    fn credentials(&self, user: &Yaml) -> Result<Credentials, AccessError> {
        if let Some(path) = text_of(user, "tokenFile") {
            return Ok(Credentials::TokenFile(self.beside(path)));
        }
        if let Some(token) = text_of(user, "token") {
            return Ok(Credentials::Token(token.to_owned()));
        }
        match (self.pem(user, "client-certificate")?, self.pem(user, "client-key")?) {
            (Some(chain), Some(key)) => Ok(Credentials::Certificate(chain, key)),
            (None, None) if !user["exec"].is_badvalue() || !user["auth-provider"].is_badvalue() => Err(self.wrong(
                "the user's `exec` or `auth-provider` can not be used: expected `token`, `tokenFile`, or \
                 `client-certificate` with `client-key`"
                    .to_owned(),
            )),
            (None, None) => Ok(Credentials::Nobody),
            (Some(_), None) | (None, Some(_)) => {
                Err(self.wrong("`client-certificate` and `client-key` belong together".to_owned()))
            }
        }
    }

    /// A file, or the same as data.
    fn pem(&self, user: &Yaml, field: &str) -> Result<Option<Vec<u8>>, AccessError> {
        if let Some(data) = self.data(user, &format!("{field}-data"))? {
            return Ok(Some(data));
        }
        text_of(user, field).map(|path| read_file(&self.beside(path))).transpose()
    }

    fn data(&self, from: &Yaml, field: &str) -> Result<Option<Vec<u8>>, AccessError> {
        let decode =
            |text: &str| STANDARD.decode(text.trim()).map_err(|_| self.wrong(format!("`{field}` is not base64")));
        text_of(from, field).map(decode).transpose()
    }

    /// Paths are relative to the file they stand in.
    fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(path)
    }
}

/// A text that is there and not empty.
fn text_of<'a>(from: &'a Yaml, field: &str) -> Option<&'a str> {
    from[field].as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const GOOD: &str = r"
apiVersion: v1
kind: Config
current-context: mine
contexts:
- name: other
  context: {cluster: none, user: none}
- name: mine
  context:
    cluster: eks
    user: node
clusters:
- name: eks
  cluster:
    server: https://abc.gr7.eks.amazonaws.com
    certificate-authority-data: aGVsbG8=
    tls-server-name: kubernetes
users:
- name: node
  user:
    tokenFile: token
";

    fn reading(text: &str) -> Result<Access, AccessError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("token"), "from a file").unwrap();
        let access = read(&path)?;
        if matches!(access.credentials, Credentials::TokenFile(_)) {
            assert_eq!(access.token().unwrap().unwrap(), "from a file");
        }
        Ok(access)
    }

    #[test]
    fn the_current_context_is_followed() {
        let access = reading(GOOD).unwrap();
        assert_eq!(access.server(), "https://abc.gr7.eks.amazonaws.com:443");
        assert_eq!(access.authority, Authority::Pem(b"hello".to_vec()));
        assert_eq!(access.server_name.as_deref(), Some("kubernetes"));
        let token = reading(&GOOD.replace("tokenFile: token", "token: abc")).unwrap();
        assert_eq!(token.credentials, Credentials::Token("abc".into()));
        let certificate = GOOD.replace("tokenFile: token", "client-certificate-data: aGVsbG8=\n    client-key: token");
        let certificate = reading(&certificate).unwrap();
        assert_eq!(certificate.credentials, Credentials::Certificate(b"hello".to_vec(), b"from a file".to_vec()));
        let nobody = reading(&GOOD.replace("tokenFile: token", "x: y")).unwrap();
        assert_eq!(nobody.credentials, Credentials::Nobody);
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        for (from, to, word) in [
            ("mine\ncontexts", "gone\ncontexts", "`contexts` has no `context` named `gone`"),
            ("current-context: mine", "", "current-context"),
            ("cluster: eks\n", "cluster: x\n", "`clusters` has no `cluster` named `x`"),
            ("tokenFile: token", "exec: {command: aws}", "expected `token`"),
            ("tokenFile: token", "client-key-data: aGVsbG8=", "belong together"),
            ("aGVsbG8=", "aGVsbG8", "`certificate-authority-data` is not base64"),
            ("tls-server-name: kubernetes", "insecure-skip-tls-verify: true", "insecure-skip-tls-verify"),
            ("https://abc", "ftp://abc", "https://host:port"),
            ("contexts:", "contexts: [", "not YAML"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            let error = reading(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{to}: {error}");
        }
        assert!(reading("").unwrap_err().to_string().contains("empty"));
        assert!(matches!(read(Path::new("/nonexistent/x")), Err(AccessError::Unreadable { .. })));
    }
}
