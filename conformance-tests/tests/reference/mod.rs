//! A small store in memory that can be told to break one promise at a time.

mod client;
mod flaw;
mod many;
mod provider;
mod steps;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Link;
use conformance_tests::Probe;
use conformance_tests::Tap;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::Background;
use lock_core::Clock;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::LockProvider;
use lock_core::Result;
use lock_core::SharedBackend;
use tokio::runtime::Handle;

pub(crate) use flaw::Flaw;

use client::Client;
use provider::FlawedProvider;
use steps::Steps;
use store::Store;

/// The model as a fixture, with a store for each namespace.
pub(crate) struct ModelStore {
    flaw: Option<Flaw>,
    stores: Mutex<HashMap<String, Arc<Store>>>,
}

impl ModelStore {
    /// Makes a model that keeps all promises.
    pub(crate) fn sound() -> Self {
        Self { flaw: None, stores: Mutex::default() }
    }

    /// Makes a model that breaks the one promise.
    pub(crate) fn flawed(flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..Self::sound() }
    }

    fn store(&self, namespace: &str) -> Arc<Store> {
        self.stores
            .lock()
            .expect("no step panics here")
            .entry(namespace.into())
            .or_default()
            .clone()
    }

    fn client(&self, namespace: &str) -> (Client, Arc<Tap>) {
        let steps = Steps::new(self.store(namespace), self.flaw);
        let wire = Arc::new(Tap::new(Arc::new(steps)));
        (Client::new(wire.clone(), self.flaw), wire)
    }
}

#[async_trait]
impl Fixture for ModelStore {
    fn name(&self) -> &str {
        "model"
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(self.client(namespace).0))
    }

    async fn proxied(&self, namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let (client, wire) = self.client(namespace);
        Ok((Arc::new(client), wire))
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        match self.flaw {
            Some(Flaw::BackgroundOnCaller) => {
                options.background(Background::Runtime(Handle::current()))
            }
            Some(Flaw::ClockStopped) => options.clock(Clock::manual().clock()),
            _ => options,
        }
    }

    fn provider(&self, engine: Engine) -> Arc<dyn LockProvider> {
        match self.flaw {
            None => Arc::new(engine),
            Some(flaw) => Arc::new(FlawedProvider::new(engine, flaw)),
        }
    }

    async fn probe(&self, namespace: &str, key: &LockKey) -> Option<Probe> {
        Some(self.store(namespace).probe(key, self.flaw))
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            // It keeps nothing over a restart.
            Fault::Restart | Fault::Forget => {
                self.store(namespace).forget();
                Ok(())
            }
            Fault::Corrupt(key) => {
                self.store(namespace).corrupt(&key);
                Ok(())
            }
            _ => Err(Unsupported("the model has no such fault")),
        }
    }

    fn secrets(&self) -> Vec<String> {
        vec!["hunter2".into()]
    }
}
