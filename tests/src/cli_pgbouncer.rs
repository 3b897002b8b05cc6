//! A PgBouncer of its own for one test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::replica::PATIENCE;
use crate::wait_until;

/// A PgBouncer that runs as long as this value.
pub struct PgBouncer {
    child: Child,
    port: u16,
    home: PathBuf,
}

impl PgBouncer {
    /// Starts one before the server of this URL, with these settings besides.
    ///
    /// # Panics
    /// There is none, or it does not come up.
    pub async fn before(url: &str, settings: &str) -> Self {
        let (_, server, _) = parts(url);
        let (host, server_port) = server.split_once(':').unwrap_or((server, "5432"));
        let port = crate::free_port();
        let home = std::env::temp_dir().join(format!("lockgate-pgbouncer-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&home).unwrap();
        let ini = home.join("pgbouncer.ini");
        std::fs::write(home.join("users.txt"), "\"postgres\" \"\"\n").unwrap();
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}/users.txt\nmax_client_conn = 200\n\
             ignore_startup_parameters = extra_float_digits\n{settings}\n",
            home.display()
        );
        std::fs::write(&ini, text).unwrap();
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| PathBuf::from(path).exists());
        let mut command = Command::new(program.expect("pgbouncer is installed with the test servers"));
        // It refuses to run as root and gives the rights up itself.
        if std::fs::metadata("/proc/self").is_ok_and(|us| std::os::unix::fs::MetadataExt::uid(&us) == 0) {
            command.args(["-u", "nobody"]);
        }
        let child = command
            .arg(&ini)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut bouncer = Self { child, port, home };
        bouncer.up().await;
        bouncer
    }

    async fn up(&mut self) {
        wait_until(PATIENCE, "pgbouncer comes up", async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "pgbouncer ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }

    /// The same database through it.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let (user, _, database) = parts(url);
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Ours by its handle; nothing else can be done when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// User, server and database of `postgres://user@host:port/database`.
fn parts(url: &str) -> (&str, &str, &str) {
    let rest = url.split_once("://").unwrap().1;
    let (user, rest) = rest.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    (user, server, database)
}
