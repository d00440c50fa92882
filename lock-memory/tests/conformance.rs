//! Runs the conformance suite on the store in memory, with each of its two kinds of client.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::Clock;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_memory::Memory;
use lock_memory::Store;

fn main() -> ExitCode {
    conformance_tests::run(vec![
        Arc::new(InMemory { name: "memory", session: None, stores: Mutex::default() }),
        Arc::new(InMemory {
            name: "memory-session",
            session: Some(Duration::from_secs(1)),
            stores: Mutex::default(),
        }),
    ])
}

struct InMemory {
    name: &'static str,
    session: Option<Duration>,
    stores: Mutex<HashMap<String, Store>>,
}

impl InMemory {
    fn store(&self, namespace: &str) -> Store {
        let mut stores = self.stores.lock().expect("nothing panics while it picks a store");
        stores.entry(namespace.into()).or_insert_with(|| Store::new(Clock::system())).clone()
    }
}

#[async_trait]
impl Fixture for InMemory {
    fn name(&self) -> &str {
        self.name
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        let store = self.store(namespace);
        Ok(Arc::new(match self.session {
            None => Memory::new(&store),
            Some(timeout) => Memory::with_session(&store, timeout),
        }))
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Restart | Fault::Forget => {
                Memory::new(&self.store(namespace)).controls().forget_everything();
                Ok(())
            }
            _ => Err(Unsupported("memory holds nothing that is not ours")),
        }
    }
}
