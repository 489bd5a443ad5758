//! A cluster of the test's own, whose processes it can kill.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use postgres::{Client, Config, NoTls};
use support::variable;

/// A cluster of the test's own, removed at the end.
pub(super) struct Cluster {
    dir: PathBuf,
    host: String,
}

/// Runs .ci/cluster, which says where the server is.
fn cluster(command: &str, dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(variable("CLUSTER"))
        .arg(command)
        .arg(dir)
        .args(arguments)
        .output()
        .expect(".ci/cluster");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cluster {command}: {error}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let host = text.split("PGHOST=").nth(1).unwrap_or_default();
    host.split(' ').next().unwrap_or_default().to_owned()
}

impl Cluster {
    /// Where the cluster of a test is.
    fn place(test: &str) -> PathBuf {
        Path::new(&variable("CLUSTERS")).join(format!("{test}{}", std::process::id()))
    }

    pub(super) fn new(test: &str) -> Cluster {
        Cluster::with(test, &[])
    }

    /// With further settings.
    pub(super) fn with(test: &str, settings: &[&str]) -> Cluster {
        let dir = Cluster::place(test);
        let config = variable("PG_CONFIG");
        let mut arguments = vec![&*config, "max_connections=50", "autovacuum=off"];
        arguments.extend(settings);
        let host = cluster("start", &dir, &arguments);
        Cluster { dir, host }
    }

    pub(super) fn standby(&self, test: &str) -> Cluster {
        let dir = Cluster::place(test);
        let primary = self.dir.to_str().expect("UTF-8");
        let host = cluster("standby", &dir, &[primary]);
        Cluster { dir, host }
    }

    fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        let mut config = Config::new();
        config.host(&self.host).port(5432).user("postgres");
        config.dbname(database).connect(NoTls)
    }

    /// A connection, as soon as the server is there.
    pub(super) fn connect(&self, database: &str) -> Client {
        let start = Instant::now();
        loop {
            match self.try_connect(database) {
                Ok(client) => return client,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The directory of its socket, by which clients and other servers reach it.
    #[allow(dead_code, reason = "for the tests of Citus")]
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn start(&self) {
        cluster("start", &self.dir, &[]);
    }

    /// `kill -9` of all processes of this cluster.
    pub(super) fn kill_all(&self) {
        cluster("kill", &self.dir, &[]);
    }

    /// `kill -9` of one process of this cluster, if it still is one.
    pub(super) fn kill(&self, pid: &str) {
        let is_ours = || {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd == self.dir.join("data"))
        };
        if is_ours() {
            // it may have ended by itself
            let _ = Command::new("sh").args(["-c", "kill -9 $0", pid]).output();
        }
        while is_ours() {
            thread::yield_now();
        }
    }

    pub(super) fn kill_postmaster(&self) {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
        self.kill(file.lines().next().unwrap_or_default());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        cluster("remove", &self.dir, &[]);
    }
}
