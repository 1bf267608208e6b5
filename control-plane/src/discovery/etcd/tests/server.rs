//! An etcd of the test's own.

use std::{collections::BTreeMap, net::TcpListener, process::Stdio};

use etcd_client::{Client, GetOptions, WatchOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::bounded;

pub(super) struct Server {
    folder: TempDir,
    /// For clients, and for members of its own cluster, of which there is none.
    ports: (u16, u16),
    child: Child,
}

impl Server {
    /// One with nothing in it, that answers.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held together, so that they differ.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let child = spawn(&folder, (client, peer));
        let server = Self { folder, ports: (client, peer), child };
        server.answers().await;
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.0)
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, at the same address.
    pub(super) async fn restart(&mut self) {
        self.child = spawn(&self.folder, self.ports);
        self.answers().await;
    }

    /// Starts it again, at the same address, with nothing in it.
    pub(super) async fn restart_empty(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.restart().await;
    }

    /// It answers nothing and says nothing; its connections stay.
    pub(super) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(super) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap()
    }

    /// A client that may do everything.
    pub(super) async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    async fn answers(&self) {
        let mut client = self.client().await;
        bounded("etcd answers", async {
            while client.get("nothing", None).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// All that stands in it.
    pub(super) async fn entries(&self) -> BTreeMap<String, String> {
        let options = GetOptions::new().with_all_keys();
        let answer = self.client().await.get("", Some(options)).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        answer.kvs().iter().map(|entry| (text(entry.key()), text(entry.value()))).collect()
    }

    /// All that stands in it, as soon as that is as it should be.
    pub(super) async fn entries_when(
        &self,
        as_it_should_be: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, String> {
        let options = WatchOptions::new().with_all_keys();
        let mut changes = self.client().await.watch("", Some(options)).await.unwrap();
        // The answer to the request; from now on no change is missed.
        bounded("etcd watches", changes.message()).await.unwrap().unwrap();
        loop {
            let entries = self.entries().await;
            if as_it_should_be(&entries) {
                return entries;
            }
            bounded(&format!("a change of {entries:?}"), changes.message()).await.unwrap().unwrap();
        }
    }
}

fn spawn(folder: &TempDir, (client, peer): (u16, u16)) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(folder.path());
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
    etcd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    etcd.spawn().expect("the feature `etcd` is tested with the real one: install Debian's etcd-server")
}
