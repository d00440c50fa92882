//! The trait of a backend, for what is a group of members inside.

/// Implements [`Backend`](crate::Backend) for a tuple struct around a [`Group`](super::Group).
macro_rules! delegate_to_group {
    ($type:ident) => {
        #[async_trait::async_trait]
        impl $crate::Backend for $type {
            fn profile(&self) -> &$crate::Profile {
                self.0.profile()
            }

            async fn attempt(&self, claim: &$crate::Claim) -> $crate::Result<$crate::Attempt> {
                self.0.attempt(claim).await
            }

            async fn keep(&self, claims: &[$crate::Claim]) -> $crate::Result<Vec<$crate::Kept>> {
                self.0.keep(claims).await
            }

            async fn release(&self, claim: &$crate::Claim) -> $crate::Result<$crate::Release> {
                self.0.release(claim).await
            }

            async fn peek(&self, claims: &[$crate::Claim]) -> $crate::Result<Vec<$crate::Peek>> {
                self.0.peek(claims).await
            }

            async fn inspect(&self, key: &$crate::LockKey) -> $crate::Result<$crate::KeyState> {
                self.0.inspect(key).await
            }

            async fn list(
                &self,
                prefix: &str,
                cursor: Option<$crate::Cursor>,
                limit: usize,
            ) -> $crate::Result<$crate::Page> {
                self.0.list(prefix, cursor, limit).await
            }

            async fn evict(
                &self,
                key: &$crate::LockKey,
                how: $crate::Eviction,
            ) -> $crate::Result<$crate::Evicted> {
                self.0.evict(key, how).await
            }

            async fn purge(&self) -> $crate::Result<u64> {
                self.0.purge().await
            }

            async fn watch(
                &self,
                claim: &$crate::Claim,
                reason: $crate::WatchFor,
                hint: $crate::Hint,
            ) -> $crate::Result<$crate::Watch> {
                self.0.watch(claim, reason, hint).await
            }

            async fn close(&self) -> $crate::Result<()> {
                self.0.close().await
            }
        }
    };
}
pub(crate) use delegate_to_group;
