//! An authority and its certificates, made when a test runs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Signs certificates; its folder goes with it.
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key, in files.
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
    /// Both in one file.
    pub both: String,
}

impl Authority {
    /// A new one that nobody trusts yet.
    ///
    /// # Panics
    /// `openssl` is missing or refuses.
    #[must_use]
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("lockgate-ca-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).unwrap();
        let made = Self { folder };
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lockgate-tests \
             -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem",
        );
        made
    }

    /// What clients are to trust.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.file("ca.pem")
    }

    /// A certificate for a server of a name such as `localhost`.
    ///
    /// # Panics
    /// `openssl` refuses.
    #[must_use]
    pub fn signs(&self, host: &str) -> Certificate {
        self.signs_for(host, "serverAuth")
    }

    /// A certificate by which a client of this name shows who it is.
    ///
    /// # Panics
    /// `openssl` refuses.
    #[must_use]
    pub fn signs_client(&self, name: &str) -> Certificate {
        self.signs_for(name, "clientAuth")
    }

    fn signs_for(&self, host: &str, usage: &str) -> Certificate {
        let extensions = format!("subjectAltName=DNS:{host}\nextendedKeyUsage={usage}\n");
        std::fs::write(self.folder.join("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={host} -keyout {host}.key -out {host}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {host}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {host}.pem"
        ));
        let [certificate, key] = ["pem", "key"].map(|kind| self.file(&format!("{host}.{kind}")));
        let both = self.file(&format!("{host}.both"));
        let text = [&key, &certificate].map(|file| std::fs::read_to_string(file).unwrap());
        std::fs::write(&both, text.concat()).unwrap();
        Certificate { certificate, key, both }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.folder)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {errors}");
    }
}

impl Certificate {
    /// Gives the key to the user as whom servers run that refuse to run as root, for nobody else may read it.
    ///
    /// # Panics
    /// The file cannot be given away.
    pub fn for_server(&self) {
        // Nothing to do where servers run as we do.
        for user in ["postgres", "nobody"] {
            let given = Command::new("chown").args([user, &self.key]).output().unwrap();
            if given.status.success() {
                break;
            }
        }
        let closed = Command::new("chmod").args(["0600", &self.key]).status().unwrap();
        assert!(closed.success());
        assert!(Path::new(&self.certificate).is_file());
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
